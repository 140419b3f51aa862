"""What nodes say to each other beside the engine's messages, and the one codec for both.

A frame is one msgpack array that begins with the tag: below 100 a message of the engine, from 100
on one of these. The decoder is built once for the union; it refuses wrong types and wrong lengths,
and allocates nothing that the frame does not hold.
"""

from typing import Annotated, Any, TypeAlias, Union

import msgspec
from msgspec import Meta, Struct

from quorate.consensus.replica import Decision, Message
from quorate.node.places import Place

VERSION = 1
"""Of this protocol; nodes of different versions do not talk."""

MAX_HEIGHT = (1 << 63) - 1
MAX_COUNT = 1024
"""Decisions in one request."""
MAX_ITEMS = 1 << 16
"""Transactions in one frame."""
MAX_PLACES = 250
"""Addresses in one list of peers."""

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


NodeMessage: TypeAlias = Hello | Tip | GetDecisions | Decisions | Transactions
NODE_MESSAGES: tuple[type[Struct], ...] = (Hello, Tip, GetDecisions, Decisions, Transactions)
OPEN_MESSAGES: tuple[type[Any], ...] = (Here, GetPeers, PeerList)
"""Said besides in networks whose membership is open; malformed in others."""

_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Struct) -> bytes:
    """Return the frame of a message of either kind, or the bytes of a journal record."""
    return _ENCODER.encode(message)


def get_tag(frame: bytes) -> int:
    """Return the tag of something that `encode` made, to tell its kind without decoding it.

    Nothing here has 16 fields or a tag above 127, so both the head of the array and the tag are one
    byte.
    """
    return frame[1]


def get_kinds(structs: tuple[type[Any], ...]) -> dict[int, type[Any]]:
    """Return messages or records by their tags."""
    return {kind.__struct_config__.tag: kind for kind in structs}


def make_decoder(messages: tuple[type[Message], ...]) -> msgspec.msgpack.Decoder[Any]:
    """Return a decoder for an engine's messages and the node's; it raises
    `msgspec.MsgspecError`.
    """
    union: Any = Union[messages + NODE_MESSAGES]  # noqa: UP007  (a tuple, known at run time)
    return msgspec.msgpack.Decoder(union)


def make_record_decoder(records: tuple[type[Any], ...]) -> msgspec.msgpack.Decoder[Any]:
    """Return a decoder for an engine's journal records."""
    union: Any = Union[records]  # noqa: UP007
    return msgspec.msgpack.Decoder(union)
