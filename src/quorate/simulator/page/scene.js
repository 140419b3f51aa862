// What is drawn: lifelines, messages, points, bands, labels. `view` holds what to draw and where.

const AXIS = 88;
const LANE = 172;
const LANES = 6;
const COLUMN = 108;
const CLIENT = 26;
const PAD = 28;
const MAX_TOLD = 5;
const MAX_TALL = 12e6;
const STRIP = 9;
const LABEL = 12;
const MANY_MESSAGES = 1200;
const DENSE_MESSAGES = 4000;
const MONO = "11px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace";
const SANS = "11px system-ui, 'DejaVu Sans', sans-serif";

// Hues that the engines' usual messages have in every run; others get the next free one.
const USUAL = { Proposal: 0, Prevote: 1, Precommit: 2, Decision: 3, Decisions: 3, Transactions: 4,
  Status: 5, Tip: 6, Hello: 7, GetDecisions: 5 };
const HUES = 10;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(name).trim();
  const colours = { messages: [], rounds: [] };
  for (const name of ["ground", "panel", "ink", "quiet", "line", "strip", "strip2", "accent",
    "bad", "good", "warn", "lie", "cool", "choice"]) colours[name] = get(`--${name}`);
  for (let i = 0; i < HUES; i++) colours.messages.push(get(`--m${i}`));
  for (let i = 0; i < 5; i++) colours.rounds.push(get(`--r${i}`));
  return colours;
}

function chooseHues(run) {
  const hues = new Map();
  let next = 8;
  for (const kind of run.messageKinds) {
    hues.set(kind.place, kind.name in USUAL ? USUAL[kind.name] : next++ % HUES);
  }
  return hues;
}

// Where each machine's line stands. `width` is what there is to see.
function layOut(view, width) {
  const shown = view.run.machines.map((_, i) => i).filter((i) => view.filters.machines.has(i));
  const clients = view.history ? view.history.lanes.length * CLIENT + 40 : 0;
  const left = AXIS + LANE;
  const room = Math.max(width - left - clients, COLUMN * Math.max(shown.length, 1));
  const gap = room / Math.max(shown.length, 1);
  view.x = new Float64Array(view.run.machines.length).fill(-1);
  shown.forEach((m, n) => { view.x[m] = left + gap * (n + 0.24); });
  view.gap = gap;
  view.clientsLeft = left + room;
  view.wide = left + room + clients;
  view.shownMachines = shown;
}

function yOf(view, place) {
  return PAD + place * view.unit - view.top;
}

function placeAt(view, y) {
  return (y + view.top - PAD) / view.unit;
}

// ---- the whole board

function drawBoard(view) {
  const { canvas, context: c, colours } = view;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  c.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  c.fillStyle = colours.ground;
  c.fillRect(0, 0, width, height);
  c.translate(-view.left, 0);
  const low = placeAt(view, -40), high = placeAt(view, height + 40);
  drawFindings(view, height);
  drawAxis(view, low, high, height);
  for (const m of view.shownMachines) drawStrip(view, m, low, high, height);
  drawSpans(view, height);
  if (view.history) drawHistory(view, low, high, height);
  const messages = findMessages(view.run, view.places, low, high);
  view.dense = messages.length > DENSE_MESSAGES;
  if (view.dense) drawTraffic(view, messages, height);
  else drawMessages(view, messages);
  drawPoints(view, low, high);
  drawChoice(view);
  if (view.dense) {
    drawText(view, `${messages.length} messages, as bars beside those who got them; zoom in for arrows`,
      view.left + AXIS + LANE, height - 10, 600, colours.quiet);
  }
  view.drawnMessages = view.dense ? [] : messages;
}

function isFaded(view, i) {
  return view.cone !== null && !view.cone[i] && view.run.kindOf(i) !== "finding";
}

function drawFindings(view, height) {
  const { context: c, colours, run, places } = view;
  for (const i of run.findings) {
    const y = yOf(view, places.place[i]);
    if (y < -30 || y > height + 30) continue;
    c.globalAlpha = 0.16;
    c.fillStyle = colours.bad;
    c.fillRect(view.left, y - 11, view.canvas.clientWidth, 22);
    c.globalAlpha = 1;
    c.fillRect(view.left, y - 11, view.canvas.clientWidth, 1);
    c.fillRect(view.left, y + 10, view.canvas.clientWidth, 1);
  }
}

