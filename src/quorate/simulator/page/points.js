// Points on the lines and their labels, the head of the board, the overview, and what lies where.

// ---- points and their labels

function drawPoints(view, low, high) {
  const { context: c, run, places, colours } = view;
  const lastLabel = new Float64Array(run.machines.length + 1).fill(-100);
  const lastPoint = new Float64Array(run.machines.length + 1).fill(-100);
  const labels = [];
  for (let n = findPlace(places, low); n < places.sorted.length; n++) {
    const i = places.sorted[n];
    if (places.place[i] > high) break;
    const m = run.machine[i];
    const x = m >= 0 ? view.x[m] : AXIS + 8;
    if (x < 0) continue;
    const y = yOf(view, places.place[i]);
    const kind = run.kindOf(i);
    const big = kind === "final" || kind === "fault" || kind === "finding" || kind === "start" ||
      kind === "fail" || kind === "down";
    // Where points would cover each other, one of them stands for all.
    const apart = kind === "finding" ? -1 : big && kind !== "final" ? 3 : kind === "final" ? 5 : 0.9;
    if ((view.dense && !big) || y - lastPoint[m + 1] < Math.min(apart, view.unit)) continue;
    lastPoint[m + 1] = y;
    const faded = isFaded(view, i);
    c.globalAlpha = faded ? 0.15 : 1;
    if (view.dense && kind === "final") {
      c.fillStyle = colours.good;
      c.fillRect(x - STRIP / 2 - 4, y - 0.5, 4, 1.5);
      continue;
    }
    drawPoint(view, i, x, y);
    if ((view.dense || view.unit < 2) && !big) continue;
    if (kind === "finding" || y - lastLabel[m + 1] >= LABEL) {
      lastLabel[m + 1] = y;
      labels.push([i, m >= 0 ? x + STRIP / 2 + 7 : AXIS + 20, y, faded]);
    }
  }
  for (const [i, x, y, faded] of labels) {
    c.globalAlpha = faded ? 0.2 : 1;
    drawLabel(view, i, x, y);
  }
  c.globalAlpha = 1;
}

function drawPoint(view, i, x, y) {
  const { context: c, colours, run } = view;
  const hue = () => colours.messages[view.hues.get(run.name[i])];
  switch (run.kindOf(i)) {
    case "receive": drawDot(c, x, y, 3.2, run.false[i] ? colours.lie : hue(), colours.ground); break;
    case "send": case "double": case "lost":
      drawDot(c, x, y, 2.4, run.false[i] ? colours.lie : hue(), colours.ground); break;
    case "withheld": drawDot(c, x, y, 2.6, colours.lie, colours.ground); break;
    case "timer": drawShape(c, x, y, 4.5, 4, Math.PI / 2, colours.warn, colours.ground); break;
    case "durable": drawShape(c, x, y, 4.2, 4, Math.PI / 4, colours.cool, colours.ground); break;
    case "final": drawDot(c, x, y, 6, colours.good, colours.ground); drawTick(c, x, y, colours.ground); break;
    case "fault":
      drawShape(c, x, y, 6, 3, -Math.PI / 2, isMend(run, i) ? colours.good : colours.bad, colours.ground);
      break;
    case "down": case "fail": c.strokeStyle = colours.bad; drawCross(c, x, y, 5); break;
    case "start": drawShape(c, x, y, 6, 3, Math.PI / 2, colours.good, colours.ground); break;
    case "finding": drawShape(c, x, y, 8, 4, Math.PI / 2, colours.bad, colours.ground); break;
    case "submit": drawShape(c, x, y, 5, 3, Math.PI, colours.accent, colours.ground); break;
    case "answer": drawShape(c, x, y, 5, 3, 0, colours.accent, colours.ground); break;
    case "accuse": drawShape(c, x, y, 5, 5, -Math.PI / 2, colours.lie, colours.ground); break;
    default: drawDot(c, x, y, 2, colours.quiet, colours.ground);
  }
}

function drawDot(c, x, y, radius, fill, edge) {
  c.fillStyle = fill;
  c.strokeStyle = edge;
  c.lineWidth = 1;
  c.beginPath();
  c.arc(x, y, radius, 0, 2 * Math.PI);
  c.fill();
  c.stroke();
}

