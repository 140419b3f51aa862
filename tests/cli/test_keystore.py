"""Keystores against published vectors and against another implementation, both ways."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from quorate._kernel import address
from quorate.base.errors import Corrupt, Invalid
from quorate.cli import keystore

# The PBKDF2 vector of the Web3 Secret Storage Definition, password "testpassword". Its scrypt
# vector (n=262144, r=1) breaks the bound of RFC 7914, so that one comes from eth-account.
SECRET = bytes.fromhex("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d")
PBKDF2_VECTOR: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
SCRYPT_VECTOR: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "2a95878d676d645f7f037e98414d77d2"},
        "ciphertext": "7fa0639742b18d5a7acaac3b6df1637fdfe9c6cd38d398d019c2a398cc5b88e4",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 1024,
            "p": 1,
            "r": 8,
            "salt": "5442befa6305ca3e65b0b9886b32341b",
        },
        "mac": "06aca856f63c74c7a704b9272c4e1d3479985f366ee8bcdc6b0c8f9dace088b6",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make key derivation fast: its strength is not what these tests are about."""
    monkeypatch.setattr(keystore, "SCRYPT_N", 1 << 10)
    monkeypatch.setattr(keystore, "PBKDF2_ROUNDS", 1000)


def alter(store: dict[str, Any], *path: str, to: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(store))
    target = copy
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = to
    return copy


@pytest.mark.parametrize("vector", [PBKDF2_VECTOR, SCRYPT_VECTOR], ids=["pbkdf2", "scrypt"])
def test_decrypts_vector_of_others(vector: dict[str, Any]) -> None:
    assert keystore.decrypt(vector, "testpassword") == SECRET


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
@pytest.mark.usefixtures("cheap")
def test_other_implementation_reads_ours(kdf: str) -> None:
    account = pytest.importorskip("eth_account").Account
    secret = keystore.generate_secret()
    assert bytes(account.decrypt(keystore.encrypt(secret, "päss", kdf=kdf), "päss")) == secret


def test_reads_what_other_implementation_writes() -> None:
    account = pytest.importorskip("eth_account").Account
    secret = keystore.generate_secret()
    written = account.encrypt(secret, "päss", kdf="pbkdf2", iterations=1000)
    assert keystore.decrypt(written, "päss") == secret


@pytest.mark.usefixtures("cheap")
def test_wrong_password_is_invalid() -> None:
    store = keystore.encrypt(SECRET, "right")
    with pytest.raises(Invalid, match="wrong password"):
        keystore.decrypt(store, "wrong")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("version",), 1, "version 1, expected 3"),
        (("crypto", "cipher"), "aes-256-gcm", "cipher aes-256-gcm, expected aes-128-ctr"),
        (("crypto", "kdf"), "md5", "kdf 'md5', expected scrypt or pbkdf2"),
        (("crypto", "kdfparams", "n"), 1 << 40, "out of bounds"),
        (("crypto", "kdfparams", "n"), 1023, "out of bounds"),
        (("crypto", "kdfparams", "r"), 0, "out of bounds"),
        (("crypto", "kdfparams", "dklen"), 16, "derived key of 16 bytes, expected 32 to 64"),
        (("crypto", "kdfparams", "salt"), "zz", "not a version 3 keystore"),
        (("crypto", "ciphertext"), "00", "16 bytes of iv and 1 of ciphertext"),
        (("crypto", "cipherparams"), [], "not a version 3 keystore"),
        (("crypto",), None, "not a version 3 keystore"),
        (("address",), "00" * 20, "says 0000000000000000000000000000000000000000"),
    ],
)
def test_damaged_keystore_is_corrupt(path: tuple[str, ...], value: Any, message: str) -> None:
    with pytest.raises(Corrupt, match=message):
        keystore.decrypt(alter(SCRYPT_VECTOR, *path, to=value), "testpassword")


def test_key_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    keystore.write_key(path, SECRET, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keystore.unlock(keystore.read_store(path), None) == SECRET
    assert list(tmp_path.iterdir()) == [path]


def test_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    keystore.write_key(path, SECRET, None)
    with pytest.raises(FileExistsError):
        keystore.write_key(path, keystore.generate_secret(), None)
    assert keystore.unlock(keystore.read_store(path), None) == SECRET
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["", "not json", "[1]", "x" * (keystore.MAX_FILE_BYTES + 1)])
def test_file_that_is_no_key_is_corrupt(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(Corrupt, match=r"key\.json"):
        keystore.read_store(path)


@pytest.mark.parametrize("text", ["", "0x", "12", "zz" * 32, "00" * 32, "ff" * 32, "11" * 33])
def test_parse_secret_refuses_what_is_no_key(text: str) -> None:
    with pytest.raises(Invalid, match="private key"):
        keystore.parse_secret(text)


@pytest.mark.usefixtures("cheap")
def test_address_is_read_without_the_password() -> None:
    store = keystore.encrypt(SECRET, "x")
    assert keystore.read_address(store) == address(SECRET)
