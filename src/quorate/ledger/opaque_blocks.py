"""What the ledger of opaque items keeps of blocks, as values."""

import msgspec
from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Hash, Height, Member
from quorate.crypto.hashes import keccak256
from quorate.ledger.application import Executed, Snapshot


class Final(Struct, frozen=True):
    """What the store holds of a height."""

    executed: Executed
    envelope: Hash
    certificate: bytes
    payloads: list[bytes]


class Branch(Struct, frozen=True):
    """An executed block and the items it is the first to hold."""

    executed: Executed
    parent: Hash
    fresh: dict[Hash, bytes]


class Start(Struct, frozen=True):
    """What a store knows of what lies below the height at which it begins."""

    parent: Hash
    parent_envelope: Hash
    members: list[list[Member]]
    """Who agrees on that height and on the two next."""
    included: dict[Hash, Height]
    """Items in blocks up to that height."""
    before: "tuple[Start, list[Final]] | None"
    """What the store held before it jumped there."""


class State(Struct, frozen=True, array_like=True):
    """The first chunk of a snapshot; the others list included items and their heights."""

    executed: Executed
    parent: Hash
    parent_envelope: Hash
    payloads: list[bytes]


_STATE = msgspec.msgpack.Decoder(State)
_INCLUDED = msgspec.msgpack.Decoder(list[tuple[bytes, int]])


def decode_state(snapshot: Snapshot, kept: dict[int, bytes]) -> tuple[State, dict[Hash, Height]]:
    """Return what the chunks of a snapshot say. Raises Invalid."""
    included: dict[Hash, Height] = {}
    state: State | None = None
    for number, expected in enumerate(snapshot.chunks):
        chunk = kept.get(number, b"")
        found = keccak256(chunk)
        if found != expected:
            raise Invalid(
                f"snapshot: chunk {number} has hash 0x{found.hex()}, expected 0x{expected.hex()}"
            )
        try:
            if number == 0:
                state = _STATE.decode(chunk)
            else:
                included.update(_INCLUDED.decode(chunk))
        except msgspec.MsgspecError as error:
            raise Invalid(f"snapshot: chunk {number}: {error}") from None
    if state is None:
        raise Invalid("snapshot: no chunks, expected at least one")
    return state, included
