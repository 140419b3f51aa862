"""One run: faults and clients for a while, then none, then everything must become final.

A run judges safety at every step. Liveness is judged only after faults have ended: what was
submitted then must become final on every machine that can be up, within the plan's patience; and
only if the plan's timing model promises enough for that.
"""

from collections.abc import Callable

from msgspec.structs import replace

from quorate.simulator.applications import find_disagreement
from quorate.simulator.budget import Budget
from quorate.simulator.cast import cast, recast
from quorate.simulator.faults import Faults
from quorate.simulator.forks import OnFork, choose_way, get_first_seed, take_way
from quorate.simulator.invariants.watch import watch
from quorate.simulator.knobs import turn_knobs
from quorate.simulator.nemesis import Nemesis
from quorate.simulator.plan import MS, Plan
from quorate.simulator.progress import get_height, judge_progress
from quorate.simulator.steadiness import judge_steadiness
from quorate.simulator.tape import Tape
from quorate.simulator.timing import ENGINES, compute_tolerated, judge_claims
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Finding, Outcome, Verdict
from quorate.simulator.workload import Clients
from quorate.simulator.world import World

__all__ = ["finish", "run", "run_world"]


def run(
    plan: Plan,
    tape: Tape | None = None,
    tracer: Tracer | None = None,
    *,
    on_world: Callable[[World], None] | None = None,
    on_fork: OnFork | None = None,
) -> Outcome:
    """Run a plan by a tape (None: the seed's). `on_world` is called before the machines start.

    Where runs part, it goes the way of the plan's seed, or the one that `on_fork` says; the outcome
    has the seed of the way that was taken.
    """
    first = get_first_seed(plan)
    begun = plan if first == plan.seed else replace(plan, seed=first)
    world = World(begun, tape or Tape(first), tracer)
    watch(world)
    if on_world is not None:
        on_world(world)
    run_world(world, on_fork or choose_way(plan))
    if on_fork is None:
        # It may have ended before it came to its own way.
        world.plan = plan
    return make_outcome(world)


def run_world(world: World, on_fork: OnFork) -> None:
    """Let a world live: faults, healing, judgement."""
    plan = world.plan
    faults, budget = Faults(world), Budget(world)
    turn_knobs(world)
    cast(world, budget)
    for machine in world.machines:
        machine.start()
    end = plan.duration_ms * MS
    nemesis = Nemesis(world, faults, budget, end)
    nemesis.start()
    clients = Clients(world, end)
    clients.start()
    for number, fork in enumerate(plan.forks):
        world.run(end * fork.at_permille // 1000)
        if world.findings or world.is_exhausted():
            break
        if take_way(world, on_fork(world, number)):
            nemesis.turn()
            recast(world, budget)
    world.run(end)
    if not world.findings:
        alive = budget.has_live_core()
        if not alive:
            world.count("runs without a live core")
        progress = alive and not plan.profile.unbounded
        finish(world, faults, clients, progress=progress, budget=budget)


def finish(
    world: World,
    faults: Faults,
    clients: Clients | None = None,
    *,
    progress: bool,
    budget: Budget | None = None,
) -> None:
    """End all faults, then judge: progress if it may be, with a budget also while something small
    is broken that the profile has, and what stores and clients hold.
    """
    heal(world, faults)
    if progress and not world.beyond and "termination" not in get_unjudged(world.plan):
        await_synchrony(world)
        clients = clients or Clients(world, 0)
        judge_progress(world, clients)
        may_break = world.plan.profile.one_way and world.plan.timing is None
        if budget is not None and may_break and not world.findings and not world.beyond:
            judge_steadiness(world, faults, budget, clients)
    if not world.has_failed() and not world.beyond:
        judge_identity(world)
    for judge in world.on_end:
        if not world.has_failed() and not world.beyond:
            judge()


def ignore(verdicts: object) -> None:
    """A client that does not listen."""


def heal(world: World, faults: Faults) -> None:
    """No more faults; whoever can start does."""
    world.healed, world.healed_at = True, world.now
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


def judge_identity(world: World) -> None:
    """What two stores hold of a height is the same, byte for byte."""
    held = [machine.store for machine in world.machines if machine.is_honest]
    height = find_disagreement(world.stores, held)
    if height is not None:
        world.find("byte identity", f"height {height}: stores differ")


def make_outcome(world: World) -> Outcome:
    """Return what a run came to."""
    verdict: Verdict = "true"
    findings = list(world.findings)
    if world.is_exhausted() and not findings:
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
    unjudged = get_unjudged(world.plan)
    if world.beyond:
        unjudged = {"safety": world.beyond, "termination": world.beyond, **unjudged}
        world.count("runs beyond what the engine promises")
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
        unjudged=unjudged,
        detection=detection,
        sometimes=dict(sorted(world.sometimes.items())),
    )
