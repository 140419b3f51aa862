"""The names of what is passed between layers."""

from typing import Final, TypeAlias

from msgspec import Struct

Address: TypeAlias = bytes
"""20 bytes: the last of keccak256(public key). Identity of a validator and of an account."""
Hash: TypeAlias = bytes
"""32 bytes, keccak256 unless said otherwise."""
Height: TypeAlias = int
"""0 is genesis; the ledger's block number and the engine's height are the same."""
Nanoseconds: TypeAlias = int
Milliseconds: TypeAlias = int
"""Of Unix time in payloads."""
MILLISECOND: Final = 1_000_000
"""In nanoseconds, and so is `SECOND`."""
SECOND: Final = 1_000_000_000

ZERO_HASH: Final = b"\0" * 32


class Member(Struct, frozen=True, array_like=True, gc=False, order=True):
    """A validator and its voting power (a positive integer)."""

    address: Address
    power: int
