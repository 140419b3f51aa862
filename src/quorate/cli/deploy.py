"""`quorate init`: the files of a network over several hosts, keys encrypted."""

import re
from pathlib import Path

import click
from msgspec import Struct

from quorate._kernel import address
from quorate.base.types import Address
from quorate.cli import keystore
from quorate.cli.devnet import BOOTNODES, make_pow_rules, write_genesis
from quorate.cli.options import (
    application_option,
    engine_option,
    option,
    password_options,
    read_password,
)
from quorate.cli.output import Progress, emit, fail, say, warn_of_engine
from quorate.consensus import ENGINES, pow_types
from quorate.crypto.addresses import to_checksum
from quorate.ledger.keyvalue import ETHEREUM
from quorate.runtime.config import (
    FILE_NAME,
    Blocks,
    Network,
    ValidatorConfig,
    make_bootnodes,
    write_network,
)
from quorate.runtime.folder import Folder, make_private
from quorate.runtime.tls import create_certificate, write_private

PORT = click.IntRange(1, 65535)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ETHER = 10**18
FIRST_RATE = 1_000_000
"""Hashes per second that the first difficulty of a chain of work is made for: part of a core."""


class Place(Struct, frozen=True):
    """One `--validator`."""

    name: str
    host: str
    port: int
    power: int


@click.command()
@option(
    "--validator",
    "validators",
    multiple=True,
    required=True,
    envvar=None,
    show_envvar=False,
    metavar="NAME=HOST:PORT[,POWER]",
    help="One validator; give it once for each.",
)
@option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="A new folder for the files.",
)
@option("--name", default="quorate", help="Of the network.")
@option(
    "--chain-id",
    type=click.IntRange(1, 4503599627370476),
    required=True,
    help="As wallets know it; no other network's.",
)
@engine_option
@application_option
@option(
    "--gas",
    type=click.Choice(["fees", "free"]),
    default="fees",
    help="EIP-1559 fees, or none at all.",
)
@option(
    "--gas-limit", type=click.IntRange(5_000, 1 << 40), default=30_000_000, help="Gas of one block."
)
@option(
    "--block-time",
    type=click.IntRange(0, 3_600_000),
    default=0,
    metavar="MS",
    help="Between blocks; 0: at once when transactions wait (pow: its default).",
)
@option(
    "--account",
    "accounts",
    multiple=True,
    envvar=None,
    show_envvar=False,
    metavar="ADDRESS=ETHER",
    help="An account that has ether at genesis.",
)
@option("--listen", default="", help="Where every validator listens for peers [its HOST].")
@option("--rpc-host", default="127.0.0.1", help="Where JSON-RPC listens on every host.")
@option("--rpc-port", type=PORT, default=8545, help="JSON-RPC; counted up on a shared host.")
@option("--metrics-port", type=PORT, default=9545, help="Metrics; counted up on a shared host.")
@password_options
def init(
    validators: tuple[str, ...],
    out: Path,
    accounts: tuple[str, ...],
    name: str,
    chain_id: int,
    engine: str,
    application: str,
    gas: str,
    gas_limit: int,
    block_time: int,
    listen: str,
    rpc_host: str,
    rpc_port: int,
    metrics_port: int,
    password_file: Path | None,
) -> None:
    """Write network.toml, genesis.json and a folder with keys for each validator.

    Every host gets the two files and the folder of its validator, and runs `quorate run`. The keys
    are encrypted with one password; `quorate keys` makes and shows keystores one by one.

    \b
    quorate init --out deployment --chain-id 4711 \\
        --validator alice=10.0.0.1:30303 --validator bob=10.0.0.2:30303 \\
        --validator carol=10.0.0.3:30303 --validator dave=10.0.0.4:30303 \\
        --account 0x70997970C51812dc3A010C7d01b50e0d17dc79C8=1000
    """
    places = [parse_place(text) for text in validators]
    for key in ("name", "host"):
        seen = [(p.name if key == "name" else f"{p.host}:{p.port}") for p in places]
        twice = {text for text in seen if seen.count(text) > 1}
        if twice:
            fail(f"--validator: {min(twice)} is there twice, expected once", 2)
    balances = dict(parse_account(text) for text in accounts)
    if out.exists() and any(out.iterdir()):
        fail(f"{out} exists and is not empty; choose a new folder, keys are never overwritten")
    password = read_password(password_file, prompt="Password for the keys", confirm=True)
    if password is None:
        fail("no password: give --password-file FILE, or set QUORATE_PASSWORD")
    make_private(out)
    ports = assign_ports(places, rpc_port, metrics_port)
    progress = Progress(len(places))
    configs = []
    for place, (rpc, metrics) in zip(places, ports, strict=True):
        progress.enter(f"making the keys of {place.name}")
        configs.append(
            make_folder(
                out / place.name,
                place,
                password,
                listen=listen,
                rpc_host=rpc_host,
                rpc_port=rpc,
                metrics_port=metrics,
            )
        )
    progress.end()
    network = Network(
        name=name,
        chain_id=chain_id,
        engine=engine,
        application=application,
        bootnodes=make_bootnodes(configs[:BOOTNODES]) if ENGINES[engine].open else [],
        blocks=Blocks(block_time_ms=block_time),
        validators=configs,
    )
    rules = make_pow_rules(network, block_time or pow_types.Settings().interval_ms, FIRST_RATE)
    write_genesis(out, network, gas=gas, gas_limit=gas_limit, balances=balances, pow=rules)
    write_network(network, out / FILE_NAME)
    if application == ETHEREUM and gas == "fees" and not balances:
        say(
            "No account has ether, so nobody can pay for gas: --account gives some, "
            "--gas free asks for none."
        )
    introduce(out, places)
    warn_of_engine(engine)