function drawAxis(view, low, high, height) {
  const { context: c, colours, run, places } = view;
  c.font = MONO;
  c.textAlign = "right";
  c.textBaseline = "middle";
  c.fillStyle = colours.quiet;
  c.strokeStyle = colours.line;
  c.lineWidth = 1;
  if (places.order === "time") {
    const step = chooseStep(56 / view.unit);
    const from = view.origin / 1e6;
    const first = Math.ceil((low + from) / step) * step;
    for (let ms = first; ms <= high + from && ms - from <= places.extent + step; ms += step) {
      if (ms < 0) continue;
      const y = yOf(view, ms - from);
      drawRule(view, y);
      c.fillText(formatTick(ms, step), AXIS - 10, y);
    }
    return;
  }
  let last = -100, told = null;
  for (let n = findPlace(places, low); n < places.sorted.length; n++) {
    const i = places.sorted[n];
    if (places.place[i] > high) break;
    const y = yOf(view, places.place[i]);
    if (y - last < 15) continue;
    const text = places.order === "lamport" ? `L ${run.lamport[i]}` : formatShortTime(run.time[i]);
    if (text !== told) {
      if (y - last > 30) drawRule(view, y);
      c.fillText(text, AXIS - 10, y);
      told = text;
      last = y;
    }
  }
}

function drawRule(view, y) {
  const { context: c } = view;
  c.globalAlpha = 0.5;
  c.beginPath();
  c.moveTo(AXIS - 4, Math.round(y) + 0.5);
  c.lineTo(view.wide, Math.round(y) + 0.5);
  c.stroke();
  c.globalAlpha = 1;
}

function chooseStep(least) {
  let step = 1e-4;
  for (;;) {
    for (const factor of [1, 2, 5]) if (step * factor >= least) return step * factor;
    step *= 10;
  }
}

function formatTick(ms, step) {
  if (step >= 1000) return `${Math.round(ms / 1000)} s`;
  const digits = step >= 1 ? 0 : Math.min(Math.ceil(-Math.log10(step)), 4);
  return `${ms.toFixed(digits)} ms`;
}

// ---- lifelines: coloured by round, heights in turns light and dark

function drawStrip(view, m, low, high, height) {
  const { context: c, colours, run, places } = view;
  const x = view.x[m] - STRIP / 2;
  const changes = run.changes[m];
  const end = Math.min(yOf(view, places.extent) + 14, height + 20);
  const begin = Math.max(yOf(view, 0) - 14, -20);
  c.fillStyle = colours.strip;
  if (end > begin) c.fillRect(x, begin, STRIP, end - begin);
  let first = 0, last = changes.length;
  while (first < last) {
    const middle = (first + last) >> 1;
    if (places.place[changes[middle]] < low) first = middle + 1;
    else last = middle;
  }
  const later = [];
  let lastLabel = -100, h = -1, r = -1;
  for (let n = Math.max(first - 1, 0); n < changes.length; n++) {
    const i = changes[n];
    if (places.place[i] > high) break;
    const y = Math.max(yOf(view, places.place[i]), -20);
    const next = n + 1 < changes.length ? yOf(view, places.place[changes[n + 1]]) : end;
    const bottom = Math.min(next, end);
    if (run.round[i] > 0) later.push([y, bottom, run.round[i]]);
    else if (run.height[i] % 2 && bottom - y > 0.2) {
      c.fillStyle = colours.strip2;
      c.fillRect(x, y, STRIP, bottom - y);
    }
    const label = run.height[i] !== h ? `h${run.height[i]}` : run.round[i] !== r ? `r${run.round[i]}` : "";
    if (label && n >= first && y - lastLabel > 11) {
      c.font = MONO;
      c.textAlign = "right";
      c.textBaseline = "middle";
      c.fillStyle = run.round[i] > 0 ? colours.warn : colours.quiet;
      c.fillText(label, x - 8, y);
      lastLabel = y;
    }
    h = run.height[i];
    r = run.round[i];
  }
  for (const [y, bottom, round] of later) {
    c.fillStyle = colours.rounds[Math.min(round, 4)];
    c.fillRect(x, y, STRIP, Math.max(bottom - y, 1.5));
  }
}

// ---- what lasted

