"""One engine under one load and one script of faults, in virtual time.

A run begins with `SETTLE_NS` in which nobody asks for anything, so that connections are there and
whoever leads has been found. Then the load begins, and with it the clock of all that is measured.
When no more is due, clients have `DRAIN_NS` for what is still open; then all faults end, and the
run is judged as every run of the simulator is.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from quorate.base.types import Milliseconds, Nanoseconds
from quorate.consensus import ENGINES
from quorate.simulator.budget import Budget
from quorate.simulator.cast import cast
from quorate.simulator.compare.director import Director, Struck
from quorate.simulator.compare.latency import Latency
from quorate.simulator.compare.load import PATIENCE_NS, Load
from quorate.simulator.compare.measures import Operation
from quorate.simulator.compare.metered import MICROSECOND, MeteredWorld, Model
from quorate.simulator.compare.script import Script
from quorate.simulator.compare.workload import Workload, list_arrivals, prepare_genesis
from quorate.simulator.faults import Faults
from quorate.simulator.invariants import watch
from quorate.simulator.nemesis import Nemesis
from quorate.simulator.plan import MS, PROFILES, SECOND, Plan, Profile
from quorate.simulator.run import finish, make_outcome
from quorate.simulator.sealing import HASHES_PER_SECOND
from quorate.simulator.tape import Tape
from quorate.simulator.verdict import Outcome

__all__ = [
    "MAX_RATE",
    "Conditions",
    "Pace",
    "Run",
    "find_saturation",
    "get_pace",
    "make_plan",
    "run_load",
]

SETTLE_NS: Nanoseconds = 5 * SECOND
DRAIN_NS: Nanoseconds = 30 * SECOND
MAX_EVENTS = 50_000_000
PROBE_NS: Nanoseconds = 2 * SECOND
"""How long each rate of a search is offered at least."""
PROBE_INTERVALS = 20
MAX_PROBE_ITEMS = 30_000
SUSTAINED_PERCENT = 95
"""A rate is sustained if so much of it is answered, over the last two thirds of the time."""
MAX_RATE = 4_000
"""Where a search for the highest rate ends."""
STEP = 4
"""How many times the next rate of a search is the one before, while rates are sustained."""
PATIENCE_BLOCKS = 4
"""A healed network may take so many times as long as its rules say."""
OPEN_INTERVALS = 4
"""A client waits so long for a block, before it asks somebody else, where blocks have a pace."""
HALVINGS = 3
"""Of the interval (by ratio) between the highest rate that is sustained and the lowest that is not.
"""


class Conditions(Struct, frozen=True, kw_only=True):
    """What is the same for all engines."""

    seed: int
    rate: float
    """Items that become due in a second, on average."""
    length_ms: Milliseconds
    """How long they do."""
    clients: int
    latency: Latency
    script: Script
    profile: Profile | None = None
    """In place of a script: faults of the simulator's nemeses."""
    model: Model = Model()
    settings: dict[str, dict[str, int]] = {}
    """Of engines, by name: what differs from the network's own."""


class Pace(Struct, frozen=True):
    """How fast an engine goes where that is a rule of the network, and not of what it can."""

    interval_ns: Nanoseconds = 0
    """Between blocks; 0: as fast as it can."""
    depth: int = 0
    """Blocks above one that is final."""

    @property
    def is_open(self) -> bool:
        return self.interval_ns > 0


def get_pace(plan: Plan) -> Pace:
    """Return the pace of a plan's engine."""
    engine = ENGINES[plan.engine]
    if not engine.open:
        return Pace()
    settings = engine.settings(**plan.engine_settings)
    return Pace(settings.interval_ms * MS, settings.final_depth)


