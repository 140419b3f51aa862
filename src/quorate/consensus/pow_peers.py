"""What a proof-of-work replica knows of its peers, and blocks whose parents are unknown."""

from collections.abc import Callable

from quorate.base.types import Address, Hash, Height, Nanoseconds
from quorate.consensus.pow_headers import Header

MAX_ORPHANS = 64
MAX_ORPHANS_OF_PEER = 8
MAX_ORPHAN_BYTES = 32 << 20


class Peer:
    """What is known of one peer."""

    __slots__ = (
        "asked_until",
        "claim",
        "failures",
        "final",
        "flying",
        "has_sent",
        "heard_at",
        "is_here",
        "is_showing",
        "lacks",
        "quiet_until",
        "remaining",
        "seen",
        "served_until",
        "unheeded",
    )

    def __init__(self) -> None:
        self.claim = 0
        """The work that it says its tip has, as long as that is believed."""
        self.final: Height = 0
        self.seen: Hash = b""
        """The last block that it told or was told."""
        self.heard_at: Nanoseconds = 0
        self.is_here = True
        self.failures = 0
        self.quiet_until: Nanoseconds = 0
        """It is asked nothing before."""
        self.asked_until: Nanoseconds = 0
        """Until when it may answer a request for headers; 0: none is out."""
        self.remaining = 0
        """Headers that may still come in answer to that request."""
        self.is_showing = False
        """Whether its last headers were news, and more are to come."""
        self.flying: dict[Hash, Nanoseconds] = {}
        """Blocks that it was asked for, and until when they may come."""
        self.lacks: dict[Hash, Nanoseconds] = {}
        """Blocks that it said it does not have, and until when that is believed."""
        self.has_sent = False
        """Whether it sent a block since it last said so."""
        self.served_until: Nanoseconds = 0
        """Until when what it was answered counts against it."""
        self.unheeded = 0
        """New tips that it was told since it last asked us for anything."""


class Orphan:
    """A block whose parent is unknown."""

    __slots__ = ("header", "payload", "sender")

    def __init__(self, header: Header, payload: bytes, sender: Address) -> None:
        self.header, self.payload, self.sender = header, payload, sender


class Orphans:
    """Few of them, of each peer too; the oldest make room."""

    __slots__ = ("by_hash", "size_bytes")

    def __init__(self) -> None:
        self.by_hash: dict[Hash, Orphan] = {}
        self.size_bytes = 0

    def add(self, orphan: Orphan) -> None:
        same = [hash for hash, each in self.by_hash.items() if each.sender == orphan.sender]
        if len(same) >= MAX_ORPHANS_OF_PEER:
            self.remove(same[0])
        self.by_hash[orphan.header.hash] = orphan
        self.size_bytes += len(orphan.payload)
        while len(self.by_hash) > MAX_ORPHANS or self.size_bytes > MAX_ORPHAN_BYTES:
            self.remove(next(iter(self.by_hash)))

    def remove(self, hash: Hash) -> Orphan:
        orphan = self.by_hash.pop(hash)
        self.size_bytes -= len(orphan.payload)
        return orphan

    def take(self, is_meant: Callable[[Header], bool]) -> list[Orphan]:
        """Remove and return those whose headers are meant."""
        found = [hash for hash, each in self.by_hash.items() if is_meant(each.header)]
        return [self.remove(hash) for hash in found]
