"""Certificates are judged by other arithmetic than the engine's, and the two agree."""

import pytest

from quorate.base.types import Address, Member
from quorate.consensus.certificate import (
    PRECOMMIT,
    Certificate,
    Envelope,
    compute_digest,
    encode_certificate,
    hash_envelope,
)
from quorate.consensus.membership import hash_members
from quorate.crypto.hashes import hash_payload
from quorate.simulator.invariants import Chain
from quorate.simulator.invariants.chain import compute_statement, find_certificate_fault
from quorate.simulator.keys import SimulatedKeys

WHO = [bytes([i]) * 20 for i in range(1, 5)]
MEMBERS = [Member(who, 1) for who in WHO]
CHAIN, PARENT = b"\x01" * 32, b"\x02" * 32
PAYLOAD = bytes(64) + b"body"


def make(*signers: int, round: int = 0, height: int = 5, sign_round: int | None = None) -> bytes:
    """Return a certificate of these signers."""
    members = hash_members(MEMBERS)
    envelope = Envelope(
        "tendermint", height, 0, WHO[0], PARENT, members, members, hash_payload(PAYLOAD)
    )
    digest = compute_digest(
        CHAIN,
        PRECOMMIT,
        height,
        round if sign_round is None else sign_round,
        hash_envelope(envelope),
    )
    signatures = [(WHO[i], SimulatedKeys(WHO[i]).sign(digest)) for i in signers]
    return encode_certificate(Certificate(envelope, round, signatures))


def judge(certificate: bytes, members: list[Member] = MEMBERS) -> str:
    verify = SimulatedKeys(WHO[0]).verify
    return find_certificate_fault(certificate, CHAIN, 5, PARENT, [PAYLOAD], members, verify)


def test_statement_is_that_of_the_engine() -> None:
    assert compute_statement(CHAIN, 0, 7, 3, PARENT, 2) == compute_digest(CHAIN, 0, 7, 3, PARENT, 2)


def test_three_of_four_are_enough() -> None:
    assert judge(make(0, 1, 2, round=3)) == ""


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (make(0, 1), "power 2 of 4"),
        (make(0, 1, 1), "signed twice"),
        (make(0, 1, 2, sign_round=1), "not its own"),
        (make(0, 1, 2, height=6), "of height 6"),
        (make(0, 1, 2)[:100], "100 bytes"),
    ],
)
def test_bad_certificates_are_named(certificate: bytes, words: str) -> None:
    assert words in judge(certificate)


def test_power_counts_not_heads() -> None:
    heavy = [Member(WHO[0], 10), *MEMBERS[1:]]
    assert "power 3 of 13" in judge(make(1, 2, 3), heavy)
    assert judge(make(0), heavy) == ""


def test_two_blocks_at_a_height_are_found() -> None:
    found: list[str] = []

    def report(property: str, message: str, who: Address) -> None:
        found.append(property)

    chain = Chain(CHAIN, MEMBERS, None, report)
    chain.start(WHO[0], 0)
    chain.decide(WHO[0], 1, b"a" * 32, 1, MEMBERS, b"e" * 32, b"", [])
    chain.decide(WHO[1], 1, b"a" * 32, 1, MEMBERS, b"e" * 32, b"", [])
    chain.decide(WHO[2], 1, b"b" * 32, 1, MEMBERS, b"e" * 32, b"", [])
    chain.decide(WHO[3], 1, b"b" * 32, 1, MEMBERS, b"f" * 32, b"", [])
    chain.decide(WHO[0], 3, b"c" * 32, 1, MEMBERS, b"g" * 32, b"", [])
    assert found == ["result", "agreement", "order"]
