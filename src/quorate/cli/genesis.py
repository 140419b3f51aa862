"""`quorate genesis`: what a genesis file says, and whether two hosts have the same one."""

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from quorate._kernel import Ledger
from quorate.base.errors import Invalid
from quorate.base.types import Hash
from quorate.cli.options import format_option
from quorate.cli.output import EXIT_CONFIG, Problem, emit, fail
from quorate.ledger.genesis import compute_network_id
from quorate.ledger.keyvalue import ETHEREUM, get_genesis_hash
from quorate.runtime.config import load_network

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def genesis() -> None:
    """Show, hash and verify a genesis file: what all validators must agree on from the start."""


def open_genesis(path: Path) -> Ledger:
    """Return a ledger in memory that begins with a file. Raises Problem."""
    try:
        return Ledger.open(None, path.read_bytes())
    except Invalid as error:
        raise Problem(f"{path}: {error}", EXIT_CONFIG) from None


def read_application(path: Path) -> str:
    """Return what a file says that its network agrees on; damaged files are judged elsewhere."""
    try:
        tree = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return str(tree["config"]["quorate"].get("application", ETHEREUM))
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return ETHEREUM


def compute_hash(path: Path) -> Hash:
    """Return the hash of the block that a file describes. Raises Problem."""
    if read_application(path) == ETHEREUM:
        return open_genesis(path).genesis_hash
    try:
        return get_genesis_hash(path.read_bytes())
    except Invalid as error:
        raise Problem(f"{path}: {error}", EXIT_CONFIG) from None


@genesis.command("hash")
@click.argument("path", type=FILE)
def hash_(path: Path) -> None:
    """Print the hash of the genesis block, as JSON-RPC shows it.

    `quorate genesis show` prints the network id too, which also covers the file's config:
    validators with another one do not talk to each other.

    \b
    quorate genesis hash genesis.json
    """
    emit("0x" + compute_hash(path).hex())


@genesis.command()
@click.argument("path", type=FILE)
@format_option
def show(path: Path, output: str) -> None:
    """Show what a genesis file says: chain, engine, fees, validators, funded accounts.

    \b
    quorate genesis show genesis.json
    """
    found = describe(path)
    if output == "json":
        emit(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        if not isinstance(value, list):
            emit(f"{name:12} {value}")
            continue
        emit(f"{name}:")
        for item in value:
            emit("  " + "  ".join(str(part) for part in item.values()))


def describe(path: Path) -> dict[str, Any]:
    if read_application(path) != ETHEREUM:
        return describe_keyvalue(path)
    ledger = open_genesis(path)
    tree = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    quorate = tree["config"].get("quorate", {})
    accounts = [
        {"address": "0x" + account.removeprefix("0x"), "balance_wei": int(str(it["balance"]), 0)}
        for account, it in tree.get("alloc", {}).items()
        if int(str(it.get("balance", 0)), 0)
    ]
    return {
        "hash": "0x" + ledger.genesis_hash.hex(),
        "network id": "0x" + compute_network_id(path.read_bytes(), ledger.genesis_hash).hex(),
        "chain id": ledger.chain_id,
        "engine": quorate.get("engine", "tendermint"),
        "gas": quorate.get("gas", "fees"),
        "gas limit": int(str(tree["gasLimit"]), 0),
        "development": "yes: anybody may change any account" if quorate.get("dev") else "no",
        "validators": quorate.get("validators", []),
        "accounts": accounts,
    }


def describe_keyvalue(path: Path) -> dict[str, Any]:
    """Return the same of a network that agrees on keys and values: no gas, and no accounts."""
    found = "0x" + compute_hash(path).hex()
    config = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])["config"]
    quorate = config["quorate"]
    return {
        "hash": found,
        # It covers the whole file.
        "network id": found,
        "chain id": config.get("chainId"),
        "engine": quorate.get("engine", "tendermint"),
        "application": quorate["application"],
        "validators": quorate["validators"],
    }


@genesis.command()
@click.argument("path", type=FILE)
@click.option("--network", type=FILE, required=True, help="The network.toml it must fit.")
def verify(path: Path, network: Path) -> None:
    """Verify that a genesis file is well-formed and fits a network.toml.

    \b
    quorate genesis verify genesis.json --network network.toml
    """
    try:
        settings = load_network(network)
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    found = describe(path)
    named = {v["address"].lower(): int(v["power"]) for v in found["validators"]}
    # Those that were added later are in network.toml alone.
    listed = {v.address.lower(): v.power for v in settings.validators if v.address.lower() in named}
    for what, here, there in (
        ("chain id", found["chain id"], settings.chain_id),
        ("engine", found["engine"], settings.engine),
        ("application", found.get("application", ETHEREUM), settings.application),
        ("validators", named, listed),
    ):
        if here != there:
            fail(
                f"{what}: {path} has {here}, {network} has {there}; both must say the same",
                EXIT_CONFIG,
            )
    emit(f"ok {found['network id']}")
