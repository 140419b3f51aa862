// What stands beside the diagram: filters, the chosen event, the story, rounds, operations.
// Everything that the run holds is set as text, never as markup.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const byId = (id) => document.getElementById(id);

// ---- filters

function makeChip(text, on, change, colour, title) {
  const box = make("input", { type: "checkbox", checked: on, onchange: () => change(box.checked) });
  const chip = make("label", { class: "chip", title: title || null }, box);
  if (colour) {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = colour;
    chip.append(swatch);
  }
  chip.append(make("span", { text }));
  return chip;
}

function toggle(set, value, on) {
  if (on) set.add(value);
  else set.delete(value);
}

function makeFieldset(name, chips, all) {
  const legend = make("legend", { text: name });
  if (all) {
    for (const [text, on] of [["all", true], ["none", false]]) {
      legend.append(" ", make("button", { type: "button", class: "link", text,
        "aria-label": `${name}: ${text}`, onclick: () => all(on) }));
    }
  }
  return make("fieldset", {}, legend, ...chips);
}

function drawFilters(view, changed) {
  const { run, filters, colours } = view;
  const nav = byId("filters");
  const focused = document.activeElement && document.activeElement.getAttribute("data-key");
  nav.textContent = "";
  const setAll = (set, values) => (on) => {
    for (const value of values) toggle(set, value, on);
    changed(true);
  };
  const sections = [
    makeFieldset("Machines", run.machines.map((machine, m) =>
      makeChip(machine.name, filters.machines.has(m), (on) => { toggle(filters.machines, m, on); changed(); },
        machine.traitor ? colours.lie : null, machine.traitor ? "a traitor" : null)),
    setAll(filters.machines, run.machines.map((_, m) => m))),
    makeFieldset("Messages", run.messageKinds.map((kind) =>
      makeChip(`${kind.name} ${kind.n}`, filters.messages.has(kind.place),
        (on) => { toggle(filters.messages, kind.place, on); changed(); },
        colours.messages[view.hues.get(kind.place)])),
    setAll(filters.messages, run.messageKinds.map((kind) => kind.place))),
    makeFieldset("Events", CLASSES.map(([id, title]) =>
      makeChip(title, filters.classes.has(id), (on) => { toggle(filters.classes, id, on); changed(); })),
    setAll(filters.classes, CLASSES.map(([id]) => id))),
    makeRange("Heights", "", filters.low, filters.high, 1, run.highest,
      (low, high) => { filters.low = low; filters.high = high; changed(); }),
    makeRange("Time", "ms", filters.from / 1e6, filters.until / 1e6, 0, null,
      (from, until) => { filters.from = from * 1e6; filters.until = until * 1e6; changed(); }),
  ];
  nav.append(...sections);
  nav.querySelectorAll("input, button").forEach((element, n) => element.setAttribute("data-key", `${n}`));
  if (focused) nav.querySelector(`[data-key="${focused}"]`)?.focus();
}

function makeRange(name, unit, low, high, least, most, change) {
  const input = (value, hint, label) => make("input", {
    type: "number", min: `${least}`, max: most === null ? null : `${most}`, step: unit ? "any" : "1",
    placeholder: hint, "aria-label": `${name} ${label}`, value: value ? `${value}` : "",
  });
  const from = input(low, `${least}`, "from");
  const until = input(high, unit ? "end" : `${most}`, "to");
  const apply = () => change(Math.max(Number(from.value) || 0, 0), Math.max(Number(until.value) || 0, 0));
  from.addEventListener("change", apply);
  until.addEventListener("change", apply);
  return make("fieldset", { class: "range" }, make("legend", { text: unit ? `${name}, ${unit}` : name }),
    from, make("span", { text: "to" }), until);
}

// ---- the chosen event

function drawDetail(view, actions) {
  const section = byId("detail");
  section.textContent = "";
  const { run, chosen: i } = view;
  if (i === null) {
    section.append(make("h2", { text: "No event chosen" }), make("p", { class: "quiet",
      text: "Click a point or a message to see what it holds, what led to it and what it led to." }));
    return;
  }
  const kind = run.kindOf(i);
  section.append(make("h2", { text: describeEvent(run, i), class: run.false[i] ? "lie" : "" }));
  const rows = [
    ["Event", `${i} of ${run.count}: ${run.data.kinds[kind]}`],
    ["Time", `${formatTime(run.time[i])}, Lamport ${run.lamport[i]}`],
  ];
  if (run.atHeight[i] >= 0) rows.push(["Height", formatPlace(run, i) || `${run.atHeight[i]} (the machine's)`]);
  if (run.size[i]) rows.push(["Size", `${run.size[i]} bytes`]);
  if (run.false[i]) rows.push(["Said by", "a traitor, instead of what its node told it to say"]);
  if (run.textOf(i)) rows.push(["Contents", run.textOf(i)]);
  const list = make("dl");
  for (const [term, text] of rows) list.append(make("dt", { text: term }), make("dd", { text }));
  section.append(list);
  section.append(makeLinks(view, actions));
}

