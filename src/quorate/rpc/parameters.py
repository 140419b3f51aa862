"""Parsers of parameters. Each takes a decoded JSON value and returns what the handlers want.

A parser raises `BadArgument` in the words of geth, which name Go types; tools and people know them.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from quorate.rpc.errors import BadArgument

Parser: TypeAlias = Callable[[Any], Any]

LATEST = -1
PENDING = -2
SAFE = -3
FINALIZED = -4
"""What the kernel takes too, save `PENDING`, which only the pool knows of."""
EARLIEST = 0
TAGS = {
    "latest": LATEST,
    "safe": SAFE,
    "finalized": FINALIZED,
    "pending": PENDING,
    "earliest": EARLIEST,
    "": LATEST,
}

Selector: TypeAlias = int | bytes
"""A height, the number of a tag, or the hash of a block."""

MAX_INT64 = (1 << 63) - 1
MAX_TOPICS = 4
MAX_FILTER_ADDRESSES = 1000
MAX_STORAGE_KEYS = 1024


def non_string(go_type: str) -> BadArgument:
    return BadArgument(f"json: cannot unmarshal non-string into Go value of type {go_type}")


def wrong_type(value: Any, go_type: str) -> BadArgument:
    kind = "object"
    if value is None:
        kind = "null"
    elif isinstance(value, bool):
        kind = "bool"
    elif isinstance(value, int | float):
        kind = "number"
    elif isinstance(value, str):
        kind = "string"
    elif isinstance(value, list):
        kind = "array"
    return BadArgument(f"json: cannot unmarshal {kind} into Go value of type {go_type}")


def decode_error(reason: str, go_type: str) -> BadArgument:
    return BadArgument(f"json: cannot unmarshal {reason} into Go value of type {go_type}")


def parse_data(value: Any, go_type: str = "hexutil.Bytes") -> bytes:
    """Return the bytes of a 0x-prefixed string of even length."""
    if type(value) is not str:
        raise non_string(go_type)
    if value[:2] not in ("0x", "0X"):
        reason = "empty hex string" if not value else "hex string without 0x prefix"
        raise decode_error(reason, go_type)
    digits = value[2:]
    # bytes.fromhex skips white space, which is why the length is compared.
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        data = b""
    if len(data) * 2 != len(digits):
        reason = "hex string of odd length" if len(digits) % 2 else "invalid hex string"
        raise decode_error(reason, go_type)
    return data


def parse_fixed(value: Any, length: int, go_type: str) -> bytes:
    """Return exactly `length` bytes."""
    if type(value) is str and value[:2] in ("0x", "0X") and len(value) != 2 * length + 2:
        size = len(value) - 2
        raise BadArgument(f"hex string has length {size}, want {2 * length} for {go_type}")
    return parse_data(value, go_type)


def parse_address(value: Any) -> bytes:
    return parse_fixed(value, 20, "common.Address")


def parse_hash(value: Any) -> bytes:
    return parse_fixed(value, 32, "common.Hash")


def parse_quantity(value: Any, go_type: str = "hexutil.Uint64", bits: int = 64) -> int:
    """Return a number from its minimal hexadecimal form."""
    if type(value) is not str:
        raise non_string(go_type)
    reason = get_quantity_fault(value, bits)
    if reason is not None:
        raise decode_error(reason, go_type)
    return int(value[2:], 16)


def get_quantity_fault(value: str, bits: int) -> str | None:
    if not value:
        return "empty hex string"
    if value[:2] not in ("0x", "0X"):
        return "hex string without 0x prefix"
    digits = value[2:]
    if not digits:
        return 'hex string "0x"'
    if digits[0] == "0" and len(digits) > 1:
        return "hex number with leading zero digits"
    if not all(c in "0123456789abcdefABCDEF" for c in digits[:65]):
        return "invalid hex string"
    if len(digits) * 4 > bits:
        return f"hex number > {bits} bits"
    return None


def parse_number_or_quantity(value: Any) -> int:
    """Return a number given as JSON number or as hexadecimal string (counts, timeouts)."""
    if type(value) is int:
        if not 0 <= value <= MAX_INT64:
            raise decode_error(f"number {value}", "uint64")
        return value
    if type(value) is not str:
        raise wrong_type(value, "uint64")
    return parse_quantity(value, "math.HexOrDecimal64")


def parse_height(value: str) -> int:
    fault = get_quantity_fault(value, 64)
    if fault is not None:
        raise BadArgument(fault)
    height = int(value[2:], 16)
    if height > MAX_INT64:
        raise BadArgument("block number larger than int64")
    return height


def parse_block_number(value: Any) -> Selector:
    """Return the selector of a tag or a height."""
    if type(value) is not str:
        raise BadArgument("hex string without 0x prefix")
    tag = TAGS.get(value)
    return parse_height(value) if tag is None else tag


def parse_block(value: Any) -> Selector:
    """Return the selector of a tag, a height, a hash, or an EIP-1898 object."""
    if type(value) is str:
        tag = TAGS.get(value)
        if tag is not None:
            return tag
        if len(value) == 66:
            return parse_hash(value)
        return parse_height(value)
    if type(value) is not dict:
        raise wrong_type(value, "rpc.BlockNumberOrHash")
    number, block_hash = value.get("blockNumber"), value.get("blockHash")
    if number is not None and block_hash is not None:
        raise BadArgument("cannot specify both BlockHash and BlockNumber, choose one or the other")
    if block_hash is not None:
        return parse_hash(block_hash)
    if number is not None:
        return parse_block_number(number)
    raise BadArgument("at least one of blockHash and blockNumber is needed if a dict is provided")


def parse_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise wrong_type(value, "bool")
    return value


def parse_string(value: Any) -> str:
    if type(value) is not str:
        raise wrong_type(value, "string")
    return value


def parse_call(value: Any) -> bytes:
    """Return the JSON of a call object; `input` and `data` mean the same and may not differ."""
    if type(value) is not dict:
        raise wrong_type(value, "ethapi.TransactionArgs")
    data = value.get("data")
    if data is not None:
        given = value.get("input")
        if given is not None and given != data:
            raise BadArgument(
                'both "data" and "input" are set and not equal. '
                'Please use "input" to pass transaction call data'
            )
    return msgspec.json.encode(value)


def parse_overrides(value: Any) -> bytes:
    """Return the JSON of state overrides."""
    if type(value) is not dict:
        raise wrong_type(value, "override.StateOverride")
    return msgspec.json.encode(value)


def parse_block_overrides(value: Any) -> dict[str, Any]:
    """Return what a call shall find of its block; the kernel knows the fields."""
    if type(value) is not dict:
        raise wrong_type(value, "override.BlockOverrides")
    return value


def join_overrides(state: bytes | None, changes: dict[str, Any] | None) -> bytes | None:
    """Return the JSON of both kinds of overrides as the kernel takes it."""
    if not changes:
        return state
    return msgspec.json.encode([None if state is None else msgspec.Raw(state), changes])


def parse_slot(value: Any) -> bytes:
    """Return a storage key of up to 32 bytes, padded on the left."""
    if type(value) is not str:
        raise wrong_type(value, "string")
    digits = value[2:] if value[:2] in ("0x", "0X") else value
    if len(digits) > 64:
        raise BadArgument(f"storage key too long (want at most 32 bytes): {quote(value)}")
    try:
        number = bytes.fromhex(digits.zfill(64))
    except ValueError:
        number = b""
    if len(number) != 32:
        raise BadArgument(f"invalid hex in storage key: {quote(value)}")
    return number


def parse_proof_key(value: Any) -> bytes:
    """Return a storage key of a proof: 32 bytes, or fewer, which are shown as a quantity."""
    number = parse_slot(value)
    return number if len(value.removeprefix("0x")) == 64 else number.lstrip(b"\0")


def parse_slots(value: Any) -> list[bytes]:
    if type(value) is not list:
        raise wrong_type(value, "[]string")
    if len(value) > MAX_STORAGE_KEYS:
        raise BadArgument(f"too many slots (max {MAX_STORAGE_KEYS})")
    return [parse_proof_key(key) for key in value]


def quote(value: str) -> str:
    return msgspec.json.encode(value).decode()
