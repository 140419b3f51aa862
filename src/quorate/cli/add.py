"""`quorate add`: one more validator for a network that exists. It follows until it is voted in."""

from pathlib import Path

import click
import msgspec

from quorate.base.errors import Invalid
from quorate.cli.deploy import PORT, Place, make_folder, parse_place
from quorate.cli.options import option, password_options, read_password
from quorate.cli.output import EXIT_CONFIG, Problem, emit, fail
from quorate.consensus import ENGINES
from quorate.ledger.keyvalue import ETHEREUM
from quorate.runtime.config import (
    FILE_NAME,
    Network,
    ValidatorConfig,
    check_network,
    load_network,
    write_network,
)


@click.command()
@click.argument("validator", metavar="NAME=HOST:PORT")
@option(
    "--network",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(FILE_NAME),
    help="The network's settings; the folder NAME is made beside them.",
)
@option("--listen", default="", help="Where it listens for peers [its HOST].")
@option("--rpc-host", default="127.0.0.1", help="Where its JSON-RPC listens.")
@option("--rpc-port", type=PORT, default=None, help="Its JSON-RPC [after those of its host].")
@option("--metrics-port", type=PORT, default=None, help="Its metrics [after those of its host].")
@password_options
def add(
    validator: str,
    file: Path,
    listen: str,
    rpc_host: str,
    rpc_port: int | None,
    metrics_port: int | None,
    password_file: Path | None,
) -> None:
    """Make a folder with keys for one more validator, and name it in network.toml.

    Where anybody may join (proof of work), it finds the others by the bootnodes of network.toml
    and takes part. Elsewhere it follows the chain once the others have read the new network.toml,
    and agrees once validators with more than half of the power have voted for it (`quorate vote`).

    \b
    quorate add erin=10.0.0.5:30303 --network deployment/network.toml
    quorate add validator-4=127.0.0.1:30307 --network .quorate/network.toml
    """
    place = parse_place(validator)
    try:
        # What the environment says holds for this command and not for the file.
        network = load_network(file, environment={})
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    folder = file.parent / place.name
    check_name(network, place, folder)
    password = None
    if not network.dev:
        password = read_password(password_file, prompt="Password for the key", confirm=True)
        if password is None:
            fail("no password: give --password-file FILE, or set QUORATE_PASSWORD")
    beside = [v for v in network.validators if v.host == place.host]
    ports = {
        "rpc_port": rpc_port or max((v.rpc_port + 1 for v in beside), default=8545),
        "metrics_port": metrics_port or max((v.metrics_port + 1 for v in beside), default=9545),
    }
    # Judged before a key is made: with what a certificate cannot change.
    draft = ValidatorConfig(
        name=place.name,
        address="0x" + "00" * 20,
        host=place.host,
        port=place.port,
        tls_sha256="00" * 32,
        rpc_host=rpc_host,
        rpc_port=ports["rpc_port"],
        metrics_port=ports["metrics_port"],
    )
    try:
        check_network(extend(network, draft), str(file))
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    made = make_folder(
        folder,
        place,
        password,
        listen=listen,
        rpc_host=rpc_host,
        rpc_port=ports["rpc_port"],
        metrics_port=ports["metrics_port"],
    )
    write_network(extend(network, made), file)
    introduce(network, made, file, folder)


def check_name(network: Network, place: Place, folder: Path) -> None:
    """Refuse a name that is taken, or that `quorate start` would not find."""
    expected = f"validator-{len(network.validators)}"
    if network.dev and place.name != expected:
        fail(f"{place.name}: expected the name {expected} in a development network", 2)
    if folder.exists():
        fail(f"{folder} exists already; choose another name, a key is never overwritten")


def extend(network: Network, validator: ValidatorConfig) -> Network:
    return msgspec.structs.replace(network, validators=[*network.validators, validator])


def introduce(network: Network, made: ValidatorConfig, file: Path, folder: Path) -> None:
    """Print what is to be done with the files."""
    if ENGINES[network.engine].open:
        introduce_to_open(network, made, file, folder)
        return
    emit(f"Wrote {folder} and named {made.name}, {made.address}, in {file}. Next:")
    if network.dev:
        count = len(network.validators)
        where = name_folder(file)
        emit(
            f"  quorate stop N{where} and quorate start N{where}, for N from 0 to {count - 1}, "
            "one after another"
        )
        emit(f"  quorate start {count}{where}")
        vote = f"  quorate vote {made.name} 1{where}"
    else:
        emit(f"  give {file.name} to every host, and restart the validators one after another")
        emit(f"  {made.host}: quorate run --network {file.name} --folder {made.name}")
        vote = "  hosts of more than half of the power: "
        vote += f"quorate vote {made.name} 1 --network {file.name} --folder THEIRS"
    if network.application == ETHEREUM:
        emit(vote)
    else:
        emit(f"  it follows for good: application {network.application} has no votes on members")


def name_folder(file: Path) -> str:
    """Return what commands need besides, to find the network of a file."""
    return "" if str(file.parent) == ".quorate" else f" --dir {file.parent}"


def introduce_to_open(network: Network, made: ValidatorConfig, file: Path, folder: Path) -> None:
    """Print what is to be done where anybody may join: nothing, on the hosts of others."""
    emit(f"Wrote {folder} and named {made.name}, {made.address}, in {file}. Next:")
    if network.dev:
        emit(f"  quorate start {len(network.validators)}{name_folder(file)}")
    else:
        emit(f"  {made.host}: quorate run --network {file.name} --folder {made.name}")
    if network.bootnodes:
        emit("  it finds the others by the bootnodes of the file; nobody has to be asked")
    else:
        emit("  with --bootnode KEY@HOST:PORT: the file names no node to begin with")
