"""`quorate up`, `down`, `reset`, `kill`, `stop`, `start` and `logs`: a network on this machine."""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from quorate.base.errors import Invalid
from quorate.cli import devnet, processes
from quorate.cli.devnet import Plan
from quorate.cli.local import Local, exists, open_local
from quorate.cli.options import application_option, engine_option, folder_option, option, yes_option
from quorate.cli.output import (
    DEV_WARNING,
    Progress,
    emit,
    fail,
    get_program,
    say,
    style,
    warn_of_engine,
)
from quorate.cli.start import check_ports, start_validators
from quorate.consensus import ENGINES
from quorate.ledger.genesis import get_pow_rules
from quorate.ledger.keyvalue import ETHEREUM, open_machine
from quorate.runtime.config import load_network, make_bootnodes, write_network

PORT = click.IntRange(1, 65535)
FOLLOW_S = 0.2


@click.command()
@folder_option
@option(
    "--validators",
    type=click.IntRange(1, devnet.MAX_VALIDATORS),
    default=4,
    help="How many validators, each a process.",
)
@engine_option
@application_option
@option(
    "--block-time",
    type=click.IntRange(0, 3_600_000),
    default=0,
    metavar="MS",
    help="Between blocks; 0: at once when transactions wait (pow: 2000 on average).",
)
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
    "--chain-id",
    type=click.IntRange(1, 4503599627370476),
    default=31337,
    help="As wallets know it.",
)
@option("--rpc-port", type=PORT, default=8545, help="JSON-RPC of validator 0; the others follow.")
@option("--p2p-port", type=PORT, default=30303, help="Peers of validator 0; the others follow.")
@option(
    "--metrics-port",
    type=PORT,
    default=9545,
    help="Metrics and health of validator 0; the others follow.",
)
@option(
    "--dev/--no-dev",
    default=False,
    help="A chain whose state and time anybody may change (evm_, anvil_, hardhat_), for good.",
)
@click.option("-d", "--detach", is_flag=True, help="Return when it runs; `quorate down` ends it.")
@click.pass_context
def up(ctx: click.Context, /, folder: Path, detach: bool, **asked: Any) -> None:
    """Start a network on this machine, or say what runs.

    A new network gets ten funded accounts and its files in --dir. An existing one goes on where it
    stopped, with the settings of its network.toml. Without --detach the command follows the network
    and stops it on Ctrl-C.

    \b
    quorate up                             four validators, follow until Ctrl-C
    quorate up --detach                    in the background; see status, logs, down
    quorate up --validators 7 --gas free   more of them, and transactions cost nothing
    quorate up --engine raft --application keyvalue   keys and values over HTTP/JSON
    quorate up --block-time 1000           a block every second, also an empty one
    quorate up --dev                       snapshots, time travel, impersonation as Anvil has them
    quorate up --engine pow                blocks by proof of work, one in two seconds on average
    quorate up --dir /tmp/second --rpc-port 18545 --p2p-port 40303 --metrics-port 19545
    """
    asked["block_time_ms"] = asked.pop("block_time")
    plan = Plan(**asked)
    given = {name for name in ctx.params if is_given(ctx, name)}
    if not exists(folder):
        check_plan_ports(plan)
        if plan.dev and plan.application != ETHEREUM:
            fail(f"--dev: commands change Ethereum's state, {plan.application} has none", 2)
        devnet.create(folder, plan)
        say(f"Made a network of {plan.validators} validators in {folder}.")
    else:
        settle_differences(folder, plan, given)
    local = open_local(folder)
    running = local.find_running()
    missing = [i for i in range(len(local.folders)) if i not in running]
    if missing:
        check_ports(local, missing)
        start_validators(local, missing)
    introduce(local, again=not missing)
    # Whoever started the others looks after them; this command only completed the network.
    if detach or running:
        return
    follow_until_interrupted(local)


def is_given(ctx: click.Context, name: str) -> bool:
    """Whether an option was on the command line or in the environment."""
    source = ctx.get_parameter_source(name)
    return source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def check_plan_ports(plan: Plan) -> None:
    """Refuse ports that overlap or do not exist, before anything is written."""
    ranges = {
        "--rpc-port": plan.rpc_port,
        "--p2p-port": plan.p2p_port,
        "--metrics-port": plan.metrics_port,
    }
    for flag, first in ranges.items():
        last = first + plan.validators - 1
        if last > 65535:
            fail(f"{flag} {first}: {plan.validators} validators would need ports up to {last}", 2)
        for other, begin in ranges.items():
            if flag < other and first < begin + plan.validators and begin <= last:
                fail(f"{flag} {first} and {other} {begin} overlap; choose one of them anew", 2)
        for port in range(first, last + 1):
            if not processes.is_free(devnet.HOST, port):
                fail(
                    f"port {port} is in use: stop what listens there, or choose other ports with "
                    f"{flag}"
                )


