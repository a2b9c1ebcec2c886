"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;

  // theme: the system's, until the button is used
  const theme = byId("theme");
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const showTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-pressed", String(isDark())); };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; showTheme(); });
  showTheme();

  // the headline table: sort and filter
  const table = byId("table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column], given = cell.dataset.sort;
    if (given === undefined) return cell.textContent.trim().toLowerCase();
    return given === "" ? null : Number(given);
  };
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    [...body.rows].sort((a, b) => {
      const x = key(a, column), y = key(b, column);
      if (x === null || y === null) return (x === null) - (y === null); // what was not measured stays below
      return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
    }).forEach((row) => body.append(row));
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
  const without = new Set((given.get("without") || "").split(","));
  for (const box of boxes) box.checked = !without.has(box.dataset.name);
  byId("filters").addEventListener("input", () => { filter(); remember(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("all-metrics").addEventListener("change", (event) => table.classList.toggle("all", event.target.checked));
  filter();

  // what a curve is of, while the pointer is on it
  for (const { value, dataset } of boxes)
    document.querySelectorAll(`figure svg .learner-${value}`).forEach((part) => {
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = dataset.name;
      part.prepend(title);
    });

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
  const svgNode = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const heatMap = (cell) => {
    const rows = cell.R.length, columns = rows ? cell.R[0].length : 0, width = 720, left = 30, top = 20;
    const w = (width - left) / Math.max(columns, 1), h = Math.min(Math.max(w * 0.6, 14), 34);
    const svg = svgNode("svg", { viewBox: `0 0 ${width} ${top + rows * h + 4}`, role: "img" });
    svg.append(svgNode("title", {}, `R of ${cell.l} on ${cell.s}, ${run(cell)}`));
    const every = Math.ceil(columns / 20), skip = Math.ceil(rows / 25);
    for (let j = 0; j < columns; j += every) svg.append(svgNode("text", { x: left + (j + 0.5) * w, y: 14, "text-anchor": "middle" }, j + 1));
    cell.R.forEach((row, i) => {
      if (i % skip === 0) svg.append(svgNode("text", { x: left - 6, y: top + (i + 0.5) * h + 4, "text-anchor": "end" }, i));
      row.forEach((value, j) => {
        const box = svgNode("rect", { x: left + j * w, y: top + i * h, width: w - 1, height: h - 1, fill: value === null ? "var(--line)" : colour(value) });
        if (j === i - 1) { box.setAttribute("stroke", "currentColor"); box.setAttribute("stroke-width", "1.5"); }
        box.append(svgNode("title", {}, `task ${j + 1} (${cell.f[j]}) after stage ${i}: ${value === null ? "not measured" : value}`));
        svg.append(box);
      });
    });
    return svg;
  };
  const numbers = (cell) => {
    const made = document.createElement("table"), head = made.createTHead().insertRow();
    for (const name of ["stage", ...cell.f.map((family, j) => `${j + 1} ${family}`)]) {
      const th = document.createElement("th"); th.scope = "col"; th.textContent = name; head.append(th);
    }
    const rows = made.createTBody();
    cell.R.forEach((row, i) => {
      const line = rows.insertRow(), th = document.createElement("th");
      th.scope = "row"; th.textContent = i; line.append(th);
      row.forEach((value) => { line.insertCell().textContent = value === null ? "–" : value.toFixed(3); });
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
