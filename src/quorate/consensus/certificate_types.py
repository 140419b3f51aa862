"""Envelopes and certificates as values; their layout and what they prove is in `certificate`."""

from typing import Annotated, Final

from msgspec import Meta

from quorate.base.types import Address
from quorate.consensus.effects import AddressBytes, HashBytes, HeightNumber, RoundNumber, Value

ENGINE_BYTES: Final = 16


class Envelope(Value, frozen=True, array_like=True, gc=False):
    """What wraps a payload for agreement; the layout is in `certificate`."""

    engine: Annotated[str, Meta(min_length=1, max_length=ENGINE_BYTES, pattern="^[a-z0-9-]+$")]
    height: HeightNumber
    round: RoundNumber
    proposer: AddressBytes
    parent: HashBytes
    members: HashBytes
    next_members: HashBytes
    payload: HashBytes


class Certificate(Value, frozen=True, array_like=True, gc=False):
    """A decided envelope with the precommits that decided it, sorted by address."""

    envelope: Envelope
    round: int
    signatures: list[tuple[Address, bytes]]
