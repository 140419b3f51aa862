// The view: what is chosen and filtered, where it is scrolled to, and what one can do with it.

const run = readRun(JSON.parse(byId("run").textContent));
const view = {
  run,
  filters: makeFilters(run),
  history: readHistory(run.data),
  hues: chooseHues(run),
  short: run.machines.map((machine) => machine.short),
  order: "rows",
  way: "all",
  hide: false,
  cone: null,
  chosen: null,
  hovered: null,
  matches: [],
  query: "",
  tab: "story",
  theme: "",
  unit: 18,
  top: 0,
  left: 0,
  origin: 0,
  ratio: 1,
  cuts: new Map(run.spans.filter((span) => span.kind === "cut").map((span) => [span.begin, span.label])),
  drawnMessages: [],
  spanBoxes: [],
  operationBoxes: [],
  canvas: byId("canvas"),
  head: byId("head"),
  overview: byId("overview"),
};
view.context = view.canvas.getContext("2d", { alpha: false });
view.headContext = view.head.getContext("2d", { alpha: false });
view.overviewContext = view.overview.getContext("2d", { alpha: false });
const scroller = byId("scroll");
const ORDERS = [["rows", "Rows", "One row for each event, in order of time (r)"],
  ["time", "Time", "Virtual time to scale (t)"],
  ["lamport", "Lamport", "One row for each Lamport number (l)"]];
const WAYS = [["all", "All", "Every event alike (a)"], ["past", "Past", "What led to the chosen event (p)"],
  ["future", "Future", "What the chosen event led to (f)"], ["both", "Both", "Past and future (b)"]];

// ---- drawing

let waiting = false;

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function draw() {
  drawBoard(view);
  drawHead(view);
  drawOverview(view);
}

function resize() {
  view.ratio = Math.min(window.devicePixelRatio || 1, 3);
  const width = scroller.clientWidth, height = scroller.clientHeight;
  for (const [canvas, w, h] of [[view.canvas, width, height],
    [view.head, view.head.parentElement.clientWidth, 40],
    [view.overview, 44, view.overview.parentElement.clientHeight]]) {
    canvas.style.width = `${w}px`;
    canvas.style.height = `${h}px`;
    canvas.width = Math.max(Math.round(w * view.ratio), 1);
    canvas.height = Math.max(Math.round(h * view.ratio), 1);
  }
  layOut(view, width);
  measure();
  redraw();
}

// The height of everything; the browser scrolls, we draw what is in sight.
function measure() {
  const tall = Math.max(view.places.extent * view.unit + 2 * PAD + 40, scroller.clientHeight);
  const style = byId("tall").style;
  style.height = `${tall - scroller.clientHeight}px`;
  style.width = `${Math.max(view.wide, scroller.clientWidth)}px`;
}

function place() {
  view.cone = view.way !== "all" && view.chosen !== null ? computeCone(run, view.chosen, view.way) : null;
  view.places = computePlaces(run, view.filters, view.order, view.cone, view.hide);
  view.origin = 0;
  if (view.order === "time") {
    const first = view.places.sorted.length ? run.time[view.places.sorted[0]] : 0;
    view.origin = view.filters.from || first;
  }
}

function refresh(keep = null) {
  const anchor = keep === null ? null : yOf(view, view.places.place[keep]);
  place();
  layOut(view, scroller.clientWidth);
  measure();
  if (anchor !== null) scroller.scrollTop += yOf(view, view.places.place[keep]) - anchor;
  view.top = scroller.scrollTop;
  redraw();
  drawTabs(view, actions);
  drawControls();
  keepAddress();
}

function setUnit(unit, y = scroller.clientHeight / 2) {
  const at = placeAt(view, y);
  view.unit = clampUnit(unit);
  measure();
  scroller.scrollTop = at * view.unit + PAD - y;
  view.top = scroller.scrollTop;
  redraw();
}

// Never smaller than everything at once, never taller than browsers scroll.
function clampUnit(unit) {
  const most = MAX_TALL / Math.max(view.places.extent, 1);
  const least = Math.min((scroller.clientHeight - 2 * PAD - 20) / Math.max(view.places.extent, 1e-6), 40);
  return Math.min(Math.max(unit, least), view.order === "time" ? most : Math.min(most, 64));
}

