"""Private keys in files: the Web3 Secret Storage Definition, version 3, or plain for development.

Source: the "Web3 Secret Storage" page of ethereum.org; key derivation by scrypt or PBKDF2-SHA256,
AES-128-CTR, and a MAC of keccak256(second half of the derived key || ciphertext). A plain file is
`{"address": "..", "private_key": "0x.."}`; only `quorate up` writes one, for a network whose keys
protect nothing.

Everything here is for one key at a time and takes a noticeable part of a second on purpose: that is
what makes guessing passwords slow.
"""

import hashlib
import hmac
import json
import os
import secrets
import uuid
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from quorate._kernel import address, keccak256
from quorate.base.errors import Corrupt, Invalid
from quorate.base.types import Address

SCRYPT_N = 1 << 18
SCRYPT_R = 8
SCRYPT_P = 1
PBKDF2_ROUNDS = 1_000_000
DERIVED_BYTES = 32
MAX_MEMORY_BYTES = 1 << 30
"""A file that asks for more than this is hostile or damaged."""
MAX_PBKDF2_ROUNDS = 100_000_000
MAX_FILE_BYTES = 64 << 10
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of the secp256k1 group: a private key is a number from 1 to below it."""


def generate_secret() -> bytes:
    """Return a random private key."""
    return (secrets.randbelow(ORDER - 1) + 1).to_bytes(32, "big")


def parse_secret(text: str) -> bytes:
    """Return the private key of 64 hexadecimal digits, with or without 0x. Raises Invalid."""
    digits = text.strip().removeprefix("0x")
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        raise Invalid("private key: not hexadecimal") from None
    if len(secret) != 32:
        raise Invalid(f"private key: {len(secret)} bytes, expected 32")
    if not 0 < int.from_bytes(secret, "big") < ORDER:
        raise Invalid("private key: not between 1 and the order of secp256k1")
    return secret


def encrypt(secret: bytes, password: str, *, kdf: str = "scrypt") -> dict[str, Any]:
    """Return the keystore object of a private key; `kdf` is scrypt or pbkdf2."""
    salt, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    params: dict[str, Any] = {"dklen": DERIVED_BYTES, "salt": salt.hex()}
    if kdf == "scrypt":
        params |= {"n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P}
    elif kdf == "pbkdf2":
        params |= {"c": PBKDF2_ROUNDS, "prf": "hmac-sha256"}
    else:
        raise ValueError(f"kdf {kdf!r}, expected 'scrypt' or 'pbkdf2'")
    derived = derive(kdf, params, password)
    ciphertext = apply_cipher(derived[:16], iv, secret)
    return {
        "version": 3,
        "id": str(uuid.uuid4()),
        "address": address(secret).hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": kdf,
            "kdfparams": params,
            "mac": keccak256(derived[16:] + ciphertext).hex(),
        },
    }


def decrypt(store: dict[str, Any], password: str) -> bytes:
    """Return the private key of a keystore object.

    Raises Corrupt for an object that is none, Invalid for a wrong password.
    """
    # Some old wallets write the members in capitals; the definition leaves case open.
    store = {name.lower(): value for name, value in store.items()}
    try:
        version, crypto = store["version"], store["crypto"]
        if version != 3:
            raise Corrupt(f"keystore: version {version}, expected 3")
        if crypto["cipher"] != "aes-128-ctr":
            raise Corrupt(f"keystore: cipher {crypto['cipher']}, expected aes-128-ctr")
        iv = bytes.fromhex(crypto["cipherparams"]["iv"])
        ciphertext = bytes.fromhex(crypto["ciphertext"])
        mac = bytes.fromhex(crypto["mac"])
        if len(iv) != 16 or len(ciphertext) != 32:
            raise Corrupt(
                f"keystore: {len(iv)} bytes of iv and {len(ciphertext)} of ciphertext, "
                "expected 16 and 32"
            )
        derived = derive(crypto["kdf"], crypto["kdfparams"], password)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, Invalid):
            raise
        raise Corrupt(f"keystore: not a version 3 keystore ({error!r})") from None
    if not hmac.compare_digest(keccak256(derived[16:32] + ciphertext), mac):
        raise Invalid("wrong password")
    secret = apply_cipher(derived[:16], iv, ciphertext)
    named = store.get("address")
    if isinstance(named, str) and named.lower().removeprefix("0x") != address(secret).hex():
        raise Corrupt(f"keystore: holds the key of {address(secret).hex()}, says {named}")
    return secret


def derive(kdf: str, params: dict[str, Any], password: str) -> bytes:
    """Return the derived key. Raises Corrupt for parameters that no honest file has."""
    salt, size = bytes.fromhex(params["salt"]), int(params["dklen"])
    if not 32 <= size <= 64:
        raise Corrupt(f"keystore: derived key of {size} bytes, expected 32 to 64")
    if kdf == "scrypt":
        n, r, p = int(params["n"]), int(params["r"]), int(params["p"])
        memory = 128 * r * (n + p + 2)
        # RFC 7914, section 2: n is a power of two below 2**(16 r), which OpenSSL insists on.
        if min(n, r, p) < 1 or n & (n - 1) or n >> min(16 * r, 64) or memory > MAX_MEMORY_BYTES:
            raise Corrupt(f"keystore: scrypt with n={n} r={r} p={p} is out of bounds")
        return hashlib.scrypt(
            password.encode(), salt=salt, n=n, r=r, p=p, dklen=size, maxmem=memory + (1 << 20)
        )
    if kdf == "pbkdf2":
        rounds, prf = int(params["c"]), params["prf"]
        if prf != "hmac-sha256" or not 1 <= rounds <= MAX_PBKDF2_ROUNDS:
            raise Corrupt(f"keystore: pbkdf2 with prf={prf} c={rounds} is out of bounds")
        return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds, size)
    raise Corrupt(f"keystore: kdf {kdf!r}, expected scrypt or pbkdf2")


def apply_cipher(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt, which are the same in counter mode."""
    context = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return context.update(data) + context.finalize()


