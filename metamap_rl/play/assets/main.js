// Starts a replay where the page holds one, else a live session; counts the frames that are drawn.

(() => {
  const data = JSON.parse(byId("data").textContent);
  document.body.classList.toggle("replaying", data !== null);
  const player = data ? new Replay(data) : new Live();
  let before = performance.now(), seen = true;
  document.body.classList.toggle("embedded", Boolean(player.embedded));
  if (player.embedded) {
    new IntersectionObserver(found => { seen = found[found.length - 1].isIntersecting; }).observe(byId("lanes"));
    const tell = () => parent.postMessage({ height: document.body.offsetHeight }, "*");
    new ResizeObserver(tell).observe(document.body);
    addEventListener("message", event => { if (event.source === parent) tell(); }); // whoever began to listen later
  }
  window.player = player;
  window.framesDrawn = 0;
  const tick = now => {
    if (seen) player.draw(Math.min(0.25, (now - before) / 1000));
    before = now;
    window.framesDrawn++;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
  byId("copy").addEventListener("click", () => navigator.clipboard?.writeText(byId("code").textContent));
})();
