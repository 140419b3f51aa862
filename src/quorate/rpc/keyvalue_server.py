"""The port of a key-value network's clients: HTTP/JSON and frames side by side, in the validator.

Both protocols share one TCP port: a connection whose first byte is zero speaks frames
(`keyvalue_framed.py`), any other HTTP (`keyvalue_http.py`). The port is in the validator's own
process, since an answer should wait for the quorum and for nothing else; what bounds clients is
that everything they may have under way is bounded, connection by connection and over all.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from quorate.base.errors import Unavailable
from quorate.ledger.application import Executed
from quorate.ledger.keyvalue import KeyValueLedger
from quorate.rpc.http1 import Response
from quorate.rpc.keyvalue_framed import PREAMBLE, FramedProtocol
from quorate.rpc.keyvalue_http import HttpConnection, HttpHandler
from quorate.rpc.keyvalue_service import NodeFace, Service, Work

__all__ = ["KeyValueServer"]

SWEEP_S = 5.0
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds, seconds and tries, where the system knows them; connections inherit them."""
BACKLOG = 2048
STOP_S = 2.0


class Greeter(asyncio.Protocol):
    """A connection that has not shown which protocol it speaks."""

    def __init__(self, server: "KeyValueServer") -> None:
        self.server = server
        self.transport: Any = None
        self.data = b""
        self.since = server.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if len(self.server.connections) >= self.server.max_connections:
            self.transport.write(Response(503, b"", close=True).encode(False))
            self.transport.close()
            return
        self.server.connections[self] = None

    def connection_lost(self, _: Exception | None) -> None:
        self.server.forget(self)

    def data_received(self, data: bytes) -> None:
        server, data = self.server, self.data + data
        protocol: FramedProtocol | HttpConnection
        if data[0]:
            protocol, rest = HttpConnection(server), data
            protocol.connection_made(self.transport)
        elif len(data) < len(PREAMBLE) and PREAMBLE.startswith(data):
            self.data = data
            return
        elif data.startswith(PREAMBLE):
            protocol, rest = FramedProtocol(server, self.transport), data[len(PREAMBLE) :]
        else:
            self.transport.abort()
            return
        server.forget(self)
        server.connections[protocol] = None
        self.transport.set_protocol(protocol)
        if rest:
            protocol.data_received(rest)

    def sweep(self, now: float) -> None:
        if now - self.since > SWEEP_S:
            self.transport.abort()


class KeyValueServer:
    """Serves until `stop`. It is told of final heights by `on_final`."""

    def __init__(
        self,
        node: NodeFace,
        ledger: KeyValueLedger,
        work: Work,
        call_soon: Callable[[Callable[[], None]], None],
        *,
        host: str,
        port: int,
        max_connections: int,
        about: dict[str, Any],
        log: Callable[..., None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.service = Service(node, ledger, self.loop, work, call_soon)
        self.host, self.port, self.max_connections = host, port, max_connections
        self.about, self.log = about, log
        self.http = HttpHandler(self)
        self.connections: dict[Any, None] = {}
        self.leaving: list[HttpConnection | FramedProtocol] = []
        """Those whose answers leave at the end of this turn of the loop."""
        self.service.on_turn.append(self.leave)
        self.listener: asyncio.Server | None = None
        self.sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen. Raises Unavailable when the port is taken."""
        try:
            self.listener = await self.loop.create_server(
                lambda: Greeter(self), self.host, self.port, backlog=BACKLOG
            )
        except OSError as error:
            raise Unavailable(
                f"clients on {self.host}:{self.port}: {error.strerror or error}"
            ) from None
        for listener in self.listener.sockets:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Who speaks frames may be silent for long; a host that is gone gives its place back.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEPALIVE.items():
                if hasattr(socket, name):
                    listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.service.start()
        self.sweeper = self.loop.call_later(SWEEP_S, self.sweep)

    async def stop(self) -> None:
        """Take no more connections; answers that are ready leave, then all end."""
        if self.listener is not None:
            self.listener.close()
        if self.sweeper is not None:
            self.sweeper.cancel()
        self.leave()
        self.service.stop()
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.close()
        deadline = self.loop.time() + STOP_S
        while self.connections and self.loop.time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def on_final(self, executed: Executed) -> None:
        self.service.on_final(executed)

    def forget(self, connection: Any) -> None:
        self.connections.pop(connection, None)

    def leave_soon(self, connection: HttpConnection | FramedProtocol) -> None:
        """Let what a connection has ready leave at the end of this turn."""
        if not self.leaving:
            self.loop.call_soon(self.leave)
        self.leaving.append(connection)

    def leave(self) -> None:
        leaving, self.leaving = self.leaving, []
        for connection in leaving:
            connection.flush()

    def sweep(self) -> None:
        self.sweeper = self.loop.call_later(SWEEP_S, self.sweep)
        now = self.loop.time()
        for connection in list(self.connections):
            if not isinstance(connection, FramedProtocol):
                connection.sweep(now)

    def get_status(self) -> dict[str, Any]:
        """Return what /v1/status shows."""
        height, revision, _ = self.service.ledger.store.get([])
        durable = self.service.ledger.store.durable()
        leads = self.service.node.leads()
        return {
            **self.about,
            "leads": leads,
            "height": height,
            "durable": durable,
            "revision": revision,
        }
