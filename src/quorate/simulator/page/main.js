// The view: what is chosen and filtered, how it is moved, and how it is kept in the address.

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

// ---- keys

function moveAlong(step) {
  const { chosen, places } = view;
  if (chosen === null) return startMoving();
  let i = chosen;
  const next = step > 0 ? run.following : run.previous;
  if (run.machine[i] < 0) {
    do i += step; while (i >= 0 && i < run.count && (run.machine[i] >= 0 || !places.shown[i]));
    if (i < 0 || i >= run.count) return null;
  } else {
    do i = next[i]; while (i >= 0 && !places.shown[i]);
  }
  return i >= 0 ? actions.choose(i, true) : null;
}

function moveAcross(step) {
  if (view.chosen === null) return startMoving();
  const lines = [-1, ...view.shownMachines];
  const to = lines[lines.indexOf(run.machine[view.chosen]) + step];
  if (to === undefined) return null;
  const { sorted, place: at } = view.places;
  const wanted = at[view.chosen];
  let best = -1;
  for (const i of sorted) {
    if (run.machine[i] === to && (best < 0 || Math.abs(at[i] - wanted) < Math.abs(at[best] - wanted))) best = i;
  }
  return best >= 0 ? actions.choose(best, true) : null;
}

function startMoving() {
  const first = findPlace(view.places, placeAt(view, 0));
  const { sorted } = view.places;
  if (sorted.length) actions.choose(sorted[Math.min(first, sorted.length - 1)], true);
}

function follow() {
  const i = view.chosen;
  if (i === null) return startMoving();
  const kind = run.kindOf(i);
  const there = kind === "send" || kind === "double" ? run.arrival[i] : run.cause[i];
  return there >= 0 ? actions.choose(there, true) : null;
}

const ON_KEY = {
  ArrowDown: () => moveAlong(1), ArrowUp: () => moveAlong(-1),
  ArrowRight: () => moveAcross(1), ArrowLeft: () => moveAcross(-1),
  Enter: follow,
  p: () => actions.cone("past"), f: () => actions.cone("future"), b: () => actions.cone("both"),
  a: () => { view.way = "all"; refresh(view.chosen); },
  h: () => { view.hide = !view.hide; refresh(view.chosen); },
  "+": () => setUnit(view.unit * 1.4), "=": () => setUnit(view.unit * 1.4), "-": () => setUnit(view.unit / 1.4),
  0: fit,
  PageDown: () => { scroller.scrollTop += scroller.clientHeight * 0.85; },
  PageUp: () => { scroller.scrollTop -= scroller.clientHeight * 0.85; },
  Home: () => { scroller.scrollTop = 0; },
  End: () => { scroller.scrollTop = scroller.scrollHeight; },
  r: () => setOrder("rows"), t: () => setOrder("time"), l: () => setOrder("lamport"),
  v: () => { if (run.findings.length) actions.choose(run.findings[0], true); },
  "/": () => byId("find").focus(),
  "?": () => byId("keys").showModal(),
  Escape: () => { if (view.chosen === null) reset(); else { view.way = "all"; actions.choose(null); refresh(); } },
};

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  if (target instanceof HTMLInputElement && target.type !== "checkbox" && target.type !== "radio") return;
  const inside = target === view.canvas || target === document.body;
  const act = ON_KEY[event.key];
  if (!act || (!inside && (event.key.startsWith("Arrow") || event.key === "Enter"))) return;
  event.preventDefault();
  act();
});

// ---- pointer

function showTip(event) {
  const box = view.canvas.getBoundingClientRect();
  const x = event.clientX - box.left + view.left, y = event.clientY - box.top;
  const found = findAt(view, x, y);
  const i = found >= 0 ? found : null;
  const boxed = i === null ? findBox(x, y) : null;
  const tip = byId("tip");
  tip.hidden = i === null && boxed === null;
  if (!tip.hidden) {
    tip.textContent = "";
    const lines = i !== null ? describeTip(i) : boxed;
    lines.forEach((text, n) => tip.append(make("div", { text, class: n ? "quiet" : "" })));
    const board = tip.parentElement.getBoundingClientRect();
    const left = event.clientX - board.left + 14, top = event.clientY - board.top + 14;
    tip.style.left = `${Math.max(Math.min(left, board.width - tip.offsetWidth - 8), 4)}px`;
    tip.style.top = `${top + tip.offsetHeight > board.height ? top - tip.offsetHeight - 26 : top}px`;
  }
  view.canvas.style.cursor = i !== null ? "pointer" : "";
  if (i !== view.hovered) {
    view.hovered = i;
    redraw();
  }
}

