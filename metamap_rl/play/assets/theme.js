"use strict";
// Light or dark as the system is, or as the page says that a replay is embedded in; "theme" is sent when it changes.

(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = dark => {
    document.documentElement.classList.toggle("dark", dark);
    document.dispatchEvent(new Event("theme"));
  };
  show(system.matches);
  system.addEventListener("change", () => show(system.matches));
  addEventListener("message", event => {
    if (event.source === parent && ["light", "dark"].includes(event.data?.theme)) show(event.data.theme === "dark");
  });
})();
