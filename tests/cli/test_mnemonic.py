"""Derivation against BIP-32's and BIP-39's own vectors and against another implementation."""

import pytest

from quorate._kernel import address
from quorate.cli.mnemonic import (
    TEST_MNEMONIC,
    compute_seed,
    derive_accounts,
    derive_key,
    parse_path,
)

# Private keys out of the extended keys of BIP-32, test vector 1 and 2.
VECTOR_1 = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
BIP32 = [
    ("m", "e8f32e723decf4051aefac8e2c93c9c5b214313817cdb01a1494b917c8436b35"),
    ("m/0'", "edb2e14f9ee77d26dd93b4ecede8d16ed408ce149b6cd80b0715a2d911a0afea"),
    ("m/0'/1", "3c6cb8d0f6a264c91ea8b5030fadaa8e538b020f0a387421a12de9319dc93368"),
    ("m/0'/1/2'", "cbce0d719ecf7431d88e6a89fa1483e02e35092af60c042b1df2ff59fa424dca"),
    ("m/0'/1/2'/2", "0f479245fb19a38a1954c5c7c0ebab2f9bdfd96a17563ef28a6a4b1a2a764ef4"),
]


@pytest.mark.parametrize(("path", "key"), BIP32)
def test_derives_the_keys_of_bip32(path: str, key: str) -> None:
    assert derive_key(VECTOR_1, path).hex() == key


def test_seed_of_bip39_vector() -> None:
    seed = compute_seed("abandon " * 11 + "about", "TREZOR")
    assert seed.hex() == (
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e5349553"
        "1f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04"
    )


def test_first_test_account_is_the_well_known_one() -> None:
    first = derive_accounts(TEST_MNEMONIC, 1)[0]
    assert address(first).hex() == "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"


def test_ten_accounts_are_those_of_other_implementation() -> None:
    account = pytest.importorskip("eth_account").Account
    account.enable_unaudited_hdwallet_features()
    theirs = [
        bytes(account.from_mnemonic(TEST_MNEMONIC, account_path=f"m/44'/60'/0'/0/{i}").key)
        for i in range(10)
    ]
    assert derive_accounts(TEST_MNEMONIC, 10) == theirs


@pytest.mark.parametrize("path", ["", "44'", "m/x", "m/1''", "m/-1", "m/2147483648", "m//1"])
def test_parse_path_refuses_malformed_path(path: str) -> None:
    with pytest.raises(ValueError, match="derivation path"):
        parse_path(path)