function drawSpans(view, height) {
  const { context: c, colours, places, run } = view;
  view.spanBoxes = [];
  const lanes = [];
  let lastText = -100;
  for (const span of run.spans) {
    const begin = places.place[span.begin];
    const ended = span.end >= 0 ? places.place[span.end] : places.extent + 0.8;
    const y = yOf(view, begin), bottom = Math.max(yOf(view, ended), y + 3);
    let lane = 0;
    if (span.machine < 0) {
      while (lane < lanes.length && lanes[lane] > begin) lane++;
      lanes[lane] = ended;
    }
    if (bottom < -20 || y > height + 20) continue;
    if (span.machine < 0) {
      const x = AXIS + LANE - 20 - LANES * 8 + Math.min(lane, LANES - 1) * 8;
      const colour = span.kind === "cut" ? colours.bad : colours.warn;
      c.fillStyle = colour;
      c.globalAlpha = 0.75;
      c.fillRect(x, y, 5, bottom - y);
      c.globalAlpha = 1;
      // Its beginning says what it is; once that is out of sight, the band does.
      if ((y < 4 || !places.shown[span.begin]) && bottom > 12) {
        const at = Math.max(y, 10, lastText + 14);
        if (at < 10 + 14 * MAX_TOLD) drawText(view, span.label, AXIS + 18, at, LANE - 90, colour);
        lastText = at;
      }
      for (const m of span.cut_off) drawBesides(view, m, y, bottom);
      view.spanBoxes.push([x - 2, y, x + 8, bottom, span]);
    } else if (view.x[span.machine] >= 0) {
      drawMachineSpan(view, span, y, bottom);
    }
  }
}

function drawBesides(view, m, y, bottom) {
  if (view.x[m] < 0) return;
  const { context: c, colours } = view;
  c.strokeStyle = colours.bad;
  c.lineWidth = 1.5;
  c.setLineDash([4, 3]);
  for (const side of [-1, 1]) {
    c.beginPath();
    c.moveTo(view.x[m] + side * (STRIP / 2 + 3), y);
    c.lineTo(view.x[m] + side * (STRIP / 2 + 3), bottom);
    c.stroke();
  }
  c.setLineDash([]);
}

function drawMachineSpan(view, span, y, bottom) {
  const { context: c, colours } = view;
  const x = view.x[span.machine];
  const box = [x - STRIP / 2 - 1, y, STRIP + 2, bottom - y];
  view.spanBoxes.push([box[0], y, box[0] + box[2], bottom, span]);
  if (span.kind === "slow") {
    c.strokeStyle = colours.warn;
    c.lineWidth = 2;
    c.strokeRect(...box);
    return;
  }
  c.fillStyle = colours.ground;
  c.fillRect(...box);
  const gone = span.kind !== "pause";
  c.fillStyle = view.hatch(gone ? colours.bad : colours.cool);
  c.globalAlpha = gone ? 0.55 : 0.8;
  c.fillRect(...box);
  c.globalAlpha = 1;
  c.strokeStyle = gone ? colours.bad : colours.cool;
  c.lineWidth = 1;
  c.strokeRect(...box);
}

// ---- messages

function drawMessages(view, messages) {
  const { context: c, colours, run } = view;
  const many = messages.length > MANY_MESSAGES;
  const seen = new Set();
  const groups = new Map();
  const special = [];
  for (const i of messages) {
    const kind = run.kindOf(i);
    const there = run.arrival[i];
    const faded = isFaded(view, i) || (there >= 0 && isFaded(view, there));
    const whole = kind !== "lost" && kind !== "withheld" && !run.false[i] &&
      (there < 0 || run.kindOf(there) === "receive");
    if (!whole) {
      special.push([i, faded]);
      continue;
    }
    const line = getLine(view, i);
    if (many) {
      const key = `${run.machine[i]} ${run.other[i]} ${run.name[i]} ${line.y1 >> 1} ${line.y2 >> 1}`;
      if (seen.has(key)) continue;
      seen.add(key);
    }
    const key = view.hues.get(run.name[i]) * 4 + (faded ? 2 : 0) + (kind === "double" ? 1 : 0);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(line);
  }
  const alpha = many ? Math.max(0.25, Math.min(0.8, 2400 / (seen.size + 1))) : 0.85;
  for (const [key, lines] of [...groups].sort((a, b) => (b[0] & 2) - (a[0] & 2))) {
    c.globalAlpha = key & 2 ? 0.1 : alpha;
    c.strokeStyle = c.fillStyle = colours.messages[key >> 2];
    c.lineWidth = many ? 1 : 1.3;
    if (key & 1) c.setLineDash([6, 3]);
    // Short paths: one huge path is far slower to fill in.
    for (let n = 0; n < lines.length; n += 128) {
      c.beginPath();
      for (const line of lines.slice(n, n + 128)) {
        c.moveTo(line.x1, line.y1);
        c.lineTo(line.x2, line.y2);
      }
      c.stroke();
    }
    c.setLineDash([]);
    if (!many && (view.unit > 3 || lines.length < 1000)) for (const line of lines) drawTip(c, line);
  }
  for (const [i, faded] of special) drawBroken(view, i, faded);
  c.globalAlpha = 1;
}

