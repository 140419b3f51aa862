"""The auditor's side: believes a genesis file, the mathematics, and no node.

The contract's code is not run: the record is read from its storage by a proof, against a state root
that two thirds of the validators have certified, or that work lies over. Where members of a network
only trust each other (Raft), no signature convinces a stranger: there the state root is what one
node says, which the auditor then has to run.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from quorate.base.errors import Unavailable
from quorate.consensus import ENGINES
from quorate.crypto.hashes import keccak256
from quorate.light import Header, make_light_client, read_genesis
from quorate.light.headers import verify_header
from quorate.light.proofs import verify_answer

RECORDS_SLOT = bytes(32)
"""Where Provenance.sol keeps its mapping `records`."""


@dataclass(frozen=True)
class Record:
    company: bytes
    time: int
    role: int


class Client(Protocol):
    """What proves headers and storage: a light client, or a node of the auditor's own."""

    def get_header(self, height: int) -> Header: ...

    def get_storage(self, address: bytes, slots: Sequence[int], height: int) -> list[int]: ...


class OwnNode:
    """Believes the headers of one node, and nothing that does not follow from them."""

    def __init__(self, request: Any) -> None:
        self.request = request

    def get_header(self, height: int) -> Header:
        answer = self.request("eth_getBlockByNumber", [hex(height), False])
        if answer is None:
            raise Unavailable(f"block {height} is not there yet")
        return verify_header(answer, height, bytes.fromhex(answer["hash"][2:]))

    def get_storage(self, address: bytes, slots: Sequence[int], height: int) -> list[int]:
        keys = [slot.to_bytes(32, "big") for slot in slots]
        parameters = ["0x" + address.hex(), ["0x" + key.hex() for key in keys], hex(height)]
        answer = self.request("eth_getProof", parameters)
        return verify_answer(self.get_header(height).state_root, address, keys, answer)[1]


def needs_own_node(genesis: bytes) -> bool:
    """Whether members of the network trust each other, so that nothing convinces a stranger."""
    engine = ENGINES[json.loads(genesis)["config"]["quorate"]["engine"]]
    return not (engine.proves or engine.open)


def make_client(genesis: bytes, request: Any) -> Client:
    """Return what the auditor can check the most with."""
    if needs_own_node(genesis):
        return OwnNode(request)
    return make_light_client(read_genesis(genesis), request)


def compute_slot(event_hash: bytes, content_hash: bytes) -> int:
    """Return the storage slot of a record: nested mappings, as Solidity lays them out."""
    outer = keccak256(event_hash + RECORDS_SLOT)
    return int.from_bytes(keccak256(content_hash + outer), "big")


def prove_record(
    client: Client, contract: bytes, event_hash: bytes, content_hash: bytes, height: int
) -> Record | None:
    """Return who recorded this document of this event up to a height; None: provably nobody."""
    slot = compute_slot(event_hash, content_hash)
    (word,) = client.get_storage(contract, [slot], height)
    if word == 0:
        return None
    company = (word & ((1 << 160) - 1)).to_bytes(20, "big")
    return Record(company, (word >> 160) & ((1 << 64) - 1), word >> 224)


class Liar(ABC):
    """A node that changes one kind of answer, to show that the auditor notices."""

    def __init__(self, request: Any, method: str) -> None:
        self.request = request
        self.method = method

    def __call__(self, method: str, parameters: list[Any]) -> Any:
        answer = self.request(method, parameters)
        return self.change(answer) if method == self.method else answer

    @abstractmethod
    def change(self, answer: Any) -> Any:
        """Return the lie that is told instead of an answer."""


class ProofForger(Liar):
    """Claims another company: rewrites the last byte of the leaf that holds the record."""

    def __init__(self, request: Any) -> None:
        super().__init__(request, "eth_getProof")

    def change(self, answer: Any) -> Any:
        entry = dict(answer["storageProof"][0])
        *nodes, leaf = entry["proof"]
        changed = bytearray.fromhex(leaf[2:])
        changed[-1] ^= 1
        entry["proof"] = [*nodes, "0x" + changed.hex()]
        return dict(answer) | {"storageProof": [entry]}


class CertificateForger(Liar):
    """Invents another past: changes the block hash in the payload head that is shown."""

    def __init__(self, request: Any) -> None:
        super().__init__(request, "quorate_getCertificate")

    def change(self, answer: Any) -> Any:
        if answer is None:
            return None
        payload = dict(answer["payloads"][0])
        head = bytearray.fromhex(payload["head"][2:])
        head[-1] ^= 1
        payload["head"] = "0x" + head.hex()
        # The envelope must then name the changed payload, and with it all signatures are of
        # something else.
        raw = bytearray.fromhex(answer["raw"][2:])
        body_hash = bytes.fromhex(payload["bodyHash"][2:])
        raw[1 + 148 : 1 + 180] = keccak256(bytes(head) + body_hash)
        return dict(answer) | {"payloads": [payload], "raw": "0x" + raw.hex()}
