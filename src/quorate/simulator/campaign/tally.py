"""What many runs came to, in numbers that add up in any order."""

from msgspec import Struct, field

from quorate.base.types import Nanoseconds
from quorate.simulator.verdict import Outcome, Verdict

__all__ = [
    "BROKEN",
    "LOST",
    "Failure",
    "FailureClass",
    "Reach",
    "Row",
    "Tally",
    "make_broken_row",
    "make_row",
    "name_fault",
]

MAX_FAILURES = 10_000
"""Failing seeds that are kept by number; the others are counted."""
MAX_STATES = 1 << 20
"""Different states that are kept; beyond it their number stands still."""
MAX_MESSAGE = 500
MODULUS = 1 << 64

BROKEN = "simulator error"
"""The class of a run that the simulator itself could not carry out."""
LOST = "lost"
"""The class of a run that took its process with it, twice."""


class Row(Struct, frozen=True, array_like=True):
    """One run, as results are stored."""

    seed: int
    verdict: Verdict
    failure: str
    """The class of what was found, empty if nothing was."""
    message: str
    digest: str
    events: int
    executed: int
    """Of these events: the others are those of the run that it shares its beginning with."""
    virtual_ns: Nanoseconds
    cpu_ns: Nanoseconds
    """That its own process took for them."""
    height: int
    """The greatest that a machine reached."""
    counters: dict[str, int]
    sometimes: dict[str, int]


class Failure(Struct, frozen=True, array_like=True):
    """A run that was not true."""

    seed: int
    failure: str
    verdict: Verdict
    message: str
    digest: str
    events: int

    def get_cost(self) -> tuple[int, int]:
        """Return what orders failures of a class: the fewest events, then the lowest seed."""
        return self.events, self.seed


class FailureClass(Struct, array_like=True):
    """All failures of one class."""

    runs: int
    fastest: Failure


class Reach(Struct, array_like=True):
    """How often something happened, and in how many runs."""

    times: int = 0
    runs: int = 0


ENDS = frozenset({"heal", "mend", "swizzle mend", "resume", "round script ends"})
"""What ends a fault."""
FRAMES = {"lost": "frame lost", "duplicated": "frame doubled"}
"""Counters of what links did to frames, and what people read."""


def name_fault(counter: str) -> str:
    """Return which fault a counter of runs counts, traitors by what they do; empty: none."""
    if counter.startswith("traitor "):
        return counter
    name = counter.removeprefix("fault ")
    return FRAMES.get(counter, "") if name == counter or name in ENDS else name


class Tally(Struct):
    """The sum of runs. Two tallies of the same runs are equal, however these were divided, save for
    `cpu_ns`; and for `executed`, if families were divided.
    """

    runs: int = 0
    verdicts: dict[str, int] = field(default_factory=lambda: {"true": 0, "false": 0, "unknown": 0})
    events: int = 0
    """Of all runs, each counted from its beginning."""
    executed: int = 0
    """What was executed for them: a beginning that runs share once."""
    virtual_ns: Nanoseconds = 0
    cpu_ns: Nanoseconds = 0
    digest: int = 0
    """The sum of the first halves of the digests of all runs, modulo 2**64."""
    counters: dict[str, Reach] = field(default_factory=dict)
    sometimes: dict[str, Reach] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    classes: dict[str, FailureClass] = field(default_factory=dict)
    states: set[int] = field(default_factory=set)

    def add_row(self, row: Row) -> None:
        """Count a run."""
        self.runs += 1
        self.verdicts[row.verdict] += 1
        self.events += row.events
        self.executed += row.executed
        self.virtual_ns += row.virtual_ns
        self.cpu_ns += row.cpu_ns
        self.digest = (self.digest + int(row.digest[:16] or "0", 16)) % MODULUS
        for reaches, counts in ((self.counters, row.counters), (self.sometimes, row.sometimes)):
            for name, times in counts.items():
                reach = reaches.setdefault(name, Reach())
                reach.times += times
                # What a run expects and does not meet is told as zero times.
                reach.runs += times > 0
        if row.verdict != "true":
            self.add_failure(
                Failure(row.seed, row.failure, row.verdict, row.message, row.digest, row.events)
            )

    def add_failure(self, failure: Failure) -> None:
        self.keep_failure(failure)
        self.add_class(failure.failure, FailureClass(1, failure))

    def keep_failure(self, failure: Failure) -> None:
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(failure)

    def add_class(self, name: str, found: FailureClass) -> None:
        known = self.classes.get(name)
        if known is None:
            self.classes[name] = FailureClass(found.runs, found.fastest)
            return
        known.runs += found.runs
        known.fastest = min(known.fastest, found.fastest, key=Failure.get_cost)

    def add_states(self, states: set[int]) -> None:
        if len(self.states) < MAX_STATES:
            self.states |= states

    def add(self, other: "Tally") -> None:
        """Count the runs of another tally."""
        self.runs += other.runs
        self.events += other.events
        self.executed += other.executed
        self.virtual_ns += other.virtual_ns
        self.cpu_ns += other.cpu_ns
        self.digest = (self.digest + other.digest) % MODULUS
        for verdict, count in other.verdicts.items():
            self.verdicts[verdict] += count
        for mine, theirs in ((self.counters, other.counters), (self.sometimes, other.sometimes)):
            for name, more in theirs.items():
                reach = mine.setdefault(name, Reach())
                reach.times += more.times
                reach.runs += more.runs
        for failure in other.failures:
            self.keep_failure(failure)
        for name, found in other.classes.items():
            self.add_class(name, found)
        self.add_states(other.states)


def make_row(outcome: Outcome, seed: int, executed: int, cpu_ns: Nanoseconds) -> Row:
    """Return what is stored of the run of a seed that came to this outcome."""
    findings = [f for f in outcome.findings if f.verdict == outcome.verdict]
    first = findings[0] if findings else None
    return Row(
        seed,
        outcome.verdict,
        "" if first is None else first.property,
        "" if first is None else first.message[:MAX_MESSAGE],
        outcome.digest,
        outcome.events,
        executed,
        outcome.time_ns,
        cpu_ns,
        max(outcome.heights, default=0),
        outcome.counters,
        outcome.sometimes,
    )


def make_broken_row(seed: int, failure: str, message: str) -> Row:
    """Return what is stored of a run that came to no outcome."""
    return Row(seed, "unknown", failure, message, "", 0, 0, 0, 0, 0, {}, {})
