"""Accounts and storage under a proven state root, as `eth_getProof` shows them (EIP-1186).

The root is trusted, the answer is not: only what the Merkle proofs show is returned. Absence is
shown by proofs too, so an empty account and a zero slot are as certain as full ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from quorate._kernel import verify_proof
from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash
from quorate.crypto.hashes import keccak256
from quorate.light.answers import read_bytes, read_list, read_object
from quorate.light.rlp import decode_list

__all__ = ["Account", "verify_account", "verify_answer", "verify_code", "verify_slot"]

EMPTY_ROOT = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
"""keccak256(rlp("")), the root of a trie without entries."""
EMPTY_CODE = keccak256(b"")
MAX_PROOF_NODES = 65
"""A key of 32 bytes has 64 nibbles: at most a node for each, and the leaf."""


class Account(Struct, frozen=True, gc=False):
    nonce: int
    balance: int
    storage_root: Hash
    code_hash: Hash


EMPTY_ACCOUNT = Account(0, 0, EMPTY_ROOT, EMPTY_CODE)


def verify_account(root: Hash, address: Address, proof: list[bytes]) -> Account:
    """Return the account under a state root; the empty account where absence is shown."""
    value = verify_proof(root, address, proof)
    if value is None:
        return EMPTY_ACCOUNT
    what = f"account 0x{address.hex()}"
    items = decode_list(value, what)
    if [len(item) for item in items[2:]] != [32, 32]:
        raise Invalid(f"{what}: {len(items)} fields, expected nonce, balance and two hashes")
    return Account(_read_integer(items[0], what), _read_integer(items[1], what), items[2], items[3])


def verify_slot(root: Hash, slot: Hash, proof: list[bytes]) -> int:
    """Return the value of a 32-byte slot under an account's storage root, 0 where it is absent."""
    if root == EMPTY_ROOT:
        return 0
    value = verify_proof(root, slot, proof)
    if value is None:
        return 0
    # The trie holds the RLP of the integer; a list of it alone would be one byte longer.
    what = f"slot 0x{slot.hex()}"
    return _read_integer(decode_list(_as_list(value), what)[0], what)


def _as_list(encoded: bytes) -> bytes:
    """Return the list that holds one encoded string; a storage value has at most 33 bytes."""
    if not 1 <= len(encoded) <= 33:
        raise Invalid(f"storage value: {len(encoded)} bytes, expected 1..33")
    return bytes((0xC0 + len(encoded),)) + encoded


def _read_integer(item: bytes, what: str) -> int:
    if len(item) > 32 or item[:1] == b"\0":
        raise Invalid(f"{what}: integer 0x{item.hex()}, expected at most 32 bytes, no leading zero")
    return int.from_bytes(item, "big")


def verify_code(account: Account, code: bytes) -> bytes:
    """Return the code if it is the account's. Raises Invalid."""
    found = keccak256(code)
    if found != account.code_hash:
        raise Invalid(f"code: hash 0x{found.hex()}, expected 0x{account.code_hash.hex()}")
    return code


def verify_answer(
    root: Hash, address: Address, slots: Sequence[Hash], answer: Mapping[str, Any]
) -> tuple[Account, list[int]]:
    """Return the account and its slots, in the order asked, as an `eth_getProof` answer proves.

    The values that the answer states beside its proofs are not looked at. Raises Invalid.
    """
    account = verify_account(root, address, _read_nodes(answer, "accountProof"))
    entries = read_list(answer, "storageProof", len(slots))
    if len(entries) != len(slots):
        raise Invalid(f"storageProof: {len(entries)} entries, expected {len(slots)}")
    values = []
    for slot, entry in zip(slots, entries, strict=True):
        nodes = _read_nodes(read_object(entry, "storageProof"), "proof")
        values.append(verify_slot(account.storage_root, slot, nodes))
    return account, values


def _read_nodes(fields: Mapping[str, Any], name: str) -> list[bytes]:
    return [read_bytes(node, name) for node in read_list(fields, name, MAX_PROOF_NODES)]
