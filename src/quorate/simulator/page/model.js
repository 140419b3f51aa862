// The run, what happened before what, which events are shown, and where each of them lies.

const MESSAGE = new Set(["send", "double", "receive", "lost", "missed", "withheld"]);

// Classes of events that can be shown or hidden, besides messages by their names.
const CLASSES = [
  ["fault", "Faults", ["fault", "join", "down", "start", "fail", "cut", "mended"]],
  ["final", "Final blocks", ["final", "finding", "accuse"]],
  ["timer", "Timers that fall", ["timer"]],
  ["disk", "Records durable", ["durable"]],
  ["client", "Clients", ["submit", "answer"]],
  ["state", "Engine states", ["state"]],
  ["write", "Records on their way", ["persist"]],
  ["arm", "Timers set", ["arm"]],
  ["work", "Application calls", ["work"]],
  ["link", "Connections", ["connected", "disconnected"]],
  ["note", "Nodes' logs", ["note"]],
];
const SHOWN_CLASSES = ["fault", "final", "timer", "disk", "client"];
// What nodes say beside the protocol, hidden at first.
const CHATTER = new Set(["Hello", "Tip"]);
// Bands say the same.
const MARKED_ELSEWHERE = new Set(["cut", "mended", "down"]);

function readRun(data) {
  const columns = data.columns;
  const count = columns.kind.length;
  const kinds = Object.keys(data.kinds);
  const run = {
    data, count, kinds, strings: data.strings, machines: data.machines, spans: data.spans,
    story: data.story,
    time: new Float64Array(count),
    kind: Uint8Array.from(columns.kind),
    lamport: Int32Array.from(columns.lamport),
    false: new Uint8Array(count),
    size: Int32Array.from(columns.size),
    name: Int32Array.from(columns.name),
    text: Int32Array.from(columns.text),
  };
  for (const name of ["machine", "other", "source", "cause", "begin", "height", "round"]) {
    run[name] = Int32Array.from(columns[name]);
  }
  let now = 0;
  for (let i = 0; i < count; i++) run.time[i] = now += columns.time[i];
  for (const i of columns.false) run.false[i] = 1;
  run.kindOf = (i) => kinds[run.kind[i]];
  run.nameOf = (i) => run.strings[run.name[i]];
  run.textOf = (i) => run.strings[run.text[i]];
  joinEvents(run);
  readStates(run);
  readMessages(run);
  run.findings = [];
  for (let i = 0; i < count; i++) if (run.kindOf(i) === "finding") run.findings.push(i);
  return run;
}

// The event before each one on its machine, and what each one led to.
function joinEvents(run) {
  const { count, machine, cause } = run;
  run.previous = new Int32Array(count).fill(-1);
  run.following = new Int32Array(count).fill(-1);
  const last = new Map();
  const starts = new Int32Array(count + 1);
  for (let i = 0; i < count; i++) {
    const m = machine[i];
    if (m >= 0) {
      if (last.has(m)) {
        run.previous[i] = last.get(m);
        run.following[last.get(m)] = i;
      }
      last.set(m, i);
    }
    if (cause[i] >= 0) starts[cause[i] + 1]++;
  }
  for (let i = 0; i < count; i++) starts[i + 1] += starts[i];
  const places = starts.slice();
  const effects = new Int32Array(starts[count]);
  for (let i = 0; i < count; i++) if (cause[i] >= 0) effects[places[cause[i]]++] = i;
  run.effectsOf = (i) => effects.subarray(starts[i], starts[i + 1]);
}