const MAX_EFFECTS = 40;

function makeLinks(view, actions) {
  const { run, chosen: i } = view;
  const box = make("div", { class: "links" });
  const add = (title, numbers) => {
    if (!numbers.length) return;
    const items = make("ul");
    for (const n of numbers.slice(0, MAX_EFFECTS)) {
      items.append(make("li", {}, make("button", { type: "button", class: "link", text: describeEvent(run, n),
        onclick: () => actions.choose(n, true) })));
    }
    if (numbers.length > MAX_EFFECTS) {
      items.append(make("li", { class: "quiet", text: `and ${numbers.length - MAX_EFFECTS} more` }));
    }
    box.append(make("h3", { text: title }), items);
  };
  add("Because of", run.cause[i] >= 0 ? [run.cause[i]] : []);
  add("Ends", run.begin[i] >= 0 && run.begin[i] !== run.cause[i] ? [run.begin[i]] : []);
  add("Led to", [...run.effectsOf(i)]);
  const { past, future } = countCone(computeCone(run, i, "both"));
  const others = run.count - 1 - past - future;
  box.append(make("p", { class: "quiet",
    text: `${past} events happened before it, ${future} after it, ${others} are concurrent.` }));
  box.append(make("div", { class: "row" },
    make("button", { type: "button", text: "Past", onclick: () => actions.cone("past") }),
    make("button", { type: "button", text: "Future", onclick: () => actions.cone("future") }),
    make("button", { type: "button", text: "Show from here", onclick: () => actions.window(i, "from") }),
    make("button", { type: "button", text: "until here", onclick: () => actions.window(i, "until") })));
  return box;
}

// ---- tabs

const MAX_SHOWN_LINES = 400;

function drawStory(view, panel, actions) {
  const { run } = view;
  const lines = run.story.filter((line) => isLineShown(view, line));
  const list = make("ol", { class: "story" });
  const more = make("button", { type: "button", class: "link" });
  let at = Math.max(lines.length - MAX_SHOWN_LINES, 0);
  const makeLine = (line) => make("li", { class: line.tone, "data-event": `${line.event}` },
    make("button", { type: "button", onclick: () => actions.choose(line.event, true) },
      make("span", { class: "when", text: formatShortTime(run.time[line.event]) }),
      make("span", { text: line.text })));
  const extend = (low, high) => list.prepend(...lines.slice(low, high).map(makeLine));
  const label = () => { more.textContent = `${at} lines before`; more.hidden = !at; };
  extend(at, lines.length);
  label();
  more.addEventListener("click", () => {
    const low = Math.max(at - MAX_SHOWN_LINES, 0);
    extend(low, at);
    at = low;
    label();
  });
  if (!lines.length) list.append(make("li", { class: "quiet", text: "Nothing but agreement." }));
  panel.append(more, list);
}

function isLineShown(view, line) {
  if (line.tone === "finding") return true;
  const { run, filters } = view;
  const i = line.event;
  if (line.machine >= 0 && !filters.machines.has(line.machine)) return false;
  if (filters.from && run.time[i] < filters.from) return false;
  if (filters.until && run.time[i] > filters.until) return false;
  const h = run.atHeight[i];
  if (h >= 0 && ((filters.low && h < filters.low) || (filters.high && h > filters.high))) return false;
  return !(view.hide && view.cone && !view.cone[i]);
}

const MAX_CELLS = 120;

// One row for each machine, one cell for each height, or for several where there are too many.
function drawRounds(view, panel, actions) {
  const { run, colours } = view;
  const heights = Math.max(run.highest, 1);
  const each = Math.ceil(heights / MAX_CELLS);
  panel.append(make("p", { class: "quiet", text: each > 1
    ? `The highest round of every ${each} heights, as each machine saw it.`
    : "The highest round of each height, as each machine saw it." }));
  const grid = make("div", { class: "rounds", role: "grid", "aria-label": "Rounds by machine and height" });
  for (let m = 0; m < run.machines.length; m++) {
    const row = make("div", { role: "row" }, make("span", { role: "rowheader", class: "who", text: run.machines[m].name }));
    for (let low = 1; low <= heights; low += each) {
      const high = Math.min(low + each - 1, heights);
      row.append(makeCell(view, actions, m, low, high, colours));
    }
    grid.append(row);
  }
  const first = grid.querySelector("button");
  if (first) first.tabIndex = 0;
  grid.addEventListener("keydown", (event) => moveInGrid(grid, event));
  panel.append(grid);
  const legend = make("div", { class: "legend", "aria-hidden": "true" });
  ["round 0", "1", "2", "3", "4 and more"].forEach((text, r) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = r ? colours.rounds[r] : colours.strip2;
    legend.append(swatch, make("span", { text }));
  });
  panel.append(legend);
}

