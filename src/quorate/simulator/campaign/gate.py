"""The gate: the default portfolio finds every known bug, and nothing where there is none.

    python -m quorate.simulator.campaign.gate --jobs 4 --out docs/bug-gate.md

Each bug is put back by name into a network of four, and seeds of the default profile are run from
the beginning of three disjoint ranges, each for at most 60 seconds of processor time. It passes if
it is found in at least two of them. The control runs seeds of a range of its own without a bug for
ten times as long, and must find nothing. Exit code 0 if all pass, 1 otherwise.

Proposed by the catalogue of bugs (section 3, "gate"); the form is that of etcd's track record.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from quorate._kernel import keep_to_this_thread
from quorate.consensus import ENGINES
from quorate.crypto.hashes import keccak256
from quorate.simulator.bugs import BUGS, get_bug, load
from quorate.simulator.campaign.families import Branch, Part, get_cpu_ns, run_family
from quorate.simulator.campaign.tally import Row
from quorate.simulator.forks import SHAPES, count_seeds, make_forks
from quorate.simulator.plan import MemberPlan, Plan, get_profile
from quorate.simulator.replay import record
from quorate.simulator.run import run
from quorate.simulator.shrink import Shrinker

__all__ = ["Control", "Hunt", "check_gate", "hunt", "main", "make_plan", "make_table"]

RANGES = (0, 1_000_000, 2_000_000)
"""Where the ranges of seeds begin."""
CONTROL_START = 3_000_000
CONTROL_PARTS = 10
"""Parts of the control, each with a range of its own and as much time as a hunt."""
CONTROL_STEP = 100_000
SECONDS = 60.0
MIN_FOUND = 2
"""In so many ranges a bug must be found."""
SHRINK_RUNS = 2000
SHRINK_SECONDS = 30.0
"""Of processor time for making one failing run small; `quorate shrink` takes more and gets further.
"""
PROFILE = "default"
LIGHT = "opaque"
"""The application of bugs that do not say theirs."""
NOTES = {
    "pow": "`n5-overflow` is put back into an application that pays on the key-value ledger "
    "(`quorate.simulator.payments`): amounts of the Ethereum ledger are added up in the kernel, "
    "which has no switch for bugs; `tests/kernel/test_execution.py` shows that such transactions "
    "move nothing, and the judge of the supply counts every wei. Bugs of the storage layer are "
    "hunted under Tendermint: what a journal of proof of work loses is fetched again.",
    "raft": "`r11-leaves-at-once` needs a member with half of the power that is voted out in the "
    "right moment, so it is hunted by seeds of the `membership` profile; `quorate scenario run "
    "voted-out-leader` plays it.",
}
"""What the tables of engines do not show."""


class Hunt(Struct, frozen=True, kw_only=True):
    """The search for one bug in one range."""

    bug: str
    start: int
    seed: int | None = None
    """The first seed that fails."""
    property: str = ""
    events: int = 0
    cpu_s: float = 0.0
    shrunk: int | None = None
    """Faults and other choices that are left of the failing run."""


class Control(Struct, frozen=True, kw_only=True):
    """Runs without a bug."""

    runs: int
    events: int
    cpu_s: float
    alarms: list[Row]
    """Seeds that failed, or could not be judged."""


def make_plan(
    seed: int,
    bug: str = "",
    profile: str = PROFILE,
    engine: str = "tendermint",
    branches: int = 1,
) -> Plan:
    """Return the plan of the gate: four equal members and the light application, unless the bug is
    one of another.
    """
    addresses = sorted(keccak256(b"gate %d" % i)[12:] for i in range(4))
    machines = [MemberPlan(f"validator-{i}", a, 1) for i, a in enumerate(addresses)]
    return Plan(
        seed=seed,
        machines=machines,
        profile=get_profile(profile),
        bug=bug,
        engine=engine,
        application=(get_bug(bug).application if bug else "") or LIGHT,
        forks=make_forks(branches),
    )


def run_families(plan: Plan, count: int) -> Iterator[list[Row]]:
    """Run so many seeds from the plan's on; yield them by families, which may be of one each."""

    def run_branch(branch: Branch) -> Part:
        return Part(rows=branch.make_rows(run(branch.plan, on_fork=branch.choose)))

    last = plan.seed + count - 1
    starts = range(plan.seed, last + 1, count_seeds(plan.forks))
    for first, end in ((s, min(s + starts.step - 1, last)) for s in starts):
        parts = run_family(replace(plan, seed=first), first, end, run_branch, ignore)
        yield [row for part in parts for row in part.rows]


