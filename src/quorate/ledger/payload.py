"""A payload: what is agreed on, before anybody has executed it.

Layout: a head of 64 bytes, then the body.

    offset  bytes
    0       1      version, 1
    1       3      zero
    4       8      timestamp, milliseconds of Unix time, big-endian
    12      20     proposer, the address that receives the fees
    32      32     hash of the block that the parent payload produced
    64      ...    body: for the Ethereum ledger the RLP list of raw transactions, as received

Its hash is `keccak256(head || hash_body(body))`, so that the head can be shown to a light client
without the body. Engines know payloads as opaque bytes with that hash; the kernel reads the same
layout (`kernel/src/payload.rs`).
"""

from typing import Final

from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash, Milliseconds
from quorate.crypto.hashes import HEAD_BYTES, hash_payload

__all__ = ["HEAD_BYTES", "compose", "get_largest_item", "hash_payload", "parse_head"]

PREFIX: Final = bytes((1, 0, 0, 0))
"""Version and zeros."""
ITEM_HEADERS: Final = 14
"""Of a body with one item, at most: nine of the list and five of the item."""


def compose(parent: Hash, timestamp_ms: Milliseconds, proposer: Address, body: bytes) -> bytes:
    """Return the payload of these parts."""
    return b"".join((PREFIX, timestamp_ms.to_bytes(8, "big"), proposer, parent, body))


def get_largest_item(max_bytes: int) -> int:
    """Return how long an item may be that a payload of so many bytes holds."""
    return max_bytes - HEAD_BYTES - ITEM_HEADERS


def parse_head(payload: bytes) -> tuple[Hash, Milliseconds, Address]:
    """Return (parent block hash, timestamp, proposer). Raises Invalid."""
    if len(payload) < HEAD_BYTES:
        raise Invalid(f"payload: {len(payload)} bytes, expected at least {HEAD_BYTES}")
    if payload[:4] != PREFIX:
        raise Invalid(f"payload: version {payload[:4].hex()}, expected {PREFIX.hex()}")
    return payload[32:64], int.from_bytes(payload[4:12], "big"), payload[12:32]
