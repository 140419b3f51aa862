// Keys and pointer: how a person moves through the run.

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