def settle_differences(folder: Path, plan: Plan, given: set[str]) -> None:
    """Compare what was asked for with an existing network; change what a restart can change."""
    local = open_local(folder, environment={})
    network, first = local.network, local.network.validators[0]
    consensus = local.read_consensus()
    fixed: dict[str, tuple[object, object]] = {
        "validators": (len(network.validators), plan.validators),
        "engine": (network.engine, plan.engine),
        "application": (network.application, plan.application),
        "gas": (consensus.get("gas", "fees"), plan.gas),
        "dev": (consensus.get("dev", False), plan.dev),
        "chain_id": (network.chain_id, plan.chain_id),
    }
    for name, (found, wanted) in fixed.items():
        if name in given and found != wanted:
            flag = "--" + name.replace("_", "-")
            if name == "dev":
                fail(
                    f"{flag if wanted else '--no-dev'}: the network in {folder} is "
                    f"{'none' if wanted else 'one'} for development, and stays so; "
                    f"`quorate reset --dir {folder}` begins anew, --dir makes another"
                )
            fail(
                f"{flag} {wanted}: the network in {folder} has {found}, which its blocks depend "
                f"on; `quorate reset --dir {folder}` begins anew, --dir makes another"
            )
    if "gas_limit" in given:
        found = get_gas_limit(local)
        if found != plan.gas_limit:
            fail(
                f"--gas-limit {plan.gas_limit}: the network in {folder} has {found}; "
                f"`quorate reset --dir {folder}` begins anew, --dir makes another"
            )
    if network.engine == "pow" and "block_time" in given:
        found = get_pow_rules((local.path / network.genesis).read_bytes())["interval_ms"]
        if found != plan.block_time_ms:
            fail(
                f"--block-time {plan.block_time_ms}: the network in {folder} has {found}, which "
                f"its difficulty follows; `quorate reset --dir {folder}` begins anew"
            )
        given.remove("block_time")
    changes: dict[str, tuple[int, int]] = {
        "block_time": (network.blocks.block_time_ms, plan.block_time_ms),
        "rpc_port": (first.rpc_port, plan.rpc_port),
        "p2p_port": (first.port, plan.p2p_port),
        "metrics_port": (first.metrics_port, plan.metrics_port),
    }
    changes = {name: pair for name, pair in changes.items() if name in given and pair[0] != pair[1]}
    if not changes:
        return
    words = ", ".join(
        f"--{name.replace('_', '-')} {wanted} (now {found})"
        for name, (found, wanted) in changes.items()
    )
    if local.find_running():
        fail(f"{words}: the network in {folder} runs; `quorate down --dir {folder}` first")
    apply_changes(local, {name: wanted for name, (_, wanted) in changes.items()})
    say(f"Changed in {local.file}: {words}.")


def get_gas_limit(local: Local) -> int:
    """Return the gas limit in a network's genesis file."""
    tree = msgspec.json.decode((local.path / local.network.genesis).read_bytes())
    return int(str(tree["gasLimit"]), 0)


def apply_changes(local: Local, changes: dict[str, int]) -> None:
    """Write settings that the chain does not depend on into network.toml."""
    network = load_network(local.file, environment={})
    blocks = network.blocks
    if "block_time" in changes:
        blocks = msgspec.structs.replace(blocks, block_time_ms=changes["block_time"])
    keys = {"rpc_port": "rpc_port", "p2p_port": "port", "metrics_port": "metrics_port"}
    validators = []
    for index, validator in enumerate(network.validators):
        ports = {keys[n]: base + index for n, base in changes.items() if n in keys}
        validators.append(msgspec.structs.replace(validator, **ports))
    known = len(network.bootnodes)
    network = msgspec.structs.replace(
        network, blocks=blocks, validators=validators, bootnodes=make_bootnodes(validators[:known])
    )
    write_network(network, local.file)


