"""Certificates, as a stranger verifies them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.network import CHAIN
from quorate._kernel import recover
from quorate.base.errors import Invalid
from quorate.base.types import Member
from quorate.consensus.certificate import (
    PRECOMMIT,
    PREVOTE,
    Certificate,
    Envelope,
    compute_digest,
    decode_certificate,
    decode_envelope,
    encode_certificate,
    encode_envelope,
    hash_envelope,
    verify_certificate,
    verify_payloads,
)
from quorate.consensus.keys import SecpKeys
from quorate.consensus.membership import hash_members
from quorate.crypto.hashes import hash_payload, keccak256

KEYS = sorted((SecpKeys(bytes(31) + bytes([i])) for i in range(1, 5)), key=lambda k: k.address)
MEMBERS = [Member(key.address, 1) for key in KEYS]
PAYLOAD = b"p" * 100


def make_envelope() -> Envelope:
    return Envelope(
        "tendermint",
        7,
        1,
        KEYS[0].address,
        keccak256(b"parent"),
        hash_members(MEMBERS),
        hash_members(MEMBERS[:3]),
        hash_payload(PAYLOAD),
    )


def make_certificate(signers: int = 3, round: int = 2, kind: int = PRECOMMIT) -> Certificate:
    envelope = make_envelope()
    digest = compute_digest(CHAIN, kind, 7, round, hash_envelope(envelope))
    return Certificate(envelope, round, [(key.address, key.sign(digest)) for key in KEYS[:signers]])


def test_quorum_of_precommits_proves_the_envelope() -> None:
    certificate = make_certificate()
    assert verify_certificate(certificate, CHAIN, MEMBERS) == hash_envelope(make_envelope())
    verify_payloads(certificate.envelope, [PAYLOAD])


def test_layouts_are_those_of_the_docstring() -> None:
    envelope = make_envelope()
    data = encode_envelope(envelope)
    assert len(data) == 180
    assert data[:16] == b"tendermint" + bytes(6)
    assert int.from_bytes(data[16:24], "big") == 7
    assert data[32:52] == KEYS[0].address
    assert data[148:] == hash_payload(PAYLOAD)
    value = hash_envelope(envelope)
    statement = (
        b"quorate\x01" + CHAIN + b"\x02" + (7).to_bytes(8, "big") + (2).to_bytes(8, "big") + value
    ) + bytes(4)
    assert len(statement) == 93
    certificate = make_certificate()
    who, signature = certificate.signatures[0]
    assert recover(keccak256(statement), signature) == who
    encoded = encode_certificate(certificate)
    assert len(encoded) == 191 + 3 * 85
    assert encoded[1:181] == data


def test_encoding_comes_back() -> None:
    certificate = make_certificate()
    assert decode_certificate(encode_certificate(certificate)) == certificate
    assert decode_envelope(encode_envelope(certificate.envelope)) == certificate.envelope


def test_too_little_power_is_refused() -> None:
    with pytest.raises(Invalid, match="power 2 of 4, expected at least 3"):
        verify_certificate(make_certificate(2), CHAIN, MEMBERS)


def test_prevotes_are_no_proof() -> None:
    with pytest.raises(Invalid, match="is not its own"):
        verify_certificate(make_certificate(kind=PREVOTE), CHAIN, MEMBERS)


def test_another_chain_is_refused() -> None:
    with pytest.raises(Invalid, match="is not its own"):
        verify_certificate(make_certificate(), bytes(32), MEMBERS)


def test_another_round_is_refused() -> None:
    with pytest.raises(Invalid, match="is not its own"):
        verify_certificate(replace(make_certificate(), round=3), CHAIN, MEMBERS)
    with pytest.raises(Invalid, match="round 0, expected at least 1"):
        verify_certificate(make_certificate(round=0), CHAIN, MEMBERS)


def test_repeated_and_unsorted_signers_are_refused() -> None:
    certificate = make_certificate()
    twice = replace(certificate, signatures=[certificate.signatures[0]] * 3)
    with pytest.raises(Invalid, match="rising order"):
        verify_certificate(twice, CHAIN, MEMBERS)
    backwards = replace(certificate, signatures=certificate.signatures[::-1])
    with pytest.raises(Invalid, match="rising order"):
        verify_certificate(backwards, CHAIN, MEMBERS)


def test_strangers_and_other_sets_are_refused() -> None:
    with pytest.raises(Invalid, match="validator set"):
        verify_certificate(make_certificate(), CHAIN, MEMBERS[:3])
    stranger = SecpKeys(bytes(31) + b"\x09")
    certificate = make_certificate()
    digest = compute_digest(CHAIN, PRECOMMIT, 7, 2, hash_envelope(certificate.envelope))
    forged = sorted([*certificate.signatures, (stranger.address, stranger.sign(digest))])
    with pytest.raises(Invalid, match="expected members"):
        verify_certificate(replace(certificate, signatures=forged), CHAIN, MEMBERS)


def test_a_bad_signature_spoils_the_whole() -> None:
    certificate = make_certificate(4)
    last = certificate.signatures[-1]
    spoiled = [*certificate.signatures[:-1], (last[0], bytes(65))]
    with pytest.raises(Invalid, match="is not its own"):
        verify_certificate(replace(certificate, signatures=spoiled), CHAIN, MEMBERS)


@pytest.mark.parametrize("payloads", [[], [PAYLOAD, PAYLOAD], [PAYLOAD + b"!"]])
def test_payloads_must_be_the_envelopes(payloads: list[bytes]) -> None:
    with pytest.raises(Invalid, match="height 7"):
        verify_payloads(make_envelope(), payloads)


def test_head_and_body_hash_show_the_payload() -> None:
    head, body = PAYLOAD[:64], PAYLOAD[64:]
    assert keccak256(head + keccak256(body)) == make_envelope().payload


@given(st.binary(max_size=600))
def test_garbage_is_invalid_and_nothing_else(data: bytes) -> None:
    for decode in (decode_certificate, decode_envelope):
        with pytest.raises(Invalid):
            decode(data)


@given(st.integers(0, 445), st.integers(1, 255))
def test_a_changed_byte_never_verifies(at: int, change: int) -> None:
    data = bytearray(encode_certificate(make_certificate()))
    data[at] ^= change
    with pytest.raises(Invalid):
        verify_certificate(decode_certificate(bytes(data)), CHAIN, MEMBERS)


@given(st.integers(0, 700))
def test_a_cut_certificate_is_invalid(size: int) -> None:
    data = encode_certificate(make_certificate())
    if size != len(data):
        with pytest.raises(Invalid):
            decode_certificate((data + bytes(300))[:size])
