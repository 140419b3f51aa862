"""`quorate hand-over`: another member leads, where the engine has a leader."""

import time
from pathlib import Path

import click

from quorate.cli.local import Local, Observation, open_local
from quorate.cli.options import folder_option, option
from quorate.cli.output import fail, say
from quorate.consensus import ENGINES
from quorate.runtime import ipc
from quorate.runtime.ipc_client import ask

POLL_S = 0.02


@click.command("hand-over")
@folder_option
@click.argument("validator", default="")
@option("--timeout-ms", type=click.IntRange(1, 600_000), default=5000, help="How long to wait.")
def hand_over(folder: Path, validator: str, timeout_ms: int) -> None:
    """Let VALIDATOR (a number or name; else the one with the most complete log) lead from now on.

    Only engines with a leader have one to hand over: raft. Nothing is lost and nobody waits for a
    timeout. If the other does not take over, the present leader goes on. `quorate stop` does this
    by itself.

    \b
    quorate hand-over
    quorate hand-over validator-2
    """
    local = open_local(folder)
    if not ENGINES[local.network.engine].leads:
        fail(
            f"{local.network.engine}: no member leads for longer than a block, so nobody hands over"
        )
    to = local.network.validators[local.find_index(validator)].identity if validator else b""
    leader = find_leader(local)
    if leader is None:
        fail("nobody leads here at the moment; `quorate status` shows what runs")
    if leader.validator.identity == to:
        say(f"{leader.validator.name} leads already.")
        return
    reason = ask(local.folders[leader.index].socket, ipc.HandOver(1, to), str)
    if reason:
        fail(f"{leader.validator.name} does not hand over: {reason}")
    deadline = time.monotonic() + timeout_ms / 1000
    while time.monotonic() < deadline:
        found = find_leader(local)
        if found is not None and found.index != leader.index:
            say(f"{found.validator.name} leads, after {leader.validator.name}.")
            return
        time.sleep(POLL_S)
    fail(f"{leader.validator.name} still leads after {timeout_ms} ms; is the other one up?")


def find_leader(local: Local) -> Observation | None:
    """Return who says that it leads, in the latest term that any knows of."""
    leaders = [
        observation
        for observation in local.observe()
        if observation.status is not None
        and observation.status.situation.leader == observation.status.address
        and observation.status.situation.step == "leader"
    ]
    return max(leaders, key=get_round, default=None)


def get_round(observation: Observation) -> int:
    return -1 if observation.status is None else observation.status.situation.round