class Run(Struct, kw_only=True):
    """What one run came to."""

    length_ms: Milliseconds
    """How long items were due."""
    pace: Pace
    operations: list[Operation]
    outcome: Outcome
    struck: list[Struck]
    blocks: int
    """That came while items were due, on the member that shows most of them."""
    frames: int
    """Taken in by any node in that time."""
    frame_bytes: int
    lost: int
    """Answered as final, and not in the final chain of whoever has most of it."""
    refused: int
    """Requests that a pool refused, and that were made again."""
    blocks_lost: int = 0
    """That were the best one for some member, and are not in the final chain."""
    hashes: int = 0
    """Of proof of work, tried by all members while items were due."""


def make_plan(base: Plan, conditions: Conditions, workload: Workload) -> Plan:
    """Return the plan of a run: an engine's own, under these conditions."""
    model, latency = conditions.model, conditions.latency
    profile = conditions.profile or PROFILES["none"]
    settings = {**base.engine_settings, **conditions.settings.get(base.engine, {})}
    if ENGINES[base.engine].open and "initial_difficulty" not in settings:
        # What the machines can do, so that difficulty has nothing to find out.
        interval = ENGINES[base.engine].settings(**settings).interval_ms
        power = sum(machine.power for machine in base.machines)
        settings["initial_difficulty"] = HASHES_PER_SECOND * power * interval // 1000
    genesis = b""
    if workload.application == "ethereum":
        genesis = prepare_genesis(base.genesis, base.engine, workload.name)
    return msgspec.structs.replace(
        base,
        seed=conditions.seed,
        application=workload.application,
        genesis=genesis,
        profile=msgspec.structs.replace(
            profile,
            bandwidth_bytes_per_ms=profile.bandwidth_bytes_per_ms or model.get_bytes_per_ms(),
            reorder=profile.reorder and conditions.profile is not None,
        ),
        engine_settings=settings,
        timing=None,
        discovery=False,
        delays_ns=latency.compute_delays(len(base.machines)),
        jitter_ns=latency.compute_jitter(),
        sync_ns=model.sync_us * MICROSECOND,
        work_ns=model.call_us * MICROSECOND,
        duration_ms=conditions.length_ms,
        clients=0,
        max_events=MAX_EVENTS,
        patience_ms=base.patience_ms + PATIENCE_BLOCKS * compute_final_ms(base.engine, settings),
    )


def compute_final_ms(engine: str, settings: dict[str, Any]) -> Milliseconds:
    """Return how long a block takes to be final by the rules of the network."""
    if not ENGINES[engine].open:
        return 0
    found = ENGINES[engine].settings(**settings)
    return int(found.interval_ms * found.final_depth)


def open_world(plan: Plan, conditions: Conditions) -> MeteredWorld:
    """Return a started network that has settled."""
    world = MeteredWorld(conditions.model, plan, Tape(plan.seed))
    watch(world)
    return world


def open_load(world: MeteredWorld, conditions: Conditions, pace: Pace) -> Load:
    """Return the clients of a network."""
    patience = max(PATIENCE_NS, OPEN_INTERVALS * pace.interval_ns)
    return Load(world, conditions.clients, patience)


def settle(world: MeteredWorld) -> None:
    for machine in world.machines:
        machine.start()
    world.run(SETTLE_NS)


