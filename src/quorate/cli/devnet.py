"""A network for development, in one folder: its files, and the accounts that everybody knows."""

import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from quorate._kernel import address
from quorate.base.types import Address, Member
from quorate.cli import keystore
from quorate.cli.mnemonic import TEST_MNEMONIC, derive_accounts
from quorate.consensus import ENGINES, pow_types
from quorate.crypto.addresses import to_checksum
from quorate.ledger.genesis import make_genesis
from quorate.ledger.keyvalue import ETHEREUM
from quorate.ledger.keyvalue import make_genesis as make_keyvalue_genesis
from quorate.rpc.settings import NAMESPACES
from quorate.runtime.config import (
    Blocks,
    Discovery,
    Mining,
    Network,
    Rpc,
    ValidatorConfig,
    make_bootnodes,
    write_network,
)
from quorate.runtime.folder import Folder, get_network_path, make_private
from quorate.runtime.tls import create_certificate, write_private

HOST = "127.0.0.1"
ACCOUNTS = 10
BALANCE_WEI = 10_000 * 10**18
MAX_VALIDATORS = 100
POW_INTERVAL_MS = 2000
POW_RATE = 200_000
"""Hashes per second of one miner of a network for trials: a few percent of a core."""
POW_HEAD_START = 4
"""The first block shall come within a fraction of the interval."""
BOOTNODES = 2
"""How many of the first nodes all others know."""
DEV_CERTIFY_MS = 60_000
"""How long a network for development is silent before its last state is certified."""
MINED_GWEI = 2 * 10**9
"""What a block pays where anybody may mine."""


class Plan(Struct, frozen=True, kw_only=True):
    """What `quorate up` was asked for."""

    validators: int
    engine: str
    application: str = ETHEREUM
    block_time_ms: int
    gas: str
    gas_limit: int
    chain_id: int
    rpc_port: int
    p2p_port: int
    metrics_port: int
    dev: bool = False


def get_accounts() -> list[tuple[str, str]]:
    """Return (address, private key) of the funded accounts of a development network."""
    return [
        (to_checksum(address(secret)), "0x" + secret.hex())
        for secret in derive_accounts(TEST_MNEMONIC, ACCOUNTS)
    ]


def create(path: Path, plan: Plan) -> None:
    """Write the files of a new network. `network.toml` comes last: with it the network exists."""
    make_private(path)
    validators = [make_validator(path, index, plan) for index in range(plan.validators)]
    network = Network(
        name=path.resolve().parent.name[:64] or "dev",
        chain_id=plan.chain_id,
        engine=plan.engine,
        application=plan.application,
        dev=True,
        **find_each_other(plan.engine, validators),
        # Tools of developers trace, and look into the pool; a deployment chooses for itself.
        rpc=Rpc(api=list(NAMESPACES)),
        blocks=make_blocks(plan),
        mining=Mining(hashes_per_second=POW_RATE) if plan.engine == "pow" else Mining(),
        validators=validators,
    )
    accounts = {bytes.fromhex(account[2:]): BALANCE_WEI for account, _ in get_accounts()}
    rate = POW_RATE * plan.validators // POW_HEAD_START
    write_genesis(
        path,
        network,
        gas=plan.gas,
        gas_limit=plan.gas_limit,
        balances=accounts,
        pow=make_pow_rules(network, plan.block_time_ms or POW_INTERVAL_MS, rate),
        dev=plan.dev,
    )
    write_network(network, get_network_path(path))


def make_blocks(plan: Plan) -> Blocks:
    """Return when blocks are made."""
    blocks = Blocks(block_time_ms=plan.block_time_ms)
    if not plan.dev:
        return blocks
    # Tests for Anvil and Hardhat count blocks, and take the latest one for what they brought about.
    return msgspec.structs.replace(blocks, certify_ms=DEV_CERTIFY_MS)


def make_pow_rules(
    network: Network, interval_ms: int, hashes_per_second: int
) -> dict[str, int] | None:
    """Return the rules of proof of work for miners of this rate; None for other engines."""
    if network.engine != "pow":
        return None
    defaults = pow_types.Settings()
    difficulty = max(hashes_per_second * interval_ms // 1000, defaults.min_difficulty)
    return {
        "interval_ms": interval_ms,
        "initial_difficulty": difficulty,
        "min_difficulty": defaults.min_difficulty,
        "window": defaults.window,
    }


def find_each_other(engine: str, validators: list[ValidatorConfig]) -> dict[str, Any]:
    """Return the settings by which nodes on one host find each other, where that is their part."""
    if not ENGINES[engine].open:
        return {}
    return {
        "bootnodes": make_bootnodes(validators[:BOOTNODES]),
        "discovery": Discovery(range_limits=False, feeler_ms=30_000),
    }


def write_genesis(
    path: Path,
    network: Network,
    *,
    gas: str,
    gas_limit: int,
    balances: dict[Address, int],
    pow: dict[str, int] | None,
    dev: bool = False,
) -> None:
    """Write the genesis file that belongs to a network's settings into its folder."""
    members = [Member(v.identity, v.power) for v in network.validators]
    if network.application != ETHEREUM:
        content = make_keyvalue_genesis(
            application=network.application,
            chain_id=network.chain_id,
            engine=network.engine,
            members=members,
            timestamp=int(time.time()),
            rules={"pow": pow} if pow else None,
        )
        (path / network.genesis).write_bytes(content)
        return
    content = make_genesis(
        chain_id=network.chain_id,
        engine=network.engine,
        gas=gas,
        members=members,
        balances=balances,
        gas_limit=gas_limit,
        timestamp=int(time.time()),
        block_reward_gwei=MINED_GWEI if pow else 0,
        pow=pow,
        dev=dev,
    )
    (path / network.genesis).write_bytes(content)


def make_validator(path: Path, index: int, plan: Plan) -> ValidatorConfig:
    """Make a validator's folder, its keys in plain text; return how the others know it."""
    folder = Folder.of(path, index)
    make_private(folder.path)
    # An earlier attempt that was interrupted left a key: it is as good as a new one.
    if folder.key.exists():
        secret = keystore.unlock(keystore.read_store(folder.key), None)
    else:
        secret = keystore.generate_secret()
        keystore.write_key(folder.key, secret, None)
    name = f"validator-{index}"
    tls_key, certificate, fingerprint = create_certificate(name)
    write_private(folder.tls_key, tls_key)
    write_private(folder.tls_certificate, certificate)
    return ValidatorConfig(
        name=name,
        address=to_checksum(address(secret)),
        host=HOST,
        port=plan.p2p_port + index,
        tls_sha256=fingerprint.hex(),
        rpc_host=HOST,
        rpc_port=plan.rpc_port + index,
        metrics_port=plan.metrics_port + index,
    )
