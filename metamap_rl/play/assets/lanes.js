// The robots side by side, and the timeline below them.

const NAMES = { base: "Base policy", generated: "Generated policy", expert: "Expert" };
const byId = id => document.getElementById(id);

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function sized(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2), width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d", { alpha: false });
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [pen, width, height];
}

class Lanes {
  constructor(setup, onJoint) {
    this.setup = setup;
    this.orbit = Drawing.start(setup.view);
    this.hovered = null;
    this.onJoint = onJoint;
    byId("lanes").replaceChildren();
    this.cards = setup.lanes.map(key => this.card(key));
    this.readColours();
    document.addEventListener("theme", () => this.readColours());
  }

  readColours() {
    this.colours = { sky: colour("sky"), horizon: colour("horizon"), tileA: colour("tile-a"), tileB: colour("tile-b") };
  }

  card(key) {
    const card = document.createElement("div");
    card.className = `lane ${key}`;
    card.innerHTML = '<div class="top"><span class="name"></span><span class="title"></span><span class="return"></span></div><div class="view"><canvas></canvas><output class="speed"></output></div>';
    card.querySelector(".name").textContent = NAMES[key];
    byId("lanes").append(card);
    const canvas = card.querySelector("canvas");
    const [title, ret, speed] = [".title", ".return", ".speed"].map(name => card.querySelector(name));
    const found = { card, canvas, joints: [], title, ret, speed, pace: new Pace(this.setup) };
    this.listen(found);
    return found;
  }

  listen(card) {
    let from = null;
    const nearest = event => {
      const box = card.canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let best = null, least = event.pointerType === "touch" ? 36 : 22;
      for (const joint of card.joints) {
        const away = Math.hypot(joint.at[0] - x, joint.at[1] - y);
        if (away < least) [best, least] = [joint.name, away];
      }
      return best;
    };
    card.canvas.addEventListener("pointerdown", event => {
      from = { x: event.clientX, y: event.clientY, ...this.orbit, moved: false, joint: nearest(event) };
      card.canvas.setPointerCapture(event.pointerId);
    });
    card.canvas.addEventListener("pointermove", event => {
      if (!from) {
        this.hovered = event.pointerType === "touch" ? null : nearest(event);
        return;
      }
      const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
      if (Math.hypot(dx, dy) > 6) from.moved = true;
      if (!from.moved || this.setup.view.above) return;
      this.orbit.azimuth = from.azimuth - dx / 200;
      this.orbit.elevation = Math.min(-0.03, Math.max(-1.4, from.elevation - dy / 200));
    });
    card.canvas.addEventListener("pointerup", () => {
      if (from && !from.moved && from.joint) this.onJoint(from.joint);
      from = null;
    });
    card.canvas.addEventListener("pointercancel", () => { from = null; });
    card.canvas.addEventListener("pointerleave", () => { if (!from) this.hovered = null; });
  }

  // positions: one array for each lane; frame: the numbers; state: task, conditions, titles
  draw(positions, frame, scene, state) {
    this.cards.forEach((card, index) => {
      const [pen, width, height] = sized(card.canvas);
      card.joints = Drawing.draw(pen, width, height, {
        scene, q: positions[index], view: this.setup.view, orbit: this.orbit, colours: this.colours, hovered: this.hovered,
        joints: this.setup.joints, conditions: state.conditions, task: state.task, heading: this.setup.heading,
      });
    });
  }

  tell(frame, state) {
    this.cards.forEach((card, index) => {
      const title = state.titles[index].replace(/^(base policy|generated policy|expert|nearest expert): ?/, (whole, word) => word === "nearest expert" ? "nearest: " : "");
      const text = title === "base policy" ? "" : title;
      if (card.title.textContent !== text) card.title.textContent = card.title.title = text;
      card.ret.innerHTML = `${frame.r[index].toFixed(1)} <small>return</small>`;
      card.speed.textContent = card.pace.text(frame, index, state.task.target_velocity);
    });
  }
}

// Forward speed of a robot that can walk, a running mean.
class Pace {
  constructor(setup) {
    this.setup = setup;
    this.before = null;
    this.speed = 0;
  }

  text(frame, lane, wanted) {
    if (!this.setup.view.root || this.setup.view.flies) return "";
    const before = this.before, [x, y] = frame.q[lane];
    this.before = { n: frame.n, e: frame.e[lane], x, y };
    if (before && before.e === frame.e[lane] && frame.n > before.n) {
      const away = this.setup.view.sideways ? Math.hypot(x - before.x, y - before.y) : x - before.x;
      this.speed += 0.15 * (away / (frame.n - before.n) / this.setup.seconds - this.speed);
    }
    return `${this.speed.toFixed(1)}${wanted === undefined ? "" : ` of ${wanted.toFixed(1)}`} m/s`;
  }
}

