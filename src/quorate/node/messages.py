"""What nodes say to each other beside the engine's messages, as values."""

from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta, Struct

from quorate.base.types import Member
from quorate.consensus.effects import Decision
from quorate.node.places import Place

MAX_HEIGHT = (1 << 63) - 1
MAX_COUNT: Final = 1024
"""Decisions in one request."""
MAX_ITEMS: Final = 1 << 16
"""Transactions in one frame."""
MAX_PLACES: Final = 250
"""Addresses in one list of peers."""
MAX_CHUNKS: Final = 1 << 16
"""Of one snapshot of the state."""
MAX_CHUNK_BYTES: Final = 8 << 20
MAX_MEMBERS: Final = 1024

Hash32: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
HeightField: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_HEIGHT)]


class Hello(Struct, frozen=True, array_like=True, gc=False, tag=100):
    """The first frame on a connection. `heard`: the sender has had the receiver's own."""

    version: int
    genesis: Hash32
    engine: Annotated[str, Meta(max_length=32)]
    software: Annotated[str, Meta(max_length=64)]
    height: HeightField
    heard: bool


class Tip(Struct, frozen=True, array_like=True, gc=False, tag=101):
    """The sender's final height, and the last height that it heard of the receiver's."""

    height: HeightField
    known: HeightField


class GetDecisions(Struct, frozen=True, array_like=True, gc=False, tag=102):
    """Ask for the decisions of `count` heights from `first` on."""

    first: HeightField
    count: Annotated[int, Meta(ge=1, le=MAX_COUNT)]


class Decisions(Struct, frozen=True, array_like=True, gc=False, tag=103):
    """The answer to the request with this `first`: consecutive heights, perhaps fewer, perhaps
    none.
    """

    first: HeightField
    decisions: Annotated[list[Decision], Meta(max_length=MAX_COUNT)]


class Transactions(Struct, frozen=True, array_like=True, gc=False, tag=104):
    """Raw transactions. `relay`: the sender does not reach every member itself."""

    raws: Annotated[list[bytes], Meta(max_length=MAX_ITEMS)]
    relay: bool


class Here(Struct, frozen=True, array_like=True, gc=False, tag=105):
    """Where the sender listens, said once in a network whose membership is open.

    An empty host: the one that the receiver sees the connection come from.
    """

    host: Annotated[bytes, Meta(max_length=16)]
    port: Annotated[int, Meta(ge=1, le=65535)]


class GetPeers(Struct, frozen=True, array_like=True, gc=False, tag=106):
    """Ask for addresses of peers, in a network whose membership is open."""


class Told(Struct, frozen=True, array_like=True, gc=False):
    """An address, and how many minutes ago it was known to be there."""

    place: Place
    age_minutes: Annotated[int, Meta(ge=0, le=1 << 20)]


class PeerList(Struct, frozen=True, array_like=True, gc=False, tag=107):
    """The answer to `GetPeers`, perhaps empty."""

    places: Annotated[list[Told], Meta(max_length=MAX_PLACES)]


class GetState(Struct, frozen=True, array_like=True, gc=False, tag=108):
    """Ask for the newest snapshot of the state that the receiver offers above a height."""

    above: HeightField


class State(Struct, frozen=True, array_like=True, gc=False, tag=109):
    """The answer to `GetState`: what the snapshot is and what vouches for it. Height 0: there is
    none.

    The block is named by the payload of the next height, of which the head is here (and the hash of
    its body), and which the next certificate is about.
    """

    height: HeightField
    block: Hash32
    envelope: Hash32
    certificate: bytes
    next_certificate: bytes
    head: Annotated[bytes, Meta(max_length=64)]
    body: Hash32
    members: Annotated[
        list[Annotated[list[Member], Meta(max_length=MAX_MEMBERS)]], Meta(max_length=3)
    ]
    chunks: Annotated[list[Hash32], Meta(max_length=MAX_CHUNKS)]


class GetChunk(Struct, frozen=True, array_like=True, gc=False, tag=110):
    """Ask for a chunk of a snapshot that the receiver has offered."""

    height: HeightField
    block: Hash32
    number: Annotated[int, Meta(ge=0, lt=MAX_CHUNKS)]


class Chunk(Struct, frozen=True, array_like=True, gc=False, tag=111):
    """The answer to `GetChunk`; empty: it is not held any more."""

    height: HeightField
    number: Annotated[int, Meta(ge=0, lt=MAX_CHUNKS)]
    data: Annotated[bytes, Meta(max_length=MAX_CHUNK_BYTES)]


class Pruned(Struct, frozen=True, array_like=True, gc=False, tag=112):
    """The answer to the request with this `first` of one who keeps decisions from `base` on."""

    first: HeightField
    base: HeightField


NodeMessage: TypeAlias = (
    Hello
    | Tip
    | GetDecisions
    | Decisions
    | Transactions
    | GetState
    | State
    | GetChunk
    | Chunk
    | Pruned
)
NODE_MESSAGES: tuple[type[Struct], ...] = (
    Hello,
    Tip,
    GetDecisions,
    Decisions,
    Transactions,
    GetState,
    State,
    GetChunk,
    Chunk,
    Pruned,
)
OPEN_MESSAGES: tuple[type[Any], ...] = (Here, GetPeers, PeerList)
"""Said besides in networks whose membership is open; malformed in others."""
