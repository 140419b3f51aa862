// Client operations as bars beside the machines, from the request to the answer.

const MAX_LANES = 12;

// Clients side by side, with more lanes where operations of one meet; of many clients, several share
// a lane where their operations do not.
function readHistory(data) {
  const operations = data.operations;
  if (!operations || !operations.length) return null;
  const clients = [...new Set(operations.map((o) => o.client))];
  const shared = clients.length > MAX_LANES;
  const lanes = shared ? [] : clients.map((client) => ({ client, until: 0 }));
  for (const o of operations) {
    const owner = shared ? "" : o.client;
    const free = lanes.findIndex((l) => l.client === owner && l.until <= o.start_ns);
    const more = lanes.length < MAX_LANES;
    o.lane = free >= 0 ? free
      : more ? lanes.push({ client: owner, until: 0 }) - 1
        : shared ? MAX_LANES - 1 : clients.indexOf(o.client);
    lanes[o.lane].until = o.end_ns === null ? Infinity : o.end_ns;
  }
  return { operations, lanes };
}

// Where a moment lies: between the events that are around it.
function placeTime(view, ns) {
  const { run, places } = view;
  if (places.order === "time") {
    return Math.min(Math.max((ns - view.origin) / 1e6, 0), places.extent);
  }
  let low = 0, high = run.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (run.time[middle] < ns) low = middle + 1;
    else high = middle;
  }
  return low < run.count ? places.place[low] : places.extent + 0.8;
}

function drawHistory(view, low, high, height) {
  const { context: c, colours, history } = view;
  view.operationBoxes = [];
  if (view.order === "lamport") {
    c.save();
    drawText(view, "in order of time only", view.clientsLeft + 8, 14, 200, colours.quiet);
    c.restore();
    return;
  }
  c.strokeStyle = colours.line;
  c.beginPath();
  c.moveTo(view.clientsLeft + 0.5, 0);
  c.lineTo(view.clientsLeft + 0.5, height);
  c.stroke();
  for (const o of history.operations) {
    const begin = placeTime(view, o.start_ns);
    const end = o.end_ns === null ? view.places.extent + 0.8 : placeTime(view, o.end_ns);
    if (end < low || begin > high) continue;
    const x = view.clientsLeft + 12 + o.lane * CLIENT;
    const y = yOf(view, begin), bottom = Math.max(yOf(view, end), y + 4);
    const colour = o.suspect ? colours.bad : o.outcome === "ok" ? colours.good :
      o.outcome === "fail" ? colours.quiet : colours.warn;
    c.fillStyle = colour;
    c.strokeStyle = colour;
    c.globalAlpha = o.suspect ? 0.7 : 0.35;
    c.fillRect(x, y, CLIENT - 10, bottom - y);
    c.globalAlpha = 1;
    c.lineWidth = o.suspect ? 2 : 1;
    // An operation whose outcome nobody knows has no end.
    c.setLineDash(o.outcome === "info" ? [3, 3] : []);
    c.strokeRect(x, y, CLIENT - 10, bottom - y);
    c.setLineDash([]);
    view.operationBoxes.push([x, y, x + CLIENT - 10, bottom, o]);
    if (bottom - y > 40) drawUpright(view, o.label, x + (CLIENT - 10) / 2, y + 5, bottom - y - 8);
  }
}

function drawUpright(view, text, x, y, room) {
  const { context: c, colours } = view;
  c.save();
  c.translate(x, y);
  c.rotate(Math.PI / 2);
  c.font = SANS;
  c.textAlign = "left";
  c.textBaseline = "middle";
  c.fillStyle = colours.ink;
  const keep = Math.max(Math.floor(room / 6), 1);
  c.fillText(text.length > keep ? `${text.slice(0, keep - 1)}…` : text, 0, 0);
  c.restore();
}
