"""Block headers: from the fields that JSON-RPC gives to the hash that a certificate proves.

Source: Ethereum yellow paper, section 4.4; EIP-1559 (base fee), EIP-4895 (withdrawals), EIP-4844
(blob gas), EIP-4788 (beacon root), EIP-7685 (requests).
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash, Height
from quorate.crypto.hashes import keccak256
from quorate.light.answers import read_bytes, read_int
from quorate.light.rlp import encode_int, encode_list

__all__ = ["Header", "read_header", "verify_header"]

MAX_EXTRA_BYTES = 32


class Header(Struct, frozen=True, gc=False):
    """What a client uses of a header; `hash` covers all of it."""

    number: Height
    hash: Hash
    parent: Hash
    state_root: Hash
    transactions_root: Hash
    receipts_root: Hash
    timestamp: int
    miner: Address
    base_fee: int
    gas_used: int


def read_header(fields: Mapping[str, Any]) -> Header:
    """Return the header that these JSON fields describe, with the hash computed from them.

    A field `hash` of the answer is ignored: it is a claim, not evidence. Raises Invalid.
    """

    def get_bytes(name: str, length: int) -> bytes:
        return read_bytes(fields.get(name), name, length)

    def get_int(name: str, bits: int = 64) -> int:
        return read_int(fields.get(name), name, bits)

    extra = read_bytes(fields.get("extraData"), "extraData")
    if len(extra) > MAX_EXTRA_BYTES:
        raise Invalid(f"extraData: {len(extra)} bytes, expected at most {MAX_EXTRA_BYTES}")
    numbers = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")
    items = [
        get_bytes("parentHash", 32),
        get_bytes("sha3Uncles", 32),
        get_bytes("miner", 20),
        get_bytes("stateRoot", 32),
        get_bytes("transactionsRoot", 32),
        get_bytes("receiptsRoot", 32),
        get_bytes("logsBloom", 256),
        *(encode_int(get_int(name, 256)) for name in numbers),
        extra,
        get_bytes("mixHash", 32),
        get_bytes("nonce", 8),
        encode_int(get_int("baseFeePerGas", 256)),
        get_bytes("withdrawalsRoot", 32),
        encode_int(get_int("blobGasUsed")),
        encode_int(get_int("excessBlobGas")),
        get_bytes("parentBeaconBlockRoot", 32),
        get_bytes("requestsHash", 32),
    ]
    return Header(
        number=get_int("number"),
        hash=keccak256(encode_list(items)),
        parent=items[0],
        state_root=items[3],
        transactions_root=items[4],
        receipts_root=items[5],
        timestamp=get_int("timestamp"),
        miner=items[2],
        base_fee=get_int("baseFeePerGas", 256),
        gas_used=get_int("gasUsed"),
    )


def verify_header(fields: Mapping[str, Any], height: Height, expected: Hash) -> Header:
    """Return the header whose hash is known from a certificate. Raises Invalid for another."""
    header = read_header(fields)
    if header.hash != expected:
        raise Invalid(f"header {height}: hash 0x{header.hash.hex()}, expected 0x{expected.hex()}")
    if header.number != height:
        raise Invalid(f"header: number {header.number}, expected {height}")
    return header