def parse_place(text: str) -> Place:
    """Return a validator's place. Ends with one line for anything else."""
    found = re.fullmatch(r"([^=]+)=(\[[0-9a-fA-F:]+\]|[^:,\s]+):(\d{1,5})(?:,(\d{1,9}))?", text)
    if not found:
        fail(f"--validator {text}: expected NAME=HOST:PORT or NAME=HOST:PORT,POWER", 2)
    name, host, port, power = found[1], found[2].strip("[]"), int(found[3]), int(found[4] or 1)
    if not NAME.fullmatch(name):
        fail(f"--validator {text}: name {name!r}, expected letters, digits, '.', '_' and '-'", 2)
    if not 1 <= port <= 65535 or power < 1:
        fail(f"--validator {text}: expected a port from 1 to 65535 and a power from 1", 2)
    return Place(name, host, port, power)


def parse_account(text: str) -> tuple[Address, int]:
    """Return (address, balance in wei) of one `--account`."""
    found = re.fullmatch(r"(0x[0-9a-fA-F]{40})=(\d{1,18})", text)
    if not found:
        fail(f"--account {text}: expected 0x and 40 hexadecimal digits, '=', whole ether", 2)
    return bytes.fromhex(found[1][2:]), int(found[2]) * ETHER


def assign_ports(places: list[Place], rpc: int, metrics: int) -> list[tuple[int, int]]:
    """Return (JSON-RPC, metrics) ports; validators of one host get ports side by side."""
    before: dict[str, int] = {}
    ports = []
    for place in places:
        offset = before.get(place.host, 0)
        before[place.host] = offset + 1
        if max(rpc, metrics) + offset > 65535:
            fail(f"{place.host}: more validators than there are ports above {max(rpc, metrics)}", 2)
        ports.append((rpc + offset, metrics + offset))
    return ports


def make_folder(
    path: Path,
    place: Place,
    password: str | None,
    *,
    listen: str,
    rpc_host: str,
    rpc_port: int,
    metrics_port: int,
) -> ValidatorConfig:
    """Make the folder that goes to a validator's host; return how the others know it.

    Without a password the key lies there in plain text.
    """
    folder = Folder(path)
    make_private(folder.path)
    secret = keystore.generate_secret()
    keystore.write_key(folder.key, secret, password)
    tls_key, certificate, fingerprint = create_certificate(place.name)
    write_private(folder.tls_key, tls_key)
    write_private(folder.tls_certificate, certificate)
    return ValidatorConfig(
        name=place.name,
        address=to_checksum(address(secret)),
        power=place.power,
        host=place.host,
        port=place.port,
        listen=listen,
        tls_sha256=fingerprint.hex(),
        rpc_host=rpc_host,
        rpc_port=rpc_port,
        metrics_port=metrics_port,
    )


def introduce(out: Path, places: list[Place]) -> None:
    """Print what to do with the files."""
    emit(f"Wrote {out / FILE_NAME}, {out / 'genesis.json'} and a folder for each validator.")
    emit()
    emit("On each host, with both files and the folder of its validator (and of no other):")
    for place in places:
        emit(f"  {place.host:15} quorate run --network {FILE_NAME} --folder {place.name}")
    emit()
    emit("The password comes from --password-file, QUORATE_PASSWORD or the terminal. Keep it and")
    emit("the folders apart from each other; delete the copies here once they are distributed.")
