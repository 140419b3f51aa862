"""What an engine tolerates, and what comes of it where it does not: one small run for each fault.

Opaque items, a few a second, and one fault that begins when the network works and lasts to the end
of the load. What is seen is named by what clients saw while it lasted and by the judges' verdict:

    went on     what was submitted once the network had had some seconds to find its way was
                answered while the fault lasted
    slowed      some of it was
    stopped     none of it was; after the fault everything became final, and nothing was lost
    broke       a judge found a property that does not hold
    not known   the run could not be judged

Where the outcome depends on who lies how, several characters and seeds are tried, and the worst
outcome counts. A trial that breaks nothing shows that these runs broke nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec
from msgspec import Struct

from quorate.consensus import ENGINES
from quorate.simulator.compare.experiment import Conditions, Run, get_pace, make_plan, run_load
from quorate.simulator.compare.script import Fault, Kind, Script
from quorate.simulator.compare.traitors import LIARS
from quorate.simulator.compare.workload import open_workload
from quorate.simulator.plan import MS, Plan
from quorate.simulator.timing import ENGINES as NEEDS
from quorate.simulator.timing import compute_tolerated

__all__ = ["Trial", "list_runs", "list_trials"]

Seen = Literal["went on", "slowed", "stopped", "broke", "not known", "not tried"]
BADNESS: tuple[Seen, ...] = ("not tried", "went on", "slowed", "stopped", "not known", "broke")
RATE = 20.0
BEGIN_MS = 3_000
LENGTH_MS = 12_000
EARLY_MS = 5_000
"""What is due so soon after the fault began is not looked at: the network has to find its way."""
LATE_MS = 4_500
"""Nor what is due so shortly before it ends: a client that asks members who are silent has to ask
others.
"""
INTERVALS, EARLY_INTERVALS, LATE_INTERVALS = 20, 4, 8
"""Where blocks have a pace, so many more of its intervals: of the fault, and of both margins."""
OPAQUE = open_workload("opaque", b"")
SEEDS = 3
MOSTLY, HARDLY = 90, 10
"""Percent."""


class Trial(Struct, frozen=True, kw_only=True):
    """One fault that lasts, and what came of it."""

    text: str
    claimed: bool
    """Whether the engine says that it tolerates this."""
    seen: Seen
    runs: int
    finding: str = ""
    """What the judges found, or what was taken back, if anything."""

    def is_as_claimed(self) -> bool:
        """Whether it did at least what the engine claims."""
        return not self.claimed or self.seen in ("went on", "slowed", "not tried")


def list_trials(members: int) -> list[tuple[str, Kind, int]]:
    """Return (words, kind, how many are struck) of the trials of a network of so many members."""
    third, minority = (members - 1) // 3, (members - 1) // 2
    counts = sorted({third, third + 1, minority, minority + 1} - {0})
    trials: list[tuple[str, Kind, int]] = [
        (f"{k} of {members} crash{'es' if k == 1 else ''}", "crash", k)
        for k in counts
        if k < members
    ]
    half = members // 2
    if half:
        verb = "is" if half == 1 else "are"
        trials.append((f"{half} of {members} {verb} cut off", "partition", half))
    liars = sorted({max(third, 1), third + 1})
    trials += [
        (f"{k} of {members} lie{'s' if k == 1 else ''}", "lie", k) for k in liars if k < members
    ]
    return trials


def is_claimed(engine: str, kind: Kind, count: int, members: int) -> bool:
    """Whether an engine says that it goes on although so many equal members are struck."""
    needs = NEEDS.get(engine)
    if needs is None:
        return False
    if kind == "lie" and not ENGINES[engine].byzantine:
        return False
    tolerated = compute_tolerated(needs, members)
    # A partition leaves the larger part, which has to do without the others.
    return count <= tolerated


def list_runs(base: Plan, conditions: Conditions) -> list[tuple[str, Callable[[], Trial]]]:
    """Return the trials of one engine: what is tried, and the call that tries it."""
    members = len([m for m in base.machines if m.power])
    return [
        (text, partial(run_trial, base, conditions, text, kind, count))
        for text, kind, count in list_trials(members)
    ]


def run_trial(base: Plan, conditions: Conditions, text: str, kind: Kind, count: int) -> Trial:
    """Try one fault."""
    members = len([m for m in base.machines if m.power])
    claimed = is_claimed(base.engine, kind, count, members)
    if kind == "lie":
        return try_liars(base, conditions, text, count, claimed)
    run = run_once(base, conditions, kind, count, conditions.seed)
    return Trial(text=text, claimed=claimed, seen=judge(run), runs=1, finding=get_finding(run))


def try_liars(base: Plan, conditions: Conditions, text: str, count: int, claimed: bool) -> Trial:
    """Let members lie in several ways until something breaks."""
    worst: Seen = "not tried"
    runs, finding = 0, ""
    for number in range(SEEDS):
        for character in range(len(LIARS.get(base.engine, ()))):
            seed = conditions.seed + number
            run = run_once(base, conditions, "lie", count, seed, character)
            runs += 1
            seen = judge(run)
            if BADNESS.index(seen) > BADNESS.index(worst):
                worst, finding = seen, get_finding(run)
            if worst == "broke":
                break
        if worst == "broke":
            break
    return Trial(text=text, claimed=claimed, seen=worst, runs=runs, finding=finding)


def run_once(
    base: Plan, conditions: Conditions, kind: Kind, count: int, seed: int, character: int = 0
) -> Run:
    """Run one fault that strikes the leader and those after it."""
    pace = get_pace(make_plan(base, conditions, OPAQUE))
    length_ms = LENGTH_MS + INTERVALS * pace.interval_ns // MS
    fault = Fault(kind=kind, at_ms=BEGIN_MS, for_ms=length_ms, who="leader", count=count)
    narrowed = msgspec.structs.replace(
        conditions,
        seed=seed,
        rate=RATE * LENGTH_MS / length_ms,
        length_ms=BEGIN_MS + length_ms,
        script=Script(name="trial", faults=(fault,)),
        profile=None,
    )
    return run_load(base, narrowed, OPAQUE, character=character)


def judge(run: Run) -> Seen:
    """Return what was seen of a trial."""
    if run.outcome.verdict == "false":
        return "broke"
    if run.outcome.verdict == "unknown":
        return "not known"
    over, interval = run.length_ms * MS, run.pace.interval_ns
    start = (BEGIN_MS + EARLY_MS) * MS + EARLY_INTERVALS * interval
    end = over - LATE_MS * MS - LATE_INTERVALS * interval
    due = [o for o in run.operations if start <= o.due_ns < end]
    answered = 0
    for operation in due:
        shown = operation.get_shown()
        answered += shown is not None and operation.due_ns + shown <= over
    if 100 * answered >= MOSTLY * len(due):
        return "went on"
    return "stopped" if 100 * answered <= HARDLY * len(due) else "slowed"


def get_finding(run: Run) -> str:
    """Return the first finding of a run in words, or nothing."""
    findings = run.outcome.findings
    if findings:
        return f"{findings[0].property}: {findings[0].message}"
    if not run.blocks_lost:
        return ""
    what = "block that was shown was" if run.blocks_lost == 1 else "blocks that were shown were"
    return f"{run.blocks_lost} {what} taken back"
