const NS = "http://www.w3.org/2000/svg";
const WIDTH = 1000, HEIGHT = 280, LEFT = 76, RIGHT = 14, TOP = 30, BOTTOM = 40;
const tip = document.getElementById("tip");

function draw(name, attributes, parent, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// Round numbers for an axis: 1, 2 or 5 times a power of ten apart.
function chooseTicks(low, high) {
  const rough = (high - low) / 6 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) ticks.push(at);
  return ticks;
}

function choosePowers(low, high) {
  const ticks = [];
  for (let n = Math.floor(Math.log10(low)); n <= Math.ceil(Math.log10(high)); n++) {
    for (const m of high / low > 300 ? [1] : [1, 2, 5]) ticks.push(m * 10 ** n);
  }
  return ticks.filter((at) => at >= low * 0.999 && at <= high * 1.001);
}

function makeScale(low, high, from, to, isLog) {
  const [a, b] = isLog ? [Math.log(low), Math.log(high)] : [low, high];
  const width = b - a || 1;
  return (value) => from + ((isLog ? Math.log(value) : value) - a) / width * (to - from);
}

// spec: title, x and y ({ low, high, isLog, format, label }), shades ([from, to, text]), curves
// ([{ name, css, points: [[x, y]], hidden }]; y null leaves a gap).
function plot(place, spec) {
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": spec.title }, place);
  const x = makeScale(spec.x.low, spec.x.high, LEFT, WIDTH - RIGHT, spec.x.isLog);
  const y = makeScale(spec.y.low, spec.y.high, HEIGHT - BOTTOM, TOP, spec.y.isLog);
  for (const [from, to] of spec.shades ?? []) {
    draw("rect", { class: "shade", x: x(from), y: TOP, width: Math.max(x(to) - x(from), 1), height: HEIGHT - TOP - BOTTOM }, svg);
  }
  const ticks = (axis) => axis.isLog ? choosePowers(axis.low, axis.high) : chooseTicks(axis.low, axis.high);
  for (const at of ticks(spec.y)) {
    draw("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(at), y2: y(at) }, svg);
    draw("text", { x: LEFT - 8, y: y(at) + 4, "text-anchor": "end" }, svg, spec.y.format(at));
  }
  for (const at of ticks(spec.x)) {
    draw("line", { class: "axis", x1: x(at), x2: x(at), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }, svg);
    draw("text", { x: x(at), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, svg, spec.x.format(at));
  }
  draw("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }, svg);
  draw("text", { class: "name", x: LEFT, y: 16 }, svg, spec.title);
  draw("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, svg, spec.x.label);
  const clamp = (value) => Math.min(Math.max(value, spec.y.low), spec.y.high);
  for (const curve of spec.curves) {
    let path = "", open = false;
    for (const [at, value] of curve.points) {
      if (value === null) { open = false; continue; }
      path += `${open ? "L" : "M"}${x(at).toFixed(1)} ${y(clamp(value)).toFixed(1)}`;
      open = true;
    }
    draw("path", { class: `curve ${curve.css}`, d: path, "data-engine": curve.engine ?? "" }, svg);
  }
  addCursor(svg, spec, x);
  return svg;
}

// A line under the pointer, and what the curves say there.
function addCursor(svg, spec, x) {
  const line = draw("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" }, svg);
  svg.addEventListener("pointerleave", () => { line.setAttribute("visibility", "hidden"); tip.hidden = true; });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * WIDTH;
    if (at < LEFT || at > WIDTH - RIGHT) return;
    line.setAttribute("x1", at);
    line.setAttribute("x2", at);
    line.setAttribute("visibility", "visible");
    const rows = [];
    let shown = null;
    for (const curve of spec.curves) {
      if (isHidden(curve.engine) || !curve.points.length) continue;
      let best = curve.points[0];
      for (const point of curve.points) if (Math.abs(x(point[0]) - at) < Math.abs(x(best[0]) - at)) best = point;
      shown ??= spec.x.format(best[0]);
      rows.push(`${curve.name}: ${best[1] === null ? "none" : spec.y.format(best[1])}`);
    }
    const shade = (spec.shades ?? []).filter(([from, to]) => x(from) <= at && at <= x(to)).map((s) => s[2]);
    tip.textContent = [shown, ...shade, ...rows].join("\n");
    tip.hidden = false;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  });
}

const hiddenEngines = new Set();
const isHidden = (engine) => hiddenEngines.has(engine);
