"""Addresses as people read them."""

from quorate.base.types import Address
from quorate.crypto.hashes import keccak256


def to_checksum(account: Address) -> str:
    """Return an address with the capitals of EIP-55, which wallets check."""
    digits = account.hex()
    marks = keccak256(digits.encode()).hex()
    pairs = zip(digits, marks, strict=False)
    return "0x" + "".join(c.upper() if mark in "89abcdef" else c for c, mark in pairs)
