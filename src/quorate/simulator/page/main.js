// The controls, the address that keeps the view, and how it all begins.

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
