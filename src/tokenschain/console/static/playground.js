/* The playground: asks models through the gateway and shows what comes, as it comes. */
import { write } from "./markdown.js";
import { Refusal, asker, pause } from "./playground_key.js";

const play = document.querySelector("#play"), fields = play.elements, said = play.dataset;
const log = document.querySelector("#log"), empty = document.querySelector("#log-empty"), send = document.querySelector("#send");
const SHOW_MS = 80, FACTS_MS = [400, 800, 1_500, 2_500, 5_000];
const histories = new Map();
let running = null;

function make(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

const lanes = () => {
  const found = [fields.model, fields.model2, fields.model3].filter((one) => one?.value).map((one) => one.value);
  return [...new Set(found)];
};

function payload(model, messages) {
  const system = fields.system.value.trim();
  const asked = { model, messages: system ? [{ role: "system", content: system }, ...messages] : messages };
  asked.temperature = Number(fields.temperature.value);
  if (fields.max_tokens.value) asked.max_tokens = Number(fields.max_tokens.value);
  return asked;
}

const askGateway = asker({ tenant: said.tenant, project: said.project });
const request = (asked, signal) => askGateway(
  JSON.stringify({ ...asked, stream: true, stream_options: { include_usage: true } }),
  { "x-playground-cache": fields.cache.checked ? "on" : "off" }, signal,
);

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data) yield data;
    }
  }
}