def write_private(path: Path, content: str | bytes, *, replace: bool = False) -> None:
    """Write a file that only its owner can read, whole or not at all.

    Raises FileExistsError for an existing file unless `replace`.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists already")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            # Unlike a rename, a link never overwrites what somebody else created meanwhile.
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_key(path: Path, secret: bytes, password: str | None, *, kdf: str = "scrypt") -> None:
    """Write a key file, encrypted unless the password is None. Raises FileExistsError."""
    store: dict[str, Any]
    if password is None:
        store = {"address": address(secret).hex(), "private_key": "0x" + secret.hex()}
    else:
        store = encrypt(secret, password, kdf=kdf)
    write_private(path, json.dumps(store, indent=2) + "\n")


def read_store(path: Path) -> dict[str, Any]:
    """Return the object in a key file. Raises Corrupt, OSError."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise Corrupt(f"{path}: more than {MAX_FILE_BYTES} bytes, not a key file")
    try:
        store = json.loads(content)
    except ValueError as error:
        raise Corrupt(f"{path}: not JSON ({error})") from None
    if not isinstance(store, dict):
        raise Corrupt(f"{path}: a JSON {type(store).__name__}, expected an object")
    return store


def is_encrypted(store: dict[str, Any]) -> bool:
    """Whether a password is needed to use a key file's object."""
    return "private_key" not in store


def unlock(store: dict[str, Any], password: str | None) -> bytes:
    """Return the private key of a key file's object. Raises Invalid, Corrupt."""
    if is_encrypted(store):
        if password is None:
            raise Invalid("the key is encrypted and no password was given")
        return decrypt(store, password)
    try:
        return parse_secret(str(store["private_key"]))
    except Invalid as error:
        raise Corrupt(f"plain key file: {error}") from None


def read_address(store: dict[str, Any]) -> Address | None:
    """Return the address that a key file's object names, without unlocking it, or None."""
    named = store.get("address")
    try:
        found = bytes.fromhex(str(named).removeprefix("0x"))
    except ValueError:
        return None
    return found if len(found) == 20 else None
