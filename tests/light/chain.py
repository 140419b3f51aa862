"""Certificates with real signatures, and a node that answers from them, honestly or not."""

from collections.abc import Sequence
from typing import Any

from quorate.base.errors import Unavailable
from quorate.base.types import Hash, Height, Member
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
from quorate.crypto.hashes import keccak256
from quorate.ledger.payload import compose
from quorate.light import Anchor
from quorate.light.headers import read_header
from quorate.light.rlp import encode_int, encode_list

CHAIN = keccak256(b"genesis")
ACCOUNT = bytes.fromhex("00000000000000000000000000000000000000aa")
SLOT = 7
BODY_HASH = keccak256(b"\xc0")


def key_at(index: int) -> SecpKeys:
    return SecpKeys((index + 1).to_bytes(32, "big"))


def members_of(*indices: int) -> list[Member]:
    """Return a set of these keys, each with power 1."""
    return [Member(key_at(index).address, 1) for index in indices]


def to_hex(data: bytes) -> str:
    return "0x" + data.hex()


def encode_leaf(key: bytes, value: bytes) -> bytes:
    """Return the only node of a trie with one entry: an even path of 64 nibbles, then the value."""
    return encode_list([b"\x20" + keccak256(key), value])


class Chain:
    """Heights 1 to `top`; `sets[h]` are the indices of the keys that agree on height h.

    The state of every block holds one account with one storage slot, whose value is the height
    plus 1000.
    """

    def __init__(self, top: Height, sets: Sequence[Sequence[int]] | None = None) -> None:
        self.top = top
        self.sets = [tuple(s) for s in sets] if sets else [(0, 1, 2, 3)] * (top + 2)
        self.headers: list[dict[str, str]] = []
        self.certificates: list[Certificate] = []
        self.heads: list[bytes] = []
        self.asked: list[tuple[str, Any]] = []
        parent_block, parent_envelope = CHAIN, CHAIN
        for height in range(top + 1):
            if height == 0:
                self.headers.append({})
                self.heads.append(b"")
                continue
            head = compose(parent_block, 1000 * height, key_at(0).address, b"")
            self.heads.append(head)
            envelope = Envelope(
                "tendermint",
                height,
                0,
                key_at(0).address,
                parent_envelope,
                hash_members(self.members(height)),
                hash_members(self.members(height + 1)),
                keccak256(head + BODY_HASH),
            )
            self.certificates.append(self.sign(envelope))
            self.headers.append(self.make_header(height, parent_block))
            parent_block = read_header(self.headers[height]).hash
            parent_envelope = hash_envelope(envelope)

    def members(self, height: Height) -> list[Member]:
        return members_of(*self.sets[height])

    def anchor(self) -> Anchor:
        return Anchor(CHAIN, "tendermint", 0, self.members(1))

    def sign(
        self,
        envelope: Envelope,
        signers: Sequence[int] | None = None,
        *,
        chain: Hash = CHAIN,
        kind: int = PRECOMMIT,
    ) -> Certificate:
        """Return the certificate that these keys (by default the whole set) sign, in round 0."""
        value = hash_envelope(envelope)
        digest = compute_digest(chain, kind, envelope.height, 0, value)
        keys = [key_at(i) for i in (self.sets[envelope.height] if signers is None else signers)]
        signatures = sorted((key.address, key.sign(digest)) for key in keys)
        return Certificate(envelope, 0, signatures)

    def certificate(self, height: Height) -> Certificate:
        return self.certificates[height - 1]

    def account_rlp(self, height: Height) -> bytes:
        leaf = encode_leaf(SLOT.to_bytes(32, "big"), self.slot_rlp(height))
        return encode_list([b"\x05", encode_int(height), keccak256(leaf), keccak256(b"code")])

    def slot_rlp(self, height: Height) -> bytes:
        return bytes((0x82,)) + encode_int(height + 1000)

    def make_header(self, height: Height, parent: Hash) -> dict[str, str]:
        root = keccak256(encode_leaf(ACCOUNT, self.account_rlp(height)))
        zeros = {"sha3Uncles": 32, "transactionsRoot": 32, "receiptsRoot": 32, "logsBloom": 256}
        zeros |= {"mixHash": 32, "nonce": 8, "withdrawalsRoot": 32, "requestsHash": 32}
        zeros |= {"parentBeaconBlockRoot": 32, "miner": 20}
        fields = {name: to_hex(bytes(length)) for name, length in zeros.items()}
        quantities = ("difficulty", "gasUsed", "blobGasUsed", "excessBlobGas", "baseFeePerGas")
        fields |= dict.fromkeys(quantities, "0x0")
        return fields | {
            "parentHash": to_hex(parent),
            "stateRoot": to_hex(root),
            "number": hex(height),
            "gasLimit": hex(30_000_000),
            "timestamp": hex(height),
            "extraData": "0x",
        }

    # ---- the node

    def request(self, method: str, parameters: list[Any]) -> Any:
        """Answer as an honest node does."""
        self.asked.append((method, parameters[0] if parameters else None))
        answer = {
            "eth_blockNumber": lambda: hex(self.top),
            "eth_getBlockByNumber": lambda: self.headers[int(parameters[0], 16)],
            "eth_getProof": lambda: self.prove(int(parameters[2], 16), parameters[1]),
            "eth_getCode": lambda: to_hex(b"code"),
            "quorate_getCertificate": lambda: self.show(int(parameters[0], 16)),
            "quorate_getValidators": lambda: self.show_members(int(parameters[0], 16)),
        }[method]
        return answer()

    def show(self, height: Height) -> dict[str, Any] | None:
        if height > self.top:
            return None
        payload = {"head": to_hex(self.heads[height]), "bodyHash": to_hex(BODY_HASH)}
        raw = to_hex(encode_certificate(self.certificate(height)))
        return {"raw": raw, "payloads": [payload]}

    def show_members(self, height: Height) -> list[dict[str, str]]:
        if height > self.top:
            raise Unavailable(f"height {height}: header not found")
        return [{"address": to_hex(m.address), "power": hex(m.power)} for m in self.members(height)]

    def prove(self, height: Height, slots: list[str]) -> dict[str, Any]:
        leaf = encode_leaf(SLOT.to_bytes(32, "big"), self.slot_rlp(height))
        return {
            "accountProof": [to_hex(encode_leaf(ACCOUNT, self.account_rlp(height)))],
            "storageProof": [{"key": slot, "proof": [to_hex(leaf)]} for slot in slots],
        }
