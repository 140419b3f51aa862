"""`quorate keys`: validator keys in standard encrypted keystores."""

import json
import sys
from pathlib import Path

import click

from quorate._kernel import address
from quorate.cli import keystore
from quorate.cli.options import format_option, option, password_options, read_password
from quorate.cli.output import emit, fail, say

KEY_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def keys() -> None:
    """Make, import and show validator keys (keystore version 3, files readable by you alone)."""


def choose_password(file: Path | None) -> str:
    """Return the password for a new key. There is always one."""
    password = read_password(file, prompt="Password for the new key", confirm=True)
    if password is None:
        fail("no password: give --password-file FILE, or set QUORATE_PASSWORD")
    return password


def show_written(path: Path, secret: bytes) -> None:
    emit("0x" + address(secret).hex())
    say(f"{path}: encrypted; without the password the key is lost, so keep both")


kdf_option = option(
    "--kdf",
    type=click.Choice(["scrypt", "pbkdf2"]),
    default="scrypt",
    help="How the password becomes a key.",
)


@keys.command()
@click.argument("path", type=KEY_FILE)
@password_options
@kdf_option
def new(path: Path, password_file: Path | None, kdf: str) -> None:
    """Make a random key, write it to PATH and print its address.

    \b
    quorate keys new validator.json
    """
    refuse_existing(path)
    password = choose_password(password_file)
    secret = keystore.generate_secret()
    keystore.write_key(path, secret, password, kdf=kdf)
    show_written(path, secret)


@keys.command("import")
@click.argument("path", type=KEY_FILE)
@password_options
@kdf_option
def import_(path: Path, password_file: Path | None, kdf: str) -> None:
    """Encrypt a private key (64 hex digits, from stdin) into PATH and print its address.

    \b
    quorate keys import validator.json < secret.hex
    """
    refuse_existing(path)
    if sys.stdin.isatty():
        text = click.prompt("Private key (hex)", hide_input=True, err=True)
    else:
        text = sys.stdin.readline(200)
    secret = keystore.parse_secret(text)
    password = choose_password(password_file)
    keystore.write_key(path, secret, password, kdf=kdf)
    show_written(path, secret)


def refuse_existing(path: Path) -> None:
    if path.exists():
        fail(f"{path} exists already; choose another name, a key is never overwritten")


@keys.command()
@click.argument("path", type=KEY_FILE)
@password_options
@format_option
@click.option("--private", is_flag=True, help="Also show the private key, unlocked.")
def show(path: Path, password_file: Path | None, output: str, private: bool) -> None:
    """Show what a key file holds; the private key only with --private.

    \b
    quorate keys show validator.json
    """
    store = keystore.read_store(path)
    encrypted = keystore.is_encrypted(store)
    found = {"file": str(path), "encrypted": encrypted, "address": find_address(path, store)}
    if private:
        password = read_password(password_file, prompt="Password") if encrypted else None
        secret = keystore.unlock(store, password)
        found |= {"address": "0x" + address(secret).hex(), "private_key": "0x" + secret.hex()}
    if output == "json":
        emit(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        emit(f"{name:12} {value if not isinstance(value, bool) else ('no', 'yes')[value]}")
    if not encrypted:
        say("The key lies there in plain text: good for a development network and nothing else.")


@keys.command("address")
@click.argument("path", type=KEY_FILE)
def address_(path: Path) -> None:
    """Print the address of a key file, without its password.

    \b
    quorate keys address validator.json
    """
    emit(find_address(path, keystore.read_store(path)))


def find_address(path: Path, store: dict[str, object]) -> str:
    """Return a key file's address as text."""
    found = keystore.read_address(store)
    if found is None and not keystore.is_encrypted(store):
        found = address(keystore.unlock(store, None))
    if found is None:
        fail(f"{path}: names no address; `quorate keys show --private` finds it from the key")
    return "0x" + found.hex()
