"""What a run says: true, false or unknown, what was found, and what it was made of."""

from typing import Literal

from msgspec import Struct

from quorate.base.types import Nanoseconds
from quorate.simulator.detectors.quality import Report

__all__ = ["EXIT_CODES", "Finding", "Outcome", "Verdict"]

Verdict = Literal["true", "false", "unknown"]

EXIT_CODES: dict[Verdict, int] = {"true": 0, "false": 1, "unknown": 2}


class Finding(Struct, frozen=True):
    """A property that does not hold, or (with `verdict` unknown) that could not be judged."""

    property: str
    """Its name, the same for all its violations: "agreement", "one vote", "progress" ..."""
    message: str
    """One line for people: what was found and what was expected."""
    time_ns: Nanoseconds
    event: int
    """The number of the event at which it was found."""
    machine: int | None = None
    verdict: Verdict = "false"


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of a run. Equal for equal plans and tapes, on every machine."""

    seed: int
    verdict: Verdict
    findings: list[Finding]
    digest: str
    """Of all events, 16 bytes as hex."""
    ladder: list[str]
    """The digest after every `trace.RUNG` events, 8 bytes as hex, to find the first difference."""
    events: int
    """Inputs to nodes and their disks, and faults."""
    time_ns: Nanoseconds
    """Virtual, at the end."""
    heights: list[int]
    """The final height of each machine at the end."""
    counters: dict[str, int]
    """Faults by kind, messages, rounds and so on."""
    unjudged: dict[str, str] = {}
    """Claims that this run's timing model does not let it judge, with the reason."""
    detection: Report | None = None
    """What the failure detectors were worth, if the plan has some."""
    sometimes: dict[str, int]
    """How often each thing happened that shows that the run was not vacuous."""

    def get_class(self) -> str:
        """Return what failing runs are grouped by: the property that failed first."""
        failed = [finding for finding in self.findings if finding.verdict == "false"]
        return failed[0].property if failed else ""
