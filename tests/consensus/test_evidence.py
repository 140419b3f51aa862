"""Evidence of double votes and proposals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.network import CHAIN, CheapKeys
from consensus.single import OTHER, PAYLOAD, Single
from quorate.base.errors import Invalid
from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE, PROPOSAL
from quorate.consensus.evidence import (
    EVIDENCE_HEIGHTS,
    DoubleVote,
    Offences,
    decode_evidence,
    encode_evidence,
    get_offence,
    verify_evidence,
)
from quorate.consensus.replica import Accuse

VERIFY = CheapKeys(0).verify


def accuse_by_votes(one: Single, kind: int = PREVOTE) -> list[Accuse]:
    liar = one.others[0]
    effects = one.hear(one.vote(kind, liar, NIL), one.vote(kind, liar, one.value()))
    return [effect for effect in effects if isinstance(effect, Accuse)]


@pytest.mark.parametrize("kind", [PREVOTE, PRECOMMIT])
def test_double_vote_is_accused_with_evidence_that_convicts(kind: int) -> None:
    one = Single()
    (accusation,) = accuse_by_votes(one, kind)
    evidence = decode_evidence(accusation.evidence)
    assert accusation.who == evidence.who == one.others[0]
    assert get_offence(evidence) == (one.others[0], 1, 0, kind)
    verify_evidence(evidence, CHAIN, one.members, 1, VERIFY)


def test_double_proposal_is_accused() -> None:
    one = Single()
    effects = one.hear(one.proposal(), one.proposal(OTHER))
    (accusation,) = [effect for effect in effects if isinstance(effect, Accuse)]
    evidence = decode_evidence(accusation.evidence)
    assert (evidence.who, evidence.kind) == (one.proposer(), PROPOSAL)
    verify_evidence(evidence, CHAIN, one.members, 1, VERIFY)


def test_second_proposal_is_not_held_unless_a_third_wants_it() -> None:
    one = Single()
    one.hear(one.proposal(), one.proposal(OTHER))
    assert one.value(OTHER) not in one.replica.values
    one.prevotes(one.value(OTHER))
    one.hear(one.proposal(OTHER))
    assert one.value(OTHER) in one.replica.values


def test_an_offence_is_accused_once() -> None:
    one = Single()
    assert len(accuse_by_votes(one)) == 1
    again = one.hear(one.vote(PREVOTE, one.others[0], one.value(OTHER)))
    assert not [effect for effect in again if isinstance(effect, Accuse)]
    assert len(accuse_by_votes(one, PRECOMMIT)) == 1


def make() -> tuple[Single, DoubleVote]:
    one = Single()
    return one, decode_evidence(accuse_by_votes(one)[0].evidence)


def test_expired_and_future_evidence_is_refused() -> None:
    one, evidence = make()
    verify_evidence(evidence, CHAIN, one.members, 1 + EVIDENCE_HEIGHTS, VERIFY)
    for height in (2 + EVIDENCE_HEIGHTS, 0):
        with pytest.raises(Invalid, match="evidence of height 1"):
            verify_evidence(evidence, CHAIN, one.members, height, VERIFY)


def test_innocent_are_not_convicted() -> None:
    one, evidence = make()
    same = replace(evidence, second=evidence.first)
    swapped = replace(evidence, first=evidence.second, second=evidence.first)
    forged = replace(evidence, second=replace(evidence.second, signature=bytes(65)))
    other = replace(evidence, who=one.others[1])
    stranger = replace(evidence, who=bytes(20))
    moved = replace(evidence, round=1)
    for wrong in (same, swapped, forged, other, stranger, moved, replace(evidence, kind=9)):
        with pytest.raises(Invalid):
            verify_evidence(wrong, CHAIN, one.members, 1, VERIFY)
    with pytest.raises(Invalid):
        verify_evidence(evidence, bytes(32), one.members, 1, VERIFY)


def test_offences_are_counted_once_and_expire() -> None:
    offences = Offences()
    offence = (bytes(20), 5, 0, PREVOTE)
    assert offences.admit(offence, 6)
    assert not offences.admit(offence, 7)
    assert not offences.admit((bytes(20), 4, 0, PREVOTE), 5 + EVIDENCE_HEIGHTS)
    offences.expire(6 + EVIDENCE_HEIGHTS)
    assert len(offences) == 0


def test_offences_are_bounded() -> None:
    offences = Offences()
    for round in range(Offences.MAX_KNOWN + 10):
        offences.admit((bytes(20), 5, round, PREVOTE), 6)
    assert len(offences) == Offences.MAX_KNOWN
    assert offences.admit((bytes(20), 20_000, 0, PREVOTE), 20_000)
    assert len(offences) == 1


@given(st.binary(max_size=1200))
def test_garbage_is_invalid(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode_evidence(data)


def test_encoding_comes_back() -> None:
    _, evidence = make()
    assert decode_evidence(encode_evidence(evidence)) == evidence
    assert evidence.first.value < evidence.second.value
    assert PAYLOAD != OTHER
