"""The auditor's side: believes a genesis file, the mathematics, and no node.

The contract's code is not run: the record is read from its storage by a proof, against a state root
that two thirds of the validators have certified.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from quorate.crypto.hashes import keccak256
from quorate.light import LightClient

RECORDS_SLOT = bytes(32)
"""Where Provenance.sol keeps its mapping `records`."""


@dataclass(frozen=True)
class Record:
    company: bytes
    time: int
    role: int


def compute_slot(event_hash: bytes, content_hash: bytes) -> int:
    """Return the storage slot of a record: nested mappings, as Solidity lays them out."""
    outer = keccak256(event_hash + RECORDS_SLOT)
    return int.from_bytes(keccak256(content_hash + outer), "big")


def prove_record(
    client: LightClient, contract: bytes, event_hash: bytes, content_hash: bytes, height: int
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
