"""`python -m quorate.rpc`: the JSON-RPC process of one validator."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import uvicorn

from quorate.rpc.api import Api
from quorate.rpc.server import Gateway
from quorate.rpc.settings import DEFAULT_NAMESPACES, NAMESPACES, Settings

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

AUTOGROUP = Path("/proc/self/autogroup")
PARENT_POLL_SECONDS = 1.0
BACKLOG = 2048
VALIDATOR_SECONDS = 5.0
"""How long requests wait for the validator at start; then those that need it are refused."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises ClickException saying what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
        ) from None
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def lower_priority(nice: int, own_session: bool) -> None:
    """Stand back by so much behind all others, agreement above all."""
    if not nice:
        return
    os.nice(nice)
    if own_session and AUTOGROUP.exists():
        # Where the system shares processors between sessions, a busy reader would use up the share
        # of its validator: it gets a session, and so a share, of its own, at the lower priority.
        with contextlib.suppress(OSError):
            os.setsid()
            AUTOGROUP.write_text(str(nice))


async def watch_parent(parent: int, server: uvicorn.Server) -> None:
    """Stop the server once the parent is gone, however it ended."""
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_POLL_SECONDS)
    server.should_exit = True


async def serve(api: Api, listener: socket.socket, parent: int | None) -> None:
    """Serve until a signal or, with `parent`, until that process ends."""
    gateway = Gateway(api)
    server = gateway.server
    tasks = [asyncio.create_task(api.run()), asyncio.create_task(gateway.sweep())]
    if parent is not None:
        tasks.append(asyncio.create_task(watch_parent(parent, server)))
    name = listener.getsockname()
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    print(f"JSON-RPC at http://{host}:{name[1]}", flush=True)
    try:
        # Whoever connects already waits here a moment, instead of being told to try again.
        await api.wait_for_validator(VALIDATOR_SECONDS)
        await server.serve([listener])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        api.close()


def parse_names(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in NAMESPACES:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(NAMESPACES)}")
    return names


def bound(name: str, text: str, least: int = 1) -> Callable[[Decorated], Decorated]:
    """Return an option for one of the numbers in `Settings`."""
    default = getattr(Settings(), name.replace("-", "_"))
    return click.option(f"--{name}", default=default, type=click.IntRange(least), help=text)


@click.command(context_settings={"auto_envvar_prefix": "QUORATE_RPC", "show_default": True})
@click.option("--ledger", required=True, help="The validator's store.")
@click.option(
    "--socket", "path", help="The validator's Unix socket; without, what needs it is refused."
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8545, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--api", "namespaces", default=",".join(DEFAULT_NAMESPACES), callback=parse_names,
    help=f"Namespaces to serve, of {', '.join(NAMESPACES)}.",
)  # fmt: skip
@click.option(
    "--allow-host", multiple=True, help="A name clients may use for this host; * for all."
)
@click.option("--cors-origin", multiple=True, help="An origin whose pages may call; * for all.")
@bound("gas-cap", "Gas of a call.", 21000)
@bound("max-log-blocks", "Blocks that one eth_getLogs may span.")
@bound("max-logs", "Results of one eth_getLogs.")
@bound("max-body-bytes", "Of a request.")
@bound("max-response-bytes", "Of an answer.")
@bound("max-batch", "Requests in one batch.")
@bound("max-connections", "At one time.")
@bound("max-subscriptions", "Of one connection.")
@bound("threads", "For calls and other slow reads.")
@click.option("--call-timeout-ms", default=10_000, type=click.IntRange(1), help="Of a slow read.")
@click.option(
    "--nice", default=5, type=click.IntRange(0, 19), help="Lower priority by this to serve."
)
@click.option(
    "--own-session/--same-session",
    help="Where processors are shared between sessions, take part as one of its own.",
)
@click.option(
    "--parent", type=int, help="End when the process that started this one, with this id, ends."
)
@click.option("--log-level", default="warning", type=click.Choice(["debug", "info", "warning"]))
def main(
    ledger: str,
    path: str | None,
    host: str,
    port: int,
    namespaces: tuple[str, ...],
    allow_host: tuple[str, ...],
    cors_origin: tuple[str, ...],
    call_timeout_ms: int,
    nice: int,
    own_session: bool,
    parent: int | None,
    log_level: str,
    **bounds: int,
) -> None:
    """Serve the JSON-RPC of one validator over HTTP and WebSocket."""
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = Settings(
        namespaces=namespaces,
        allowed_hosts=("localhost", *(name.lower() for name in allow_host)),
        cors_origins=cors_origin,
        call_seconds=call_timeout_ms / 1000,
        **bounds,
    )
    listener = listen(host, port)
    # Not earlier: on a busy machine a start at the lower priority takes a minute. Not later: each
    # thread that is there keeps its own.
    lower_priority(nice, own_session)
    api = Api(settings, ledger, path)
    runner = asyncio.Runner(loop_factory=new_loop)
    with runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(serve(api, listener, parent))


def new_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


if __name__ == "__main__":
    main()
