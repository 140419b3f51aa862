"""Hashes of what is agreed on."""

from typing import Final

from quorate import _kernel
from quorate.base.types import Milliseconds

__all__ = ["HEAD_BYTES", "compute_seal", "hash_payload", "keccak256", "read_timestamp"]

keccak256: Final = _kernel.keccak256
hash_payload: Final = _kernel.hash_payload
"""`keccak256(head || keccak256(body))` of payload bytes; the head is the first 64."""
HEAD_BYTES: Final = 64
"""The part of a payload that can be shown without the rest."""


def read_timestamp(payload: bytes) -> Milliseconds:
    """Return the time that a payload's head names (`quorate.ledger.payload` has the layout)."""
    return int.from_bytes(payload[4:12], "big")


def compute_seal(header: bytes, nonce: int) -> int:
    """Return the number that a proof of work compares with its target."""
    return int.from_bytes(keccak256(keccak256(header) + nonce.to_bytes(8, "big")), "big")
