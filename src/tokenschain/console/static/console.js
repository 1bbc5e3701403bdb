"use strict";
/* What the console does in the browser that HTML and htmx do not. No inline code, no eval. */
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const dark = () => getComputedStyle(document.documentElement).colorScheme === "dark";

  document.addEventListener("click", async (event) => {
    const theme = event.target.closest("[data-theme-switch]");
    if (theme) theme.value = dark() ? "light" : "dark";
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const text = copy.dataset.copy || $(copy.dataset.copyOf)?.textContent || "";
      const done = await navigator.clipboard?.writeText(text).then(() => true, () => false);
      if (done) {
        const label = $("span", copy), before = label.textContent;
        label.textContent = copy.dataset.done;
        setTimeout(() => { label.textContent = before; }, 1200);
      }
    }
    const menu = event.target.closest("[data-menu]");
    const side = $("#side");
    if (menu) menu.setAttribute("aria-expanded", side.classList.toggle("open"));
    else if (side?.classList.contains("open") && !side.contains(event.target)) closeMenu();
    const pause = event.target.closest("[data-pause]");
    if (pause) {
      const label = $("span", pause), other = pause.dataset.resume;
      pause.dataset.resume = label.textContent;
      label.textContent = other;
      pause.setAttribute("aria-pressed", pause.getAttribute("aria-pressed") !== "true");
    }
    const row = event.target.closest(".pick tbody tr");
    if (row && !event.target.closest("a, button") && !getSelection().toString()) $("a", row)?.click();
  });
  function closeMenu() {
    $("#side").classList.remove("open");
    $("[data-menu]").setAttribute("aria-expanded", "false");
  }

  // Parts that show what is now ask again, as often as the server says with each answer; not while
  // nobody looks: the tab is hidden, the reader paused, or a drawer is open.
  const next = new WeakMap(), etags = new WeakMap();
  const resting = () =>
    document.hidden || $("[data-pause]")?.getAttribute("aria-pressed") === "true" || $("#drawer")?.open;
  setInterval(() => {
    if (resting()) return;
    for (const part of document.querySelectorAll("[data-live]")) {
      const now = Date.now(), pause = part.dataset.live * 1000;
      if (!next.has(part)) next.set(part, now + pause);
      if (now < next.get(part)) continue;
      next.set(part, now + Math.max(30000, pause)); // where no answer comes
      part.dispatchEvent(new Event("poll"));
    }
  }, 250);
  document.addEventListener("htmx:config:request", ({ target, detail }) => {
    if (!target.matches?.("[data-live]")) return;
    const { headers } = detail.ctx.request;
    headers["x-tc-poll"] = "1";
    if (etags.has(target)) headers["if-none-match"] = etags.get(target);
  });
  document.addEventListener("htmx:after:request", ({ target, detail }) => {
    if (!target.matches?.("[data-live]")) return;
    const { status, headers } = detail.ctx.response;
    const pause = headers.get("x-tc-poll-after-ms") || target.dataset.live * 1000;
    next.set(target, Date.now() + Number(pause));
    if (status === 200) etags.set(target, headers.get("etag") || "");
  });
  document.addEventListener("htmx:error", ({ target }) => {
    if (target.matches?.("[data-live]")) next.set(target, Date.now() + target.dataset.live * 1000);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, textarea, select")) {
      const box = $("[data-slash]");
      if (box) { event.preventDefault(); box.focus(); }
    }
    if (event.key === "Escape" && $("#side.open")) { closeMenu(); $("[data-menu]").focus(); }
  });

  // The drawer: a modal dialog with an address of its own.
  const drawer = $("#drawer");
  let opener = null, before = "";
  if (drawer) {
    const open = () => { if (!drawer.open && $("#drawer-title")) drawer.showModal(); };
    open();
    document.addEventListener("click", (event) => {
      const link = event.target.closest("[data-drawer]");
      if (link) { opener = link; before = location.href; history.replaceState(history.state, "", link.href); }
    });
    document.addEventListener("htmx:after:swap", () => { if (opener) open(); });
    drawer.addEventListener("click", (event) => { if (event.target === drawer) drawer.close(); });
    drawer.addEventListener("close", () => {
      const url = new URL(before || location.href);
      url.searchParams.delete("call");
      history.replaceState(history.state, "", url);
      opener?.focus();
      opener = null;
      $("#drawer-body").replaceChildren();
    });
  }

  // A destructive form stays shut until the name is typed.
  document.addEventListener("input", (event) => {
    const box = event.target.closest("[data-must-be]");
    if (box) $("[data-guarded]", box.form).disabled = box.value !== box.dataset.mustBe;
  });
})();
