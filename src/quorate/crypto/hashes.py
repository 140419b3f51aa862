"""Hashes of what is agreed on."""

from typing import Final

from quorate import _kernel
from quorate.base.types import Milliseconds

__all__ = ["HEAD_BYTES", "compute_seal", "hash_body", "hash_payload", "keccak256", "read_timestamp"]

keccak256: Final = _kernel.keccak256
hash_body: Final = _kernel.hash_body
"""Of the bytes behind a payload's head: `keccak256` below 4,096 bytes; above, that of the hashes of
pieces of 1,024 bytes, with zeros behind them up to 4,096 bytes, so that these are never a body that
is hashed whole. Pieces are hashed side by side.
"""
hash_payload: Final = _kernel.hash_payload
"""`keccak256(head || hash_body(body))` of payload bytes; the head is the first 64."""
HEAD_BYTES: Final = 64
"""The part of a payload that can be shown without the rest."""


def read_timestamp(payload: bytes) -> Milliseconds:
    """Return the time that a payload's head names (`quorate.ledger.payload` has the layout)."""
    return int.from_bytes(payload[4:12], "big")


def compute_seal(header: bytes, nonce: int) -> int:
    """Return the number that a proof of work compares with its target."""
    return int.from_bytes(keccak256(keccak256(header) + nonce.to_bytes(8, "big")), "big")
