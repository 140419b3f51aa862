"""How fast does the simulator run, and what does an event cost?

Four validators, whole nodes, simulated signatures, faults and invariants on, one processor:

    blocks      the light application with one-second blocks and no clients: virtual over real time
    clients     the light application under clients
    seeds       short runs, as campaigns make them: seeds of 10,000 events in an hour of one core
    ledger      the Ethereum ledger under clients
    work        a thousand blocks of proof of work by ten miners that are all linked, the light
                application, judges on, no faults and no clients
    whole       campaigns of runs of about 10,000 events, each from its beginning
    branched    the same where `--branches` runs share their beginning: all their events, as if each
                were run whole, and those that were executed

An event is what the digest counts: a frame that arrives, a timer that falls, a write that becomes
durable, a call of the application, a final height, a fault. Time is processor time, the best of
`--runs` runs of the same seeds, without garbage collection as in campaigns. As a yardstick for the
machine, the time of an event is also given in pops and pushes of a heap of a thousand entries.

    python benchmarks/simulator.py [--seconds 120] [--runs 3] [--seeds 4] [--branches 32]

Takes what `quorate compile` made, if it is of these sources; `QUORATE_COMPILED=0` does without. The
cost of parts is shown without only, since compiled functions cannot be told apart by a sampler of
Python: the innermost Python function every millisecond of processor time; what it calls in C
counts as its own.
"""

import argparse
import gc
import heapq
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from quorate import compiled  # noqa: E402

compiled.use()

from quorate._kernel import keep_to_this_thread  # noqa: E402
from quorate.crypto.hashes import keccak256  # noqa: E402
from quorate.simulator.campaign.tasks import Job, RunTask  # noqa: E402
from quorate.simulator.campaign.worker import carry_out  # noqa: E402
from quorate.simulator.forks import make_forks  # noqa: E402
from quorate.simulator.invariants import watch  # noqa: E402
from quorate.simulator.plan import SECOND, MemberPlan, Plan, get_profile  # noqa: E402
from quorate.simulator.run import run  # noqa: E402
from quorate.simulator.tape import Tape  # noqa: E402
from quorate.simulator.world import World  # noqa: E402

COUNT = 4
SEED_EVENTS = 10_000
SEED_MS = 21_000
"""How long faults happen in runs of about so many events."""
SAMPLE_S = 0.001
HEAP_ENTRIES = 1000
PARTS = (
    ("simulator/trace.py", "digest"),
    ("simulator/world.py", "queue"),
    ("simulator/machine.py", "machines: timers, disk and lanes of a port"),
    ("simulator/clock.py", "machines: timers, disk and lanes of a port"),
    ("simulator/disk.py", "storage"),
    ("storage/", "storage"),
    ("simulator/network.py", "network and its choices"),
    ("simulator/timing.py", "network and its choices"),
    ("simulator/tape.py", "network and its choices"),
    ("simulator/invariants/", "invariants"),
    ("simulator/durability.py", "invariants"),
    ("simulator/progress.py", "invariants"),
    ("simulator/keys.py", "engine"),
    ("simulator/", "faults, clients and the rest"),
    ("consensus/", "engine"),
    ("node/", "node"),
    ("ledger/", "application"),
    ("crypto/", "engine"),
)
"""Files below `quorate/` and what they are a part of; the first that fits counts."""


def make_plan(seed: int, **more: Any) -> Plan:
    """Return a plan of equal members under the default faults."""
    addresses = sorted(keccak256(b"simulated %d" % i)[12:] for i in range(COUNT))
    machines = [MemberPlan(f"validator-{i}", a, 1) for i, a in enumerate(addresses)]
    return Plan(seed=seed, machines=machines, profile=get_profile("default"), **more)


class Measured:
    """What runs of some plans came to: events, virtual seconds, and the least processor seconds."""

    def __init__(self, plans: list[Plan], runs: int) -> None:
        self.events = 0
        self.virtual_s = self.real_s = 0.0
        self.blocks = 0
        for plan in plans:
            best = float("inf")
            for _ in range(runs):
                gc.collect()
                began = time.process_time()
                outcome = run(plan)
                best = min(best, time.process_time() - began)
            if outcome.verdict != "true":
                raise SystemExit(f"seed {plan.seed}: {outcome.verdict}: {outcome.findings}")
            self.real_s += best
            self.events += outcome.events
            self.virtual_s += outcome.time_ns / 1e9
            self.blocks += sum(outcome.heights)

    @property
    def event_us(self) -> float:
        return self.real_s / self.events * 1e6


def show_work(runs: int, miners: int = 10, blocks: int = 1000) -> None:
    """Print how long a thousand blocks of proof of work take."""
    addresses = sorted(keccak256(b"simulated %d" % i)[12:] for i in range(miners))
    plan = Plan(
        seed=1,
        machines=[MemberPlan(f"miner-{i}", a, 1) for i, a in enumerate(addresses)],
        engine="pow",
        engine_settings={"interval_ms": 1000, "final_depth": 20},
        discovery=False,
    )
    best, events = float("inf"), 0
    for _ in range(runs):
        world = World(plan, Tape(1))
        watch(world)
        for machine in world.machines:
            machine.start()
        gc.collect()
        began = time.process_time()
        while not world.findings and world.now < 4 * blocks * SECOND:
            world.run(world.now + SECOND)
            if has_height(world, blocks):
                break
        best, events = min(best, time.process_time() - began), world.digest.events
        if world.findings or not has_height(world, blocks):
            raise SystemExit(f"work: {world.findings}")
    print(
        f"{'work':8} {events / best:>9,.0f} events/s  {best / events * 1e6:6.1f} us each, "
        f"{blocks:,} blocks of {miners} miners in {best:.2f} s, {events / blocks:.0f} events each"
    )