def run_load(
    base: Plan,
    conditions: Conditions,
    workload: Workload,
    *,
    drain_ns: Nanoseconds = DRAIN_NS,
    character: int = 0,
) -> Run:
    """Run one engine under a load and its faults, and judge the run."""
    plan = make_plan(base, conditions, workload)
    world, pace = open_world(plan, conditions), get_pace(plan)
    load = open_load(world, conditions, pace)
    settle(world)
    faults, begin = Faults(world), world.now
    end = begin + conditions.length_ms * MS
    # A tape of its own: the same arrivals and draws for all engines.
    tape = Tape(conditions.seed)
    due = list_arrivals(tape.stream("arrivals"), conditions.rate, end - begin)
    load.plan(workload.get_items(len(due)), [begin + at for at in due])
    director = Director(
        world, faults, conditions.script, begin, tape.stream("who"), character=character
    )
    if conditions.profile is not None:
        budget = Budget(world)
        cast(world, budget)
        Nemesis(world, faults, budget, end).start()
    height, hashes = get_height(world), world.count_hashes()
    world.frames = world.frame_bytes = 0
    world.run(end)
    frames, frame_bytes, blocks = world.frames, world.frame_bytes, get_height(world) - height
    hashes = world.count_hashes() - hashes
    if not world.findings:
        world.run(end + drain_ns + 2 * pace.interval_ns * pace.depth, load.is_done)
    blocks_lost = world.tips.count_lost()
    operations = [request.get_operation(begin) for request in load.requests]
    lost = 0
    if not world.findings:
        finish(world, faults, progress=True)
        lost = load.find_lost()
        if lost:
            world.find("answers stay true", f"{lost} items were answered as final and are not")
    return Run(
        length_ms=conditions.length_ms,
        pace=pace,
        operations=operations,
        outcome=make_outcome(world),
        struck=director.struck,
        blocks=blocks,
        frames=frames,
        frame_bytes=frame_bytes,
        lost=lost,
        refused=load.refused,
        blocks_lost=blocks_lost,
        hashes=hashes,
    )


def get_height(world: MeteredWorld) -> int:
    """Return the highest height that an honest member shows."""
    if ENGINES[world.plan.engine].open:
        return world.tips.get_top()
    heights = [world.stores.get_height(m.store) for m in world.machines if m.is_honest]
    return max(heights, default=0)


# ---- the highest rate


def is_sustained(operations: Sequence[Operation], length_ns: Nanoseconds, usual_ns: int) -> bool:
    """Whether hardly more is open at the end than what came in one and a half times as long as an
    answer usually takes.
    """
    due = sum(operation.due_ns >= length_ns // 3 for operation in operations)
    open_ = 0
    for operation in operations:
        took = operation.get_shown()
        open_ += took is None or operation.due_ns + took >= length_ns
    usual = len(operations) * 3 * usual_ns // (2 * length_ns)
    return 100 * open_ <= (100 - SUSTAINED_PERCENT) * due + 100 * usual


def offer(
    base: Plan,
    conditions: Conditions,
    workload: Workload,
    rate: float,
    length_ns: Nanoseconds,
    usual_ns: Nanoseconds,
) -> bool:
    """Offer a rate without faults; return whether it is sustained."""
    plan = make_plan(base, conditions, workload)
    world = open_world(plan, conditions)
    load = open_load(world, conditions, get_pace(plan))
    settle(world)
    due = list_arrivals(Tape(conditions.seed).stream("arrivals"), rate, length_ns)
    begin = world.now
    load.plan(workload.get_items(len(due)), [begin + at for at in due])
    world.run(begin + length_ns)
    return is_sustained([r.get_operation(begin) for r in load.requests], length_ns, usual_ns)


def find_saturation(
    base: Plan, conditions: Conditions, workload: Workload, usual_ns: Nanoseconds, most: int
) -> dict[str, Any]:
    """Return the highest rate that is sustained, by steps upwards and then halving the interval.

    Each rate is offered for several times as long as an answer takes at most, usually (`usual_ns`).
    `sustained` is 0 if not even the first rate is; `failed` is None if no rate failed up to `most`.
    """
    pace = get_pace(make_plan(base, conditions, workload))
    length = max(PROBE_NS, 5 * usual_ns, PROBE_INTERVALS * pace.interval_ns)
    # Of many items only so much more would be learnt, and each costs real time.
    most = min(most, MAX_PROBE_ITEMS * SECOND // length)
    rate, low, high = max(conditions.rate, 1.0), 0.0, None
    while high is None and low < most:
        if offer(base, conditions, workload, rate, length, usual_ns):
            low, rate = rate, min(rate * STEP, float(most))
        else:
            high = rate
    for _ in range(HALVINGS):
        if high is None or not low:
            break
        middle = float(round((low * high) ** 0.5))
        if offer(base, conditions, workload, middle, length, usual_ns):
            low = middle
        else:
            high = middle
    return {"sustained": low, "failed": high, "probe_ms": length // MS}