// The height and round at which each event happened: its own, or else its machine's.
function readStates(run) {
  const { count, machine, height, round } = run;
  run.atHeight = new Int32Array(count);
  run.changes = run.machines.map(() => []);
  const heights = new Int32Array(run.machines.length).fill(-1);
  let highest = 0;
  for (let i = 0; i < count; i++) {
    const m = machine[i];
    if (m >= 0 && run.kindOf(i) === "state") {
      heights[m] = height[i];
      run.changes[m].push(i);
    }
    run.atHeight[i] = height[i] > 0 ? height[i] : m >= 0 ? heights[m] : -1;
    highest = Math.max(highest, run.atHeight[i]);
  }
  run.highest = highest;
  run.rounds = run.machines.map(() => new Map());
  for (let i = 0; i < count; i++) {
    if (run.kindOf(i) !== "state" || machine[i] < 0) continue;
    const reached = run.rounds[machine[i]];
    const known = reached.get(height[i]);
    if (!known || known.round < round[i]) {
      reached.set(height[i], { round: round[i], event: known ? known.event : i, last: i });
    }
  }
}

// Each message once: its sending and what became of it.
function readMessages(run) {
  const { count, cause } = run;
  const kinds = new Map();
  run.arrival = new Int32Array(count).fill(-1);
  run.messageName = new Int32Array(count).fill(-1);
  for (let i = 0; i < count; i++) {
    const kind = run.kindOf(i);
    if (!MESSAGE.has(kind)) continue;
    run.messageName[i] = run.name[i];
    if (kind === "receive" || kind === "missed") {
      if (cause[i] >= 0) run.arrival[cause[i]] = i;
    } else {
      kinds.set(run.name[i], (kinds.get(run.name[i]) || 0) + 1);
    }
  }
  run.messageKinds = [...kinds].sort((a, b) => b[1] - a[1] || a[0] - b[0])
    .map(([place, n]) => ({ place, n, name: run.strings[place] }));
}

// Everything that happened before an event (1), after it (2), and itself (3), over all events.
function computeCone(run, event, way) {
  const { count, previous, cause } = run;
  const cone = new Uint8Array(count);
  cone[event] = 3;
  if (way !== "future") {
    const waiting = [event];
    while (waiting.length) {
      const i = waiting.pop();
      for (const before of [previous[i], cause[i]]) {
        if (before >= 0 && !cone[before]) {
          cone[before] = 1;
          waiting.push(before);
        }
      }
    }
  }
  if (way !== "past") {
    // A cause always comes earlier in the trace, so one pass is enough.
    for (let i = event + 1; i < count; i++) {
      const p = previous[i], c = cause[i];
      if ((p >= 0 && cone[p] >= 2) || (c >= 0 && cone[c] >= 2)) cone[i] = 2;
    }
  }
  return cone;
}

function countCone(cone) {
  let past = 0, future = 0;
  for (const value of cone) {
    if (value === 1) past++;
    else if (value === 2) future++;
  }
  return { past, future };
}

// ---- filters

function makeFilters(run) {
  return {
    machines: new Set(run.machines.map((_, i) => i)),
    messages: new Set(run.messageKinds.filter((kind) => !CHATTER.has(kind.name))
      .map((kind) => kind.place)),
    classes: new Set(SHOWN_CLASSES),
    low: 0, high: 0,
    from: 0, until: 0,
  };
}

const CLASS_OF = new Map(CLASSES.flatMap(([id, , kinds]) => kinds.map((kind) => [kind, id])));

function isShown(run, filters, i) {
  const kind = run.kindOf(i);
  const m = run.machine[i];
  if (m >= 0 && !filters.machines.has(m)) return false;
  if (filters.from && run.time[i] < filters.from) return false;
  if (filters.until && run.time[i] > filters.until) return false;
  const h = run.atHeight[i];
  if (h >= 0 && ((filters.low && h < filters.low) || (filters.high && h > filters.high))) {
    return false;
  }
  if (MESSAGE.has(kind)) {
    const other = run.other[i];
    if (other >= 0 && !filters.machines.has(other)) return false;
    if (kind === "missed") return false;
    return filters.messages.has(run.name[i]);
  }
  if (MARKED_ELSEWHERE.has(kind)) return false;
  return kind === "finding" || filters.classes.has(CLASS_OF.get(kind));
}