def measure_campaign(branches: int, seeds: int, runs: int) -> None:
    """Print how long a worker of a campaign takes for seeds of 10,000 events, and how many it runs
    in an hour, the best of some times.
    """
    run(make_plan(0, duration_ms=1000))
    gc.collect()
    gc.freeze()
    gc.disable()
    plan = make_plan(0, duration_ms=SEED_MS, forks=make_forks(branches))
    job = Job(plan=plan, canary=plan, first=0)
    task = RunTask(number=1, first=0, count=max(seeds, branches))
    results = [carry_out(job, task, None, lambda _: None) for _ in range(runs)]
    best = min(results, key=lambda result: result.cpu_ns)
    tally = best.tally
    assert tally is not None
    if tally.verdicts["true"] != tally.runs:
        raise SystemExit(f"seeds {task.first} to {task.count - 1}: {tally.verdicts}")
    seconds = best.cpu_ns / 1e9
    hourly = 3600 * tally.events / SEED_EVENTS / seconds
    name = "whole" if branches == 1 else "branched"
    shared = f", {branches} share a beginning" if branches > 1 else ""
    print(
        f"{name:8} {tally.events / seconds:>9,.0f} events/s of runs, "
        f"{tally.executed / seconds:,.0f} executed  {tally.runs} runs of "
        f"{tally.events / tally.runs:,.0f} events, {tally.executed / tally.runs:,.0f} executed"
        f"{shared}, {seconds / tally.runs * 1e3:.1f} ms each: "
        f"{hourly:,.0f} seeds of {SEED_EVENTS:,} events an hour"
    )


def has_height(world: World, height: int) -> bool:
    """Whether the first machine's tip is so high."""
    node: Any = world.machines[0].node
    return bool(node.replica.tree.head.height >= height)


def measure_heap() -> float:
    """Return the microseconds of a pop and a push, as the queue of a run makes them."""
    best = float("inf")
    for _ in range(5):
        heap = [(i * 7919 % HEAP_ENTRIES, i, None, ()) for i in range(HEAP_ENTRIES)]
        heapq.heapify(heap)
        began = time.process_time()
        for number in range(HEAP_ENTRIES, 100 * HEAP_ENTRIES):
            at, _, call, arguments = heapq.heappop(heap)
            heapq.heappush(heap, (at + number * 7919 % HEAP_ENTRIES, number, call, arguments))
        best = min(best, time.process_time() - began)
    return best / (99 * HEAP_ENTRIES) * 1e6


def sample_parts(plan: Plan) -> Counter[str]:
    """Run a plan and return how often each part was at work."""
    seen: Counter[str] = Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        if frame is not None:
            seen[frame.f_code.co_filename] += 1

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
    try:
        run(plan)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    parts: Counter[str] = Counter()
    for name, count in seen.items():
        below = name.rpartition("quorate/")[2]
        parts[next((p for start, p in PARTS if below.startswith(start)), "the rest")] += count
    return parts


def show(name: str, found: Measured, heap_us: float) -> None:
    print(
        f"{name:8} {found.events / found.real_s:>9,.0f} events/s  {found.event_us:6.1f} us each, "
        f"{found.event_us / heap_us:5.1f} heap turns  "
        f"{found.virtual_s / found.real_s:>7,.0f} x real time  "
        f"{found.real_s / max(found.blocks, 1) * 1e6:>6,.0f} us a block and node"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=120, help="virtual, of each long run")
    parser.add_argument("--runs", type=int, default=3, help="of each seed; the best one counts")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--branches", type=int, default=32, help="that share a beginning")
    parser.add_argument("--campaign", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    # As workers of campaigns do: one processor, and no threads that a fork would lose.
    keep_to_this_thread()
    if asked.campaign:
        measure_campaign(asked.campaign, 4 * asked.seeds, asked.runs)
        return
    duration_ms, seeds = asked.seconds * 1000, range(1, asked.seeds + 1)
    heap_us = measure_heap()
    print(f"{compiled.describe()}; a heap turn takes {heap_us:.2f} us")
    slow: dict[str, Any] = {"node_settings": {"block_time_ms": 1000}, "clients": 0}

    run(make_plan(0, duration_ms=1000))
    gc.disable()
    blocks = Measured([make_plan(s, duration_ms=duration_ms, **slow) for s in seeds], asked.runs)
    show("blocks", blocks, heap_us)
    clients = Measured([make_plan(s, duration_ms=duration_ms // 4) for s in seeds], asked.runs)
    show("clients", clients, heap_us)
    short = Measured([make_plan(s) for s in range(1, 5 * asked.seeds + 1)], 1)
    show("seeds", short, heap_us)
    ledger = Measured(
        [make_plan(s, duration_ms=duration_ms // 8, application="ethereum") for s in seeds],
        asked.runs,
    )
    show("ledger", ledger, heap_us)
    show_work(asked.runs)
    # In processes of their own, as workers are: a fork takes longer the more was run before.
    for branches in (1, asked.branches):
        command = [sys.executable, __file__, "--campaign", str(branches)]
        command += ["--seeds", str(asked.seeds), "--runs", str(asked.runs)]
        subprocess.run(command, check=True)

    if compiled.is_used():
        return
    for name, more in (("blocks", slow), ("ledger", {"application": "ethereum"})):
        parts = sample_parts(make_plan(1, duration_ms=2 * duration_ms, **more))
        total = sum(parts.values())
        print(f"\ncost of each part, {name}")
        for part, count in parts.most_common():
            print(f"  {100 * count / total:5.1f} %  {part}")


if __name__ == "__main__":
    main()
