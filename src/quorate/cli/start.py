"""Starting validator processes and waiting until they answer."""

import time
from functools import partial

from quorate.base.errors import Invalid, Unavailable
from quorate.cli import processes
from quorate.cli.local import Local
from quorate.cli.output import Progress, fail
from quorate.runtime.ipc_client import ask_status

START_S = 120.0
"""How long validators may take until they answer; recovery of a long chain takes part of it."""
ASK_S = 5.0
FREE_S = 1.0
"""A validator that was killed a moment ago may still be giving its ports back."""


def check_ports(local: Local, indexes: list[int]) -> None:
    """End with one line when a port of these validators is taken."""
    network = local.network
    for index in indexes:
        validator = network.validators[index]
        wanted = [("port", "--p2p-port", validator.listen or validator.host, validator.port)]
        if network.rpc.enabled:
            wanted.append(("rpc_port", "--rpc-port", validator.rpc_host, validator.rpc_port))
        if network.metrics.enabled:
            host = network.metrics.host
            wanted.append(("metrics_port", "--metrics-port", host, validator.metrics_port))
        for key, flag, host, port in wanted:
            if not processes.wait_until(partial(processes.is_free, host, port), FREE_S):
                fail(
                    f"port {port} of {validator.name} is in use: stop what listens there, or "
                    f"choose other ports with {flag} ({key} in {local.file})"
                )


def start_validators(local: Local, indexes: list[int]) -> None:
    """Start these validators and wait until each answers. Raises Problem naming what went wrong."""
    progress = Progress(2)
    progress.enter(f"starting {len(indexes)} of {len(local.folders)} validators")
    children = {i: processes.spawn(local.folders[i], local.file) for i in indexes}
    progress.enter("waiting until they answer")
    waiting = list(indexes)
    deadline = time.monotonic() + START_S
    while waiting:
        for index in list(waiting):
            if children[index].poll() is not None:
                progress.end()
                explain_exit(local, index, children[index].returncode)
            if answers(local, index):
                waiting.remove(index)
        progress.show(f"{len(indexes) - len(waiting)} of {len(indexes)}")
        if waiting and time.monotonic() > deadline:
            progress.end()
            names = ", ".join(local.network.validators[i].name for i in waiting)
            fail(
                f"{names} did not answer within {START_S:.0f} s; `quorate logs {waiting[0]}` "
                "shows why, `quorate down` stops what runs"
            )
        if waiting:
            time.sleep(processes.POLL_S)
    progress.end()


def answers(local: Local, index: int) -> bool:
    """Whether a validator tells its status, and its JSON-RPC accepts connections."""
    try:
        ask_status(local.folders[index].socket, ASK_S)
    except (Unavailable, Invalid):
        return False
    validator = local.network.validators[index]
    return not local.network.rpc.enabled or processes.is_listening(
        validator.rpc_host, validator.rpc_port
    )


def explain_exit(local: Local, index: int, code: int) -> None:
    """End with what a validator wrote last before it ended."""
    name = local.network.validators[index].name
    lines = [line for line in processes.read_tail(local.folders[index].log, 20) if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    last = (errors or lines or ["it wrote nothing"])[-1]
    last = last.removeprefix("error: ").removeprefix(f"{name}: ")
    fail(f"{name} ended with exit code {code}: {last} (`quorate logs {index}` shows more)")