// ---- places

// Give every event a place along the axis of time. Rows: one for each event that is shown, but one
// for all copies of a broadcast. Hidden events get a place too, where bands begin and end.
function computePlaces(run, filters, order, cone, hide) {
  const { count } = run;
  const shown = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    if (isShown(run, filters, i) && !(hide && cone && !cone[i])) shown[i] = 1;
  }
  const place = new Float64Array(count);
  let extent = 0;
  if (order === "time") {
    let first = -1;
    for (let i = 0; i < count; i++) if (shown[i]) { first = run.time[i]; break; }
    const from = filters.from || Math.max(first, 0);
    for (let i = 0; i < count; i++) {
      place[i] = Math.max((run.time[i] - from) / 1e6, 0);
      if (shown[i]) extent = Math.max(extent, place[i]);
    }
    for (let i = 0; i < count; i++) place[i] = Math.min(place[i], extent);
  } else if (order === "lamport") {
    extent = placeByLamport(run, shown, place);
  } else {
    extent = placeByRow(run, shown, place);
  }
  const list = [];
  for (let i = 0; i < count; i++) if (shown[i]) list.push(i);
  const sorted = Int32Array.from(list);
  if (order === "lamport") sorted.sort((a, b) => place[a] - place[b] || a - b);
  return { shown, place, extent, sorted, order, ...sortMessages(run, shown, place) };
}

function placeByRow(run, shown, place) {
  let row = -1, key = "";
  for (let i = 0; i < run.count; i++) {
    if (!shown[i]) {
      place[i] = row + 0.5;
      continue;
    }
    const kind = run.kindOf(i);
    const copies = kind === "send" || kind === "lost" || kind === "withheld";
    const mine = copies ? `${run.machine[i]} ${run.time[i]} ${run.name[i]} ${run.text[i]}` : "";
    if (!copies || mine !== key) row++;
    key = mine;
    place[i] = row;
  }
  for (let i = 0; i < run.count && place[i] < 0; i++) place[i] = 0;
  return Math.max(row, 0);
}

function placeByLamport(run, shown, place) {
  const used = new Set();
  for (let i = 0; i < run.count; i++) if (shown[i] && run.machine[i] >= 0) used.add(run.lamport[i]);
  const numbers = Int32Array.from(used).sort();
  const top = numbers.length ? numbers[numbers.length - 1] : 0;
  const rows = new Float64Array(top + 2);
  let at = 0;
  for (let n = 0; n < rows.length; n++) {
    while (at < numbers.length && numbers[at] < n) at++;
    rows[n] = Math.min(at, numbers.length - 1);
  }
  // What happens to the network lies after all that had happened by then.
  let reached = 0;
  for (let i = 0; i < run.count; i++) {
    if (run.machine[i] >= 0) {
      place[i] = Math.max(rows[Math.min(run.lamport[i], top + 1)], 0);
      if (shown[i]) reached = Math.max(reached, place[i]);
    } else {
      place[i] = reached;
    }
  }
  return Math.max(numbers.length - 1, 0);
}

const BLOCK = 64;

// The messages to draw, in order of their beginnings, with the furthest end of every block of them.
function sortMessages(run, shown, place) {
  const list = [];
  for (let i = 0; i < run.count; i++) {
    const kind = run.kindOf(i);
    if (kind !== "send" && kind !== "double" && kind !== "lost" && kind !== "withheld") continue;
    if (!shown[i]) continue;
    list.push(i);
  }
  const messages = Int32Array.from(list);
  const begin = (i) => place[i];
  messages.sort((a, b) => begin(a) - begin(b) || a - b);
  const blocks = new Float64Array(Math.ceil(messages.length / BLOCK));
  for (let n = 0; n < messages.length; n++) {
    const end = getEnd(run, place, messages[n]);
    const b = Math.floor(n / BLOCK);
    if (end > blocks[b]) blocks[b] = end;
  }
  return { messages, blocks };
}

