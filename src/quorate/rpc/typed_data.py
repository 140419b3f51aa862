"""Hashes that wallets sign: messages (EIP-191, version 0x45) and typed data (EIP-712).

Typed data comes from anybody: its size is bounded by that of a request, its depth by `MAX_DEPTH`,
and what does not fit its types raises `BadArgument`.
"""

import re
from typing import Any

from quorate._kernel import keccak256
from quorate.rpc.errors import BadArgument

PREFIX = b"\x19Ethereum Signed Message:\n"
DOMAIN = "EIP712Domain"
MAX_DEPTH = 64
"""Of structs and arrays within each other."""
MAX_TYPES = 256
MAX_TYPE_CHARACTERS = 1 << 16
"""Of all their fields: each type's hash may need the text of all."""
SHOWN = 80
NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\Z")
ARRAY = re.compile(r"(.+)\[(\d{0,6})\]\Z")
INTEGER = re.compile(r"(u?)int(\d{1,3})\Z")
FIXED = re.compile(r"bytes(\d{1,2})\Z")


def hash_message(message: bytes) -> bytes:
    """Return what personal_sign signs for a message."""
    return keccak256(PREFIX + str(len(message)).encode() + message)


class TypedData:
    """One request of eth_signTypedData_v4, its types checked."""

    def __init__(self, value: Any) -> None:
        if type(value) is not dict or not isinstance(value.get("types"), dict):
            raise BadArgument("typed data: expected types, primaryType, domain and message")
        self.types = {name: parse_struct(name, fields) for name, fields in value["types"].items()}
        if len(self.types) > MAX_TYPES:
            raise BadArgument(f"typed data: {len(self.types)} types, expected at most {MAX_TYPES}")
        fields = [field for kind in self.types.values() for field in kind]
        characters = sum(len(kind) + len(name) for kind, name in fields)
        if characters > MAX_TYPE_CHARACTERS:
            raise BadArgument(
                f"typed data: types of {characters} characters, expected at most "
                f"{MAX_TYPE_CHARACTERS}"
            )
        primary = value.get("primaryType")
        self.domain, self.message = value.get("domain", {}), value.get("message")
        self.types.setdefault(DOMAIN, [])
        if type(primary) is not str or primary not in self.types:
            raise BadArgument(f"primaryType {str(primary)[:SHOWN]!r}: not among the types")
        self.primary = primary
        self.hashes: dict[str, bytes] = {}

    def hash(self) -> bytes:
        """Return the digest to sign."""
        digest = b"\x19\x01" + self.hash_struct(DOMAIN, self.domain, 0)
        if self.primary != DOMAIN:
            digest += self.hash_struct(self.primary, self.message, 0)
        return keccak256(digest)

    def hash_type(self, name: str) -> bytes:
        """Return typeHash: of the struct and of all that it refers to."""
        found = self.hashes.get(name)
        if found is None:
            needed, open_ends = {name}, [name]
            while open_ends:
                for kind, _ in self.types[open_ends.pop()]:
                    base = kind.partition("[")[0]
                    if base in self.types and base not in needed:
                        needed.add(base)
                        open_ends.append(base)
            ordered = [name, *sorted(needed - {name})]
            found = keccak256("".join(map(self.encode_type, ordered)).encode())
            self.hashes[name] = found
        return found

    def encode_type(self, name: str) -> str:
        return f"{name}({','.join(f'{kind} {field}' for kind, field in self.types[name])})"

    def hash_struct(self, name: str, value: Any, depth: int) -> bytes:
        if type(value) is not dict:
            raise BadArgument(f"{name}: expected an object")
        if depth > MAX_DEPTH:
            raise BadArgument(f"typed data: deeper than {MAX_DEPTH}")
        fields = self.types[name]
        words = [self.encode(kind, value.get(field), field, depth + 1) for kind, field in fields]
        return keccak256(self.hash_type(name) + b"".join(words))

    def encode(self, kind: str, value: Any, field: str, depth: int) -> bytes:
        """Return the word that stands for a value."""
        if (array := ARRAY.match(kind)) is not None:
            return self.encode_array(array[1], array[2], value, field, depth)
        if kind in self.types:
            # A struct that refers to itself ends with null.
            return bytes(32) if value is None else self.hash_struct(kind, value, depth)
        if kind == "string":
            if type(value) is not str:
                raise BadArgument(f"{field}: expected a string")
            return keccak256(value.encode("utf-8", "surrogatepass"))
        if kind == "bytes":
            return keccak256(parse_bytes(value, field))
        if kind == "bool":
            if type(value) is not bool:
                raise BadArgument(f"{field}: expected true or false")
            return value.to_bytes(32, "big")
        if kind == "address":
            return parse_sized(value, 20, field).rjust(32, b"\0")
        if (integer := INTEGER.match(kind)) is not None:
            return encode_integer(int(integer[2]), not integer[1], value, field)
        if (fixed := FIXED.match(kind)) is not None and 1 <= int(fixed[1]) <= 32:
            return parse_sized(value, int(fixed[1]), field).ljust(32, b"\0")
        raise BadArgument(f"{field}: type {kind[:SHOWN]!r} is not known")

    def encode_array(self, kind: str, length: str, value: Any, field: str, depth: int) -> bytes:
        if type(value) is not list:
            raise BadArgument(f"{field}: expected an array")
        if depth > MAX_DEPTH:
            raise BadArgument(f"typed data: deeper than {MAX_DEPTH}")
        if length and len(value) != int(length):
            raise BadArgument(
                f"Expected {int(length)} items for array type {kind}[{length}], "
                f"got {len(value)} items"
            )
        return keccak256(b"".join(self.encode(kind, item, field, depth + 1) for item in value))


