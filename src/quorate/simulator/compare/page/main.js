const data = JSON.parse(document.getElementById("data").textContent);
const { conditions, engines } = data;
const byId = (id) => document.getElementById(id);
const cssOf = (i) => `e${i % 6}`;
const seconds = { isLog: false, format: (ms) => `${number(ms / 1000, 1)} s`, label: "time since the load began" };

byId("title").textContent = `${engines.map((e) => e.engine).join(", ")}: ${conditions.workload}, ${conditions.members} members`;
byId("conditions").textContent =
  `${number(conditions.rate, 1)} items a second for ${number(conditions.length_ms / 1000, 1)} s from ${conditions.clients} clients, ` +
  `latency ${conditions.latency.name}, faults ${conditions.faults.name}, seed ${conditions.seed}, in virtual time.`;
byId("command").textContent = data.command;
for (const line of data.advice) add(byId("advice"), "li", line);

engines.forEach((e, i) => {
  const label = add(byId("engines"), "label", undefined, cssOf(i));
  const box = add(label, "input");
  box.type = "checkbox";
  box.checked = true;
  add(label, "span", undefined, "dot");
  add(label, "span", e.engine);
  box.addEventListener("change", () => {
    if (box.checked) hiddenEngines.delete(e.engine);
    else hiddenEngines.add(e.engine);
    for (const curve of document.querySelectorAll(".curve[data-engine]")) {
      curve.setAttribute("visibility", isHidden(curve.dataset.engine) ? "hidden" : "visible");
    }
  });
});

const never = 1.6;
const highest = (values) => Math.max(...values.filter((v) => v !== null), 1);
const lowest = (values) => Math.min(...values.filter((v) => v !== null && v > 0), 1e9);

function drawOverTime() {
  const tested = engines.map((e, i) => ({ e, i })).filter(({ e }) => e.series.faulty);
  if (!tested.length) return;
  byId("over-time").hidden = false;
  const shades = conditions.faults.script.map((f) => [f.at_ms, f.at_ms + f.for_ms, f.text]);
  const x = { ...seconds, low: 0, high: conditions.length_ms };
  const all = tested.flatMap(({ e }) => [...e.series.faulty.p50_us, ...e.series.faulty.p99_us]);
  const top = highest(all) * never;
  const curves = [], rates = [];
  for (const { e, i } of tested) {
    const step = e.series.step_ms, found = e.series.faulty;
    // What was never answered stands at the top.
    const points = (values) => values.map((v, at) => [(at + 0.5) * step, v ?? top]);
    curves.push({ name: `${e.engine} p50`, engine: e.engine, css: cssOf(i), points: points(found.p50_us) });
    curves.push({ name: `${e.engine} p99`, engine: e.engine, css: `${cssOf(i)} thin`, points: points(found.p99_us) });
    rates.push({ name: e.engine, engine: e.engine, css: cssOf(i), points: found.answers.map((v, at) => [(at + 0.5) * step, v * 1000 / step]) });
  }
  plot(byId("latency-plot"), {
    title: "Time until an answer, by when it was due", x, shades, curves,
    y: { low: lowest(all) / 1.5, high: top, isLog: true, format: (us) => us >= top * 0.99 ? "never" : time(us) },
  });
  const rate = highest(rates.flatMap((c) => c.points.map((p) => p[1])));
  plot(byId("rate-plot"), {
    title: "Answers in a second", x, shades, curves: rates,
    y: { low: 0, high: rate, isLog: false, format: (v) => number(v) },
  });
  addRecoveries(byId("recoveries"), engines);
}

function drawDistribution() {
  const all = engines.flatMap((e) => e.curve_us);
  plot(byId("distribution-plot"), {
    title: "Share of items that are answered", shades: [],
    x: { low: lowest(all) / 1.2, high: highest(all) * 1.2, isLog: true, format: time, label: "time since it was due" },
    y: { low: 0, high: 100, isLog: false, format: (v) => `${number(v)} %` },
    curves: engines.map((e, i) => ({
      name: e.engine, engine: e.engine, css: cssOf(i),
      points: e.curve_us.map((us, at) => us === null ? [highest(all), null] : [us, (at + 1) * 100 / e.curve_us.length]),
    })),
  });
}

function drawDoubleSpend() {
  const found = data.double_spend;
  if (!found) return;
  byId("double-section").hidden = false;
  byId("double-text").textContent = found.text;
  const last = Math.max(...found.curves.flatMap((c) => c.points.map((p) => p[0])));
  const legend = byId("double-legend");
  [...new Set(found.curves.map((c) => c.share))].forEach((share, i) => {
    const entry = add(legend, "span", undefined, `${cssOf(i)} entry`);
    add(entry, "span", undefined, "dot");
    add(entry, "span", `${number(share * 100, 1)} % of all hash power`);
  });
  plot(byId("double-plot"), {
    title: "Chance that a payment is taken back", shades: [],
    x: { low: 0, high: last, isLog: false, format: (n) => number(n), label: "confirmations" },
    y: { low: 1e-4, high: 1, isLog: true, format: (p) => `${number(p * 100, 3)} %` },
    curves: found.curves.map((c, i) => ({
      name: c.name, css: `${cssOf(Math.floor(i / 2))}${c.formula ? " dash" : ""}`, points: c.points.map(([n, p]) => [n, p || null]),
    })),
  });
}

function addReal() {
  const real = data.real;
  if (!real) return;
  byId("real-section").hidden = false;
  byId("real-text").textContent = real.text;
  addTable(byId("real"), ["engine", "final/s", "p50", "p95", "p99", "p50 as simulated"],
    real.engines.map((e) => [e.engine, number(e.throughput, 1), ...three(e.latency),
      time(engines.find((s) => s.engine === e.engine)?.quiet.latency?.p50_us)]), [1, 2, 3, 4, 5]);
  addRecoveries(byId("real-faults"), real.engines.map((e) => ({ engine: e.engine, faulty: e })));
}

addSpeed(byId("speed"), engines);
byId("finality-section").hidden = !addFinality(byId("finality"), engines);
drawOverTime();
drawDistribution();
byId("trials-section").hidden = !addTrials(byId("trials"), byId("findings"), engines);
drawDoubleSpend();
addReal();
addTable(byId("model"), ["cost", "value"], Object.entries(conditions.model).map(([name, value]) => [name, number(value)]), [1]);
const places = conditions.latency.places;
addTable(byId("matrix"), ["", ...places], places.map((name, i) => [name, ...conditions.latency.rtt_ms[i].map((ms) => number(ms, 1))]), places.map((_, i) => i + 1));
add(byId("matrix"), "p", conditions.latency.source, "quiet");
document.documentElement.setAttribute("data-ready", "");
