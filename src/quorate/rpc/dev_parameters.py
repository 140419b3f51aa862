"""Parsers of what development tools send: numbers come in every form."""

from typing import Any

from quorate.rpc.errors import BadArgument
from quorate.rpc.parameters import wrong_type

MAX_BITS = 64
DIGITS = 80
"""More than any number of 256 bits has."""


def parse_any_number(value: Any, bits: int = MAX_BITS) -> int:
    """Return a number given as JSON number, as hexadecimal or decimal string."""
    if type(value) is int:
        number = value
    elif type(value) is str:
        number = parse_text(value)
    else:
        raise wrong_type(value, f"uint{bits}")
    if not 0 <= number < 1 << bits:
        raise BadArgument(f"number {str(value)[:DIGITS]}, expected 0 to 2^{bits} - 1")
    return number


def parse_text(value: str) -> int:
    is_hex = value[:2] in ("0x", "0X")
    digits = value[2:] if is_hex else value
    if not digits or len(digits) > DIGITS or not digits.isascii() or not digits.isalnum():
        raise BadArgument(f"{value[:DIGITS]!r}, expected a number or a quantity like 0x1f")
    try:
        return int(digits, 16 if is_hex else 10)
    except ValueError:
        raise BadArgument(
            f"{value[:DIGITS]!r}, expected a number or a quantity like 0x1f"
        ) from None


def parse_value(value: Any) -> bytes:
    """Return a number of up to 256 bits as 32 bytes."""
    return parse_any_number(value, 256).to_bytes(32, "big")


def parse_mine(value: Any) -> tuple[int | None, int]:
    """Return (timestamp, blocks) of evm_mine, which takes a timestamp or an object with both."""
    if type(value) is not dict:
        return (parse_any_number(value) or None), 1
    unknown = sorted(set(value) - {"timestamp", "blocks"})
    if unknown:
        raise BadArgument(f"field {unknown[0][:DIGITS]!r}, expected timestamp and blocks")
    timestamp, blocks = value.get("timestamp"), value.get("blocks")
    return (
        None if timestamp is None else parse_any_number(timestamp) or None,
        1 if blocks is None else parse_any_number(blocks),
    )
