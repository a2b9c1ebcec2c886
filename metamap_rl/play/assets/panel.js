// Joints, sliders and what the mapper says.

class Panel {
  constructor(setup, ask) {
    this.setup = setup;
    this.ask = ask;
    this.state = null;
    this.held = null; // name of the slider that is being dragged
    byId("family").textContent = setup.family;
    byId("description").textContent = setup.description;
    byId("joints").replaceChildren(...setup.joints.map(joint => this.joint(joint)));
    this.sliders = setup.parameters.filter(one => !one.joint || one.train.length).map(one => this.slider(one));
    byId("sliders").replaceChildren(...this.sliders.map(one => one.box));
    byId("robot").querySelector("small").hidden = !setup.joints.length;
    byId("steps").max = setup.probe_steps;
  }

  joint(joint) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.joint = joint.name;
    button.innerHTML = "<b></b><span></span>";
    button.querySelector("b").textContent = joint.name;
    button.addEventListener("click", () => this.cycle(joint.name));
    return button;
  }

  cycle(name) {
    const joint = this.setup.joints.find(one => one.name === name);
    if (!joint || !this.state) return;
    const at = joint.conditions.indexOf(this.state.conditions[name]);
    this.ask({ do: "joint", joint: name, condition: joint.conditions[(at + 1) % joint.conditions.length] });
  }

  slider(one) {
    const box = document.createElement("div");
    box.className = "slider";
    box.title = one.description;
    box.innerHTML = '<label><span class="words"><span></span><output></output></span><input type="range"></label><div class="ticks"><i class="read" hidden></i></div>';
    box.querySelector(".words span").textContent = one.name.replaceAll("_", " ");
    const input = box.querySelector("input"), read = box.querySelector(".read"), choices = one.choices.length;
    const values = one.choices.slice().sort((a, b) => a - b);
    const log = one.log && !choices;
    const place = value => choices ? nearestIndex(values, value) / Math.max(1, values.length - 1)
      : log ? Math.log(value / one.low) / Math.log(one.high / one.low) : (value - one.low) / (one.high - one.low);
    const value = at => choices ? values[Math.round(at * (values.length - 1))]
      : log ? one.low * (one.high / one.low) ** at : one.low + at * (one.high - one.low);
    Object.assign(input, { min: 0, max: 1, step: choices ? 1 / Math.max(1, values.length - 1) : 0.005 });
    input.setAttribute("aria-label", one.name);
    input.disabled = document.body.classList.contains("replaying");
    for (const [low, high] of one.train) {
      const range = document.createElement("i");
      range.className = "train";
      range.style.left = `${100 * place(low)}%`;
      range.style.width = `${100 * (place(high) - place(low))}%`;
      box.querySelector(".ticks").prepend(range);
    }
    const send = throttled(100, () => this.ask({ do: "set", parameters: { [one.name]: rounded(value(Number(input.value)), one) } }));
    input.addEventListener("input", () => { this.held = one.name; send(); });
    input.addEventListener("change", () => { send(); setTimeout(() => { this.held = null; }, 300); });
    return { one, box, input, read, place, output: box.querySelector("output") };
  }

  show(state) {
    this.state = state;
    for (const button of byId("joints").children) {
      const condition = state.conditions[button.dataset.joint];
      button.className = `joint ${condition}`;
      button.querySelector("span").textContent = condition;
    }
    for (const { one, input, read, place, output } of this.sliders) {
      const value = state.task[one.name], estimate = state.belief.estimates[one.name];
      if (this.held !== one.name) input.value = place(value);
      output.textContent = `${Number(value.toPrecision(3))} ${one.unit}${estimate === undefined ? "" : ` · read as ${Number(estimate.toPrecision(2))}`}`;
      read.hidden = estimate === undefined;
      if (estimate !== undefined) read.style.left = `${100 * Math.min(1, Math.max(0, place(Math.max(estimate, one.log ? one.low : estimate))))}%`;
    }
    this.tell(state.belief);
    if (byId("code").textContent !== state.code) byId("code").textContent = state.code;
  }

  tell(belief) {
    byId("sentence").textContent = belief.sentence;
    const facts = [["serves", `${belief.served} policy`], [belief.mode === "service" ? "window" : "D", `${belief.length} transitions`]];
    if (belief.confidence !== null) facts.push(["confidence", belief.confidence.toFixed(2)]);
    if (belief.milliseconds !== undefined) facts.push(["mapped in", `${belief.milliseconds.toFixed(1)} ms`]);
    byId("facts").replaceChildren(...facts.flatMap(([name, text]) => [element("dt", name), element("dd", text)]));
    const shot = belief.mode === "one-shot";
    byId("serve").hidden = byId("length").hidden = !shot;
    if (shot && document.activeElement !== byId("steps")) byId("steps").value = belief.length;
    byId("steps-value").textContent = shot ? `${belief.length} transitions` : "";
  }
}

function element(kind, text) {
  const found = document.createElement(kind);
  found.textContent = text;
  return found;
}

function nearestIndex(values, value) {
  return values.reduce((best, one, index) => Math.abs(one - value) < Math.abs(values[best] - value) ? index : best, 0);
}

function rounded(value, one) {
  return one.choices.length ? value : Math.min(one.high, Math.max(one.low, Number(value.toPrecision(4))));
}

function throttled(milliseconds, call) {
  let waiting = null;
  return () => { if (!waiting) waiting = setTimeout(() => { waiting = null; call(); }, milliseconds); };
}
