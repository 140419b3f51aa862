"""Hashes of what is agreed on."""

from quorate._kernel import keccak256
from quorate.base.types import Hash

__all__ = ["HEAD_BYTES", "hash_payload", "keccak256"]

HEAD_BYTES = 64
"""The part of a payload that can be shown without the rest."""


def hash_payload(payload: bytes) -> Hash:
    """Return `keccak256(head || keccak256(body))` of payload bytes; the head is the first 64."""
    return keccak256(payload[:HEAD_BYTES] + keccak256(payload[HEAD_BYTES:]))
