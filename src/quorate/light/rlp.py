"""Recursive Length Prefix, for headers and accounts (Ethereum yellow paper, appendix B)."""

from collections.abc import Sequence

from quorate.base.errors import Invalid

__all__ = ["decode_list", "encode_int", "encode_list"]


def encode_int(value: int) -> bytes:
    """Return the string for an unsigned integer: big-endian without leading zeros."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def encode_list(items: Sequence[bytes]) -> bytes:
    """Return the RLP of a list of strings."""
    return _prefix(0xC0, b"".join(_encode_string(item) for item in items))


def _encode_string(item: bytes) -> bytes:
    if len(item) == 1 and item[0] < 0x80:
        return item
    return _prefix(0x80, item)


def _prefix(offset: int, body: bytes) -> bytes:
    if len(body) < 56:
        return bytes((offset + len(body),)) + body
    length = encode_int(len(body))
    return bytes((offset + 55 + len(length),)) + length + body


def decode_list(data: bytes, what: str) -> list[bytes]:
    """Return the strings of exactly one flat, canonical list. Raises Invalid, naming `what`."""
    start, end, is_list = _read_prefix(data, 0, what)
    if not is_list or end != len(data):
        raise Invalid(f"{what}: 0x{data[:8].hex()}.., expected one RLP list of {len(data)} bytes")
    items = []
    at = start
    while at < end:
        first, last, nested = _read_prefix(data, at, what)
        if nested or last > end:
            raise Invalid(f"{what}: malformed item at byte {at}, expected an RLP string")
        items.append(data[first:last])
        at = last
    return items


def _read_prefix(data: bytes, at: int, what: str) -> tuple[int, int, bool]:
    """Return (start, end, is list) of the body of the item at `at`; `end` is inside `data`."""
    if at >= len(data):
        raise Invalid(f"{what}: ends at byte {at}, expected an RLP item")
    first = data[at]
    if first < 0x80:
        return at, at + 1, False
    is_list = first >= 0xC0
    size = first - (0xC0 if is_list else 0x80)
    start = at + 1
    if size > 55:
        width = size - 55
        start += width
        size = int.from_bytes(data[at + 1 : start], "big")
        if start > len(data) or data[at + 1] == 0 or size < 56:
            raise Invalid(f"{what}: length at byte {at} is not canonical RLP")
    elif size == 1 and not is_list and start < len(data) and data[start] < 0x80:
        raise Invalid(f"{what}: byte at {at} is not canonical RLP")
    if start + size > len(data):
        raise Invalid(f"{what}: {len(data)} bytes, expected at least {start + size}")
    return start, start + size, is_list
