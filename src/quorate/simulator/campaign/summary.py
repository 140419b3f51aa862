"""What a campaign came to, and whether that means anything."""

from msgspec import Struct, field

from quorate.simulator.audit import Difference
from quorate.simulator.campaign.tally import Failure, Tally
from quorate.simulator.verdict import Verdict

__all__ = ["Audit", "Canary", "Point", "Summary"]

MAX_NAMED = 5


class Canary(Struct):
    """The known bug that a campaign must find, to show that it would find another."""

    bug: str
    runs: int = 0
    found: Failure | None = None


class Audit(Struct):
    """Runs that were repeated in another process with another hash seed."""

    repeated: int = 0
    differing: list[int] = field(default_factory=list)
    """Seeds whose digests were not the same."""
    differences: list[Difference] = field(default_factory=list)
    """Of the first of them, where they part."""
    lost: list[int] = field(default_factory=list)
    """Seeds that could not be repeated."""
    same_order: bool = False
    """Whether the other process hashed in the same order after all, which shows nothing."""


class Point(Struct, frozen=True, array_like=True):
    """How far a campaign was, for a curve."""

    seconds: float
    runs: int
    states: int
    faults: int
    """Kinds of fault that have happened."""
    failing: int


class Summary(Struct, kw_only=True):
    """The result of a campaign."""

    first: int
    asked: int | None
    """How many seeds were asked for; None: as many as the time allows."""
    slots: int
    seconds: float
    tally: Tally
    canary: Canary | None
    audit: Audit
    deaths: list[str]
    """Workers that ended early, one line each."""
    interrupted: bool
    stopped: str
    """Why the campaign gave up; empty if it did not."""
    curve: list[Point]

    @property
    def verdict(self) -> Verdict:
        """False if any run is; true if all are, and if that says something."""
        if self.tally.verdicts["false"] or self.audit.differing:
            return "false"
        return "unknown" if self.list_doubts() else "true"

    def list_doubts(self) -> list[str]:
        """Return why the absence of failures would prove nothing, one line each."""
        doubts = []
        tally, audit, canary = self.tally, self.audit, self.canary
        if self.stopped:
            doubts.append(f"the campaign gave up: {self.stopped}")
        if self.interrupted:
            wanted = "" if self.asked is None else f" of {self.asked}"
            doubts.append(f"the campaign was interrupted after {tally.runs}{wanted} seeds")
        if not tally.runs:
            doubts.append("no seed was run")
        if tally.verdicts["unknown"]:
            doubts.append(f"{tally.verdicts['unknown']} runs could not be judged")
        if canary is not None and canary.found is None:
            doubts.append(
                f"the canary {canary.bug} was not found in {canary.runs} seeds: "
                "this campaign would not find a real bug either"
            )
        if audit.lost:
            doubts.append(f"seeds {name_seeds(audit.lost)} could not be repeated for the audit")
        if audit.repeated and audit.same_order:
            doubts.append("the audit's process hashed in the same order, which proves nothing")
        return doubts


def name_seeds(seeds: list[int]) -> str:
    """Return the first of some seeds, and how many more there are."""
    named = ", ".join(map(str, sorted(seeds)[:MAX_NAMED]))
    more = len(seeds) - MAX_NAMED
    return named if more <= 0 else f"{named} and {more} more"