function drawShape(c, x, y, radius, corners, turn, fill, edge) {
  c.fillStyle = fill;
  c.strokeStyle = edge;
  c.lineWidth = 1;
  c.beginPath();
  for (let n = 0; n < corners; n++) {
    const angle = turn + (2 * Math.PI * n) / corners;
    c.lineTo(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
  }
  c.closePath();
  c.fill();
  c.stroke();
}

function drawTick(c, x, y, colour) {
  c.strokeStyle = colour;
  c.lineWidth = 1.6;
  c.beginPath();
  c.moveTo(x - 2.6, y);
  c.lineTo(x - 0.6, y + 2.2);
  c.lineTo(x + 2.8, y - 2.2);
  c.stroke();
}

const VALUE = /^(?:for|value) (nil|0x[0-9a-f]{4})/;

function labelEvent(view, i) {
  const { run } = view;
  // What a vote or proposal is for tells the most.
  const value = MESSAGE.has(run.kindOf(i)) ? VALUE.exec(run.textOf(i)) : null;
  const what = [run.nameOf(i), formatPlace(run, i), value ? value[1].replace("0x", "") : ""]
    .filter(Boolean).join(" ");
  const other = run.other[i] >= 0 ? view.short[run.other[i]] : "";
  switch (run.kindOf(i)) {
    case "send": case "lost": return `▸ ${view.isBroadcast(i) ? "all" : other} ${what}`;
    case "double": return `▸ ${other} ${what}, again`;
    case "withheld": return `⊘ ${other} ${what}`;
    case "receive": return `◂ ${other} ${what}`;
    case "timer": return `${what} timeout`;
    case "durable": return `${what} durable`;
    case "final": return `${run.nameOf(i)} final`;
    case "submit": return `client: ${run.textOf(i) || what}`;
    case "answer": return `to client: ${what}`;
    case "state": return `${what}`;
    case "down": return "down";
    case "accuse": return `accuses ${what}`;
    case "join": return run.textOf(i);
    case "start": return `starts, ${run.nameOf(i)}`;
    case "finding": return `✱ ${run.nameOf(i)}`;
    case "fault": return view.cuts.get(i) ?? (run.textOf(i) ? `${what}, ${run.textOf(i)}` : what);
    default: return what;
  }
}

function drawLabel(view, i, x, y) {
  const { colours, run } = view;
  const kind = run.kindOf(i);
  let colour = colours.quiet;
  if (run.false[i]) colour = colours.lie;
  else if (kind === "receive" || kind === "send") colour = colours.ink;
  else if (kind === "final" || kind === "start" || isMend(run, i)) colour = colours.good;
  else if (kind === "fault" || kind === "down" || kind === "fail" || kind === "finding") colour = colours.bad;
  else if (kind === "timer") colour = colours.warn;
  const room = run.machine[i] < 0 ? LANE - 90
    : Math.min(view.gap - 36, view.clientsLeft - view.x[run.machine[i]] - 20);
  drawText(view, labelEvent(view, i), x, y, kind === "finding" ? 600 : room, colour);
}

// Text on a ground of its own, cut to the room that there is.
function drawText(view, text, x, y, room, colour) {
  const { context: c, colours } = view;
  c.font = SANS;
  c.textAlign = "left";
  c.textBaseline = "middle";
  let shown = text;
  let width = c.measureText(shown).width;
  if (width > room) {
    const keep = Math.max(Math.floor((shown.length * room) / width) - 1, 1);
    shown = `${shown.slice(0, keep)}…`;
    width = c.measureText(shown).width;
  }
  const alpha = c.globalAlpha;
  c.globalAlpha = alpha * 0.82;
  c.fillStyle = colours.ground;
  c.fillRect(x - 2, y - 6.5, width + 4, 13);
  c.globalAlpha = alpha;
  c.fillStyle = colour;
  c.fillText(shown, x, y + 0.5);
}

function drawChoice(view) {
  const { context: c, colours, run, places } = view;
  for (const i of view.matches) {
    const m = run.machine[i];
    const y = yOf(view, places.place[i]);
    if (!places.shown[i] || y < -20 || y > view.canvas.clientHeight + 20) continue;
    drawRing(c, m >= 0 ? view.x[m] : AXIS + 8, y, 7, colours.accent, 1.5);
  }
  for (const i of [view.hovered, view.chosen]) {
    if (i === null || i < 0) continue;
    const m = run.machine[i];
    const x = m >= 0 ? view.x[m] : AXIS + 8;
    const y = yOf(view, places.place[i]);
    const ends = getMessage(run, i);
    if (ends !== null && view.x[run.machine[ends]] >= 0 && view.x[run.other[ends]] >= 0) {
      const line = getLine(view, ends);
      c.strokeStyle = c.fillStyle = colours.choice;
      c.lineWidth = 2.6;
      c.beginPath();
      c.moveTo(line.x1, line.y1);
      c.lineTo(line.x2, line.y2);
      c.stroke();
      if (!line.broken) drawTip(c, line);
    }
    drawRing(c, x, y, i === view.chosen ? 9 : 7, colours.choice, i === view.chosen ? 2.5 : 1.5);
  }
}

// The sending that an event belongs to, null if it is of no message.
function getMessage(run, i) {
  const kind = run.kindOf(i);
  if (kind === "receive" || kind === "missed") return run.cause[i] >= 0 ? run.cause[i] : null;
  return kind === "send" || kind === "double" || kind === "lost" || kind === "withheld" ? i : null;
}

function drawRing(c, x, y, radius, colour, width) {
  c.strokeStyle = colour;
  c.lineWidth = width;
  c.beginPath();
  c.arc(x, y, radius, 0, 2 * Math.PI);
  c.stroke();
}

// ---- the head and the overview

function drawHead(view) {
  const { head, headContext: c, colours, run } = view;
  const width = head.clientWidth, height = head.clientHeight;
  c.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  c.fillStyle = colours.panel;
  c.fillRect(0, 0, width, height);
  c.translate(-view.left, 0);
  c.textBaseline = "alphabetic";
  c.font = SANS;
  c.fillStyle = colours.quiet;
  c.textAlign = "right";
  const title = { time: "time", rows: "time", lamport: "Lamport" }[view.order];
  c.fillText(title, AXIS - 10, 24);
  c.textAlign = "left";
  c.fillText("network, faults", AXIS + 4, 24);
  for (const m of view.shownMachines) drawHeadOf(view, c, m);
  if (view.history) {
    c.textAlign = "left";
    c.fillStyle = colours.quiet;
    c.fillText("clients", view.clientsLeft + 8, 24);
  }
  c.fillStyle = colours.line;
  c.fillRect(view.left, height - 1, width, 1);
}

function drawHeadOf(view, c, m) {
  const { colours, run } = view;
  const machine = run.machines[m];
  const x = view.x[m];
  c.textAlign = "left";
  c.font = `600 12px system-ui, 'DejaVu Sans', sans-serif`;
  c.fillStyle = machine.traitor ? colours.lie : colours.ink;
  c.fillText(machine.name, x - 22, 17, view.gap - 12);
  c.font = SANS;
  const notes = [`height ${machine.height}`];
  if (machine.traitor) notes.unshift("traitor");
  if (machine.follower) notes.unshift("follower");
  else if (machine.note) notes.unshift(machine.note.split(" ")[0]);
  c.fillStyle = machine.traitor ? colours.lie : colours.quiet;
  c.fillText(notes.join(", "), x - 22, 32, view.gap - 12);
}

function drawOverview(view) {
  const { overview, overviewContext: c, colours, run, places } = view;
  const width = overview.clientWidth, height = overview.clientHeight;
  c.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  c.fillStyle = colours.panel;
  c.fillRect(0, 0, width, height);
  const scale = (height - 8) / Math.max(places.extent, 1e-9);
  const at = (i) => 4 + places.place[i] * scale;
  const counts = new Float64Array(Math.ceil(height) + 1);
  for (const i of places.sorted) counts[Math.min(Math.max(Math.floor(at(i)), 0), counts.length - 1)]++;
  const most = Math.max(...counts, 1);
  c.fillStyle = colours.quiet;
  c.globalAlpha = 0.45;
  counts.forEach((n, y) => {
    if (n) c.fillRect(14, y, 3 + ((width - 28) * Math.log1p(n)) / Math.log1p(most), 1);
  });
  c.globalAlpha = 1;
  for (const changes of run.changes) {
    for (const i of changes) {
      if (!run.round[i]) continue;
      c.fillStyle = colours.rounds[Math.min(run.round[i], 4)];
      c.fillRect(8, at(i) - 0.5, 5, 1.5);
    }
  }
  for (const span of run.spans) {
    const y = at(span.begin);
    const end = span.end >= 0 ? at(span.end) : 4 + places.extent * scale;
    c.fillStyle = span.kind === "pause" ? colours.cool : span.kind === "slow" ? colours.warn : colours.bad;
    c.fillRect(3, y, 3, Math.max(end - y, 1.5));
  }
  for (const i of run.findings) {
    c.fillStyle = colours.bad;
    c.fillRect(0, at(i) - 1, width, 2.5);
  }
  const y1 = 4 + placeAt(view, 0) * scale;
  const y2 = 4 + placeAt(view, view.canvas.clientHeight) * scale;
  c.strokeStyle = colours.choice;
  c.lineWidth = 1.5;
  c.fillStyle = colours.choice;
  const shownTop = Math.max(y1, 1), shownEnd = Math.min(Math.max(y2, y1 + 6), height - 1);
  c.globalAlpha = 0.12;
  c.fillRect(1, shownTop, width - 2, shownEnd - shownTop);
  c.globalAlpha = 1;
  c.strokeRect(1, shownTop, width - 2, shownEnd - shownTop);
}

// ---- what lies under the pointer

function findAt(view, x, y) {
  const { run, places } = view;
  const low = placeAt(view, y - 9), high = placeAt(view, y + 9);
  let best = -1, distance = 9;
  for (let n = findPlace(places, low); n < places.sorted.length; n++) {
    const i = places.sorted[n];
    if (places.place[i] > high) break;
    const m = run.machine[i];
    const there = m >= 0 ? view.x[m] : AXIS + 8;
    if (there < 0) continue;
    const d = Math.hypot(x - there, y - yOf(view, places.place[i]));
    if (d < distance) {
      distance = d;
      best = i;
    }
  }
  if (best >= 0) return best;
  distance = 5;
  for (const i of view.drawnMessages) {
    const d = measureDistance(getLine(view, i), x, y);
    if (d < distance) {
      distance = d;
      best = i;
    }
  }
  return best;
}

function measureDistance(line, x, y) {
  const dx = line.x2 - line.x1, dy = line.y2 - line.y1;
  const square = dx * dx + dy * dy || 1;
  const t = Math.min(Math.max(((x - line.x1) * dx + (y - line.y1) * dy) / square, 0), 1);
  return Math.hypot(x - line.x1 - t * dx, y - line.y1 - t * dy);
}
