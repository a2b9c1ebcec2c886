// Replays in a page have the height of their content, and the theme of the site.

(() => {
  const frames = [...document.querySelectorAll("iframe.replay")];
  const theme = () => document.body.dataset.mdColorScheme === "slate" ? "dark" : "light";
  const tell = frame => frame.contentWindow.postMessage({ theme: theme() }, "*");
  addEventListener("message", event => {
    const frame = frames.find(one => one.contentWindow === event.source);
    if (!frame || !Number.isFinite(event.data?.height)) return;
    const height = `${Math.min(2000, Math.ceil(event.data.height) + 2)}px`;
    if (frame.style.height === height) return;
    frame.style.height = height;
    tell(frame);
  });
  frames.forEach(tell);
  new MutationObserver(() => frames.forEach(tell)).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
})();
