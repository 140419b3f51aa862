"""Whether a run is a function of its plan and tape alone, and if not, where it first is not.

A run is repeated elsewhere: in a process with another hash seed, with the garbage collector on.
Equal digests mean equal events. If they differ, the ladders of both tell up to which rung all is
equal; the next one is listed on both sides, and the first event that differs is the answer.
"""

import hashlib
from collections.abc import Callable

from msgspec import Struct

from quorate.base.types import Nanoseconds
from quorate.simulator.digest import (
    CLIENT,
    DISK,
    FAULT,
    FINAL,
    FRAME,
    LINK,
    RUNG,
    TIMER,
    WORK,
)
from quorate.simulator.plan import MS, Plan
from quorate.simulator.run import run
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World

__all__ = [
    "Difference",
    "Fingerprint",
    "Note",
    "find_difference",
    "find_rung",
    "get_fingerprint",
    "list_notes",
]

KINDS = {
    FRAME: "frame",
    TIMER: "timer",
    DISK: "disk",
    WORK: "work",
    LINK: "link",
    FAULT: "fault",
    CLIENT: "client",
    FINAL: "final",
}
MAX_TEXT = 200


class Fingerprint(Struct, frozen=True):
    """What two runs of the same must have in common."""

    digest: str
    events: int
    ladder: list[str]


class Note(Struct, frozen=True, array_like=True):
    """An event as the digest sees it."""

    step: int
    """Counts from 0."""
    time_ns: Nanoseconds
    kind: str
    machine: int
    other: int
    contents: str
    """Digest of its bytes, 8 bytes as hex."""
    text: str
    """Its contents for people."""

    def __str__(self) -> str:
        place = f"machine {self.machine}" if self.other < 0 else f"{self.machine} and {self.other}"
        when = f"{self.time_ns / MS:.3f} ms"
        return f"{self.kind} at {when}, {place}: {self.text} [{self.contents}]"


class Difference(Struct, frozen=True):
    """Where two runs of the same plan and tape part."""

    seed: int
    step: int
    """The number of the first event that differs; -1: no event did when both were listed."""
    here: Note | None
    there: Note | None

    def __str__(self) -> str:
        if self.step < 0:
            return (
                f"seed {self.seed}: digests differ from time to time, even with the same hash seed"
            )
        found = "the end" if self.there is None else str(self.there)
        expected = "the end" if self.here is None else str(self.here)
        return f"seed {self.seed}, event {self.step}: {found}; expected {expected}"


def get_fingerprint(outcome: Outcome) -> Fingerprint:
    return Fingerprint(outcome.digest, outcome.events, outcome.ladder)


def find_rung(here: Fingerprint, there: Fingerprint) -> int:
    """Return the number of the first event of the rung in which two runs part."""
    equal = 0
    for one, other in zip(here.ladder, there.ladder, strict=False):
        if one != other:
            break
        equal += 1
    return equal * RUNG


def list_notes(
    plan: Plan, first: int, count: int, on_world: Callable[[World], None] | None = None
) -> list[Note]:
    """Run a plan and return its events from number `first` on, as the digest sees them."""
    worlds: list[World] = []

    def install(world: World) -> None:
        worlds.append(world)
        world.digest.keep(first, count)
        if on_world is not None:
            on_world(world)

    run(plan, on_world=install)
    tracer = Tracer()
    tracer.world = worlds[0]
    return [
        Note(
            step,
            time_ns,
            KINDS.get(kind, str(kind)),
            machine,
            other,
            hashlib.blake2b(blob, digest_size=8).hexdigest(),
            describe(tracer, kind, blob),
        )
        for step, time_ns, kind, machine, other, blob in worlds[0].digest.kept
    ]


def describe(tracer: Tracer, kind: int, blob: bytes) -> str:
    """Return the contents of an event for people."""
    if kind == FRAME:
        found = tracer.describe(blob)
        return f"{found['name']} {found['text']}"[:MAX_TEXT]
    if kind in (DISK, FINAL):
        return f"0x{blob[: MAX_TEXT // 4].hex()}"
    return blob[:MAX_TEXT].decode(errors="replace")


def find_difference(seed: int, here: list[Note], there: list[Note]) -> Difference:
    """Return where two lists of the same run part."""
    for one, other in zip(here, there, strict=False):
        if one != other:
            return Difference(seed, one.step, one, other)
    if len(here) == len(there):
        return Difference(seed, -1, None, None)
    shorter = min(len(here), len(there))
    longer = here if len(here) > len(there) else there
    return Difference(
        seed,
        longer[shorter].step,
        longer[shorter] if longer is here else None,
        longer[shorter] if longer is there else None,
    )