function describeTip(i) {
  const lines = [describeEvent(run, i), run.textOf(i),
    `${formatTime(run.time[i])}, Lamport ${run.lamport[i]}, event ${i}`];
  const there = run.arrival[i];
  if (there >= 0) lines.push(`${run.kindOf(there) === "receive" ? "arrives" : run.textOf(there)} after ${formatShortTime(run.time[there] - run.time[i])}`);
  if (run.false[i]) lines.splice(1, 0, "a traitor says this instead of the truth");
  return lines.filter(Boolean);
}

function findBox(x, y) {
  for (const [x1, y1, x2, y2, thing] of [...view.operationBoxes, ...view.spanBoxes]) {
    if (x < x1 || x > x2 || y < y1 || y > y2) continue;
    if (thing.text) return [thing.text];
    const begin = run.time[thing.begin];
    const end = thing.end >= 0 ? run.time[thing.end] : run.data.outcome.time_ns;
    return [titleSpan(run, thing), `${formatTime(begin)} to ${thing.end >= 0 ? formatTime(end) : "the end"}, ${formatShortTime(end - begin)}`];
  }
  return null;
}

let drag = null;
view.canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  drag = { x: event.clientX, y: event.clientY, top: scroller.scrollTop, left: scroller.scrollLeft, moved: false };
  view.canvas.setPointerCapture(event.pointerId);
});
view.canvas.addEventListener("pointermove", (event) => {
  if (!drag) return showTip(event);
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (Math.abs(dx) + Math.abs(dy) > 4) drag.moved = true;
  if (drag.moved) {
    byId("tip").hidden = true;
    scroller.scrollTop = drag.top - dy;
    scroller.scrollLeft = drag.left - dx;
  }
});
view.canvas.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved) {
    const box = view.canvas.getBoundingClientRect();
    const found = findAt(view, event.clientX - box.left + view.left, event.clientY - box.top);
    actions.choose(found >= 0 ? found : null);
  }
  drag = null;
});
view.canvas.addEventListener("pointercancel", () => { drag = null; });
view.canvas.addEventListener("pointerleave", () => {
  byId("tip").hidden = true;
  view.hovered = null;
  redraw();
});
scroller.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const box = view.canvas.getBoundingClientRect();
  setUnit(view.unit * Math.exp(-event.deltaY / 300), event.clientY - box.top);
}, { passive: false });
scroller.addEventListener("scroll", () => {
  view.top = scroller.scrollTop;
  view.left = scroller.scrollLeft;
  redraw();
  keepAddress();
});

function goByOverview(event) {
  const box = view.overview.getBoundingClientRect();
  const part = (event.clientY - box.top - 4) / (box.height - 8);
  scroller.scrollTop = part * view.places.extent * view.unit + PAD - scroller.clientHeight / 2;
}
view.overview.addEventListener("pointerdown", (event) => {
  view.overview.setPointerCapture(event.pointerId);
  goByOverview(event);
});
view.overview.addEventListener("pointermove", (event) => { if (event.buttons) goByOverview(event); });
view.overview.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 40, ArrowUp: -40 }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  scroller.scrollTop += step;
});

// ---- controls

function makeChoices(id, choices, get, set) {
  const group = byId(id);
  for (const [value, text, title] of choices) {
    group.append(make("button", { type: "button", role: "radio", text, title, "data-value": value,
      onclick: () => set(value) }));
  }
  return () => {
    for (const button of group.children) {
      button.setAttribute("aria-checked", `${button.getAttribute("data-value") === get()}`);
    }
  };
}

const drawOrders = makeChoices("orders", ORDERS, () => view.order, setOrder);
const drawWays = makeChoices("cones", WAYS, () => view.way, (way) => {
  view.way = way;
  refresh(view.chosen);
});

