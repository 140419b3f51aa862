"""What a node of an open network knows of others, as bytes that survive a restart.

A frame of a magic, a checksum and one msgpack array. It is a cache but for the bans: a file that
is damaged, or of another network, costs the bans and nothing else.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from quorate.base.errors import Corrupt
from quorate.base.types import Hash
from quorate.crypto.hashes import keccak256
from quorate.node.addresses import NEW_BUCKETS, SLOTS, TRIED_BUCKETS
from quorate.node.places import Place, Range
from quorate.node.standing import MAX_BANS, Ban

__all__ = ["MAX_ANCHORS", "Kept", "KeptEntry", "decode_kept", "encode_kept"]

MAGIC = b"quorate peers\x01"
CHECKSUM_BYTES = 8
MAX_ANCHORS = 2
MAX_ENTRIES = (NEW_BUCKETS + TRIED_BUCKETS) * SLOTS

Seconds = Annotated[int, Meta(ge=0, le=1 << 40)]


class KeptEntry(Struct, frozen=True, array_like=True, gc=False):
    """One address; see `addresses.Entry`."""

    place: Place
    source: Range
    seen_at: Seconds
    good_at: Seconds
    failures: Annotated[int, Meta(ge=0, le=1 << 30)]
    tried: bool
    buckets: list[int]


class Kept(Struct, frozen=True, array_like=True):
    """All that is kept."""

    genesis: Hash
    secret: Annotated[bytes, Meta(min_length=32, max_length=32)]
    """Of the address book: with another one, addresses would lie in other buckets."""
    entries: Annotated[list[KeptEntry], Meta(max_length=MAX_ENTRIES)]
    anchors: Annotated[list[Place], Meta(max_length=MAX_ANCHORS)]
    """Where the node was connected to when it stopped: the first to be dialled."""
    bans: Annotated[list[Ban], Meta(max_length=MAX_BANS)]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Kept)


def encode_kept(kept: Kept) -> bytes:
    body = _ENCODER.encode(kept)
    return MAGIC + keccak256(body)[:CHECKSUM_BYTES] + body


def decode_kept(data: bytes, genesis: Hash) -> Kept:
    """Return what a file holds. Raises Corrupt, one line."""
    if not data.startswith(MAGIC):
        raise Corrupt(f"found {data[: len(MAGIC)].hex()}, expected a file of peers' addresses")
    start = len(MAGIC) + CHECKSUM_BYTES
    checksum, body = data[len(MAGIC) : start], data[start:]
    if keccak256(body)[:CHECKSUM_BYTES] != checksum:
        raise Corrupt(f"{len(body)} bytes of addresses do not match their checksum")
    try:
        kept = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Corrupt(f"the addresses cannot be read: {error}") from None
    if kept.genesis != genesis:
        raise Corrupt(
            f"the addresses are of the network 0x{kept.genesis.hex()}, "
            f"expected those of 0x{genesis.hex()}"
        )
    return kept
