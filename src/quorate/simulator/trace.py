"""What happened in a run: always as a rolling digest, on request event by event.

The digest covers every event: when, what, on which machine, with which bytes. Every `RUNG` events a
rung of the ladder keeps its value, so that two runs that differ are known to be equal up to a rung,
and a traced repetition of that one rung shows the first event that differs.
"""

import hashlib
import struct

from msgspec import Struct

from quorate.base.types import Nanoseconds

__all__ = [
    "CLIENT",
    "DISK",
    "FAULT",
    "FINAL",
    "FRAME",
    "LINK",
    "RUNG",
    "TIMER",
    "WORK",
    "Digest",
    "Event",
]

FRAME, TIMER, DISK, WORK, LINK, FAULT, CLIENT, FINAL = range(1, 9)
"""Kinds of event in a digest."""

RUNG = 1024
"""Events between two rungs of the ladder."""


class Digest:
    """A rolling digest. `note` is called once for each event, with integers and bytes."""

    __slots__ = ("blobs", "events", "hash", "ladder", "numbers")

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self.ladder: list[str] = []
        self.events = 0
        self.numbers: list[int] = []
        self.blobs: list[bytes] = []

    def note(self, time_ns: Nanoseconds, kind: int, machine: int, other: int, blob: bytes) -> None:
        """Take up an event; numbers are signed 64-bit."""
        self.numbers += (time_ns, kind, machine, other)
        self.blobs.append(blob)
        self.events += 1
        if not self.events % RUNG:
            self.fold()
            self.ladder.append(self.hash.copy().digest()[:8].hex())

    def fold(self) -> None:
        numbers = self.numbers
        self.hash.update(struct.pack(f"<{len(numbers)}q", *numbers))
        self.hash.update(b"".join(self.blobs))
        self.numbers, self.blobs = [], []

    def finish(self) -> str:
        """Return the digest of everything so far."""
        self.fold()
        return self.hash.copy().hexdigest()


class Event(Struct, frozen=True, kw_only=True):
    """One event of a traced run, for people and for diagrams."""

    number: int
    """Counts from 0 in the order in which things happened."""
    step: int = 0
    """How many events the run's digest had taken up; a rung of the ladder is `RUNG` of these."""
    time_ns: Nanoseconds
    kind: str
    """send, receive, lost, timer, persist, durable, work, final, submit, start, crash, fail, fault,
    connected, disconnected or note."""
    machine: int
    """The index of the machine where it happened; -1: none."""
    other: int = -1
    """The machine at the other end."""
    cause: int = -1
    """The number of the event that led to this one: a receive's send, a timer's setting."""
    lamport: int = 0
    height: int = -1
    round: int = -1
    name: str = ""
    """The message's, timer's or fault's name."""
    text: str = ""
    """What people read of its contents, one line."""
