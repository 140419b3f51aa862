"""What the coordinator of a campaign and its workers say to each other."""

from typing import TypeAlias

from msgspec import Struct

from quorate import __version__
from quorate.base.types import Nanoseconds
from quorate.simulator.audit import Fingerprint, Note
from quorate.simulator.campaign.tally import Row, Tally
from quorate.simulator.plan import Plan

__all__ = ["STUCK_S", "AnyTask", "AuditTask", "Job", "ListTask", "Result", "RunTask"]

STUCK_S = 1800
"""A run that takes so long never ends: its process is ended."""


class Job(Struct, frozen=True, kw_only=True):
    """What all tasks of a campaign have in common; told to a worker once."""

    plan: Plan
    canary: Plan
    """The same with a known bug, which must be found."""
    first: int
    """The first seed of the campaign."""
    version: str = __version__
    """Of the program that asks; another one on a worker's machine would run other nodes."""
    hook: str = ""
    """`module:function`, called with the world of every run before it starts."""
    audit_permille: int = 0
    """The share of runs whose fingerprints are asked for."""
    rows: bool = False
    """Whether each run is told on its own, besides the tally."""


class Task(Struct, frozen=True, kw_only=True, tag=True):
    """A piece of work of a few seconds."""

    number: int


class RunTask(Task, frozen=True, kw_only=True, tag=True):
    """Run seeds in order."""

    first: int
    count: int
    canary: bool = False
    """With the known bug, and only until it is found."""


class AuditTask(Task, frozen=True, kw_only=True, tag=True):
    """Run seeds once more, elsewhere, for their fingerprints alone."""

    seeds: list[int]


class ListTask(Task, frozen=True, kw_only=True, tag=True):
    """List the events of one run from a step on."""

    seed: int
    first: int
    count: int
    elsewhere: bool
    """Whether in a process of the audit's kind."""


AnyTask: TypeAlias = RunTask | AuditTask | ListTask


class Result(Struct, kw_only=True):
    """What came of a task."""

    number: int
    tally: Tally | None = None
    rows: list[Row] = []
    fingerprints: dict[int, Fingerprint] = {}
    """By seed: of the runs that are to be audited, or have been."""
    notes: list[Note] = []
    cpu_ns: Nanoseconds = 0
    hash_order: int = 0
    """What the process makes of the hash of a certain text: equal means the same hash seed."""
