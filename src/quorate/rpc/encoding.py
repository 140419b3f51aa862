"""JSON results of small values."""

import msgspec

NULL = b"null"
TRUE = b"true"
FALSE = b"false"


def quantity(value: int) -> bytes:
    """Return a number as a minimal hexadecimal string."""
    return b'"0x%x"' % value


def data(value: bytes) -> bytes:
    """Return bytes as a hexadecimal string."""
    return b'"0x%b"' % value.hex().encode()


def text(value: str) -> bytes:
    return msgspec.json.encode(value)


def to_hex(value: bytes) -> str:
    return "0x" + value.hex()