def parse_struct(name: str, fields: Any) -> list[tuple[str, str]]:
    """Return (type, name) of each field."""
    if not NAME.match(name) or type(fields) is not list:
        raise BadArgument(f"type {name[:SHOWN]!r}: expected a name and a list of fields")
    found = []
    for field in fields:
        kind, label = (
            (field.get("type"), field.get("name")) if type(field) is dict else (None, None)
        )
        if type(kind) is not str or type(label) is not str:
            raise BadArgument(f"type {name[:SHOWN]!r}: expected fields with name and type")
        found.append((kind, label))
    return found


def parse_bytes(value: Any, field: str) -> bytes:
    if type(value) is str and value[:2] in ("0x", "0X") and len(value) % 2 == 0:
        try:
            data = bytes.fromhex(value[2:])
        except ValueError:
            data = b""
        if 2 * len(data) + 2 == len(value):
            return data
    raise BadArgument(f"{field}: {str(value)[:SHOWN]!r}, expected bytes as 0x and hex digits")


def parse_sized(value: Any, length: int, field: str) -> bytes:
    data = parse_bytes(value, field)
    if len(data) != length:
        raise BadArgument(f"{field}: {len(data)} bytes, expected {length}")
    return data


def encode_integer(bits: int, is_signed: bool, value: Any, field: str) -> bytes:
    number = parse_integer(value)
    low, high = (-(1 << bits) >> 1, 1 << bits >> 1) if is_signed else (0, 1 << bits)
    if bits not in range(8, 257, 8) or number is None or not low <= number < high:
        kind = f"{'' if is_signed else 'u'}int{bits}"
        raise BadArgument(f"{field}: {str(value)[:SHOWN]!r}, expected a number of type {kind}")
    return number.to_bytes(32, "big", signed=is_signed)


def parse_integer(value: Any) -> int | None:
    """Return a number given as one, in decimal digits or in hexadecimal ones."""
    if type(value) is int:
        return value
    if type(value) is not str or not re.match(r"-?(0[xX][0-9a-fA-F]{1,64}|[0-9]{1,78})\Z", value):
        return None
    return int(value, 16 if "x" in value.lower() else 10)
