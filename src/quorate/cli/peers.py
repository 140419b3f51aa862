"""`quorate peers`: whom each node is connected to, and bans where anybody may join."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from quorate.base.errors import Unavailable
from quorate.cli.local import Local, Observation, open_local
from quorate.cli.options import folder_option, format_option, option
from quorate.cli.output import emit, emit_table, fail, say
from quorate.node.status import BanStatus, PeerStatus
from quorate.runtime import ipc
from quorate.runtime.ipc_client import ask

F = TypeVar("F", bound=Callable[..., Any])

MAX_HOURS = 24 * 365


@click.group(invoke_without_command=True)
@folder_option
@option("--of", "which", default="", help="One node, by number or name [all].")
@format_option
@click.pass_context
def peers(ctx: click.Context, folder: Path, which: str, output: str) -> None:
    """Show the connections of each node; `ban` and `unban` where anybody may join.

    DIRECTION is outbound for who was dialled, inbound for who came, feeler for who is only looked
    at. POINTS are what a peer did wrong lately: 100 are a ban.

    \b
    quorate peers
    quorate peers --of 2 -o json
    quorate peers ban 203.0.113.7 --hours 48
    quorate peers unban 203.0.113.7 --of 2
    """
    ctx.obj["peers"] = (folder, which)
    if ctx.invoked_subcommand is not None:
        return
    local = open_local(folder)
    seen = [local.observe_one(index) for index in select(local, which)]
    rows = [row for observation in seen for row in describe(local, observation)]
    bans = [
        {"node": observation.validator.name, **describe_ban(ban)}
        for observation in seen
        if observation.status is not None
        for ban in observation.status.bans
    ]
    if output == "json":
        emit(json.dumps({"peers": rows, "bans": bans}, indent=2))
        return
    keys = ["node", "peer", "at", "direction", "connected", "height", "points", "up_s"]
    headers = ["node", "peer", "at", "direction", "connected", "final", "points", "up"]
    emit_table(headers, [[show(row[key]) for key in keys] for row in rows])
    for ban in bans:
        emit(f"{ban['node']} has banned {ban['who']} for {ban['ends_in_s']} s: {ban['reason']}")


def place_options(function: F) -> F:
    """Add what the group takes, so that it may stand behind the command as well."""
    function = click.option("--dir", "folder", type=click.Path(path_type=Path), default=None)(
        function
    )
    return click.option("--of", "which", default=None)(function)


@peers.command()
@click.argument("who", metavar="IDENTITY|ADDRESS")
@place_options
@option("--hours", type=click.IntRange(1, MAX_HOURS), default=24, help="How long.")
@option("--reason", default="by hand", help="What is shown of it.")
@click.pass_context
def ban(
    ctx: click.Context,
    who: str,
    hours: int,
    reason: str,
    folder: Path | None,
    which: str | None,
) -> None:
    """Let nodes talk no more to a peer's identity (0x...) or to all who come from an address.

    An IPv6 address stands for its 64 bits of network.

    \b
    quorate peers ban 203.0.113.7
    """
    local, running = find_running(ctx, folder, which)
    for index in running:
        ask(local.folders[index].socket, ipc.Ban(1, who, hours * 3600, reason), bool)
        say(f"{local.network.validators[index].name} has banned {who} for {hours} h.")


@peers.command()
@click.argument("who", metavar="IDENTITY|ADDRESS")
@place_options
@click.pass_context
def unban(ctx: click.Context, who: str, folder: Path | None, which: str | None) -> None:
    """End a ban.

    \b
    quorate peers unban 203.0.113.7
    """
    local, running = find_running(ctx, folder, which)
    for index in running:
        lifted = ask(local.folders[index].socket, ipc.Unban(1, who), bool)
        name = local.network.validators[index].name
        say(f"{name} talks to {who} again." if lifted else f"{name} had not banned {who}.")


def select(local: Local, which: str) -> list[int]:
    """Return the indexes of one node, or of all."""
    return [local.find_index(which)] if which else list(range(len(local.folders)))


def find_running(
    ctx: click.Context, folder: Path | None, which: str | None
) -> tuple[Local, list[int]]:
    """Return the network and the nodes to talk to. Raises Problem if none runs."""
    usual_folder, usual = ctx.obj["peers"]
    local = open_local(folder or usual_folder)
    chosen = select(local, usual if which is None else which)
    running = [index for index in local.find_running() if index in chosen]
    if not running:
        fail("no such node runs; `quorate status` shows them")
    return local, running


def describe(local: Local, observation: Observation) -> list[dict[str, Any]]:
    """Return what is known of the peers of one node."""
    if observation.status is None:
        if observation.error:
            raise Unavailable(f"{observation.validator.name}: {observation.error}")
        return []
    return [
        describe_peer(local, observation.validator.name, peer) for peer in observation.status.peers
    ]


def describe_peer(local: Local, node: str, peer: PeerStatus) -> dict[str, Any]:
    return {
        "node": node,
        "peer": local.get_name(peer.address),
        "identity": "0x" + peer.address.hex(),
        "at": peer.at or None,
        "direction": peer.direction or None,
        "connected": peer.connected,
        "height": peer.height,
        "last_heard_ms": peer.last_heard_ms,
        "points": peer.points,
        "up_s": peer.up_ms // 1000 if peer.direction else None,
    }


def describe_ban(ban: BanStatus) -> dict[str, Any]:
    return {"who": ban.who, "ends_in_s": ban.ends_in_s, "reason": ban.reason}


def show(value: object) -> str:
    if value is None:
        return "-"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
