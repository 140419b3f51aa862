"""What nodes say to each other beside the engine's messages, and the one codec for both.

A frame is one msgpack array that begins with the tag: below 100 a message of the engine, from 100
on one of these. The decoder is built once for the union; it refuses wrong types and wrong lengths,
and allocates nothing that the frame does not hold.
"""

from functools import cache
from typing import Any, Final, Union

import msgspec
from msgspec import Struct

from quorate.consensus.effects import Message
from quorate.node.messages import (
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_COUNT,
    MAX_HEIGHT,
    MAX_ITEMS,
    MAX_PLACES,
    NODE_MESSAGES,
    OPEN_MESSAGES,
    Chunk,
    Decisions,
    GetChunk,
    GetDecisions,
    GetPeers,
    GetState,
    Hash32,
    HeightField,
    Hello,
    Here,
    NodeMessage,
    PeerList,
    Pruned,
    State,
    Tip,
    Told,
    Transactions,
)

__all__ = [
    "MAX_CHUNKS",
    "MAX_CHUNK_BYTES",
    "MAX_COUNT",
    "MAX_HEIGHT",
    "MAX_ITEMS",
    "MAX_PLACES",
    "NODE_MESSAGES",
    "OPEN_MESSAGES",
    "VERSION",
    "Chunk",
    "Decisions",
    "GetChunk",
    "GetDecisions",
    "GetPeers",
    "GetState",
    "Hash32",
    "HeightField",
    "Hello",
    "Here",
    "NodeMessage",
    "PeerList",
    "Pruned",
    "State",
    "Tip",
    "Told",
    "Transactions",
    "encode",
    "get_kinds",
    "get_tag",
    "make_decoder",
    "make_record_decoder",
]

VERSION: Final = 1
"""Of this protocol; nodes of different versions do not talk."""

_encode: Final = msgspec.msgpack.Encoder().encode


def encode(message: Struct) -> bytes:
    """Return the frame of a message of either kind, or the bytes of a journal record."""
    return _encode(message)


def get_tag(frame: bytes) -> int:
    """Return the tag of something that `encode` made, to tell its kind without decoding it.

    Nothing here has 16 fields or a tag above 127, so both the head of the array and the tag are one
    byte.
    """
    return frame[1]


def get_kinds(structs: tuple[type[Any], ...]) -> dict[int, type[Any]]:
    """Return messages or records by their tags."""
    return {kind.__struct_config__.tag: kind for kind in structs}


@cache
def make_decoder(messages: tuple[type[Message], ...]) -> msgspec.msgpack.Decoder[Any]:
    """Return a decoder for an engine's messages and the node's; it raises
    `msgspec.MsgspecError`.
    """
    union: Any = Union[messages + NODE_MESSAGES]  # noqa: UP007  (a tuple, known at run time)
    return msgspec.msgpack.Decoder(union)


@cache
def make_record_decoder(records: tuple[type[Any], ...]) -> msgspec.msgpack.Decoder[Any]:
    """Return a decoder for an engine's journal records."""
    union: Any = Union[records]  # noqa: UP007
    return msgspec.msgpack.Decoder(union)
