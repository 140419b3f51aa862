"""What happened in a run: always as a rolling digest, on request event by event.

The digest covers every event: when, what, on which machine, with which bytes. Every `RUNG` events a
rung of the ladder keeps its value, so that two runs that differ are known to be equal up to a rung,
and a traced repetition of that one rung shows the first event that differs.
"""

import hashlib
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from quorate.base.types import Nanoseconds

__all__ = [
    "CLIENT",
    "DISK",
    "FAULT",
    "FINAL",
    "FRAME",
    "KINDS",
    "LINK",
    "RUNG",
    "TIMER",
    "WORK",
    "Digest",
    "Entry",
    "Event",
]

FRAME: Final = 1
TIMER: Final = 2
DISK: Final = 3
WORK: Final = 4
LINK: Final = 5
FAULT: Final = 6
CLIENT: Final = 7
FINAL: Final = 8
"""Kinds of event in a digest."""

RUNG: Final = 1024
"""Events between two rungs of the ladder."""

Entry: TypeAlias = tuple[Nanoseconds, int, int, int, bytes]
"""(time, kind, machine, other machine or a number, contents): integers of 64 bits and bytes."""

_ENCODER = msgspec.msgpack.Encoder()


class Digest:
    """A rolling digest of events, in the order in which they were put into `entries`.

    `fold` has to be called every now and then, `RUNG` entries being a good moment: an entry then
    costs a tuple, and hashing one call for all of them.
    """

    __slots__ = ("entries", "folded", "hash", "ladder")

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self.ladder: list[str] = []
        self.entries: list[Entry] = []
        """What is not hashed yet; always the same list."""
        self.folded = 0
        """Events that are."""

    @property
    def events(self) -> int:
        return self.folded + len(self.entries)

    def fold(self) -> None:
        """Hash all whole rungs."""
        entries = self.entries
        while len(entries) >= RUNG:
            self.hash.update(_ENCODER.encode(entries[:RUNG]))
            del entries[:RUNG]
            self.folded += RUNG
            self.ladder.append(self.hash.hexdigest()[:16])

    def finish(self) -> str:
        """Return the digest of everything so far."""
        self.fold()
        whole = self.hash.copy()
        whole.update(_ENCODER.encode(self.entries))
        return whole.hexdigest()


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """One event of a traced run, for people and for diagrams."""

    number: int
    """Counts from 0 in the order in which things happened."""
    step: int = 0
    """How many events the run's digest had taken up; a rung of the ladder is `RUNG` of these."""
    time_ns: Nanoseconds
    kind: str
    """One of `KINDS`."""
    machine: int
    """The index of the machine where it happened; -1: none, it happened between or to them."""
    other: int = -1
    """The machine at the other end."""
    source: int = -1
    """Of an event on a link: where the link begins; it ends at `other`."""
    cause: int = -1
    """The number of the event that led to this one: a receive's send, a timer's setting."""
    begin: int = -1
    """The number of the event that this one ends: a cut's beginning, a pause's."""
    lamport: int = 0
    """One more than the greatest of those that led to it."""
    wall_ns: Nanoseconds = 0
    """What the machine took for Unix time; 0: it happened on none."""
    height: int = -1
    round: int = -1
    name: str = ""
    """The message's, timer's or fault's name."""
    text: str = ""
    """What people read of its contents, one line."""
    size_bytes: int = 0
    """Of a message or of records."""
    false: bool = False
    """Whether a traitor said this instead of what its node told it to say."""


KINDS: dict[str, str] = {
    "send": "a message leaves",
    "double": "the network makes a copy of a message",
    "receive": "a message arrives",
    "lost": "a message leaves and never arrives",
    "missed": "a message comes to a machine or connection that is gone",
    "withheld": "a traitor does not send what its node told it to send",
    "arm": "a timer is set",
    "timer": "a timer falls",
    "persist": "records are given to the disk",
    "durable": "records are durable",
    "work": "the application has finished a call",
    "state": "an engine is at another height, round or step",
    "final": "a block is final",
    "submit": "a client gives items to a machine",
    "answer": "a client is told what became of its items",
    "join": "there is a machine that the plan does not name",
    "start": "a process starts and reads its journal",
    "down": "a process ends",
    "fail": "a node stops itself, or refuses to start",
    "fault": "somebody does something to the network",
    "cut": "a link is cut",
    "mended": "a link is whole again",
    "connected": "a connection is there",
    "disconnected": "a connection broke",
    "accuse": "a replica has evidence against another",
    "note": "a node's own log",
    "finding": "a property does not hold",
}
"""Kinds of event in a trace."""