function getEnd(run, place, i) {
  const there = run.arrival[i];
  return there >= 0 ? Math.max(place[there], place[i]) : place[i];
}

// The messages that cross a range of places.
function findMessages(run, places, low, high) {
  const { messages, blocks, place } = places;
  const found = [];
  for (let b = 0; b < blocks.length; b++) {
    const first = b * BLOCK;
    if (place[messages[first]] > high) break;
    if (blocks[b] < low) continue;
    const end = Math.min(first + BLOCK, messages.length);
    for (let n = first; n < end; n++) {
      const i = messages[n];
      if (place[i] > high) break;
      if (getEnd(run, place, i) >= low) found.push(i);
    }
  }
  return found;
}

// The first index in `sorted` whose place is at least so much.
function findPlace(places, value) {
  const { sorted, place } = places;
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (place[sorted[middle]] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// ---- words

function formatTime(ns) {
  return `${(ns / 1e6).toFixed(3)} ms`;
}

function formatShortTime(ns) {
  const ms = ns / 1e6;
  return ms >= 10000 ? `${(ms / 1000).toFixed(3)} s` : `${ms.toFixed(ms < 1000 ? 2 : 1)} ms`;
}

function nameMachine(run, m) {
  return m < 0 ? "the network" : run.machines[m].name;
}

const MENDS = new Set(["mend", "heal", "restart", "resume", "swizzle mend", "round script ends"]);

// Whether a fault is the end of one.
function isMend(run, i) {
  return run.kindOf(i) === "fault" && (MENDS.has(run.nameOf(i)) || run.textOf(i) === "factor 1");
}

function titleSpan(run, span) {
  return span.machine >= 0 ? `${nameMachine(run, span.machine)}: ${span.label}` : span.label;
}

function formatPlace(run, i) {
  if (run.height[i] < 0) return "";
  return run.round[i] < 0 ? `${run.height[i]}` : `${run.height[i]}/${run.round[i]}`;
}

function describeEvent(run, i) {
  const kind = run.kindOf(i);
  const who = nameMachine(run, run.source[i] >= 0 ? run.source[i] : run.machine[i]);
  const to = run.other[i] >= 0 ? nameMachine(run, run.other[i]) : "";
  const what = [run.nameOf(i), formatPlace(run, i)].filter(Boolean).join(" ");
  switch (kind) {
    case "send": return `${who} sends ${what} to ${to}`;
    case "double": return `the network copies ${what} from ${who} to ${to}`;
    case "lost": return `${who} sends ${what} to ${to}: lost`;
    case "missed": return `${what} from ${who} to ${to} finds nobody`;
    case "withheld": return `${who} withholds ${what} from ${to}`;
    case "receive": return `${who} receives ${what} from ${to}`;
    case "arm": return `${who} sets timer ${what}`;
    case "timer": return `${who}: timer ${what} falls`;
    case "persist": return `${who} writes ${what}`;
    case "durable": return `${who}: ${what} durable`;
    case "work": return `${who}: application, ${what} done`;
    case "state": return `${who}: height ${run.height[i]}, round ${run.round[i]}, ${run.nameOf(i)}`;
    case "final": return `${who}: ${run.nameOf(i)} is final`;
    case "submit": return `a client gives ${who} ${what}`;
    case "answer": return `${who} answers a client: ${what}`;
    case "join": return `${who} is there, ${run.textOf(i)}`;
    case "start": return `${who} starts, ${what}`;
    case "down": return `${who} is down`;
    case "cut": return `link from ${who} to ${to} is cut`;
    case "mended": return `link from ${who} to ${to} is whole`;
    case "connected": return `${who} and ${to} are connected`;
    case "disconnected": return `${who} and ${to} are not connected any more`;
    case "accuse": return `${who} accuses ${what}`;
    case "finding": return `FOUND: ${what}`;
    default: return `${who}: ${what}${to ? ` (${to})` : ""}`;
  }
}
