"""The light client against blocks, headers and proofs that the kernel made."""

import json
from typing import Any

import pytest

from contracts.chain import Chain, address_of
from quorate._kernel import keccak256
from quorate.base.errors import Invalid
from quorate.base.types import Member
from quorate.consensus.certificate import (
    PRECOMMIT,
    Certificate,
    Envelope,
    compute_digest,
    encode_certificate,
    hash_envelope,
)
from quorate.consensus.keys import SecpKeys
from quorate.consensus.membership import hash_members
from quorate.crypto.hashes import HEAD_BYTES, hash_payload
from quorate.ledger.genesis import VALIDATORS
from quorate.light import LightClient, read_genesis

KEYS = [SecpKeys(bytes(31) + bytes((i,))) for i in (1, 2, 3, 4)]
MEMBERS = [Member(key.address, 1) for key in KEYS]


class Node:
    """Answers from a kernel's view; certifies each payload with the keys of all members."""

    def __init__(self, heights: int) -> None:
        self.chain = Chain(MEMBERS)
        self.envelopes = [self.chain.ledger.genesis_hash]
        self.certificates: list[bytes] = [b""]
        for _ in range(heights):
            self.chain.send(address_of(5), b"", value=10)
            self.certify(len(self.certificates))

    def certify(self, height: int) -> None:
        _, _, (payload,) = self.decision(height)
        sets = hash_members(MEMBERS)
        proposer = KEYS[0].address
        envelope = Envelope(
            *("tendermint", height, 0, proposer, self.envelopes[-1]),
            *(sets, sets, hash_payload(payload)),
        )
        value = hash_envelope(envelope)
        digest = compute_digest(self.chain.ledger.genesis_hash, PRECOMMIT, height, 0, value)
        signatures = sorted((key.address, key.sign(digest)) for key in KEYS)
        self.envelopes.append(value)
        self.certificates.append(encode_certificate(Certificate(envelope, 0, signatures)))

    def decision(self, height: int) -> tuple[bytes, bytes, list[bytes]]:
        found = self.chain.ledger.view().decision(height)
        assert found is not None
        return found

    def request(self, method: str, parameters: list[Any]) -> Any:
        view = self.chain.ledger.view()
        if method == "eth_getBlockByNumber":
            return json.loads(view.block_json(int(parameters[0], 16), False) or b"null")
        if method == "eth_getProof":
            account = bytes.fromhex(parameters[0][2:])
            slots = [bytes.fromhex(slot[2:]) for slot in parameters[1]]
            return json.loads(view.proof_json(int(parameters[2], 16), account, slots))
        if method == "eth_getCode":
            code = view.code(int(parameters[1], 16), bytes.fromhex(parameters[0][2:]))
            return "0x" + code.hex()
        assert method == "quorate_getCertificate"
        height = int(parameters[0], 16)
        if height >= len(self.certificates):
            return None
        _, _, (payload,) = self.decision(height)
        head, body = payload[:HEAD_BYTES], payload[HEAD_BYTES:]
        shown = {"head": "0x" + head.hex(), "bodyHash": "0x" + keccak256(body).hex()}
        return {"payloads": [shown], "raw": "0x" + self.certificates[height].hex()}


@pytest.fixture(scope="module")
def node() -> Node:
    return Node(6)


def test_genesis_file_is_enough_to_prove_balances_storage_and_code(node: Node) -> None:
    client = LightClient(read_genesis(node.chain.genesis), node.request)
    assert client.get_account(address_of(5), 5).balance == 10**22 + 50
    assert client.get_account(address_of(5), 2).balance == 10**22 + 20
    assert client.get_account(address_of(0), 5).nonce == 5
    assert client.get_account(b"\7" * 20, 5).balance == 0
    first = int.from_bytes(keccak256(bytes(32)))
    count, entry, beyond = client.get_storage(VALIDATORS, [0, first, first + 4], 4)
    assert (count, beyond) == (4, 0)
    assert (entry % 2**160).to_bytes(20, "big") in {member.address for member in MEMBERS}
    assert keccak256(client.get_code(VALIDATORS, 3)) == client.get_account(VALIDATORS, 3).code_hash


def test_headers_of_the_kernel_hash_to_what_payloads_carry(node: Node) -> None:
    client = LightClient(read_genesis(node.chain.genesis), node.request)
    view = node.chain.ledger.view()
    for height in range(6):
        assert client.get_header(height).hash == view.block_hash(height)


def test_genesis_file_with_one_more_ether_is_another_chain(node: Node) -> None:
    fields = json.loads(node.chain.genesis)
    fields["alloc"][address_of(5).hex()]["balance"] = hex(10**22 + 10**18)
    client = LightClient(read_genesis(json.dumps(fields).encode()), node.request)
    with pytest.raises(Invalid, match="signature"):
        client.get_header(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.pop("config"), "config is NoneType, expected an object"),
        (lambda fields: fields["config"].pop("quorate"), "quorate is NoneType"),
        (lambda fields: fields["config"]["quorate"].update(engine=1), "engine is 1"),
        (lambda fields: fields["config"]["quorate"].update(validators={}), "validators is {}"),
        (lambda fields: fields["config"]["quorate"].update(validators=[]), "0 members"),
        (lambda fields: fields["config"]["quorate"].update(validators=[1]), "validator 1"),
    ],
)
def test_malformed_genesis_is_one_clear_error(node: Node, change: Any, message: str) -> None:
    fields = json.loads(node.chain.genesis)
    change(fields)
    with pytest.raises(Invalid, match=message):
        read_genesis(json.dumps(fields).encode())
    with pytest.raises(Invalid, match="expected JSON"):
        read_genesis(b"{")