class Timeline {
  constructor(setup) {
    this.canvas = byId("timeline");
    this.setup = setup;
    this.smooth = Math.max(1, Math.round(1 / setup.seconds));
    this.span = Math.round(12 / setup.seconds);
    const words = setup.lanes.filter(key => Object.hasOwn(NAMES, key)).map(key => `<b class="${key}">${NAMES[key]}</b>`);
    byId("legend").innerHTML = `reward per step, mean of 1 s: ${words.join(", ")} · <b class="alarm">dashed</b>: the task changes · ` +
      '<b class="generated">▲</b>: new weights · shaded: the window that is mapped';
  }

  // frames: oldest first, up to now; marks: frame numbers at which the task changed
  draw(frames, marks) {
    const [pen, width, height] = sized(this.canvas);
    pen.fillStyle = colour("card");
    pen.fillRect(0, 0, width, height);
    if (frames.length < 2) return;
    const now = frames[frames.length - 1].n, first = now - this.span;
    const x = n => 44 + (width - 52) * (n - first) / this.span;
    const shown = frames.filter(frame => frame.n >= first);
    const split = Math.round(height * 0.64);
    this.window(pen, x, now, shown[shown.length - 1].w, height);
    this.rewards(pen, x, frames, first, [8, split - 8], width);
    this.surprise(pen, x, shown, [split + 4, height - 16], width);
    this.marks(pen, x, shown, marks, split, height);
  }

  window(pen, x, now, length, height) {
    if (!length) return;
    pen.fillStyle = colour("window");
    const left = Math.max(44, x(now - length));
    pen.fillRect(left, 0, x(now) - left, height);
    pen.fillStyle = colour("generated");
    pen.fillRect(left, height - 4, x(now) - left, 3);
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "bottom";
    pen.fillText(`window ${length}`, x(now) - 2, height - 5);
  }

  rewards(pen, x, frames, first, [top, bottom], width) {
    const rows = [];
    const sums = this.setup.lanes.map(() => 0);
    frames.forEach((frame, index) => {
      frame.d.forEach((one, lane) => { sums[lane] += one; });
      if (index >= this.smooth) frames[index - this.smooth].d.forEach((one, lane) => { sums[lane] -= one; });
      if (frame.n >= first) rows.push([frame.n, sums.map(sum => sum / Math.min(index + 1, this.smooth))]);
    });
    const all = rows.flatMap(row => row[1]);
    let [low, high] = [Math.min(...all), Math.max(...all)];
    if (high - low < 1e-6) [low, high] = [low - 1, high + 1];
    const y = value => bottom - (bottom - top) * (value - low) / (high - low);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = colour("dim");
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.fillText(high.toPrecision(2), 40, y(high));
    pen.fillText(low.toPrecision(2), 40, y(low));
    this.setup.lanes.forEach((key, lane) => {
      pen.strokeStyle = colour(key);
      pen.lineWidth = key === "generated" ? 2.5 : 1.5;
      pen.beginPath();
      rows.forEach((row, index) => index ? pen.lineTo(x(row[0]), y(row[1][lane])) : pen.moveTo(x(row[0]), y(row[1][lane])));
      pen.stroke();
    });
    pen.strokeStyle = colour("line");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(0, bottom + 6.5);
    pen.lineTo(width, bottom + 6.5);
    pen.stroke();
  }

  surprise(pen, x, shown, [top, bottom], width) {
    const known = shown.filter(frame => frame.u !== null);
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "left";
    pen.textBaseline = "top";
    pen.fillStyle = colour("dim");
    pen.fillText(known.length ? "surprise" : "no surprise is measured", 50, top);
    if (!known.length) return;
    const y = value => bottom - (bottom - top) * Math.min(1, Math.sqrt(value / 4));
    pen.fillText("margin", 4, y(1) - 6);
    pen.strokeStyle = colour("line");
    pen.beginPath();
    pen.moveTo(44, y(1));
    pen.lineTo(width - 8, y(1));
    pen.stroke();
    for (const frame of known) {
      const wide = frame.u > 1 ? 4 : 2;
      pen.fillStyle = frame.u > 1 ? colour("alarm") : colour("dim");
      pen.fillRect(x(frame.n) - wide / 2, y(frame.u), wide, bottom - y(frame.u) + 1);
    }
  }

  marks(pen, x, shown, marks, split, height) {
    pen.strokeStyle = colour("alarm");
    pen.lineWidth = 1.5;
    pen.setLineDash([4, 3]);
    for (const n of marks) {
      if (x(n) < 44) continue;
      pen.beginPath();
      pen.moveTo(x(n), 0);
      pen.lineTo(x(n), height);
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.fillStyle = colour("generated");
    for (let index = 1; index < shown.length; index++) {
      if (shown[index].swaps === shown[index - 1].swaps) continue;
      const at = x(shown[index].n);
      pen.beginPath();
      pen.moveTo(at, split - 9);
      pen.lineTo(at - 4.5, split - 1);
      pen.lineTo(at + 4.5, split - 1);
      pen.fill();
    }
  }
}
