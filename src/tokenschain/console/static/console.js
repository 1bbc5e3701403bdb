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

  // Polling rests while nobody looks: the tab is hidden, the reader paused, or a drawer is open.
  document.addEventListener("htmx:before:request", (event) => {
    if (!event.target.closest?.("[data-live]")) return;
    const paused = $("[data-pause]")?.getAttribute("aria-pressed") === "true";
    if (paused || document.hidden || $("#drawer")?.open) event.preventDefault();
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