function makeCell(view, actions, m, low, high, colours) {
  let best = null, height = low;
  for (let h = low; h <= high; h++) {
    const reached = view.run.rounds[m].get(h);
    if (reached && (!best || reached.round > best.round)) { best = reached; height = h; }
  }
  const place = low === high ? `height ${low}` : `heights ${low} to ${high}`;
  const text = best ? `${view.run.machines[m].name}, ${place}: round ${best.round}` : `${view.run.machines[m].name} was not at ${place}`;
  const cell = make("button", { type: "button", role: "gridcell", tabIndex: -1, title: text, "aria-label": text,
    disabled: !best, onclick: () => { if (best) actions.choose(best.last, true, height); } });
  cell.style.background = best ? (best.round ? colours.rounds[Math.min(best.round, 4)] : colours.strip2) : "transparent";
  if (best && best.round && low === high) cell.textContent = `${best.round}`;
  return cell;
}

function moveInGrid(grid, event) {
  const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  if (!(event.key in moves) || !(event.target instanceof HTMLButtonElement)) return;
  event.preventDefault();
  event.stopPropagation();
  const rows = [...grid.children].map((row) => [...row.querySelectorAll("button")]);
  let y = rows.findIndex((row) => row.includes(event.target));
  let x = rows[y].indexOf(event.target);
  const [dy, dx] = moves[event.key];
  do {
    y += dy;
    x += dx;
  } while (rows[y]?.[x]?.disabled);
  const next = rows[y]?.[x];
  if (next) {
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

function drawOperations(view, panel, actions) {
  const list = make("ol", { class: "story" });
  const { operations } = view.history;
  const shown = operations.filter((o) => o.suspect).concat(operations.filter((o) => !o.suspect));
  for (const o of shown.slice(0, MAX_SHOWN_LINES)) {
    list.append(make("li", { class: o.suspect ? "finding" : o.outcome },
      make("button", { type: "button", onclick: () => actions.time(o.start_ns) },
        make("span", { class: "when", text: formatShortTime(o.start_ns) }),
        make("span", { text: o.text }))));
  }
  if (shown.length > MAX_SHOWN_LINES) {
    list.append(make("li", { class: "quiet", text: `and ${shown.length - MAX_SHOWN_LINES} more` }));
  }
  panel.append(list);
}

function drawTabs(view, actions) {
  const tabs = byId("tabs");
  const panel = byId("panel");
  const names = [["story", "Story"], ["rounds", "Rounds"]];
  if (view.history) names.push(["clients", "Clients"]);
  tabs.textContent = panel.textContent = "";
  for (const [id, title] of names) {
    const on = view.tab === id;
    tabs.append(make("button", { type: "button", role: "tab", id: `tab-${id}`, text: title, "aria-controls": "panel",
      "aria-selected": `${on}`, tabIndex: on ? 0 : -1, onclick: () => actions.tab(id) }));
  }
  panel.setAttribute("aria-labelledby", `tab-${view.tab}`);
  if (view.tab === "rounds") drawRounds(view, panel, actions);
  else if (view.tab === "clients" && view.history) drawOperations(view, panel, actions);
  else drawStory(view, panel, actions);
}

// ---- help

const KEYS = [
  ["↑ ↓", "the event before or after on the machine"],
  ["← →", "the machine to the left or right"],
  ["Enter", "to the other end of the message, or to the cause"],
  ["p f b a", "the past, the future, both, or all of the run"],
  ["h", "hide what is not in the cone"],
  ["+ − 0", "zoom in, out, everything"],
  ["Page Up, Page Down, Home, End", "scroll"],
  ["r t l", "rows, time or Lamport time"],
  ["v", "to the finding"],
  ["/", "find; Enter goes to the next one"],
  ["Esc", "nothing chosen; once more: no filters"],
];

const MARKS = [
  ["lifeline", "coloured by round from round 1 on, heights in turns light and dark"],
  ["broken arrow with ×", "a message that was lost"],
  ["magenta", "a traitor, and what it said instead of the truth"],
  ["hatched", "red: the process is down; blue: it is paused"],
  ["red bars and dashes", "links that are cut, and machines behind the cut"],
  ["circle with a tick", "a block is final"],
  ["diamond, square", "a timer falls; records are durable"],
  ["red row", "where the property was found not to hold"],
];

function fillHelp() {
  const dialog = byId("keys");
  const table = (rows) => {
    const list = make("dl", { class: "keys" });
    for (const [term, text] of rows) list.append(make("dt", { text: term }), make("dd", { text }));
    return list;
  };
  dialog.append(make("h2", { text: "Keys" }), table(KEYS), make("h2", { text: "Marks" }), table(MARKS),
    make("p", { class: "quiet", text: "Drag to scroll, wheel with Ctrl to zoom. The address holds the view: copy it to share what you see." }),
    make("form", { method: "dialog" }, make("button", { text: "Close" })));
}