def introduce(local: Local, *, again: bool) -> None:
    """Print endpoints, accounts and what to try next."""
    network = local.network
    where = "" if str(local.path) == ".quorate" else f" --dir {local.path}"
    state = "runs already" if again else "runs"
    emit(
        style(
            f"{len(network.validators)} validators agree by {network.engine}; "
            f"the network in {local.path} {state}.",
            bold=True,
        )
    )
    warn_of_engine(network.engine, network.engine_settings)
    emit()
    is_ethereum = network.application == ETHEREUM
    what = "JSON-RPC" if is_ethereum else "clients"
    for validator in network.validators:
        emit(
            f"  {validator.name:14} {what} http://{validator.rpc_host}:{validator.rpc_port}"
            f"   metrics http://{network.metrics.host}:{validator.metrics_port}/metrics"
        )
    if is_ethereum:
        introduce_ethereum(local)
    else:
        introduce_keyvalue(local)
    emit()
    emit("Try next:")
    last = len(network.validators) - 1
    for command, purpose in (
        ("status", "heights, rounds, peers, pools"),
        (f"kill {last}", f"crash one; {ENGINES[network.engine].quorum} must be left to go on"),
        ("why-stalled", "what the network waits for"),
        ("logs 0 -f", "what validator 0 writes"),
        ("down", "stop; the next `up` continues the same chain"),
    ):
        emit(f"  {get_program() + ' ' + command + where:30} {purpose}")


def introduce_ethereum(local: Local) -> None:
    emit(f"  chain id {local.network.chain_id}; WebSocket on the same ports")
    if local.read_consensus().get("dev"):
        emit()
        emit(style(DEV_WARNING, fg="red", bold=True))
    if not local.network.dev:
        return
    emit()
    emit("Accounts, with 10,000 ether each at genesis:")
    for number, (account, secret) in enumerate(devnet.get_accounts()):
        emit(f"  ({number}) {account}  {secret}")
    emit(
        style(
            "These keys are public, and the validators' keys lie in plain text: for trials "
            "only, never for anything of value.",
            fg="yellow",
        )
    )


def introduce_keyvalue(local: Local) -> None:
    first = local.network.validators[0]
    url = f"http://{first.rpc_host}:{first.rpc_port}"
    emit(f"  application {local.network.application}; HTTP/JSON and frames on the same ports")
    emit()
    emit("From a shell:")
    for command in list_requests(local.network.application, url):
        emit(f"  curl {command}")
    emit(
        style(
            "Anybody who reaches these ports may read and write, and the validators' keys lie in "
            "plain text: for trials only.",
            fg="yellow",
        )
    )


def list_requests(application: str, url: str) -> list[str]:
    """Return requests to begin with: such as the application takes."""
    try:
        machine = open_machine(application)
    except Invalid:
        # It runs; only this shell does not find its class.
        return [f"--data CALL {url}/v1/call"]
    watch = f"-N '{url}/v1/watch?prefix='"
    put = [f"-X PUT --data hello {url}/v1/kv/greeting", f"{url}/v1/kv/greeting"]
    if machine is None:
        return [*put, watch]
    example = machine.example(lambda _: 0)
    try:
        call = "CALL" if example is None else shlex.quote(example.decode())
    except UnicodeDecodeError:
        call = "CALL"
    return [f"--data {call} {url}/v1/call", *(put if machine.direct else []), watch]


