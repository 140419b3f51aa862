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
from quorate.simulator.budget import Budget
from quorate.simulator.cast import cast
from quorate.simulator.compare.director import Director, Struck
from quorate.simulator.compare.latency import Latency
from quorate.simulator.compare.load import Load
from quorate.simulator.compare.measures import Operation
from quorate.simulator.compare.metered import MICROSECOND, MeteredWorld, Model
from quorate.simulator.compare.script import Script
from quorate.simulator.compare.workload import Workload, list_arrivals, prepare_genesis
from quorate.simulator.faults import Faults
from quorate.simulator.invariants import watch
from quorate.simulator.nemesis import Nemesis
from quorate.simulator.plan import MS, PROFILES, SECOND, Plan, Profile
from quorate.simulator.run import finish, make_outcome
from quorate.simulator.tape import Tape
from quorate.simulator.verdict import Outcome

__all__ = ["MAX_RATE", "Conditions", "Run", "find_saturation", "make_plan", "run_load"]

SETTLE_NS: Nanoseconds = 5 * SECOND
DRAIN_NS: Nanoseconds = 30 * SECOND
MAX_EVENTS = 50_000_000
PROBE_NS: Nanoseconds = 2 * SECOND
"""How long each rate of a search is offered at least."""
SUSTAINED_PERCENT = 95
"""A rate is sustained if so much of it is answered, over the last two thirds of the time."""
MAX_RATE = 10_000
"""Where a search for the highest rate ends."""
STEP = 4
"""How many times the next rate of a search is the one before, while rates are sustained."""
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


class Run(Struct, kw_only=True):
    """What one run came to."""

    operations: list[Operation]
    outcome: Outcome
    struck: list[Struck]
    blocks: int
    """That became final while items were due, on the member that has most of them."""
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
        timing=None,
        delays_ns=latency.compute_delays(len(base.machines)),
        jitter_ns=latency.compute_jitter(),
        sync_ns=model.sync_us * MICROSECOND,
        work_ns=model.call_us * MICROSECOND,
        duration_ms=conditions.length_ms,
        clients=0,
        max_events=MAX_EVENTS,
    )


def open_world(plan: Plan, conditions: Conditions) -> MeteredWorld:
    """Return a started network that has settled."""
    world = MeteredWorld(conditions.model, plan, Tape(plan.seed))
    watch(world)
    return world


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
    world = open_world(plan, conditions)
    load = Load(world, conditions.clients)
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
    height, world.frames, world.frame_bytes = get_height(world), 0, 0
    world.run(end)
    frames, frame_bytes, blocks = world.frames, world.frame_bytes, get_height(world) - height
    if not world.findings:
        world.run(end + drain_ns, load.is_done)
    operations = [request.get_operation(begin) for request in load.requests]
    lost = 0
    if not world.findings:
        finish(world, faults, progress=True)
        lost = load.find_lost()
        if lost:
            world.find("answers stay true", f"{lost} items were answered as final and are not")
    return Run(
        operations=operations,
        outcome=make_outcome(world),
        struck=director.struck,
        blocks=blocks,
        frames=frames,
        frame_bytes=frame_bytes,
        lost=lost,
        refused=load.refused,
    )


def get_height(world: MeteredWorld) -> int:
    """Return the highest durable height of an honest member."""
    heights = [world.stores.get_height(m.store) for m in world.machines if m.is_honest]
    return max(heights, default=0)


# ---- the highest rate


def is_sustained(operations: Sequence[Operation], length_ns: Nanoseconds) -> bool:
    """Whether what was due is answered as fast, over the last two thirds of the time."""
    start = length_ns // 3
    due = sum(operation.due_ns >= start for operation in operations)
    answered = sum(
        o.final_ns is not None and start <= o.due_ns + o.final_ns < length_ns for o in operations
    )
    return 100 * answered >= SUSTAINED_PERCENT * due


def offer(
    base: Plan, conditions: Conditions, workload: Workload, rate: float, length_ns: Nanoseconds
) -> bool:
    """Offer a rate without faults; return whether it is sustained."""
    plan = make_plan(base, conditions, workload)
    world = open_world(plan, conditions)
    load = Load(world, conditions.clients)
    settle(world)
    due = list_arrivals(Tape(conditions.seed).stream("arrivals"), rate, length_ns)
    begin = world.now
    load.plan(workload.get_items(len(due)), [begin + at for at in due])
    world.run(begin + length_ns)
    return is_sustained([r.get_operation(begin) for r in load.requests], length_ns)


def find_saturation(
    base: Plan, conditions: Conditions, workload: Workload, usual_ns: Nanoseconds, most: int
) -> dict[str, Any]:
    """Return the highest rate that is sustained, by steps upwards and then halving the interval.

    `usual_ns` is how long an answer usually takes: each rate is offered several times as long.
    `sustained` is 0 if not even the first rate is; `failed` is None if no rate failed up to `most`.
    """
    length = max(PROBE_NS, 6 * usual_ns)
    rate, low, high = max(conditions.rate, 1.0), 0.0, None
    while high is None and low < most:
        if offer(base, conditions, workload, rate, length):
            low, rate = rate, min(rate * STEP, float(most))
        else:
            high = rate
    for _ in range(HALVINGS):
        if high is None or not low:
            break
        middle = float(round((low * high) ** 0.5))
        if offer(base, conditions, workload, middle, length):
            low = middle
        else:
            high = middle
    return {"sustained": low, "failed": high, "probe_ms": length // MS}
