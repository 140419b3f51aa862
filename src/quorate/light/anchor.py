"""What a light client starts from: one thing that it trusts, and everything else is proved."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from quorate._kernel import Ledger
from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash, Height, Member, Milliseconds
from quorate.consensus import ENGINES
from quorate.consensus.membership import ValidatorSet
from quorate.ledger.genesis import get_pow_rules
from quorate.light.answers import read_bytes, read_int

__all__ = ["Anchor", "read_genesis"]


class Anchor(Struct, frozen=True):
    """A trusted height of one chain.

    `members` agree on the height after it. Genesis is the usual anchor; a later one, from somebody
    trusted, spares a client from trusting validators that left long ago.
    """

    chain: Hash
    """The hash of the genesis block; every signature covers it."""
    engine: str
    height: Height
    members: list[Member]
    time_ms: Milliseconds = 0
    pow: dict[str, int] = {}
    """The rules of a chain of work; empty: none."""


def read_genesis(genesis: bytes) -> Anchor:
    """Return the anchor of a genesis file: its hash is computed, from the whole state in it.

    Raises Invalid.
    """
    try:
        fields = json.loads(genesis)
    except ValueError as error:
        raise Invalid(f"genesis: {error}, expected JSON") from None
    settings = _get_object(_get_object(fields, "config"), "quorate")
    engine = settings.get("engine")
    if not isinstance(engine, str):
        raise Invalid(f"genesis: config.quorate.engine is {engine!r}, expected a name")
    known = ENGINES.get(engine)
    if known is not None and not known.proves and not known.open:
        raise Invalid(
            f"genesis: engine {engine!r}: its members trust each other, and nothing that they say "
            "convinces a stranger; ask a node that you trust, or choose an engine that proves"
        )
    entries = settings.get("validators")
    if not isinstance(entries, list):
        raise Invalid(f"genesis: config.quorate.validators is {entries!r}, expected a list")
    members = [_read_member(entry) for entry in entries]
    # Refuses empty sets, repeated addresses and powers out of range.
    ValidatorSet(members)
    ledger = Ledger.open(None, genesis)
    try:
        chain = ledger.genesis_hash
    finally:
        ledger.close()
    time_ms = 1000 * read_int(fields.get("timestamp", "0x0"), "genesis timestamp")
    return Anchor(chain, engine, 0, sorted(members), time_ms, get_pow_rules(genesis))


def _read_member(entry: Any) -> Member:
    if not isinstance(entry, dict) or not isinstance(entry.get("power"), int):
        raise Invalid(f"genesis: validator {entry!r}, expected an address and a power")
    address: Address = read_bytes(entry.get("address"), "validator address", 20)
    return Member(address, entry["power"])


def _get_object(fields: Any, name: str) -> Mapping[str, Any]:
    value = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, dict):
        raise Invalid(f"genesis: {name} is {type(value).__name__}, expected an object")
    return value