const time = (ms) => (ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(2)} s`);

function facts(meta, pieces, id) {
  meta.replaceChildren(...pieces.filter(([, text]) => text).map(([title, text]) => { const one = make("span", "", text); one.title = title; return one; }));
  if (id && said.calls) {
    const link = make("a", "", `${id.slice(0, 14)}…`);
    link.href = said.calls + (said.calls.includes("?") ? "&" : "?") + new URLSearchParams({ call: id });
    meta.append(link);
  }
}

// What the ledger has of it takes the place of what the browser measured.
async function settle(meta, id) {
  if (!id || !said.calls) return;
  for (const ms of FACTS_MS) {
    await pause(ms);
    const response = await fetch(`/console/playground/call?${new URLSearchParams({ call: id })}`).catch(() => null);
    if (response?.ok && !response.redirected) {
      const found = await response.json();
      facts(meta, [[said.provider, found.upstream], [said.first, `TTFT ${found.first_token}`], [said.took, found.took], [said.speed, found.speed], [said.tokens, found.tokens], [`${said.cost} ${found.exact}`, found.cost]], id);
      return;
    }
    if (response && response.status !== 404) return;
  }
}

async function answer(model, messages, article, controller) {
  const body = article.querySelector(".body"), meta = make("p", "meta num");
  const started = performance.now();
  let text = "", thought = "", first = null, usage = null, ended = false, rest = 0, timer = 0, response = null;
  const show = () => {
    const began = performance.now();
    timer = 0;
    const bottom = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    if (thought) {
      let fold = article.querySelector("details");
      if (!fold) { fold = make("details", "thought", make("summary", "", said.thinking), make("div", "")); body.before(fold); }
      fold.lastChild.textContent = thought;
    }
    write(body, text);
    if (bottom) log.scrollTop = log.scrollHeight;
    rest = Math.max(SHOW_MS, 4 * (performance.now() - began));
  };
  const showSoon = () => { timer ||= setTimeout(show, rest); };
  try {
    response = await request(payload(model, messages), controller.signal);
    for await (const data of events(response)) {
      if (data === "[DONE]") { ended = true; break; }
      const event = JSON.parse(data);
      if (event.error) throw new Refusal(event.error.code ?? "", event.error.message ?? "");
      const delta = event.choices?.[0]?.delta;
      if (event.usage) usage = event.usage;
      if (!delta) continue;
      const words = delta.content ?? "", thinking = delta.reasoning_content ?? "";
      if (first === null && (words || thinking)) first = performance.now() - started;
      text += words;
      thought += thinking;
      if (words || thinking) showSoon();
    }
    if (!ended) throw new Refusal("interrupted", said.broken);
    return text;
  } catch (error) {
    const stopped = error.name === "AbortError";
    const note = make("p", stopped ? "hint" : "alert bad", make("span", "", stopped ? said.stopped : error.message, " "));
    if (!stopped) {
      if (error.code) note.firstChild.prepend(make("code", "", error.code), " ");
      const again = make("button", "ghost", said.again);
      again.type = "button";
      again.addEventListener("click", () => { if (running) return; note.remove(); run([{ model, messages, article }]); });
      note.append(again);
      note.setAttribute("role", "alert");
    }
    article.append(note);
    return stopped ? text : null;
  } finally {
    clearTimeout(timer);
    show();
    article.classList.remove("live");
    article.removeAttribute("aria-busy");
    const id = response?.headers.get("x-request-id");
    if (id) {
      const took = performance.now() - started, cached = response.headers.get("x-tc-cache")?.startsWith("hit");
      facts(meta, [[said.provider, cached ? said.cached : response.headers.get("x-tc-upstream")], [said.first, first === null ? "" : `TTFT ${time(first)}`], [said.took, time(took)], [said.tokens, usage ? `${usage.prompt_tokens} → ${usage.completion_tokens} tokens` : ""]], id);
      article.append(meta);
      settle(meta, id);
    }
  }
}

function label(text) { send.querySelector("span").textContent = text; }

async function run(turns) {
  if (running) return;
  running = new AbortController();
  label(said.stop);
  const controller = running;
  for (const { article } of turns) {
    article.classList.add("live");
    article.setAttribute("aria-busy", "true");
    article.querySelector(".body").replaceChildren();
    article.querySelectorAll(".meta, .thought, .hint").forEach((one) => one.remove());
  }
  await Promise.all(turns.map(async ({ model, messages, article }) => {
    const text = await answer(model, messages, article, controller);
    if (text !== null) histories.set(model, [...messages, { role: "assistant", content: text }]);
  }));
  running = null;
  label(said.send);
}

function ask(text) {
  const models = lanes();
  if (!models.length) return;
  empty.hidden = true;
  const answers = make("div", "answers"), turn = make("div", "turn"), mine = make("div", "body", text);
  turn.append(make("article", "msg you", make("b", "", said.you), mine), answers);
  const turns = models.map((model) => {
    const article = make("article", "msg", make("b", "", model), make("div", "body"));
    answers.append(article);
    return { model, messages: [...(histories.get(model) ?? []), { role: "user", content: text }], article };
  });
  turn.classList.toggle("many", models.length > 1);
  log.append(turn);
  log.scrollTop = log.scrollHeight;
  fields.ask.value = "";
  run(turns);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
function sample() {
  document.querySelector("#temperature-shown").textContent = fields.temperature.value;
  const model = lanes()[0] ?? "MODEL", asked = payload(model, [{ role: "user", content: fields.ask.value.trim() || said.hello }]);
  const base = said.gateway, kind = fields.language.value, off = fields.cache.checked ? "" : "no-store";
  const json = (value) => JSON.stringify(value);
  const extra = Object.entries(asked).filter(([name]) => name !== "messages");
  document.querySelector("#code").textContent = {
    curl: () => `curl ${base}/chat/completions \\\n  -H "Authorization: Bearer $TC_API_KEY" \\\n  -H "Content-Type: application/json" \\\n${off && `  -H "x-tc-cache: ${off}" \\\n`}  -d ${quoted(JSON.stringify(asked, null, 2))}`,
    Python: () => `from openai import OpenAI\n\nclient = OpenAI(base_url=${json(base)}, api_key="TC_API_KEY")\nreply = client.chat.completions.create(\n${extra.map(([name, value]) => `    ${name}=${json(value)},\n`).join("")}${off && `    extra_headers={"x-tc-cache": ${json(off)}},\n`}    messages=[\n${asked.messages.map((one) => `        ${json(one)},\n`).join("")}    ],\n)\nprint(reply.choices[0].message.content)`,
    JavaScript: () => `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: ${json(base)}, apiKey: process.env.TC_API_KEY });\nconst reply = await client.chat.completions.create(${JSON.stringify(asked, null, 2)}${off && `, { headers: { "x-tc-cache": ${json(off)} } }`});\nconsole.log(reply.choices[0].message.content);`,
  }[kind]();
}

play.addEventListener("input", sample);
sample();
play.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) { running.abort(); return; }
  const text = fields.ask.value.trim();
  if (text) ask(text);
});
fields.ask.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !running) { event.preventDefault(); play.requestSubmit(); }
});
log.addEventListener("click", (event) => {
  const suggestion = event.target.closest("[data-suggest]");
  if (suggestion && !running) ask(suggestion.textContent);
});
document.querySelector("[data-fresh]").addEventListener("click", () => {
  running?.abort();
  histories.clear();
  log.querySelectorAll(".turn").forEach((one) => one.remove());
  empty.hidden = false;
  fields.ask.focus();
});
