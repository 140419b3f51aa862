"""Pre-signed transactions, the same bytes for every node that is measured."""

import sys
from dataclasses import dataclass
from pathlib import Path

import rlp
from eth_account import Account

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from quorate._kernel import address, keccak256, sign  # noqa: E402

CHAIN_ID = 31337
MNEMONIC = "test test test test test test test test test test test junk"
DEV_ACCOUNTS = 10
TIP = 10**9
MAX_FEE = 100 * 10**9
TRANSFER_GAS = 21_000
TOKEN_GAS = 100_000
RECIPIENTS = 1_000


@dataclass(frozen=True)
class Key:
    secret: bytes
    address: bytes


def derive_key(label: str, index: int) -> Key:
    secret = keccak256(f"quorate benchmark {label} {index}".encode())
    return Key(secret, address(secret))


def dev_keys() -> list[Key]:
    """Return the funded accounts of every development network."""
    Account.enable_unaudited_hdwallet_features()
    keys = []
    for index in range(DEV_ACCOUNTS):
        account = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
        secret = bytes(account.key)
        keys.append(Key(secret, address(secret)))
    return keys


def sign_transaction(
    key: Key,
    nonce: int,
    to: bytes,
    value: int = 0,
    data: bytes = b"",
    gas: int = TRANSFER_GAS,
) -> bytes:
    """Return a raw EIP-1559 transaction."""
    fields = [CHAIN_ID, nonce, TIP, MAX_FEE, gas, to, value, data, []]
    digest = keccak256(b"\x02" + rlp.encode(fields))
    signature = sign(key.secret, digest)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return b"\x02" + bytes(rlp.encode([*fields, signature[64], r, s]))


def recipient(index: int) -> bytes:
    return keccak256(f"recipient {index % RECIPIENTS}".encode())[12:]


def senders_for(count: int, per_sender: int) -> list[Key]:
    return [derive_key("sender", index) for index in range(-(-count // per_sender))]


def fund(senders: list[Key], ether: int = 10) -> list[bytes]:
    """Return transfers from the development accounts to the senders, nonces from 0."""
    keys = dev_keys()
    return [
        sign_transaction(keys[i % len(keys)], i // len(keys), sender.address, ether * 10**18)
        for i, sender in enumerate(senders)
    ]


def transfers(senders: list[Key], count: int, first_nonce: int = 0) -> list[bytes]:
    """Return `count` transfers, every sender's first one first, then every sender's second..."""
    return [
        sign_transaction(
            senders[i % len(senders)], first_nonce + i // len(senders), recipient(i), 1
        )
        for i in range(count)
    ]


def token_transfers(
    token: bytes, senders: list[Key], count: int, first_nonce: int = 0
) -> list[bytes]:
    """Return `count` ERC-20 transfers in the same order."""
    return [
        sign_transaction(
            senders[i % len(senders)],
            first_nonce + i // len(senders),
            token,
            data=encode_token_transfer(recipient(i), 1),
            gas=TOKEN_GAS,
        )
        for i in range(count)
    ]


def encode_token_transfer(to: bytes, amount: int) -> bytes:
    return keccak256(b"transfer(address,uint256)")[:4] + bytes(12) + to + amount.to_bytes(32, "big")


def contract_address(creator: bytes, nonce: int) -> bytes:
    return keccak256(rlp.encode([creator, nonce]))[12:]
