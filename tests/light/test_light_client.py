"""A light client believes a node exactly as far as certificates and proofs go."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from light.chain import ACCOUNT, CHAIN, SLOT, Chain, key_at, members_of, to_hex
from quorate.base.errors import Invalid, Unavailable
from quorate.consensus.certificate import PREVOTE, encode_certificate
from quorate.consensus.membership import hash_members
from quorate.crypto.hashes import keccak256
from quorate.light import Anchor, LightClient
from quorate.light.proofs import EMPTY_ACCOUNT


def client_of(chain: Chain, **options: Any) -> LightClient:
    return LightClient(chain.anchor(), chain.request, **options)


def lie(chain: Chain, method: str, change: Callable[[Any], Any]) -> LightClient:
    """Return a client of a node that changes its answers to one method."""

    def request(asked: str, parameters: list[Any]) -> Any:
        answer = chain.request(asked, parameters)
        return change(answer) if asked == method else answer

    return LightClient(chain.anchor(), request)


def replace_certificate(chain: Chain, height: int, certificate: Any) -> LightClient:
    def change(answer: Any) -> Any:
        if int.from_bytes(bytes.fromhex(answer["raw"][2:])[17:25], "big") != height:
            return answer
        return answer | {"raw": to_hex(encode_certificate(certificate))}

    return lie(chain, "quorate_getCertificate", change)


# ---- what is proved


def test_proves_header_account_and_slot_of_a_far_height_with_one_certificate() -> None:
    chain = Chain(40)
    client = client_of(chain)
    header = client.get_header(30)
    assert (header.number, to_hex(header.state_root)) == (30, chain.headers[30]["stateRoot"])
    assert client.get_account(ACCOUNT, 30).balance == 30
    assert client.get_storage(ACCOUNT, [SLOT], 30) == [1030]
    certificates = [asked for asked in chain.asked if asked[0] == "quorate_getCertificate"]
    assert certificates == [("quorate_getCertificate", hex(31))]


def test_head_is_the_block_before_the_newest_certificate() -> None:
    assert client_of(Chain(9)).get_head().number == 8


def test_block_without_a_later_certificate_is_not_proved() -> None:
    with pytest.raises(Unavailable, match="height 10 is not certified yet"):
        client_of(Chain(9)).get_header(9)


def test_earlier_height_is_proved_after_a_later_one() -> None:
    client = client_of(Chain(20))
    assert client.get_header(15).number == 15
    assert client.get_header(3).number == 3


def test_absent_account_and_absent_slot_are_shown_by_their_proofs() -> None:
    client = client_of(Chain(5))
    assert client.get_account(bytes(20), 3) == EMPTY_ACCOUNT
    assert client.get_storage(ACCOUNT, [8, SLOT], 3) == [0, 1003]


def test_code_must_be_the_accounts_own() -> None:
    chain = Chain(5)
    assert client_of(chain).get_code(ACCOUNT, 2) == b"code"
    with pytest.raises(Invalid, match="code: hash"):
        lie(chain, "eth_getCode", lambda _: "0x6000").get_code(ACCOUNT, 2)


# ---- forged certificates


def test_certificate_with_a_forged_signature_is_refused() -> None:
    chain = Chain(5)
    good = chain.certificate(4)
    (address, signature), *rest = good.signatures
    broken = bytes((signature[0] ^ 1,)) + signature[1:]
    forged = msgspec.structs.replace(good, signatures=[(address, broken), *rest])
    with pytest.raises(Invalid, match="signature"):
        replace_certificate(chain, 4, forged).get_header(3)


def test_certificate_of_strangers_is_refused() -> None:
    chain = Chain(5)
    envelope = chain.certificate(4).envelope
    strangers = (10, 11, 12, 13)
    forged = chain.sign(envelope, strangers)
    with pytest.raises(Invalid, match="signer"):
        replace_certificate(chain, 4, forged).get_header(3)
    own = msgspec.structs.replace(envelope, members=hash_members(members_of(*strangers)))
    client = replace_certificate(chain, 4, chain.sign(own, strangers))
    # No trusted member signed, so the client walks to it and finds another set named before.
    with pytest.raises(Invalid, match="certificate of height 4: validator set"):
        client.get_header(3)


def test_certificate_with_too_little_power_is_refused() -> None:
    chain = Chain(5)
    forged = chain.sign(chain.certificate(4).envelope, (0, 1))
    with pytest.raises(Invalid, match="power 2 of 4, expected at least 3"):
        replace_certificate(chain, 4, forged).get_header(3)


def test_certificate_that_counts_one_member_twice_is_refused() -> None:
    chain = Chain(5)
    forged = chain.sign(chain.certificate(4).envelope, (0, 1, 1))
    with pytest.raises(Invalid, match="rising order"):
        replace_certificate(chain, 4, forged).get_header(3)


def test_prevotes_prove_nothing() -> None:
    chain = Chain(5)
    forged = chain.sign(chain.certificate(4).envelope, kind=PREVOTE)
    with pytest.raises(Invalid, match="signature"):
        replace_certificate(chain, 4, forged).get_header(3)


def test_certificate_of_another_chain_is_refused() -> None:
    chain = Chain(5)
    forged = chain.sign(chain.certificate(4).envelope, chain=keccak256(b"another genesis"))
    with pytest.raises(Invalid, match="signature"):
        replace_certificate(chain, 4, forged).get_header(3)
    other = Anchor(keccak256(b"another genesis"), "tendermint", 0, chain.members(1))
    with pytest.raises(Invalid, match="signature"):
        LightClient(other, chain.request).get_header(3)


def test_certificate_of_another_height_is_refused() -> None:
    chain = Chain(9)
    with pytest.raises(Invalid, match="height 7 by tendermint, expected 4 by tendermint"):
        replace_certificate(chain, 4, chain.certificate(7)).get_header(3)


def test_certificate_moved_to_another_height_is_refused() -> None:
    chain = Chain(9)
    later = chain.certificate(7)
    envelope = msgspec.structs.replace(later.envelope, height=4)
    moved = msgspec.structs.replace(later, envelope=envelope)

    def change(_: Any) -> Any:
        return chain.show(7) | {"raw": to_hex(encode_certificate(moved))}  # type: ignore[operator]

    with pytest.raises(Invalid, match="signature"):
        lie(chain, "quorate_getCertificate", change).get_header(3)


def test_certificate_of_another_engine_is_refused() -> None:
    chain = Chain(5)
    envelope = msgspec.structs.replace(chain.certificate(4).envelope, engine="pbft")
    with pytest.raises(Invalid, match="by pbft, expected 4 by tendermint"):
        replace_certificate(chain, 4, chain.sign(envelope)).get_header(3)


def test_payload_head_must_be_the_envelopes() -> None:
    chain = Chain(5)

    def change(answer: Any) -> Any:
        other = chain.show(3)
        assert other is not None
        return answer | {"payloads": other["payloads"]}

    with pytest.raises(Invalid, match="payload of height 4: hash"):
        lie(chain, "quorate_getCertificate", change).get_header(3)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "0x",
        lambda answer: answer | {"raw": "0x00"},
        lambda answer: answer | {"raw": answer["raw"] + "00"},
        lambda answer: answer | {"raw": answer["raw"][:-2]},
        lambda answer: answer | {"raw": None},
        lambda answer: answer | {"raw": "0x" + "zz" * 300},
        lambda answer: answer | {"payloads": []},
        lambda answer: answer | {"payloads": answer["payloads"] * 2},
        lambda answer: answer | {"payloads": [{"head": "0x", "bodyHash": "0x"}]},
        lambda answer: [answer],
    ],
)
def test_malformed_certificate_is_one_clear_error(change: Callable[[Any], Any]) -> None:
    with pytest.raises(Invalid) as caught:
        lie(Chain(5), "quorate_getCertificate", change).get_header(3)
    assert "\n" not in str(caught.value)


def test_every_byte_of_a_certificate_and_its_payload_head_counts() -> None:
    chain = Chain(5)
    # Exactly a quorum, so that no signature is superfluous.
    chain.certificates[3] = chain.sign(chain.certificate(4).envelope, (0, 1, 2))
    honest = chain.show(4)
    assert honest is not None
    assert client_of(chain).get_header(3).number == 3
    payload = honest["payloads"][0]

    def refuse(answer: dict[str, Any]) -> None:
        with pytest.raises(Invalid):
            lie(chain, "quorate_getCertificate", lambda _: answer).get_header(3)

    for raw in flip_each_byte(honest["raw"]):
        refuse(honest | {"raw": raw})
    for name in ("head", "bodyHash"):
        for changed in flip_each_byte(payload[name]):
            refuse(honest | {"payloads": [payload | {name: changed}]})


def flip_each_byte(text: str) -> Iterator[str]:
    data = bytes.fromhex(text[2:])
    for at in range(len(data)):
        yield to_hex(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])


# ---- forged headers and proofs


def test_every_byte_of_a_proof_counts() -> None:
    chain = Chain(5)
    honest = chain.prove(3, ["0x" + SLOT.to_bytes(32, "big").hex()])
    entry = honest["storageProof"][0]
    answers = [
        honest | {"accountProof": [node]} for node in flip_each_byte(*honest["accountProof"])
    ]
    answers += [
        honest | {"storageProof": [entry | {"proof": [node]}]}
        for node in flip_each_byte(*entry["proof"])
    ]
    for answer in answers:
        with pytest.raises(Invalid):
            lie(chain, "eth_getProof", lambda _, a=answer: a).get_storage(ACCOUNT, [SLOT], 3)


def test_header_that_is_not_the_certified_one_is_refused() -> None:
    chain = Chain(5)
    for name, value in [
        ("stateRoot", to_hex(bytes(32))),
        ("gasUsed", "0x1"),
        ("extraData", "0x01"),
    ]:
        client = lie(chain, "eth_getBlockByNumber", lambda a, n=name, v=value: a | {n: v})
        with pytest.raises(Invalid, match="header 3: hash"):
            client.get_header(3)


def test_header_of_another_height_is_refused() -> None:
    chain = Chain(5)
    with pytest.raises(Invalid, match="header 3: hash"):
        lie(chain, "eth_getBlockByNumber", lambda _: chain.headers[2]).get_header(3)


def test_proof_from_another_height_is_refused() -> None:
    chain = Chain(5)
    with pytest.raises(Invalid):
        lie(chain, "eth_getProof", lambda _: chain.prove(2, [])).get_account(ACCOUNT, 3)


def test_tampered_or_withheld_proof_is_refused() -> None:
    chain = Chain(5)

    def tamper(answer: Any) -> Any:
        proof = answer["storageProof"][0]["proof"][0]
        changed = proof[:-1] + ("0" if proof[-1] != "0" else "1")
        return answer | {"storageProof": [answer["storageProof"][0] | {"proof": [changed]}]}

    def withhold(answer: Any) -> Any:
        return answer | {"storageProof": [answer["storageProof"][0] | {"proof": []}]}

    for change in (tamper, withhold, lambda answer: answer | {"storageProof": []}):
        with pytest.raises(Invalid):
            lie(chain, "eth_getProof", change).get_storage(ACCOUNT, [SLOT], 3)


def test_values_stated_beside_a_proof_are_not_believed() -> None:
    def change(answer: Any) -> Any:
        entry = answer["storageProof"][0] | {"value": "0x1"}
        return answer | {"balance": "0xffff", "storageProof": [entry]}

    client = lie(Chain(5), "eth_getProof", change)
    account, values = client.get_proof(ACCOUNT, [SLOT], 3)
    assert (account.balance, values) == (3, [1003])


# ---- validator sets that change

FIRST, SECOND, THIRD = (0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7)


def changing() -> Chain:
    """Sets that overlap by half from one to the next, and not at all over two."""
    return Chain(60, [FIRST] * 20 + [SECOND] * 20 + [THIRD] * 25)


def test_follows_sets_that_overlap_without_visiting_every_height() -> None:
    chain = changing()
    assert client_of(chain).get_header(55).number == 55
    heights = [height for method, height in chain.asked if method == "quorate_getCertificate"]
    assert heights[0] == hex(56)
    assert 2 <= len(set(heights)) < 12


def test_follows_a_complete_replacement_height_by_height() -> None:
    chain = Chain(20, [FIRST] * 11 + [(10, 11, 12)] * 15)
    assert client_of(chain).get_header(15).number == 15
    heights = {height for method, height in chain.asked if method == "quorate_getCertificate"}
    # The last height of the first set names the second one, and nothing else can.
    assert hex(10) in heights


def test_set_that_is_not_the_one_named_is_refused() -> None:
    def change(_: Any) -> Any:
        return [{"address": to_hex(key_at(9).address), "power": "0x1"}]

    with pytest.raises(Invalid, match="validators of height"):
        lie(changing(), "quorate_getValidators", change).get_header(55)


def test_powers_that_are_not_the_ones_named_are_refused() -> None:
    def change(answer: Any) -> Any:
        return [entry | {"power": "0x64"} for entry in answer]

    with pytest.raises(Invalid, match="validators of height"):
        lie(changing(), "quorate_getValidators", change).get_header(55)


def test_old_set_cannot_certify_after_it_was_replaced() -> None:
    chain = Chain(20, [FIRST] * 11 + [(0, 10, 11, 12)] * 15)
    old = hash_members(members_of(*FIRST))
    envelope = msgspec.structs.replace(chain.certificate(13).envelope, members=old)
    client = replace_certificate(chain, 13, chain.sign(envelope, FIRST))
    client.get_header(11)
    with pytest.raises(Invalid, match="certificate of height 13: validator set"):
        client.get_header(12)


def test_third_of_trusted_power_is_needed_to_jump() -> None:
    # One of four members stays: a quarter is not more than a third, so the client must walk.
    chain = Chain(20, [FIRST] * 11 + [(0, 10, 11, 12)] * 15)
    client_of(chain).get_header(15)
    heights = [height for method, height in chain.asked if method == "quorate_getCertificate"]
    assert hex(10) in heights
    # Two of four stay: a jump suffices.
    chain = Chain(20, [FIRST] * 11 + [(0, 1, 11, 12)] * 15)
    client_of(chain).get_header(15)
    heights = [height for method, height in chain.asked if method == "quorate_getCertificate"]
    assert heights == [hex(16)]


# ---- time and anchors


def test_trust_ends_with_the_trusting_period() -> None:
    chain = Chain(20)
    now_ms = 6_000
    client = client_of(chain, clock=lambda: now_ms, trusting_period_ms=10_000)
    client.get_header(5)
    now_ms = 16_500
    with pytest.raises(Unavailable, match="trusted height 6 is 10 s old"):
        client.get_header(8)


def test_later_anchor_proves_later_heights_only() -> None:
    chain = changing()
    anchor = Anchor(CHAIN, "tendermint", 50, chain.members(51))
    client = LightClient(anchor, chain.request)
    assert client.get_header(55).number == 55
    with pytest.raises(Unavailable, match="before the trusted height 50"):
        client.get_header(49)


def test_many_heights_stay_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.light.client.MAX_REMEMBERED", 4)
    client = client_of(changing())
    for height in (55, 3, 50, 25, 10, 45, 31, 7):
        assert client.get_header(height).number == height
    assert len(client._trusted) <= 4
    assert 0 in client._trusted
