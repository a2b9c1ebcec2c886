// A live session: messages over a WebSocket, drawn a step behind, so that motion is smooth.

class Live {
  constructor() {
    this.frames = [];
    this.marks = [];
    this.scenes = {};
    this.playhead = 0;
    this.clock = { paused: false, speed: 1 };
    this.wait = 500;
    this.connect();
    this.buttons();
  }

  connect() {
    const url = new URL("messages" + location.search, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.addEventListener("message", event => this.hear(JSON.parse(event.data)));
    this.socket.addEventListener("open", () => { this.wait = 500; this.say(""); });
    this.socket.addEventListener("close", () => {
      this.say("not connected; trying again", true);
      setTimeout(() => this.connect(), this.wait = Math.min(8000, this.wait * 2));
    });
  }

  ask(request) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(request));
  }

  say(text, alarm = false) {
    byId("status").textContent = text;
    byId("status").className = alarm ? "alarm" : "";
  }

  hear(message) {
    if (message.t === "frame") this.frame(message);
    else if (message.t === "news") this.news(message);
    else if (message.t === "scenes") Object.assign(this.scenes, message.scenes);
    else if (message.t === "clock") this.showClock(message.clock);
    else if (message.t === "hello") this.hello(message);
    else if (message.t === "error") this.say(message.text, true);
  }

  hello(message) {
    this.frames = [];
    this.scenes = message.scenes;
    this.state = message.state;
    this.setup = message.setup;
    this.panel = new Panel(message.setup, request => this.ask(request));
    this.lanes = new Lanes(message.setup, name => this.panel.cycle(name));
    this.timeline = new Timeline(message.setup);
    this.panel.show(this.state);
    this.showClock(message.clock);
  }

  news(message) {
    const changed = message.task && JSON.stringify(message.task) !== JSON.stringify(this.state.task);
    if (changed) this.marks.push(this.frames.length ? this.frames[this.frames.length - 1].n + 1 : 0);
    this.marks = this.marks.slice(-100);
    this.state = { ...this.state, ...message };
    this.panel.show(this.state);
  }

  frame(message) {
    const last = this.frames[this.frames.length - 1];
    if (last && message.n <= last.n) this.frames = [];
    this.frames.push(message);
    if (this.frames.length > 2 * this.timeline.span) this.frames.splice(0, this.frames.length - this.timeline.span - 2 * this.timeline.smooth);
    this.lanes.tell(message, this.state);
    this.timeline.draw(this.frames, this.marks);
  }

  draw(seconds) {
    const last = this.frames[this.frames.length - 1];
    if (!last) return;
    if (!this.clock.paused) this.playhead += seconds * this.clock.speed / this.setup.seconds;
    const off = last.n - 1 - this.playhead;
    this.playhead = Math.abs(off) > 6 ? last.n - 1 : this.playhead + 0.05 * off;
    const [positions, frame] = between(this.frames, this.playhead);
    const scene = this.scenes[frame.s];
    if (scene) this.lanes.draw(positions, frame, scene, this.state);
  }

  showClock(clock) {
    this.clock = clock;
    byId("pause").textContent = clock.paused ? "Go on" : "Pause";
    byId("speed").value = String(clock.speed);
  }

  buttons() {
    const clock = changed => this.ask({ do: "clock", paused: this.clock.paused, speed: this.clock.speed, ...changed });
    byId("pause").addEventListener("click", () => clock({ paused: !this.clock.paused }));
    byId("speed").addEventListener("change", event => clock({ speed: Number(event.target.value) }));
    for (const word of ["restart", "heal", "probe", "serve"]) byId(word).addEventListener("click", () => this.ask({ do: word }));
    const send = throttled(80, () => this.ask({ do: "length", steps: Number(byId("steps").value) }));
    byId("steps").addEventListener("input", send);
    for (const link of ["replay-link", "policy-link"]) byId(link).search = location.search;
  }
}

// positions of each lane at a place between two frames; no motion is drawn from one episode to the next
function between(frames, place) {
  let low = 0, high = frames.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (frames[middle].n <= place) low = middle; else high = middle - 1;
  }
  const from = frames[low], to = frames[Math.min(low + 1, frames.length - 1)];
  const share = to.n > from.n ? Math.min(1, Math.max(0, (place - from.n) / (to.n - from.n))) : 0;
  const positions = from.q.map((q, lane) => {
    if (from.e[lane] !== to.e[lane] || from.s !== to.s) return q;
    return q.map((value, index) => value + share * (to.q[lane][index] - value));
  });
  return [positions, from];
}
