"""Liveness, readiness, status and metrics over HTTP, on a port of their own.

`/liveness` `/healthz` `/health`: the process works. `/readiness` `/readyz`: it may be sent traffic,
with `?minPeers=` and `?maxBlocksBehind=` as Besu has them. `/status`: JSON in CometBFT's form.
`/metrics`: Prometheus. Requests are small and few; more than a handful at a time are refused.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec
import uvicorn

from quorate.base.errors import Unavailable
from quorate.node.status import NodeStatus
from quorate.runtime.metrics import get_best_known

__all__ = ["HealthServer", "Inspected", "make_app"]

MAX_BLOCKS_BEHIND = 2
MAX_REQUESTS = 32

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
Answer = tuple[int, str, bytes]


class Inspected(Protocol):
    """What is asked about; all calls come from the event loop."""

    def get_status(self) -> NodeStatus: ...
    def get_metrics(self) -> bytes: ...


def make_app(inspected: Inspected) -> App:
    """Return the ASGI application."""

    async def app(scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, kind, body = answer(inspected, scope)
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        shown = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": shown})

    return app


def answer(inspected: Inspected, scope: dict[str, Any]) -> Answer:
    if scope["method"] not in ("GET", "HEAD"):
        return as_json(405, {"error": f"method {scope['method']}, expected GET"})
    path: str = scope["path"]
    if path in ("/liveness", "/healthz", "/health"):
        return as_json(200, {"status": "UP"})
    if path in ("/readiness", "/readyz"):
        return answer_readiness(inspected.get_status(), scope["query_string"].decode("latin-1"))
    if path == "/metrics":
        return 200, "text/plain; version=0.0.4; charset=utf-8", inspected.get_metrics()
    if path == "/status":
        return as_json(200, describe(inspected.get_status()))
    paths = "/liveness, /readiness, /status, /metrics"
    return as_json(404, {"error": f"path {path}, expected one of {paths}"})


def answer_readiness(status: NodeStatus, query: str) -> Answer:
    """Ready: enough peers, and not far behind the best of them."""
    alone = len(status.validators) == 1 and status.validators[0].address == status.address
    limits = {"minPeers": 0 if alone else 1, "maxBlocksBehind": MAX_BLOCKS_BEHIND}
    for name, values in parse_qs(query).items():
        if name in limits:
            if not values[-1].isdecimal() or len(values[-1]) > 9:
                error = f"{name}: found {values[-1][:32]!r}, expected a number"
                return as_json(400, {"error": error})
            limits[name] = int(values[-1])
    peers = sum(peer.connected for peer in status.peers)
    behind = get_best_known(status) - status.height
    if peers >= limits["minPeers"] and behind <= limits["maxBlocksBehind"]:
        return as_json(200, {"status": "UP"})
    return as_json(503, {"status": "DOWN", "peers": peers, "blocksBehind": behind})


def describe(status: NodeStatus) -> dict[str, Any]:
    """Return a status in the form that tools for CometBFT read."""
    powers = {member.address: member.power for member in status.validators}
    time = datetime.fromtimestamp(status.block_time_ms / 1000, UTC)
    return {
        "node_info": {
            "id": "0x" + status.address.hex(),
            "network": "0x" + status.genesis.hex(),
            "version": status.version,
            "engine": status.engine,
        },
        "sync_info": {
            "latest_block_hash": "0x" + status.latest_block.hex(),
            "latest_block_height": str(status.latest),
            "latest_block_time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "final_block_height": str(status.height),
            "durable_block_height": str(status.durable),
            "catching_up": status.syncing_to is not None,
        },
        "validator_info": {
            "address": "0x" + status.address.hex(),
            "voting_power": str(powers.get(status.address, 0)),
        },
        "consensus": {
            "height": str(status.situation.height),
            "round": status.situation.round,
            "step": status.situation.step,
            "why_stalled": status.why_stalled,
        },
        "peers": [
            {
                "address": "0x" + peer.address.hex(),
                "connected": peer.connected,
                "height": str(peer.height),
            }
            for peer in status.peers
        ],
    }


def as_json(status: int, body: dict[str, Any]) -> Answer:
    return status, "application/json", msgspec.json.encode(body)


class QuietServer(uvicorn.Server):
    """A server that leaves signals to the process around it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HealthServer:
    """Serves until `stop`."""

    def __init__(self, inspected: Inspected, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._server = QuietServer(
            uvicorn.Config(
                make_app(inspected),
                host=host,
                port=port,
                http="httptools",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                limit_concurrency=MAX_REQUESTS,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=16 << 10,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises Unavailable when the port is taken."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            # Uvicorn ends the whole process when it cannot bind, so the socket is bound here.
            listener = socket.create_server((self.host, self.port), family=family)
        except OSError as error:
            raise Unavailable(
                f"metrics on {self.host}:{self.port}: {error.strerror or error}"
            ) from None
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
