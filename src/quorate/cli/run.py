"""`quorate run`: one validator in this process, from network.toml and its own folder."""

import sys
from pathlib import Path

import click
import msgspec

from quorate._kernel import address
from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.cli import keystore
from quorate.cli.options import option, password_options, read_password
from quorate.cli.output import EXIT_CONFIG, Problem
from quorate.consensus import ENGINES
from quorate.ledger.keyvalue import ETHEREUM
from quorate.runtime.config import (
    FILE_NAME,
    Network,
    ValidatorConfig,
    load_network,
    parse_bootnode,
)
from quorate.runtime.folder import Folder, check_owner_alone

RPC_BOUNDS = (
    "max_body_bytes",
    "max_response_bytes",
    "max_batch",
    "max_connections",
    "max_subscriptions",
    "max_logs",
    "gas_cap",
    "call_timeout_ms",
    "threads",
)
"""Keys of `[rpc]` that are options of the JSON-RPC process by the same name."""


@click.command()
@option(
    "--network",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(FILE_NAME),
    help="The network's settings, the same on every host.",
)
@option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The validator's own folder: its keys, and soon its chain.",
)
@option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="Write the log there, rotated, instead of to stderr.",
)
@option(
    "--bootnode",
    "bootnodes",
    multiple=True,
    envvar=None,
    show_envvar=False,
    metavar="KEY@HOST:PORT",
    help="A node to begin with, where anybody may join; beside those of the network's settings.",
)
@password_options
def run(
    file: Path,
    folder: Path,
    log_file: Path | None,
    bootnodes: tuple[str, ...],
    password_file: Path | None,
) -> int:
    """Run one validator until SIGTERM or Ctrl-C; a second signal forces.

    Its key in FOLDER says which validator of the network it is. Every setting of network.toml is
    also an environment variable: QUORATE_LOG_LEVEL is `level` of `[log]`.

    Exit code 0: told to stop; 1: failed; 78: wrong settings, keys or files, which a restart does
    not repair (systemd: RestartPreventExitStatus=78).

    \b
    quorate run --network network.toml --folder alice --password-file /run/secrets/quorate
    QUORATE_LOG_FORMAT=json quorate run --folder alice
    quorate run --folder frank --bootnode 5f0c...e1@203.0.113.7:30303
    """
    try:
        network = add_bootnodes(load_network(file), bootnodes)
        own = Folder(folder)
        secret, validator = unlock_validator(network, own, file, password_file)
        is_ethereum = network.application == ETHEREUM
        rpc_command = make_rpc_command(network, validator, own) if is_ethereum else None
    except (Invalid, Corrupt) as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    # The node's world is heavy to import, and wrong settings should be told at once.
    from quorate.rpc.keyvalue_port import open_keyvalue_port
    from quorate.runtime.ledger import open_ledger
    from quorate.runtime.validator import Plan, run_validator

    plan = Plan(
        network=network,
        network_folder=file.parent,
        validator=validator,
        folder=own,
        secret=secret,
        open_application=open_ledger,
        rpc_command=rpc_command,
        open_port=open_keyvalue_port if network.rpc.enabled and not is_ethereum else None,
        log_file=log_file,
    )
    try:
        return run_validator(plan)
    except (Invalid, Corrupt) as error:
        raise Problem(f"{validator.name}: {error}", EXIT_CONFIG) from None
    except Unavailable as error:
        raise Problem(f"{validator.name}: {error}") from None


def add_bootnodes(network: Network, texts: tuple[str, ...]) -> Network:
    """Return a network with more bootnodes. Raises Invalid."""
    if not texts:
        return network
    if not ENGINES[network.engine].open:
        raise Invalid(
            f"--bootnode: the engine {network.engine} has configured peers, [[validators]] of "
            f"{FILE_NAME}; nobody else may join"
        )
    for text in texts:
        try:
            parse_bootnode(text)
        except Invalid as error:
            raise Invalid(f"--bootnode: {error}") from None
    return msgspec.structs.replace(network, bootnodes=[*network.bootnodes, *texts])


def unlock_validator(
    network: Network, folder: Folder, file: Path, password_file: Path | None
) -> tuple[bytes, ValidatorConfig]:
    """Return the secret in a folder, and whose it is. Raises Invalid, Corrupt, Problem."""
    for path in (folder.key, folder.tls_key):
        if not path.exists():
            raise Invalid(f"{path}: not there; --folder names a folder that `quorate init` wrote")
        check_owner_alone(path)
    store = keystore.read_store(folder.key)
    encrypted = keystore.is_encrypted(store)
    if not encrypted and not network.dev:
        raise Invalid(
            f"{folder.key}: found a plain key, expected an encrypted one; only a development "
            f"network (dev = true in {file}) may have plain keys"
        )
    password = None
    if encrypted:
        password = read_password(password_file, prompt=f"Password of {folder.key}")
        if password is None:
            raise Invalid(
                f"{folder.key} is encrypted: give --password-file FILE, or set QUORATE_PASSWORD"
            )
    try:
        secret = keystore.unlock(store, password)
    except (Invalid, Corrupt) as error:
        raise type(error)(f"{folder.key}: {error}") from None
    found = "0x" + address(secret).hex()
    try:
        return secret, network.get_validator(found)
    except Invalid:
        names = ", ".join(f"{v.name} {v.address}" for v in network.validators)
        raise Invalid(
            f"{folder.key}: holds the key of {found}, {file} has none such, only {names}"
        ) from None


def make_rpc_command(network: Network, validator: ValidatorConfig, folder: Folder) -> list[str]:
    """Return the command of the validator's JSON-RPC process. Raises Invalid."""
    from quorate.rpc.settings import NAMESPACES

    rpc = network.rpc
    unknown = [name for name in rpc.api if name not in NAMESPACES]
    if unknown:
        names = ", ".join(NAMESPACES)
        raise Invalid(f"{FILE_NAME}: rpc.api: found {unknown[0]!r}, expected some of {names}")
    command = [sys.executable, "-m", "quorate.rpc"]
    command += ["--ledger", str(folder.ledger), "--socket", str(folder.socket)]
    command += ["--host", validator.rpc_host, "--port", str(validator.rpc_port)]
    command += ["--api", ",".join(rpc.api)]
    for key in RPC_BOUNDS:
        command += ["--" + key.replace("_", "-"), str(getattr(rpc, key))]
    command += ["--nice", str(rpc.nice), "--own-session"]
    for name in rpc.host_allowlist:
        command += ["--allow-host", name]
    for origin in rpc.cors_origins:
        command += ["--cors-origin", origin]
    return command