function drawControls() {
  drawOrders();
  drawWays();
  for (const button of byId("cones").children) {
    button.disabled = view.chosen === null && button.getAttribute("data-value") !== "all";
  }
  byId("hide").checked = view.hide;
  const shown = view.places.sorted.length;
  const { start, stop } = { start: run.findings.length, stop: run.machines.length };
  byId("facts").textContent = `${stop} machines, ${run.count} events, ${shown} shown, ` +
    `${formatShortTime(run.data.outcome.time_ns)}${start > 1 ? `, ${start} findings` : ""}`;
  view.overview.setAttribute("aria-valuetext", `${shown} events shown`);
}

byId("zoom-in").addEventListener("click", () => setUnit(view.unit * 1.4));
byId("zoom-out").addEventListener("click", () => setUnit(view.unit / 1.4));
byId("zoom-fit").addEventListener("click", fit);
byId("reset").addEventListener("click", reset);
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("hide").addEventListener("change", () => { view.hide = byId("hide").checked; refresh(view.chosen); });
byId("find").addEventListener("input", () => { view.query = byId("find").value; search(); keepAddress(); });
byId("find").addEventListener("keydown", (event) => {
  if (event.key === "Enter") goToMatch(event.shiftKey ? -1 : 1);
  if (event.key === "Escape") view.canvas.focus();
});
byId("tabs").addEventListener("keydown", (event) => {
  if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
  const tabs = [...byId("tabs").children];
  const at = tabs.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
  tabs[(at + (event.key === "ArrowRight" ? 1 : tabs.length - 1)) % tabs.length].click();
});
byId("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark");
  setTheme(dark ? "light" : "dark");
  keepAddress();
});

function setTheme(theme) {
  view.theme = theme;
  if (theme) document.documentElement.setAttribute("data-theme", theme);
  else document.documentElement.removeAttribute("data-theme");
  applyColours();
}

function applyColours() {
  view.colours = readColours();
  const tiles = new Map();
  view.hatch = (colour) => {
    if (!tiles.has(colour)) tiles.set(colour, makeHatch(view.context, colour));
    return tiles.get(colour);
  };
  if (view.places) {
    drawFilters(view, changed);
    drawTabs(view, actions);
    redraw();
  }
}

function makeHatch(context, colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const c = tile.getContext("2d");
  c.strokeStyle = colour;
  c.lineWidth = 1.5;
  c.beginPath();
  for (const x of [-6, 0, 6]) {
    c.moveTo(x, 6);
    c.lineTo(x + 6, 0);
  }
  c.stroke();
  return context.createPattern(tile, "repeat");
}

// ---- the address

let kept = 0;

function keepAddress() {
  clearTimeout(kept);
  kept = setTimeout(() => {
    const text = encodeView();
    try {
      history.replaceState(null, "", `#${text}`);
    } catch {
      location.hash = text;
    }
  }, 150);
}

function encodeView() {
  const { filters } = view;
  const parts = new URLSearchParams();
  if (view.order !== "rows") parts.set("order", view.order);
  if (view.chosen !== null) parts.set("event", `${view.chosen}`);
  if (view.way !== "all") parts.set("cone", view.way);
  if (view.hide) parts.set("hide", "1");
  if (view.query) parts.set("find", view.query);
  if (view.tab !== "story") parts.set("tab", view.tab);
  if (view.theme) parts.set("theme", view.theme);
  if (filters.machines.size !== run.machines.length) parts.set("machines", [...filters.machines].sort((a, b) => a - b).join("."));
  const hidden = run.messageKinds.filter((kind) => !filters.messages.has(kind.place)).map((kind) => kind.name);
  if (hidden.some((name) => !CHATTER.has(name)) || !run.messageKinds.every((kind) => !CHATTER.has(kind.name) || hidden.includes(kind.name))) {
    parts.set("without", hidden.join("."));
  }
  const classes = [...filters.classes].sort().join(".");
  if (classes !== [...SHOWN_CLASSES].sort().join(".")) parts.set("show", classes);
  for (const name of ["low", "high", "from", "until"]) if (filters[name]) parts.set(name, `${filters[name]}`);
  parts.set("zoom", view.unit.toPrecision(4));
  parts.set("at", placeAt(view, PAD).toFixed(2));
  return parts.toString();
}

