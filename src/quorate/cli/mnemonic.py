"""From a mnemonic to account keys: BIP-39 seed, BIP-32 derivation, BIP-44 path of Ethereum.

Sources: BIP-39 ("From mnemonic to seed"), BIP-32 ("Child key derivation"), SLIP-44 (coin 60).
The words are not checked against a word list: any sentence gives a seed, as BIP-39 says. This
serves the well-known test mnemonic of development networks; keys of deployments are random.
"""

import hashlib
import hmac
import unicodedata

from quorate._kernel import public_key
from quorate.cli.keystore import ORDER

TEST_MNEMONIC = "test test test test test test test test test test test junk"
"""The one that every Ethereum development chain uses. Its keys are public."""

HARDENED = 1 << 31
SEED_ROUNDS = 2048


def compute_seed(mnemonic: str, passphrase: str = "") -> bytes:
    """Return the 64-byte seed of a mnemonic."""
    words = unicodedata.normalize("NFKD", mnemonic)
    salt = unicodedata.normalize("NFKD", "mnemonic" + passphrase)
    return hashlib.pbkdf2_hmac("sha512", words.encode(), salt.encode(), SEED_ROUNDS)


def parse_path(path: str) -> list[int]:
    """Return the child numbers of a path such as `m/44'/60'/0'/0/0`. Raises ValueError."""
    root, *steps = path.split("/")
    if root != "m":
        raise ValueError(f"derivation path {path!r}: starts with {root!r}, expected 'm'")
    numbers = []
    for step in steps:
        digits = step.rstrip("'")
        if not (digits.isascii() and digits.isdigit()) or len(step) - len(digits) > 1:
            raise ValueError(f"derivation path {path!r}: {step!r} is not a child number")
        number = int(digits)
        if number >= HARDENED:
            raise ValueError(f"derivation path {path!r}: {number} is not below {HARDENED}")
        numbers.append(number + HARDENED if step != digits else number)
    return numbers


def derive_key(seed: bytes, path: str) -> bytes:
    """Return the 32-byte private key at `path` below the master key of `seed`."""
    node = hmac.digest(b"Bitcoin seed", seed, "sha512")
    for number in parse_path(path):
        node = derive_child(node, number)
    return node[:32]


def derive_child(node: bytes, number: int) -> bytes:
    """Return key and chain code (32 bytes each) of a child; `number` from 2**31 is hardened."""
    key, chain_code = node[:32], node[32:]
    if number >= HARDENED:
        preimage = b"\x00" + key
    else:
        point = public_key(key)
        preimage = bytes((2 + (point[63] & 1),)) + point[:32]
    tweak = hmac.digest(chain_code, preimage + number.to_bytes(4, "big"), "sha512")
    left = int.from_bytes(tweak[:32], "big")
    child = (left + int.from_bytes(key, "big")) % ORDER
    if left >= ORDER or child == 0:
        # One in 2**127: BIP-32 says to go on with the next number, which no wallet does silently.
        raise ValueError(f"child {number} has no key")
    return child.to_bytes(32, "big") + tweak[32:]


def derive_accounts(mnemonic: str, count: int) -> list[bytes]:
    """Return the private keys of the first `count` Ethereum accounts of a mnemonic."""
    seed = compute_seed(mnemonic)
    return [derive_key(seed, f"m/44'/60'/0'/0/{index}") for index in range(count)]