def ignore(seed: int) -> None:
    """Whoever is run dies together with the hunt."""


def hunt(
    bug: str,
    start: int,
    seconds: float = SECONDS,
    *,
    max_seeds: int = 1 << 40,
    shrink: bool = True,
    engine: str = "tendermint",
    branches: int = 1,
) -> Hunt:
    """Run seeds from `start` on until one finds a bug, or until the time is over."""
    begun = get_cpu_ns()
    events = 0
    plan = make_plan(start, bug, get_bug(bug).profile or PROFILE, engine, branches)
    for rows in run_families(plan, max_seeds):
        events += sum(row.executed for row in rows)
        spent = (get_cpu_ns() - begun) / 1e9
        failing = next((row for row in rows if row.verdict == "false"), None)
        if failing is not None:
            shown = replace(plan, seed=failing.seed)
            return Hunt(
                bug=bug,
                start=start,
                seed=failing.seed,
                property=failing.failure,
                events=events,
                cpu_s=spent,
                shrunk=count_choices(shown) if shrink else None,
            )
        if spent > seconds:
            break
    return Hunt(bug=bug, start=start, events=events, cpu_s=(get_cpu_ns() - begun) / 1e9)


def count_choices(plan: Plan) -> int:
    """Return how many faults and other choices are left of a failing run when it is made small."""
    recording, _ = record(plan)
    end = time.process_time() + SHRINK_SECONDS
    shrinker = Shrinker(
        recording,
        max_runs=SHRINK_RUNS,
        is_expired=lambda: time.process_time() > end,
    )
    shrinker.shrink()
    progress = shrinker.get_progress()
    return progress.faults + progress.choices


def control(start: int, seconds: float, engine: str = "tendermint", branches: int = 1) -> Control:
    """Run seeds without a bug for so much time of the processor."""
    begun = get_cpu_ns()
    runs = events = 0
    alarms: list[Row] = []
    for rows in run_families(make_plan(start, engine=engine, branches=branches), CONTROL_STEP):
        runs += len(rows)
        events += sum(row.executed for row in rows)
        alarms += [row for row in rows if row.verdict != "true"]
        if get_cpu_ns() - begun >= seconds * 1e9:
            break
    return Control(runs=runs, events=events, cpu_s=(get_cpu_ns() - begun) / 1e9, alarms=alarms)


def is_passed(hunts: Iterable[Hunt]) -> bool:
    """Whether the hunts of one bug found it often enough."""
    return sum(h.seed is not None for h in hunts) >= MIN_FOUND


def check_gate(
    bugs: Sequence[str],
    *,
    jobs: int = 1,
    seconds: float = SECONDS,
    shrink: bool = True,
    engine: str = "tendermint",
    branches: int = 1,
) -> tuple[list[Hunt], Control]:
    """Hunt each bug in each range and run the control, in `jobs` processes."""
    # Processes that fork have one thread.
    with ProcessPoolExecutor(jobs, initializer=keep_to_this_thread) as pool:
        hunts = [
            pool.submit(
                hunt,
                bug,
                start,
                seconds,
                shrink=shrink and start == RANGES[0],
                engine=engine,
                branches=branches,
            )
            for bug in bugs
            for start in RANGES
        ]
        controls = [
            pool.submit(control, CONTROL_START + part * CONTROL_STEP, seconds, engine, branches)
            for part in range(CONTROL_PARTS)
        ]
        found = []
        for one in hunts:
            found.append(one.result())
            tell(found[-1])
        parts = [one.result() for one in controls]
    return found, Control(
        runs=sum(part.runs for part in parts),
        events=sum(part.events for part in parts),
        cpu_s=sum(part.cpu_s for part in parts),
        alarms=[alarm for part in parts for alarm in part.alarms],
    )


