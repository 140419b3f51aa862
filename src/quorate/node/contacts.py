"""What discovery is told and what it remembers of each connection."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from quorate.base.rng import Rng
from quorate.base.types import Address, Milliseconds, Nanoseconds
from quorate.node.addresses import AddressBook
from quorate.node.peer_file import Kept
from quorate.node.places import Place
from quorate.node.wire import Here

__all__ = ["Bootnode", "Contact", "Dial", "Doors", "Meeting", "Open", "OpenSettings"]

OUTBOUND, FEELER, INBOUND = "outbound", "feeler", "inbound"


class OpenSettings(Struct, frozen=True, kw_only=True):
    """Local settings of a node in an open network."""

    outbound: int = 8
    """Connections that this node keeps up itself, each to another range."""
    inbound: int = 32
    inbound_per_range: int = 4
    """Of those, from one range (16 bits of an IPv4 address, 32 of an IPv6 one)."""
    range_limits: bool = True
    """Whether ranges count at all: not where all nodes share a host or a site."""
    max_dials: int = 4
    """Attempts at a time."""
    handshake_ms: Milliseconds = 10_000
    feeler_ms: Milliseconds = 120_000
    feeler_stay_ms: Milliseconds = 10_000
    """How long a feeler has to prove useful."""
    ask_ms: Milliseconds = 300_000
    """Each outgoing connection is asked for addresses so often, sooner while slots are free."""
    told_again_ms: Milliseconds = 10_000
    """So long the same addresses are told to all who ask."""
    keep_ms: Milliseconds = 60_000
    """The file of addresses is written at most this often."""
    ban_s: int = 86_400


class Bootnode(Struct, frozen=True):
    """Where a node that knows nobody begins."""

    place: Place
    key: bytes = b""
    """Its identity, 20 bytes; empty: whoever answers there."""


class Meeting(Struct, frozen=True):
    """How a connection came about: where its other end is, and the place if we dialled it."""

    host: bytes
    port: int
    dialled: Place | None


class Doors(Protocol):
    """What discovery needs of its world beyond `Port`."""

    def dial(self, place: Place, key: bytes) -> None:
        """Try to connect, within a bounded time; answered by `connected` or `undialled`, once.

        `key`: the identity that is expected there, empty: anybody's.
        """
        ...

    def keep_peers(self, data: bytes) -> None:
        """Write what is known, in place of what was written before; `Open.kept` after a restart."""
        ...


class Open(Struct):
    """What a node of an open network is told of it."""

    doors: Doors
    settings: OpenSettings
    me: Address
    """Its identity among peers, which its certificate proves."""
    secret: bytes
    """32 bytes that nobody can guess."""
    rng: Rng
    bootnodes: list[Bootnode]
    here: Here | None
    """Where it says that it listens; None: it does not say."""
    kept: Kept | None
    make_book: Callable[[bytes, Rng], AddressBook] = AddressBook


class Dial:
    """An attempt that is under way."""

    __slots__ = ("kind", "since")

    def __init__(self, kind: str, since: Nanoseconds) -> None:
        self.kind, self.since = kind, since


class Contact:
    """A connection that is up; times are of the port's clock, 0: never."""

    __slots__ = (
        "answers_full_at",
        "ask_at",
        "asked",
        "asks",
        "block_at",
        "greeted",
        "host",
        "item_at",
        "kind",
        "peer",
        "place",
        "port",
        "since",
        "told_here",
    )

    def __init__(self, peer: Address, meeting: Meeting, kind: str, now: Nanoseconds) -> None:
        self.peer, self.kind, self.since = peer, kind, now
        self.host, self.port = meeting.host, meeting.port
        self.place = meeting.dialled
        """Where it listens, as far as that is known."""
        self.greeted = self.asked = self.told_here = False
        self.asks = self.ask_at = self.answers_full_at = self.block_at = self.item_at = 0
