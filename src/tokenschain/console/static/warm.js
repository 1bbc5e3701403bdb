/* Cache warming: takes a file in, and sends the estimated questions one after the other until the last or until it is stopped. */
import { asker, pause } from "./playground_key.js";

const file = document.querySelector("#file"), text = document.querySelector("#questions");
file?.addEventListener("change", async () => { if (file.files[0]) text.value = await file.files[0].text(); });

const send = document.querySelector("#send");
if (send) {
  const { dataset: said } = send, rows = [...document.querySelectorAll("[data-request]")], bar = document.querySelector("#progress"), told = document.querySelector("#told");
  const ask = asker({ tenant: said.tenant, project: said.project, purpose: "cache-warming" }), FAILED_MAX = 3;
  const counts = { kept: 0, there: 0, failed: 0 };
  let running = null, failed = 0;
  const label = (words) => { send.querySelector("span").textContent = words; };
  function tell(row, how, words) {
    counts[how]++;
    row.querySelector(".badge").textContent = words || said[how];
    row.querySelector(".badge").classList.add({ kept: "ok", there: "cached", failed: "failed" }[how]);
    row.removeAttribute("data-request");
    bar.value = counts.kept + counts.there + counts.failed;
    told.textContent = `${bar.value} / ${bar.max} · ${said.kept} ${counts.kept} · ${said.there} ${counts.there} · ${said.failed} ${counts.failed}`;
  }
  async function one(row, signal) {
    try {
      const response = await ask(row.dataset.request, { "x-playground-bulk": "on" }, signal);
      await response.arrayBuffer();
      tell(row, response.headers.get("x-tc-cache")?.startsWith("hit") ? "there" : "kept");
      failed = 0;
    } catch (error) {
      if (error.name === "AbortError") return;
      tell(row, "failed", error.code || said.failed);
      row.title = error.message;
      // What fails again and again would only cost; it is gone on with by hand.
      if (++failed >= FAILED_MAX) running?.abort();
      else await pause(500);
    }
  }
  send.addEventListener("click", async () => {
    if (running) { running.abort(); return; }
    running = new AbortController();
    label(said.stop);
    failed = 0;
    for (const row of rows.filter((row) => row.dataset.request)) {
      await one(row, running.signal);
      if (running.signal.aborted) break;
    }
    running = null;
    const left = rows.some((row) => row.dataset.request);
    label(left ? said.on : said.done);
    send.disabled = !left;
  });
}
