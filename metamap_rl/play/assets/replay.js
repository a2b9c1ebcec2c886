// A recording: the same page without a server.

function unpacked(packed, count) {
  const text = atob(packed.data), columns = packed.low.length, rows = [];
  for (let row = 0; row < count; row++) {
    const found = [];
    for (let column = 0; column < columns; column++) {
      const at = 2 * (row * columns + column);
      found.push(packed.low[column] + packed.span[column] * (text.charCodeAt(at) + 256 * text.charCodeAt(at + 1)) / 65535);
    }
    rows.push(found);
  }
  return rows;
}

function filled(runs, count) {
  const found = [];
  runs.forEach(([start, value], index) => {
    const end = index + 1 < runs.length ? runs[index + 1][0] : count;
    for (let at = start; at < end; at++) found.push(value);
  });
  return found;
}

function framesOf(recording) {
  const { count } = recording, lanes = recording.q.map(one => unpacked(one, count));
  const episodes = recording.e.map(runs => filled(runs, count));
  const [d, r, u, w] = [recording.d, recording.r, recording.u, recording.w].map(one => unpacked(one, count));
  const [s, swaps, changes] = [recording.s, recording.swaps, recording.changes].map(runs => filled(runs, count));
  return [...Array(count).keys()].map(index => ({
    n: index, q: lanes.map(lane => lane[index]), d: d[index], r: r[index], e: episodes.map(lane => lane[index]), s: s[index],
    u: u[index][0] < -0.5 ? null : u[index][0], w: Math.round(w[index][0]), swaps: swaps[index], changes: changes[index],
  }));
}

class Replay {
  constructor(data) {
    this.setup = data.setup;
    this.scenes = data.scenes;
    this.frames = framesOf(data.recording);
    this.states = this.statesOf(data.recording.news);
    this.marks = this.states.filter(one => one.changed).map(one => one.at);
    this.panel = new Panel(data.setup, () => {});
    this.lanes = new Lanes(data.setup, () => {});
    this.timeline = new Timeline(data.setup);
    this.playhead = 0;
    this.embedded = location.hash === "#embedded" || "embedded" in document.documentElement.dataset; // in a page of others: small, again and again, while it is seen
    this.paused = this.embedded && matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.shown = -1;
    this.buttons();
  }

  statesOf(news) {
    let state = {};
    return news.map(({ at, ...changes }) => {
      const changed = Boolean(at && changes.task && JSON.stringify(changes.task) !== JSON.stringify(state.task));
      state = { ...state, ...changes };
      return { at, state, changed };
    });
  }

  buttons() {
    const end = this.frames.length - 1;
    byId("place").max = end;
    byId("place").addEventListener("input", event => { this.playhead = Number(event.target.value); });
    byId("pause").addEventListener("click", () => {
      this.paused = !this.paused;
      if (!this.paused && this.playhead >= end) this.playhead = 0;
    });
  }

  draw(seconds) {
    const end = this.frames.length - 1;
    if (end < 0) return;
    if (!this.paused) this.playhead += seconds * Number(byId("speed").value) / this.setup.seconds;
    if (this.playhead >= end) [this.playhead, this.paused] = this.embedded ? [0, this.paused] : [end, true];
    const [positions, frame] = between(this.frames, this.playhead);
    const now = this.states.filter(one => one.at <= frame.n).pop();
    this.lanes.draw(positions, frame, this.scenes[frame.s], now.state);
    if (frame.n === this.shown) return;
    this.shown = frame.n;
    this.lanes.tell(frame, now.state);
    this.panel.show(now.state);
    this.timeline.draw(this.frames.slice(Math.max(0, frame.n - this.timeline.span - this.timeline.smooth), frame.n + 1), this.marks);
    byId("place").value = frame.n;
    byId("time").textContent = `${(frame.n * this.setup.seconds).toFixed(1)} s`;
    byId("pause").textContent = this.paused ? "Play" : "Pause";
  }
}
