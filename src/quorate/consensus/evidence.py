"""Evidence that a validator signed two different things where the protocol allows one.

A correct validator signs at most one proposal, one prevote and one precommit in a round of a
height, across crashes. Two signed statements of one kind, height and round that differ therefore
convict their signer before anybody who knows the chain and the validator set of that height.

An offence is (validator, height, round, kind): several pairs of statements about one offence are
one offence. Evidence expires: after `EVIDENCE_HEIGHTS` heights nobody has to hold or judge it, and
whoever punishes must have been able to see it before stakes are gone.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash, Height, Member
from quorate.consensus.certificate import PRECOMMIT, Verify, compute_digest
from quorate.consensus.keys import verify_signature
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.replica import (
    AddressBytes,
    HashBytes,
    HeightNumber,
    RoundNumber,
    SignatureBytes,
    Value,
)

EVIDENCE_HEIGHTS: Final = 10_000
MAX_EVIDENCE_BYTES: Final = 1024

Offence: TypeAlias = tuple[Address, Height, int, int]
"""(validator, height, round, kind)."""


class Statement(Value, frozen=True, array_like=True, gc=False):
    """What a validator signed. `valid_round` is -1 in votes and in proposals of a new value."""

    value: HashBytes
    valid_round: int
    signature: SignatureBytes


class DoubleVote(Value, frozen=True, array_like=True, gc=False):
    """Two statements of one validator that exclude each other, the lower value first."""

    who: AddressBytes
    kind: int
    height: HeightNumber
    round: RoundNumber
    first: Statement
    second: Statement


_decoder = msgspec.msgpack.Decoder(DoubleVote)
encode_evidence = msgspec.msgpack.Encoder().encode


def make_evidence(
    who: Address, kind: int, height: Height, round: int, one: Statement, other: Statement
) -> DoubleVote:
    """Return the evidence of two statements, in canonical order."""
    if (other.value, other.valid_round) < (one.value, one.valid_round):
        one, other = other, one
    return DoubleVote(who, kind, height, round, one, other)


def get_offence(evidence: DoubleVote) -> Offence:
    """Return what the evidence is about, by which it must be counted once."""
    return evidence.who, evidence.height, evidence.round, evidence.kind


def decode_evidence(data: bytes) -> DoubleVote:
    """Return the evidence in bytes that came with `Accuse`. Raises Invalid."""
    if len(data) > MAX_EVIDENCE_BYTES:
        raise Invalid(f"evidence: {len(data)} bytes, expected at most {MAX_EVIDENCE_BYTES}")
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise Invalid(f"evidence: {error}") from None


def verify_evidence(
    evidence: DoubleVote,
    chain: Hash,
    members: ValidatorSet | Sequence[Member],
    height: Height,
    verify: Verify = verify_signature,
) -> None:
    """Raise Invalid unless the evidence convicts `evidence.who` and is not expired at `height`.

    `members` are those of the evidence's height.
    """
    validators = members if isinstance(members, ValidatorSet) else ValidatorSet(members)
    if not height - EVIDENCE_HEIGHTS <= evidence.height <= height:
        raise Invalid(
            f"evidence of height {evidence.height}: expected {height - EVIDENCE_HEIGHTS}..{height}"
        )
    if evidence.who not in validators.powers:
        raise Invalid(f"evidence: 0x{evidence.who.hex()} is not a validator of its height")
    first, second = evidence.first, evidence.second
    if not 0 <= evidence.kind <= PRECOMMIT:
        raise Invalid(f"evidence: kind {evidence.kind}, expected 0..{PRECOMMIT}")
    if (first.value, first.valid_round) >= (second.value, second.valid_round):
        raise Invalid("evidence: the statements agree, expected two different ones in order")
    for statement in (first, second):
        if not -1 <= statement.valid_round < 2**31:
            raise Invalid(f"evidence: valid round {statement.valid_round}, expected -1..2**31-1")
        digest = compute_digest(
            chain,
            evidence.kind,
            evidence.height,
            evidence.round,
            statement.value,
            statement.valid_round,
        )
        if not verify(evidence.who, digest, statement.signature):
            raise Invalid(f"evidence: a signature is not by 0x{evidence.who.hex()}")


class Offences:
    """Which offences were already counted: each once, until it expires.

    Bound: one entry for each offence of the last `EVIDENCE_HEIGHTS` heights, at most `MAX_KNOWN`;
    beyond it nothing is admitted, since forgetting one would count it again.
    """

    MAX_KNOWN = 65_536

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Offence, None] = {}

    def __len__(self) -> int:
        return len(self._known)

    def admit(self, offence: Offence, height: Height) -> bool:
        """Whether an offence is new and not expired at `height`; it is then known."""
        if offence in self._known or offence[1] < height - EVIDENCE_HEIGHTS:
            return False
        if len(self._known) >= self.MAX_KNOWN:
            self.expire(height)
            if len(self._known) >= self.MAX_KNOWN:
                return False
        self._known[offence] = None
        return True

    def expire(self, height: Height) -> None:
        """Forget what is too old to be admitted again."""
        oldest = height - EVIDENCE_HEIGHTS
        self._known = {offence: None for offence in self._known if offence[1] >= oldest}