def follow_until_interrupted(local: Local) -> None:
    """Show what the validators write until Ctrl-C or SIGTERM, then stop the network."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    # A shell starts what runs in the background with SIGINT ignored, which is not meant for us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    # Under nohup, on the other hand, a network is meant to survive its terminal.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)
    say()
    say("Ctrl-C stops the network. Their logs:")
    try:
        for line in follow(local, list(range(len(local.folders))), 0):
            say(line)
    except KeyboardInterrupt:
        say()
        # A second Ctrl-C must not leave half of the network behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        take_down(local)


@click.command()
@folder_option
def down(folder: Path) -> None:
    """Stop the network in good order; `quorate up` continues the same chain.

    \b
    quorate down
    """
    take_down(open_local(folder))


def take_down(local: Local) -> None:
    """Stop every validator; say so."""
    running = local.find_running()
    if not running:
        say(f"No validator of {local.path} runs.")
        return
    progress = Progress(1)
    progress.enter(f"stopping {len(running)} validators")
    killed = processes.terminate([local.folders[i] for i in running])
    progress.end()
    for folder in killed:
        say(
            f"{folder.path.name} did not stop within {processes.STOP_S:.0f} s and was killed; "
            "its journal keeps what it promised."
        )
    say(f"Stopped. The chain stays in {local.path}.")


@click.command()
@folder_option
@yes_option
def reset(folder: Path, yes: bool) -> None:
    """Stop the network and delete its chain, its keys and its folder.

    \b
    quorate reset --yes
    """
    if not exists(folder):
        say(f"No network in {folder}; nothing to delete.")
        return
    local = open_local(folder)
    if not local.network.dev:
        fail(f"{folder} is not a development network; delete it by hand if you are sure")
    if not yes:
        if not sys.stdin.isatty():
            fail(f"this deletes {folder} for good; say --yes")
        click.confirm(f"Delete {folder}, its chain and its keys?", abort=True, err=True)
    if local.find_running():
        take_down(local)
    # The settings go last: an interrupted reset can be finished by another.
    for validator in local.folders:
        shutil.rmtree(validator.path, ignore_errors=True)
    for name in (local.network.genesis, local.file.name):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
    say(f"Deleted {folder}.")


@click.command()
@folder_option
@click.argument("validator")
def kill(folder: Path, validator: str) -> None:
    """Kill a validator at once, as a crash would (SIGKILL); `quorate start` brings it back.

    \b
    quorate kill 3
    """
    local = open_local(folder)
    index = local.find_index(validator)
    name = local.network.validators[index].name
    pid = processes.kill(local.folders[index])
    if pid is None:
        say(f"{name} does not run.")
        return
    say(f"{name} (process {pid}) is dead. `quorate start {index}` brings it back.")


@click.command()
@folder_option
@click.argument("validator")
def stop(folder: Path, validator: str) -> None:
    """Stop one validator in good order (SIGTERM); `quorate start` brings it back.

    \b
    quorate stop 3
    """
    local = open_local(folder)
    index = local.find_index(validator)
    name = local.network.validators[index].name
    if processes.find(local.folders[index]) is None:
        say(f"{name} does not run.")
        return
    killed = processes.terminate([local.folders[index]])
    say(f"{name} {'had to be killed' if killed else 'stopped'}.")


@click.command()
@folder_option
@click.argument("validator")
def start(folder: Path, validator: str) -> None:
    """Start a validator that was killed or stopped; it catches up from its files and its peers.

    \b
    quorate start 3
    """
    local = open_local(folder)
    index = local.find_index(validator)
    name = local.network.validators[index].name
    pid = processes.find(local.folders[index])
    if pid is not None:
        say(f"{name} runs already (process {pid}).")
        return
    check_ports(local, [index])
    start_validators(local, [index])
    say(f"{name} runs.")


@click.command()
@folder_option
@click.argument("validator", required=False)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 1_000_000),
    default=20,
    show_default=True,
    help="Begin with so many of the last lines of each.",
)
def logs(folder: Path, validator: str | None, following: bool, lines: int) -> None:
    """Show what validators wrote; all of them unless one is named.

    \b
    quorate logs
    quorate logs 2 -f
    """
    local = open_local(folder)
    indexes = [local.find_index(validator)] if validator else list(range(len(local.folders)))
    if not following:
        for index in indexes:
            for line in processes.read_tail(local.folders[index].log, lines):
                emit(label(local, index, len(indexes)) + line)
        return
    for line in follow(local, indexes, lines):
        emit(line)


def label(local: Local, index: int, count: int) -> str:
    """Return what stands before a line where several logs are shown."""
    if count == 1:
        return ""
    colour = ("cyan", "magenta", "green", "yellow", "blue", "red")[index % 6]
    return style(local.network.validators[index].name, fg=colour) + " | "


def follow(local: Local, indexes: list[int], lines: int) -> Iterator[str]:
    """Yield the lines of several logs as they are written, first the last `lines` of each."""
    positions: dict[int, tuple[int, int]] = {}
    for index in indexes:
        log = local.folders[index].log
        for line in processes.read_tail(log, lines):
            yield label(local, index, len(indexes)) + line
        with contextlib.suppress(FileNotFoundError):
            found = log.stat()
            positions[index] = (found.st_ino, found.st_size)
    while True:
        for index in indexes:
            for line in read_new(local.folders[index].log, positions, index):
                yield label(local, index, len(indexes)) + line
        time.sleep(FOLLOW_S)


def read_new(log: Path, positions: dict[int, tuple[int, int]], index: int) -> list[str]:
    """Return the whole lines written since the last look; a replaced log is read from its start."""
    inode, position = positions.get(index, (0, 0))
    try:
        with log.open("rb") as file:
            now = os.fstat(file.fileno())
            if now.st_ino != inode or now.st_size < position:
                position = 0
            file.seek(position)
            content = file.read(1 << 20)
    except FileNotFoundError:
        return []
    whole = content.rfind(b"\n") + 1
    positions[index] = (now.st_ino, position + whole)
    return content[:whole].decode(errors="replace").splitlines()
