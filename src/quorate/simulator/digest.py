"""The rolling digest of a run: always on, and what two runs are compared by.

It covers every event: when, what, on which machine, with which bytes. Every `RUNG` events a rung of
the ladder keeps its value, so that two runs that differ are known to be equal up to a rung, and a
traced repetition of that one rung shows the first event that differs.
"""

import hashlib
from typing import Final, TypeAlias

import msgspec

from quorate.base.native import mypyc_attr
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
    "Entry",
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


@mypyc_attr(allow_interpreted_subclasses=True)
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
