const add = (parent, name, text, css) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (css) made.className = css;
  parent.append(made);
  return made;
};

function addTable(place, headers, rows, numbers = []) {
  const table = add(place, "table");
  const head = add(add(table, "thead"), "tr");
  headers.forEach((text, i) => add(head, "th", text, numbers.includes(i) ? "n" : ""));
  const body = add(table, "tbody");
  for (const row of rows) {
    const line = add(body, "tr");
    row.forEach((cell, i) => {
      const [text, css] = Array.isArray(cell) ? cell : [cell, ""];
      add(line, "td", text, [css, numbers.includes(i) ? "n" : ""].join(" ").trim());
    });
  }
  return table;
}

const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits });

function time(us) {
  if (us === null || us === undefined) return "never";
  if (us < 1e3) return `${number(us)} µs`;
  if (us < 1e6) return `${number(us / 1e3, us < 1e4 ? 1 : 0)} ms`;
  return `${number(us / 1e6, 2)} s`;
}

function describeRate(saturation) {
  if (!saturation) return "-";
  const { sustained, failed } = saturation;
  if (failed === null) return `${number(sustained)} or more`;
  return sustained ? number(sustained) : `below ${number(failed)}`;
}

function describeBack(r) {
  if (r.masked) return ["masked", "good"];
  if (r.back_ms === null) return ["not back before the next", "bad"];
  if (r.after_end_ms === null) return [`back in ${number(r.back_ms / 1000, 1)} s, while it lasted`, "good"];
  return [`back ${number(r.after_end_ms / 1000, 1)} s after its end`, "warn"];
}

const TONES = { "went on": "good", slowed: "warn", stopped: "warn", broke: "bad", "not known": "bad" };
const three = (latency) => ["p50_us", "p95_us", "p99_us"].map((name) => time(latency?.[name]));

function addSpeed(place, engines) {
  const joules = engines.some((e) => e.work && e.work.joules !== null);
  const headers = ["engine", "final/s", "at most/s", "p50", "p95", "p99", "p99 with faults", "messages/item", "bytes/item", "blocks lost", "hashes"];
  if (joules) headers.push("joules");
  const rows = engines.map((e) => [
    e.engine, number(e.quiet.throughput, 1), describeRate(e.saturation), ...three(e.quiet.latency),
    e.faulty ? time(e.faulty.latency?.p99_us) : "-", number(e.quiet.frames_per_item, 1),
    number(e.quiet.bytes_per_item), number((e.faulty ?? e.quiet).blocks_lost), number(e.quiet.hashes),
    ...(joules ? [e.work ? number(e.work.joules) : "0"] : []),
  ]);
  addTable(place, headers, rows, headers.map((_, i) => i).slice(1));
}

function addFinality(place, engines) {
  const rows = [];
  for (const e of engines) {
    if (!e.quiet.first) continue;
    rows.push([e.engine, "in a block", ...three(e.quiet.first)]);
    rows.push([e.engine, "safe", ...three(e.quiet.safe)]);
    rows.push([e.engine, "final", ...three(e.quiet.latency)]);
  }
  if (rows.length) addTable(place, ["engine", "until", "p50", "p95", "p99"], rows, [2, 3, 4]);
  return rows.length > 0;
}

function addRecoveries(place, engines) {
  const tested = engines.filter((e) => e.faulty);
  const rows = [];
  const most = Math.max(0, ...tested.map((e) => e.faulty.recoveries.length));
  for (let i = 0; i < most; i++) {
    const first = tested.map((e) => e.faulty.recoveries[i]).find((r) => r);
    const cells = tested.map((e) => e.faulty.recoveries[i] ? describeBack(e.faulty.recoveries[i]) : "-");
    rows.push([`${first.text}, ${number(first.for_ms / 1000, 1)} s`, ...cells]);
  }
  if (rows.length) addTable(place, ["fault", ...tested.map((e) => e.engine)], rows);
}

function addTrials(place, list, engines) {
  const names = [...new Set(engines.flatMap((e) => e.trials.map((t) => t.text)))];
  const rows = names.map((name) => [
    name,
    ...engines.map((e) => {
      const t = e.trials.find((found) => found.text === name);
      return t ? [t.seen + (t.as_claimed ? "" : " (claims otherwise)"), TONES[t.seen] ?? ""] : "-";
    }),
  ]);
  if (rows.length) addTable(place, ["while", ...engines.map((e) => e.engine)], rows);
  for (const e of engines) {
    for (const t of e.trials) if (t.finding) add(list, "li", `${e.engine}, ${t.text}: ${t.finding}`);
  }
  return rows.length > 0;
}
