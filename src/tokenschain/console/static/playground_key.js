/* Asks the gateway with a key of the playground, which is made when it is needed, is kept by the page alone and ends by itself. */
const KEY_LEAST_MS = 30_000, KEY_WAIT_MS = 300, KEY_TRIES = 20;
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export class Refusal extends Error {
  constructor(code, message) { super(message); this.code = code; }
}

async function refused(response) {
  const found = await response.json().catch(() => null), error = found?.error ?? {};
  if (error.code === "signed_out" || response.redirected) location.reload();
  return new Refusal(error.code ?? String(response.status), error.message ?? response.statusText);
}

export function asker(place) {
  let key = null, waiting = null;
  async function currentKey() {
    if (!key || key.ends < performance.now() + KEY_LEAST_MS) {
      const response = await fetch("/console/playground/keys", { method: "POST", body: new URLSearchParams(place) });
      if (!response.ok || response.redirected) throw await refused(response);
      const { key: text, lasts_s: lasts } = await response.json();
      key = { text, ends: performance.now() + lasts * 1_000 };
    }
    return key;
  }
  const oneKey = () => (waiting ??= currentKey().finally(() => { waiting = null; }));
  return async function ask(body, more, signal) {
    for (let tries = 1; ; tries++) {
      const made = await oneKey();
      const headers = { "content-type": "application/json", "x-playground-key": made.text, ...more };
      const response = await fetch("/console/playground/answers", { method: "POST", headers, body, signal });
      if (response.ok) return response;
      const error = await refused(response);
      // Gateways hear of a new key within a second; one that has ended is made anew.
      if (response.status !== 401 || tries >= KEY_TRIES) throw error;
      if (/expired|revoked/.test(error.code)) key = null;
      await pause(KEY_WAIT_MS);
      if (signal.aborted) throw new DOMException("", "AbortError");
    }
  };
}
