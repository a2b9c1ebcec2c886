"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;
  const short = (value) => value.toFixed(3).replace(/^(-?)0\./, "$1."); // as in the tables

  // theme: the system's, until the button is used
  const theme = byId("theme");
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const showTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-pressed", String(isDark())); };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; showTheme(); });
  showTheme();

  const svgNode = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // the headline table: sort and filter
  const table = byId("table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column], given = cell.dataset.sort;
    if (given === undefined) return cell.textContent.trim().toLowerCase();
    return given === "" ? null : Number(given);
  };
  const sort = (column, down) => {
    const head = heads[column];
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    [...body.rows].sort((a, b) => {
      const x = key(a, column), y = key(b, column);
      if (x === null || y === null) return (x === null) - (y === null); // what was not measured stays below
      return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
    }).forEach((row) => body.append(row));
  };
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    sort(column, head.getAttribute("aria-sort") === "ascending");
    remember();
  }));

  const boxes = [...document.querySelectorAll("input.learner")];
  const filter = () => {
    const stream = byId("filter-stream").value, words = byId("filter-text").value.trim().toLowerCase();
    const off = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
    let shown = 0;
    for (const row of body.rows) {
      const text = `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase();
      row.hidden = (stream && row.dataset.stream !== stream) || !text.includes(words) || off.has(row.dataset.learner);
      shown += !row.hidden;
    }
    byId("count").textContent = `${shown} of ${body.rows.length} rows`;
    document.querySelectorAll("tr[data-of]").forEach((row) => { row.hidden = off.has(row.dataset.of); });
    for (const { value } of boxes)
      document.querySelectorAll(`figure svg .learner-${value}`).forEach((part) => part.classList.toggle("off", off.has(value)));
  };
  // filters and the chosen cell in the address, so that a link shows the same
  const remembered = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const remember = () => {
    const state = new URLSearchParams();
    const set = (name, value) => { if (value) state.set(name, value); };
    set("stream", byId("filter-stream").value);
    set("find", byId("filter-text").value);
    const sorted = heads.findIndex((head) => head.getAttribute("aria-sort") !== "none");
    if (sorted >= 0) set("sort", `${heads[sorted].getAttribute("aria-sort") === "descending" ? "-" : ""}${heads[sorted].dataset.name}`);
    set("all", byId("all-metrics").checked ? "1" : "");
    set("without", boxes.filter((box) => !box.checked).map((box) => box.dataset.name).join(","));
    if (touched) { set("cell-stream", pick.s.value); set("cell-learner", pick.l.value); set("cell-run", pick.r.value); }
    history.replaceState(null, "", String(state) ? `#${state}` : location.pathname + location.search);
  };
  let touched = false;
  const given = remembered();
  byId("filter-stream").value = given.get("stream") || "";
  byId("filter-text").value = given.get("find") || "";
  byId("all-metrics").checked = given.has("all");
  table.classList.toggle("all", given.has("all"));
  const by = given.get("sort") || "", sorted = heads.findIndex((head) => by && head.dataset.name === by.replace(/^-/, ""));
  if (sorted >= 0) sort(sorted, by.startsWith("-"));
  const without = new Set((given.get("without") || "").split(","));
  for (const box of boxes) box.checked = !without.has(box.dataset.name);
  byId("filters").addEventListener("input", () => { filter(); remember(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("all-metrics").addEventListener("change", (event) => table.classList.toggle("all", event.target.checked));
  filter();

  // values under the pointer, or under a finger
  const tip = byId("tip");
  const tell = (text, event) => {
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const { width, height } = tip.getBoundingClientRect(), edge = document.documentElement.clientWidth - width - 6;
    tip.style.left = `${Math.max(6, Math.min(event.clientX + 14, edge))}px`;
    tip.style.top = `${event.clientY > height + 20 ? event.clientY - height - 12 : event.clientY + 18}px`;
  };
  const listen = (area, find) => {
    for (const name of ["pointermove", "pointerdown"]) area.addEventListener(name, (event) => tell(find(event), event));
    for (const name of ["pointerleave", "pointercancel"]) area.addEventListener(name, (event) => tell(find(null), event));
  };
  const isOff = (number) => boxes.some((box) => box.value === String(number) && !box.checked);
  const nameOf = (number) => boxes.find((box) => box.value === String(number)).dataset.name;
  const scoreText = (families, j, i, value) => `task ${j + 1} (${families[j]}) after stage ${i}: ${value === null ? "not measured" : short(value)}`;
  const nearest = (traces, x, y) => {
    let best = null, least = 18;
    for (const { n, at, t } of traces) if (!isOff(n)) at.forEach(([left, top], index) => {
      const away = Math.hypot(left - x, top - y);
      if (away < least) [best, least] = [{ at: [left, top], text: `${nameOf(n)}, ${t[index]}` }, away];
    });
    return best;
  };
  const inGrid = (grids, x, y) => {
    for (const { n, box: [left, top, right, bottom], v, f } of grids) {
      if (isOff(n) || x < left || x >= right || y < top || y >= bottom) continue;
      const i = Math.floor(v.length * (y - top) / (bottom - top)), j = Math.floor(f.length * (x - left) / (right - left));
      return `${nameOf(n)}, ${scoreText(f, j, i, v[i][j])}`;
    }
    return "";
  };
  document.querySelectorAll("script.hover").forEach((script) => {
    const svg = script.parentElement.querySelector("svg"), ring = svgNode("circle", { r: 6, class: "ring", visibility: "hidden" });
    let told = null;
    svg.append(ring);
    listen(svg, (event) => {
      ring.setAttribute("visibility", "hidden");
      if (!event) return "";
      told ||= JSON.parse(script.textContent);
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const found = nearest(told.traces, x, y);
      if (!found) return inGrid(told.grids, x, y);
      for (const [name, value] of [["cx", found.at[0]], ["cy", found.at[1]], ["visibility", "visible"]]) ring.setAttribute(name, value);
      return found.text;
    });
  });

  // replays: the player is in the page once, and each runs in a frame of its own
  const recordings = [...document.querySelectorAll("script.recording")];
  const shade = (frame) => frame.contentWindow.postMessage({ theme: isDark() ? "dark" : "light" }, "*");
  const start = (figure) => {
    const [head, tail] = JSON.parse(byId("player").textContent), frame = document.createElement("iframe");
    const recording = recordings[figure.dataset.number].textContent;
    frame.title = figure.querySelector("h4").textContent;
    frame.srcdoc = head.replace("<html", "<html data-embedded") + recording + tail;
    frame.addEventListener("load", () => {
      const inside = frame.contentDocument, { setup, recording: { count } } = JSON.parse(recording);
      if (count * setup.seconds < 4) inside.getElementById("speed").value = "0.25"; // else it is over at once
      inside.documentElement.style.overflow = "hidden";
      inside.body.style.padding = "0 1px"; // the frame's width is no whole number
      new ResizeObserver(() => { frame.style.height = `${inside.body.scrollHeight}px`; }).observe(inside.body);
      shade(frame);
    });
    figure.querySelector(".stage").replaceChildren(frame);
  };
  document.querySelectorAll("figure.replay").forEach((figure) => figure.querySelector(".play").addEventListener("click", () => start(figure)));
  theme.addEventListener("click", () => document.querySelectorAll(".replay iframe").forEach(shade));

  // on paper everything is light and open
  let before = "";
  addEventListener("beforeprint", () => {
    before = root.dataset.theme || "";
    root.dataset.theme = "light";
    document.querySelectorAll("details.family").forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; });

  // figures as files
  document.querySelectorAll("a.save").forEach((link) => link.addEventListener("click", () => {
    const svg = link.closest("figure").querySelector("svg").cloneNode(true);
    const style = getComputedStyle(root);
    svg.setAttribute("style", `color: ${style.getPropertyValue("--ink")}; --faint: ${style.getPropertyValue("--faint")}; background: ${style.getPropertyValue("--page")}`);
    link.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
  }));

  // one cell's matrix
  const cells = JSON.parse(byId("data").textContent);
  const pick = { s: byId("cell-stream"), l: byId("cell-learner"), r: byId("cell-run") };
  const fill = (select, values) => {
    const before = select.value;
    select.replaceChildren(...[...new Set(values)].map((value) => new Option(value, value)));
    if ([...select.options].some((option) => option.value === before)) select.value = before;
  };
  const run = (cell) => `order ${cell.o}, seed ${cell.e}`;
  const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis
  const colour = (value) => {
    const at = Math.min(Math.max(value, 0), 1) * 4, low = Math.min(Math.floor(at), 3);
    return `rgb(${stops[low].map((part, index) => Math.round(part + (at - low) * (stops[low + 1][index] - part))).join(",")})`;
  };
  const heatMap = (cell) => {
    const rows = cell.R.length, columns = rows ? cell.R[0].length : 0, width = 720, left = 30, top = 42;
    const w = (width - left) / Math.max(columns, 1), h = Math.min(Math.max(w * 0.6, 14), 34);
    const svg = svgNode("svg", { viewBox: `0 0 ${width} ${top + rows * h + 4}`, role: "img", "aria-label": `R of ${cell.l} on ${cell.s}, ${run(cell)}` });
    const every = Math.ceil(columns / 20), skip = Math.ceil(rows / 25);
    for (const [family, first, last] of cell.k) {
      const x = left + first * w, wide = (last - first + 1) * w - 3, most = Math.floor(wide / 6.4);
      svg.append(svgNode("rect", { x, y: 18, width: wide, height: 2.5, fill: "currentColor" }));
      if (most > 2) svg.append(svgNode("text", { x: x + wide / 2, y: 13, "text-anchor": "middle" }, family.length > most ? `${family.slice(0, most - 1)}…` : family));
    }
    for (let j = 0; j < columns; j += every) svg.append(svgNode("text", { x: left + (j + 0.5) * w, y: top - 6, "text-anchor": "middle" }, j + 1));
    cell.R.forEach((row, i) => {
      if (i % skip === 0) svg.append(svgNode("text", { x: left - 6, y: top + (i + 0.5) * h + 4, "text-anchor": "end" }, i));
      row.forEach((value, j) => {
        const box = svgNode("rect", { class: "value", x: left + j * w, y: top + i * h, width: w - 1, height: h - 1, fill: value === null ? "var(--line)" : colour(value) });
        if (j === i - 1) { box.setAttribute("stroke", "currentColor"); box.setAttribute("stroke-width", "1.5"); }
        box.dataset.text = scoreText(cell.f, j, i, value);
        svg.append(box);
      });
    });
    return svg;
  };
  listen(byId("cell-map"), (event) => event?.target.dataset?.text || "");
  const numbers = (cell) => {
    const made = document.createElement("table"), head = made.createTHead().insertRow();
    for (const name of ["stage", ...cell.f.map((family, j) => `${j + 1} ${family}`)]) {
      const th = document.createElement("th"); th.scope = "col"; th.textContent = name; head.append(th);
    }
    const rows = made.createTBody();
    cell.R.forEach((row, i) => {
      const line = rows.insertRow(), th = document.createElement("th");
      th.scope = "row"; th.textContent = i; line.append(th);
      row.forEach((value) => { line.insertCell().textContent = value === null ? "–" : short(value); });
    });
    return made;
  };
  const showCell = () => {
    const ofStream = cells.filter((cell) => cell.s === pick.s.value);
    fill(pick.l, ofStream.map((cell) => cell.l));
    const ofLearner = ofStream.filter((cell) => cell.l === pick.l.value);
    fill(pick.r, ofLearner.map(run));
    const cell = ofLearner.find((one) => run(one) === pick.r.value);
    byId("cell-map").replaceChildren(byId("cell-numbers").checked ? numbers(cell) : heatMap(cell));
    byId("cell-metrics").textContent = Object.entries(cell.m).map(([name, value]) => `${name} ${value}`).join(" · ");
  };
  fill(pick.s, cells.map((cell) => cell.s));
  Object.values(pick).forEach((select) => select.addEventListener("change", () => { touched = true; showCell(); remember(); }));
  byId("cell-numbers").addEventListener("change", showCell);
  const choose = (select, name) => {
    const value = given.get(name);
    if (value === null || ![...select.options].some((option) => option.value === value)) return;
    select.value = value; touched = true; showCell();
  };
  showCell();
  choose(pick.s, "cell-stream"); choose(pick.l, "cell-learner"); choose(pick.r, "cell-run");
})();
