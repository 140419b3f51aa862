"""A small chain to drive a `Ledger` with: funded keys, signed transfers, payloads, final blocks."""

import json

from quorate import _kernel
from quorate.ledger.payload import compose

CHAIN_ID = 31337
KEYS = [bytes([i + 1]) * 32 for i in range(4)]
ACCOUNTS = [_kernel.address(key) for key in KEYS]
FUNDS = 10**24
COINBASE = b"\xcc" * 20
CONTRACT = b"\xc0" * 20
# Stores the call's second word at the slot that its first word names.
CODE = bytes.fromhex("60203560003555")
SLOT_7 = (7).to_bytes(32, "big")


def genesis(**changes: object) -> bytes:
    """Return a genesis file; `changes` replace its fields."""
    alloc: dict[str, object] = {a.hex(): {"balance": hex(FUNDS)} for a in ACCOUNTS}
    alloc[CONTRACT.hex()] = {
        "balance": "0x0",
        "code": "0x" + CODE.hex(),
        "storage": {"0x" + SLOT_7.hex(): "0x" + (5).to_bytes(32, "big").hex()},
    }
    file: dict[str, object] = {
        "config": {
            "chainId": CHAIN_ID,
            "quorate": {
                "engine": "tendermint",
                "gas": "fees",
                "validators": [{"address": "0x" + "11" * 20, "power": 1}],
            },
        },
        "alloc": alloc,
        "gasLimit": hex(30_000_000),
        "difficulty": "0x0",
        "timestamp": "0x0",
        "baseFeePerGas": hex(10**9),
    }
    return json.dumps(file | changes).encode()


def rlp(item: bytes | list[object]) -> bytes:
    """Return the RLP of nested lists of byte strings."""
    if isinstance(item, list):
        payload, base = b"".join(rlp(part) for part in item), 0xC0  # type: ignore[arg-type]
    elif len(item) == 1 and item[0] < 0x80:
        return item
    else:
        payload, base = item, 0x80
    if len(payload) < 56:
        return bytes((base + len(payload),)) + payload
    size = len(payload).to_bytes((len(payload).bit_length() + 7) // 8, "big")
    return bytes((base + 55 + len(size),)) + size + payload


def integer(number: int) -> bytes:
    """Return an integer as RLP holds it."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def transaction(
    key: bytes,
    nonce: int,
    to: bytes,
    value: int = 1,
    data: bytes = b"",
    gas: int = 100_000,
    tip: int = 1,
) -> bytes:
    """Return a signed EIP-1559 transaction."""
    fields: list[object] = [
        *map(integer, (CHAIN_ID, nonce, tip, 4 * 10**9, gas)),
        to,
        integer(value),
        data,
        [],
    ]
    signature = _kernel.sign(key, _kernel.keccak256(b"\x02" + rlp(fields)))
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
    return b"\x02" + rlp([*fields, *map(integer, (signature[64], r, s))])


def payload(parent: _kernel.Block, *raws: bytes, timestamp_ms: int | None = None) -> bytes:
    """Return a payload over `parent`, one second later unless told."""
    at = parent.timestamp_ms + 1000 if timestamp_ms is None else timestamp_ms
    return compose(parent.hash, at, COINBASE, rlp(list(raws)))


def envelope_of(block: _kernel.Block) -> bytes:
    """Return what stands for the hash of a block's consensus envelope."""
    return _kernel.keccak256(b"envelope" + block.hash) if block.number else bytes(32)


def tip(ledger: _kernel.Ledger) -> _kernel.Block:
    """Return the last final block."""
    block = ledger.block(ledger.final())
    assert block is not None
    return block


def extend(ledger: _kernel.Ledger, *raws: bytes) -> _kernel.Block:
    """Execute a payload on the last final block and make it final."""
    parent = tip(ledger)
    body = payload(parent, *raws)
    block = ledger.execute(parent.hash, [body], envelope_of(parent))
    ledger.finalize(block.hash, envelope_of(block), b"certificate", [body])
    return block