function decodeView(text) {
  const parts = new URLSearchParams(text);
  const { filters } = view;
  const number = (name, least, most) => {
    const value = Number(parts.get(name));
    return parts.has(name) && Number.isFinite(value) ? Math.min(Math.max(value, least), most) : null;
  };
  if (ORDERS.some(([id]) => id === parts.get("order"))) view.order = parts.get("order");
  if (WAYS.some(([id]) => id === parts.get("cone"))) view.way = parts.get("cone");
  if (["story", "rounds", "clients"].includes(parts.get("tab"))) view.tab = parts.get("tab");
  if (["dark", "light"].includes(parts.get("theme"))) setTheme(parts.get("theme"));
  view.hide = parts.get("hide") === "1";
  view.query = parts.get("find") || "";
  byId("find").value = view.query;
  const event = number("event", 0, run.count - 1);
  view.chosen = event === null || !run.count ? null : Math.round(event);
  if (parts.has("machines")) {
    filters.machines = new Set(parts.get("machines").split(".").filter(Boolean).map(Number)
      .filter((m) => Number.isInteger(m) && m >= 0 && m < run.machines.length));
  }
  if (parts.has("without")) {
    const hidden = new Set(parts.get("without").split("."));
    filters.messages = new Set(run.messageKinds.filter((kind) => !hidden.has(kind.name)).map((kind) => kind.place));
  }
  if (parts.has("show")) {
    const known = parts.get("show").split(".").filter((id) => CLASSES.some(([name]) => name === id));
    filters.classes = new Set(known);
  }
  for (const name of ["low", "high", "from", "until"]) filters[name] = number(name, 0, 2 ** 53) || 0;
  return { zoom: number("zoom", 1e-6, 1e6), at: number("at", 0, 1e12) };
}

// ---- begin

function describeRun() {
  const { plan, outcome } = run.data;
  const bug = plan.bug ? `, bug ${plan.bug}` : "";
  const title = `${plan.name}, seed ${plan.seed}, ${plan.engine}${bug}`;
  document.title = `${title} - Quorate`;
  byId("title").textContent = title;
  const badge = byId("verdict");
  badge.textContent = { true: "all properties hold", false: "a property is violated", unknown: "unknown" }[outcome.verdict];
  badge.classList.add(`is-${outcome.verdict}`);
  const found = byId("finding");
  found.hidden = !outcome.findings.length;
  if (outcome.findings.length) {
    const first = outcome.findings[0];
    const text = make("span", { text: `${first.property}: ${first.message}` });
    found.append(run.findings.length
      ? make("button", { type: "button", class: "link", title: "Show where (v)", onclick: () => actions.choose(run.findings[0], true) }, text)
      : text);
    if (run.findings.length) {
      found.append(" ", make("button", { type: "button", id: "led", text: "What led to it",
        title: "Only what happened before the finding", onclick: showPast }));
    }
  }
}

function showPast() {
  view.hide = true;
  view.way = "past";
  actions.choose(run.findings[0]);
  view.unit = clampUnit(chooseUnit());
  measure();
  reveal(run.findings[0]);
  redraw();
}

// One sending of several at once: its label says so.
view.isBroadcast = (i) => {
  const { places } = view;
  const same = (n) => n >= 0 && n < run.count && n !== i && run.machine[n] === run.machine[i] &&
    run.name[n] === run.name[i] && run.text[n] === run.text[i] && places.place[n] === places.place[i];
  return run.machines.length > 2 && (same(i + 1) || same(i - 1));
};

function begin() {
  applyColours();
  describeRun();
  fillHelp();
  const { zoom, at } = decodeView(location.hash.slice(1));
  place();
  drawFilters(view, changed);
  layOut(view, scroller.clientWidth);
  resize();
  view.unit = clampUnit(zoom ?? chooseUnit());
  measure();
  if (at !== null) {
    scroller.scrollTop = at * view.unit;
  } else {
    const target = view.chosen ?? run.findings[0];
    if (target !== undefined) scroller.scrollTop = view.places.place[target] * view.unit - scroller.clientHeight * 0.6;
  }
  view.top = scroller.scrollTop;
  search();
  drawTabs(view, actions);
  drawDetail(view, actions);
  drawControls();
  new ResizeObserver(resize).observe(scroller);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyColours);
  draw();
  document.documentElement.setAttribute("data-ready", "1");
}

begin();
