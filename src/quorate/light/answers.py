"""Reading fields of JSON that a node sent: every shape is checked, every length is bounded."""

from collections.abc import Mapping
from typing import Any

from quorate.base.errors import Invalid

__all__ = ["read_bytes", "read_int", "read_list", "read_object"]

MAX_DATA_BYTES = 1 << 20


def read_object(answer: Any, what: str) -> Mapping[str, Any]:
    """Return a JSON object (web3.py's attribute dictionaries are mappings too)."""
    if not isinstance(answer, Mapping):
        raise Invalid(f"{what}: {_show(answer)}, expected an object")
    return answer


def read_list(fields: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, (list, tuple)) or len(value) > most:
        raise Invalid(f"{name}: {_show(value)}, expected a list of at most {most}")
    return list(value)


def read_bytes(value: Any, name: str, length: int | None = None) -> bytes:
    """Return hex digits after 0x as bytes, `length` of them if given."""
    if isinstance(value, str) and value.startswith("0x") and len(value) <= 2 * MAX_DATA_BYTES:
        try:
            data = bytes.fromhex(value[2:])
        except ValueError:
            data = None
        # fromhex skips blanks, which no node sends.
        if data is not None and 2 * len(data) == len(value) - 2 and length in (None, len(data)):
            return data
    expected = "hex digits" if length is None else f"{length} bytes in hex"
    raise Invalid(f"{name}: {_show(value)}, expected {expected}")


def read_int(value: Any, name: str, bits: int = 64) -> int:
    """Return a quantity such as 0x1f."""
    if isinstance(value, str) and value.startswith("0x") and 3 <= len(value) <= 66:
        try:
            number = int(value[2:], 16)
        except ValueError:
            number = -1
        if 0 <= number < 1 << bits and value[2] not in "+-_":
            return number
    raise Invalid(f"{name}: {_show(value)}, expected a quantity of at most {bits} bits")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 48 else f"{text[:45]}..."