function fit() {
  setUnit(0);
  scroller.scrollTop = 0;
}

// A scale at which rows can be read, or the whole run if it is short enough for that.
function chooseUnit() {
  const whole = (scroller.clientHeight - 2 * PAD) / Math.max(view.places.extent, 1);
  if (view.order !== "time") return Math.min(Math.max(whole, 17), 34);
  // To scale, show about as many events as rows would.
  return Math.max(whole, (17 * view.places.sorted.length) / Math.max(view.places.extent, 1) / 4);
}

function reveal(i) {
  const y = yOf(view, view.places.place[i]);
  const height = scroller.clientHeight;
  if (y < 40 || y > height - 60) scroller.scrollTop += y - height * 0.45;
  const x = run.machine[i] >= 0 ? view.x[run.machine[i]] - view.left : 0;
  if (x < AXIS || x > scroller.clientWidth - 60) scroller.scrollLeft += x - scroller.clientWidth / 2;
  view.top = scroller.scrollTop;
  view.left = scroller.scrollLeft;
}

// ---- what one can do

const actions = {
  choose(i, show = false) {
    view.chosen = i;
    // What the filters hide cannot be shown: let it in.
    if (i !== null && show && !view.places.shown[i] && admit(i)) drawFilters(view, changed);
    if (view.way !== "all") refresh(show ? null : i);
    if (i !== null && show) reveal(i);
    drawDetail(view, actions);
    drawControls();
    byId("live").textContent = i === null ? "" : describeEvent(run, i);
    redraw();
    keepAddress();
  },
  cone(way) {
    view.way = view.way === way ? "all" : way;
    refresh(view.chosen);
  },
  window(i, end) {
    view.filters[end] = run.time[i];
    changed(true);
  },
  time(ns) {
    scroller.scrollTop += yOf(view, placeTime(view, ns)) - scroller.clientHeight * 0.3;
  },
  tab(id) {
    view.tab = id;
    drawTabs(view, actions);
    byId(`tab-${id}`).focus();
    keepAddress();
  },
};

function admit(i) {
  const { filters } = view;
  const kind = run.kindOf(i);
  for (const m of [run.machine[i], run.other[i], run.source[i]]) if (m >= 0) filters.machines.add(m);
  if (MESSAGE.has(kind)) filters.messages.add(run.name[i]);
  else if (CLASS_OF.has(kind)) filters.classes.add(CLASS_OF.get(kind));
  if (filters.from > run.time[i]) filters.from = 0;
  if (filters.until && filters.until < run.time[i]) filters.until = 0;
  const h = run.atHeight[i];
  if (h >= 0 && (h < filters.low || (filters.high && h > filters.high))) filters.low = filters.high = 0;
  if (view.hide && view.cone && !view.cone[i]) view.way = "all";
  refresh();
  return true;
}

function changed(controls = false) {
  refresh(view.chosen);
  if (controls) drawFilters(view, changed);
}

function reset() {
  view.filters = makeFilters(run);
  view.way = "all";
  view.hide = false;
  view.query = "";
  byId("find").value = "";
  search();
  view.chosen = null;
  drawFilters(view, changed);
  drawDetail(view, actions);
  refresh();
}

function setOrder(order) {
  view.order = order;
  place();
  view.unit = chooseUnit();
  refresh();
  const target = view.chosen ?? run.findings[0];
  if (target !== undefined) reveal(target);
  setUnit(view.unit);
}

function search() {
  const query = view.query.toLowerCase();
  view.matches = [];
  if (query) {
    const hits = run.strings.map((text) => text.toLowerCase().includes(query));
    for (let i = 0; i < run.count; i++) if (hits[run.name[i]] || hits[run.text[i]]) view.matches.push(i);
  }
  const n = view.matches.length;
  byId("found").textContent = query ? `${n} found` : "";
  redraw();
}

function goToMatch(step) {
  const { matches, chosen } = view;
  if (!matches.length) return;
  const at = chosen ?? -1;
  const next = step > 0 ? matches.find((i) => i > at) ?? matches[0]
    : matches.findLast((i) => i < at) ?? matches[matches.length - 1];
  actions.choose(next, true);
}