def tell(found: Hunt) -> None:
    """Say how a hunt went, as soon as it is over."""
    word = "not found" if found.seed is None else f"seed {found.seed}, {found.property}"
    print(f"{found.bug}: {word}, {found.cpu_s:.1f} s", file=sys.stderr, flush=True)


def make_table(
    hunts: Sequence[Hunt],
    without: Control,
    seconds: float,
    engine: str = "tendermint",
    branches: int = 1,
) -> str:
    """Return the page of the documentation."""
    more = f" --branches {branches}" if branches > 1 else ""
    is_shrunk = any(h.shrunk is not None for h in hunts)
    missed = ", `-`: not found in the time" if any(h.seed is None for h in hunts) else ""
    small = (
        "; `shrunk` is how many faults and other choices are left of the first range's failing run "
        "when it is made small"
    )
    lines = [
        f"# The gate: known bugs under {engine}, and how soon they are found",
        "",
        f"Made by `python -m quorate.simulator.campaign.gate --engine {engine}{more}`. Each bug of "
        "`quorate.simulator.bugs` was put back by name into a network of four validators with the "
        f"light application, and seeds of the `{PROFILE}` profile were run from the beginning of "
        f"three disjoint ranges, for at most {seconds:.0f} seconds of one processor each.",
        "",
        "`seed` is the first that failed in each range, counted from its beginning; `events` and "
        f"`CPU s` are what it took to come there, in the same order{missed}"
        f"{small if is_shrunk else ''}.",
        "",
        f"| bug | property | seed | events | CPU s |{' shrunk |' if is_shrunk else ''}",
        f"|---|---|---|---|---|{'---|' if is_shrunk else ''}",
    ]
    for bug in dict.fromkeys(h.bug for h in hunts):
        mine = [h for h in hunts if h.bug == bug]
        properties = ", ".join(dict.fromkeys(h.property for h in mine if h.property)) or "not found"
        seeds = " / ".join("-" if h.seed is None else str(h.seed - h.start) for h in mine)
        events = " / ".join(f"{h.events:,}" for h in mine)
        spent = " / ".join(f"{h.cpu_s:.1f}" for h in mine)
        shrunk = next((str(h.shrunk) for h in mine if h.shrunk is not None), "-")
        last = f" {shrunk} |" if is_shrunk else ""
        lines.append(f"| {bug} | {properties} | {seeds} | {events} | {spent} |{last}")
    lines += [
        "",
        f"Control without a bug: {without.runs:,} seeds, {without.events:,} events, "
        f"{without.cpu_s:.0f} CPU seconds, {len(without.alarms)} alarms.",
    ]
    lines += [f"* seed {row.seed}: {row.failure}: {row.message}" for row in without.alarms]
    if engine in NOTES:
        lines += ["", NOTES[engine]]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    """Run the gate as a command; return its exit code."""
    load()
    parser = argparse.ArgumentParser(prog="quorate.simulator.campaign.gate", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each bug and range")
    parser.add_argument("--engine", default="tendermint", choices=list(ENGINES))
    parser.add_argument(
        "--branches",
        type=int,
        default=1,
        choices=[1, *SHAPES],
        help="seeds that share a beginning; a family of them is hunted through whole",
    )
    parser.add_argument(
        "--bugs", nargs="*", choices=sorted(BUGS), help="by default all it can have"
    )
    parser.add_argument("--no-shrink", action="store_true", help="leave the last column out")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args(arguments)
    bugs = options.bugs or sorted(b for b in BUGS if BUGS[b].engine in ("", options.engine))
    hunts, without = check_gate(
        bugs,
        jobs=options.jobs,
        seconds=options.seconds,
        shrink=not options.no_shrink,
        engine=options.engine,
        branches=options.branches,
    )
    table = make_table(hunts, without, options.seconds, options.engine, options.branches)
    if options.out is not None:
        options.out.write_text(table)
    print(table)
    missed = [b for b in bugs if not is_passed(h for h in hunts if h.bug == b)]
    for bug in missed:
        print(f"{bug}: found in fewer than {MIN_FOUND} of {len(RANGES)} ranges", file=sys.stderr)
    return 1 if missed or without.alarms else 0


if __name__ == "__main__":
    sys.exit(main())
