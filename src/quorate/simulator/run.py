"""One run: faults and clients for a while, then none, then everything must become final.

A run judges safety at every step. Liveness is judged only after faults have ended: what was
submitted then must become final on every machine that can be up, within the plan's patience; and
only if the plan's timing model promises enough for that.
"""

from collections.abc import Callable

from quorate.simulator.budget import Budget
from quorate.simulator.cast import cast
from quorate.simulator.faults import Faults
from quorate.simulator.invariants import watch
from quorate.simulator.knobs import turn_knobs
from quorate.simulator.nemesis import Nemesis
from quorate.simulator.plan import MS, Plan
from quorate.simulator.tape import Tape
from quorate.simulator.timing import ENGINES, compute_tolerated, judge_claims
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Finding, Outcome, Verdict
from quorate.simulator.world import World

__all__ = ["finish", "run", "run_world"]


def run(
    plan: Plan,
    tape: Tape | None = None,
    tracer: Tracer | None = None,
    *,
    on_world: Callable[[World], None] | None = None,
) -> Outcome:
    """Run a plan by a tape (None: the seed's). `on_world` is called before the machines start."""
    world = World(plan, tape or Tape(plan.seed), tracer)
    watch(world)
    if on_world is not None:
        on_world(world)
    run_world(world)
    return make_outcome(world)


def run_world(world: World) -> None:
    """Let a world live: faults, healing, judgement."""
    plan = world.plan
    faults, budget = Faults(world), Budget(world)
    turn_knobs(world)
    cast(world, budget)
    for machine in world.machines:
        machine.start()
    end = plan.duration_ms * MS
    Nemesis(world, faults, budget, end).start()
    Clients(world, end).start()
    world.run(end)
    if not world.findings:
        finish(world, faults, progress=not plan.profile.unbounded)


def finish(world: World, faults: Faults, *, progress: bool) -> None:
    """End all faults, then judge: progress if it may be, and what two stores hold."""
    heal(world, faults)
    if progress and "termination" not in get_unjudged(world.plan):
        await_synchrony(world)
        judge_progress(world)
    if not world.findings:
        judge_identity(world)
    if not world.findings:
        for judge in world.on_end:
            judge()


class Clients:
    """Submit items of their own to machines in turn."""

    def __init__(self, world: World, until_ns: int) -> None:
        self.world, self.until_ns = world, until_ns
        self.pause = world.tape.stream("clients pause")
        self.who = world.tape.stream("clients who")
        self.submitted = 0

    def start(self) -> None:
        for _ in range(self.world.plan.clients):
            self.plan_next()

    def plan_next(self) -> None:
        most = 2 * self.world.plan.submit_ms
        # Zero is the longest pause: the empty tape has the fewest items.
        delay = (1 + most - self.pause.choose(most)) * MS
        if self.world.now + delay < self.until_ns:
            self.world.after(delay, self.submit)

    def submit(self) -> None:
        machine = self.world.machines[self.who.choose(len(self.world.machines))]
        self.submitted += 1
        if machine.submit([b"item %d" % self.submitted], ignore):
            self.world.witness("submitted")
        self.plan_next()


def ignore(verdicts: object) -> None:
    """A client that does not listen."""


def heal(world: World, faults: Faults) -> None:
    """No more faults; whoever can start does."""
    world.healed = True
    faults.heal()
    for machine in world.machines:
        machine.crash_at_sync = 0
        machine.slowness = 1
        machine.disk.calm()
        faults.correct_clock(machine.index)
        if machine.paused:
            machine.resume()
        faults.start(machine.index)


def get_unjudged(plan: Plan) -> dict[str, str]:
    """Return the claims that the plan's timing model forbids to judge, with the reason."""
    needs = ENGINES.get(plan.engine)
    if plan.timing is None or needs is None:
        return {}
    n = len([m for m in plan.machines if m.power])
    return judge_claims(needs, plan.timing, n=n, f=compute_tolerated(needs, n))


def await_synchrony(world: World) -> None:
    """Let time pass until the timing model promises what liveness needs."""
    timing = world.timing
    start = None if timing is None else timing.judge_from()
    if start is not None and start > world.now:
        world.run(start)


def judge_progress(world: World) -> None:
    """What is submitted now must become final everywhere."""
    items = []
    for machine in world.machines:
        item = b"after %d" % machine.index
        if machine.submit([item], ignore):
            items.append(item)
    target = max(get_height(world, i) for i in range(len(world.machines))) + 1
    live = [m for m in world.machines if m.is_honest and not m.refused]

    def is_done() -> bool:
        return all(
            m.node is not None
            and m.node.execution.final.height >= target
            and not any(m.application.counts()[:2])
            for m in live
        )

    if not world.run(world.now + world.plan.patience_ms * MS, is_done) and not world.findings:
        heights = [get_height(world, m.index) for m in world.machines]
        words = [f"{m.name}: {m.node.get_status().why_stalled}" for m in live if m.node is not None]
        world.find("progress", f"heights {heights}, expected {target}: {'; '.join(words)}")


def judge_identity(world: World) -> None:
    """What two stores hold of a height is the same, byte for byte."""
    stores = world.stores
    live = [m for m in world.machines if m.is_honest]
    for height in range(max(stores.get_height(m.store) for m in live) + 1):
        found = [stores.get_final(m.store, height) for m in live]
        held = [final for final in found if final is not None]
        if any(final != held[0] for final in held):
            world.find("byte identity", f"height {height}: stores differ")
            return


def get_height(world: World, index: int) -> int:
    """Return a machine's final height, of its store if it is down."""
    machine = world.machines[index]
    if machine.node is not None:
        return machine.node.execution.final.height
    return world.stores.get_height(machine.store)


def make_outcome(world: World) -> Outcome:
    """Return what a run came to."""
    verdict: Verdict = "true"
    findings = list(world.findings)
    if world.digest.events >= world.plan.max_events and not findings:
        findings.append(
            Finding(
                "bounds",
                f"{world.digest.events} events, expected an end before",
                world.now,
                world.digest.events,
                verdict="unknown",
            )
        )
    if any(finding.verdict == "false" for finding in findings):
        verdict = "false"
    elif findings:
        verdict = "unknown"
    detection = None if world.detection is None else world.detection.report()
    if detection is not None:
        total = detection.total
        world.count("detector detections", total.detections)
        world.count("detector crashes missed", total.missed)
        world.count("detector mistakes", total.mistakes)
        world.count("detector ms to detect", total.detections * total.detection_ns // MS)
    return Outcome(
        seed=world.plan.seed,
        verdict=verdict,
        findings=findings,
        digest=world.digest.finish(),
        ladder=world.digest.ladder,
        events=world.digest.events,
        time_ns=world.now,
        heights=[get_height(world, i) for i in range(len(world.machines))],
        counters=dict(sorted(world.counters.items())),
        unjudged=get_unjudged(world.plan),
        detection=detection,
        sometimes=dict(sorted(world.sometimes.items())),
    )