const BAND = 3;

// Of more messages than anybody can tell apart, how many each machine got, by kind; lost ones last.
function drawTraffic(view, messages, height) {
  const { context: c, colours, run, places } = view;
  const bands = Math.ceil((height + 80) / BAND);
  const lost = HUES, rows = HUES + 1;
  const counts = run.machines.map(() => new Float64Array(bands * rows));
  for (const i of messages) {
    const there = run.arrival[i];
    const band = Math.floor((yOf(view, places.place[there >= 0 ? there : i]) + 40) / BAND);
    if (band < 0 || band >= bands) continue;
    const arrives = there >= 0 && run.kindOf(there) === "receive";
    counts[run.other[i]][band * rows + (arrives ? view.hues.get(run.name[i]) : lost)]++;
  }
  let most = 1;
  for (const m of view.shownMachines) {
    for (let band = 0; band < bands; band++) {
      let sum = 0;
      for (let r = 0; r < rows; r++) sum += counts[m][band * rows + r];
      most = Math.max(most, sum);
    }
  }
  const scale = (view.gap * 0.6) / most;
  c.globalAlpha = 0.85;
  for (const m of view.shownMachines) {
    for (let band = 0; band < bands; band++) {
      let x = view.x[m] + STRIP / 2 + 3;
      for (let r = 0; r < rows; r++) {
        const wide = counts[m][band * rows + r] * scale;
        if (!wide) continue;
        c.fillStyle = r === lost ? colours.bad : colours.messages[r];
        c.fillRect(x, band * BAND - 40, wide, BAND - 0.5);
        x += wide;
      }
    }
  }
  c.globalAlpha = 1;
}

// From where to where a message goes; of one that never arrives, the part that is drawn.
function getLine(view, i) {
  const { run, places } = view;
  const there = run.arrival[i];
  const x1 = view.x[run.machine[i]], x = view.x[run.other[i]];
  const y1 = yOf(view, places.place[i]);
  const side = Math.sign(x - x1) || 1;
  const from = x1 + side * (STRIP / 2 + 2), to = x - side * (STRIP / 2 + 3);
  if (there >= 0) {
    const y2 = yOf(view, places.place[there]);
    return { x1: from, y1, x2: to, y2, broken: run.kindOf(there) !== "receive" };
  }
  if (run.kindOf(i) === "withheld") return { x1: from, y1, x2: from + side * 22, y2: y1, broken: true };
  const open = run.kindOf(i) === "send" || run.kindOf(i) === "double";
  // Still under way at the end of the run, or lost.
  const part = open ? 0.85 : 0.42;
  const drop = Math.min(Math.max(view.unit, 10), 26);
  return { x1: from, y1, x2: from + (to - from) * part, y2: y1 + drop, broken: !open, open };
}

function drawTip(c, line) {
  const dx = line.x2 - line.x1, dy = line.y2 - line.y1;
  const length = Math.hypot(dx, dy) || 1;
  const ux = dx / length, uy = dy / length;
  c.beginPath();
  c.moveTo(line.x2, line.y2);
  c.lineTo(line.x2 - ux * 7 - uy * 3, line.y2 - uy * 7 + ux * 3);
  c.lineTo(line.x2 - ux * 7 + uy * 3, line.y2 - uy * 7 - ux * 3);
  c.fill();
}

function drawBroken(view, i, faded) {
  const { context: c, colours, run } = view;
  const line = getLine(view, i);
  c.globalAlpha = faded ? 0.12 : 0.95;
  c.strokeStyle = c.fillStyle = run.false[i] ? colours.lie : colours.messages[view.hues.get(run.name[i])];
  c.lineWidth = run.false[i] ? 1.8 : 1.2;
  c.setLineDash(run.kindOf(i) === "withheld" ? [2, 3] : line.broken ? [5, 3] : []);
  c.beginPath();
  c.moveTo(line.x1, line.y1);
  c.lineTo(line.x2, line.y2);
  c.stroke();
  c.setLineDash([]);
  if (line.broken) {
    c.strokeStyle = run.kindOf(i) === "withheld" ? colours.lie : colours.bad;
    drawCross(c, line.x2, line.y2, 3.5);
  } else {
    drawTip(c, line);
  }
}

function drawCross(c, x, y, size) {
  c.lineWidth = 1.7;
  c.beginPath();
  c.moveTo(x - size, y - size);
  c.lineTo(x + size, y + size);
  c.moveTo(x + size, y - size);
  c.lineTo(x - size, y + size);
  c.stroke();
}
