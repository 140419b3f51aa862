"""What may be asked by HTTP and WebSocket, and what answers: JSON-RPC, an information page, health.

HTTP status codes are about HTTP only: a request that reaches the dispatcher is answered with 200,
whatever the answer says.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import msgspec
import uvicorn

from quorate.rpc.api import Api
from quorate.rpc.connection import RpcConnection
from quorate.rpc.dispatch import Exchange
from quorate.rpc.errors import INVALID_REQUEST, LIMIT, RpcError
from quorate.rpc.http1 import JSON, LINGER_SECONDS, Head, Headers, HttpProtocol, Response
from quorate.rpc.page import render_info, render_page
from quorate.rpc.websocket import Connection

Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]

JSON_TYPES = (b"application/json", b"application/json-rpc", b"application/jsonrequest")
HTML = b"text/html; charset=utf-8"
PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"content-type"),
    (b"access-control-max-age", b"600"),
]
NO_HEADERS: Headers = []
MAX_HELD_BYTES = 256 << 20
"""Of all bodies together."""
MAX_ALL_UNREAD_BYTES = 512 << 20
"""Of answers that have been written, of all clients together; beyond it those who left the most
unread are cut off. What one client may leave is bounded by itself.
"""
ENCODING_FACTOR = 8
"""How much longer than its body a request may be: chunks of one byte cost six."""
GRACE_SECONDS = 3
SWEEP_SECONDS = 2.0


class Gateway:
    """Serves one `Api` over HTTP and WebSocket, within `settings`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.settings = api.settings
        self.dispatcher = api.dispatcher
        self.responder = api.responder
        self.held_bytes = 0
        self.max_request_bytes = ENCODING_FACTOR * self.settings.max_body_bytes
        self.requests = 0
        self.connections: set[HttpProtocol] = set()
        self.leaving: dict[Any, float] = {}
        """WebSockets that are closed and have not ended, and when that was seen first."""
        self.allows_host = lru_cache(1024)(self.settings.allows_host)
        self.config = uvicorn.Config(
            self.serve_websocket,
            http=self.make_protocol,  # type: ignore[arg-type]
            ws="websockets-sansio",
            interface="asgi3",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            ws_max_size=self.settings.max_body_bytes,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self.server = uvicorn.Server(self.config)

    def make_protocol(self, **_: Any) -> HttpProtocol:
        """Return the protocol of a new connection."""
        return RpcConnection(self, asyncio.get_running_loop())

    def make_websocket(self) -> asyncio.Protocol:
        """Return the protocol that a connection goes on with after an upgrade."""
        kind: Any = self.config.ws_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server.server_state, app_state={}
        )
        return protocol

    async def sweep(self) -> None:
        """End connections whose clients take too long, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep_at(asyncio.get_running_loop().time())

    def sweep_at(self, now: float) -> None:
        for connection in list(self.connections):
            connection.sweep(now)
        # What a client does not read keeps a connection open that was closed on our side.
        opened: set[Any] = self.server.server_state.connections
        self.leaving = {
            socket: self.leaving.get(socket, now)
            for socket in opened
            if socket not in self.connections and socket.transport.is_closing()
        }
        for socket, since in self.leaving.items():
            if now - since > LINGER_SECONDS:
                socket.transport.abort()
        transports = [socket.transport for socket in opened]
        unread = sorted(((t.get_write_buffer_size(), t) for t in transports), key=itemgetter(0))
        excess = sum(size for size, _ in unread) - MAX_ALL_UNREAD_BYTES
        while excess > 0:
            size, transport = unread.pop()
            transport.abort()
            excess -= size

    # HTTP

    def open(self, connection: HttpProtocol) -> bool:
        """Take note of a connection; whether there may be one more, WebSockets counted."""
        opened: set[Any] = self.server.server_state.connections
        if len(opened) >= self.settings.max_connections:
            return False
        opened.add(connection)
        self.connections.add(connection)
        return True

    def forget(self, connection: HttpProtocol) -> None:
        opened: set[Any] = self.server.server_state.connections
        opened.discard(connection)
        self.connections.discard(connection)

    def refuse(self, head: Head) -> Response | None:
        """Judge a request by its head."""
        if not self.allows_host(head.host.decode("latin-1")):
            return Response(403, refuse_host(head.host))
        self.responder.allow_host(head.host)
        method = head.method
        if method == b"POST":
            kind = head.content_type
            if kind != JSON and kind.partition(b";")[0].strip().lower() not in JSON_TYPES:
                text = "invalid content type, only application/json is supported"
                return Response(415, failure_body(INVALID_REQUEST, text))
            return self.refuse_length(head.length)
        if method in (b"GET", b"HEAD"):
            return None
        if method == b"OPTIONS":
            return Response(204, b"", headers=PREFLIGHT if self.get_headers(head) else NO_HEADERS)
        return Response(405, failure_body(INVALID_REQUEST, "method not allowed"))

    def refuse_length(self, length: bytes) -> Response | None:
        limit = self.settings.max_body_bytes
        # llhttp has made sure that a length is a number.
        if length and int(length) > limit:
            text = f"content length too large ({int(length)}>{limit})"
            return Response(413, failure_body(INVALID_REQUEST, text), close=True)
        if self.get_room() <= 0:
            text = f"{self.requests} requests are being answered, try again later"
            return Response(503, failure_body(LIMIT, text), close=True)
        return None

    def get_room(self) -> int:
        """Return how many more requests may be under way."""
        return 0 if self.held_bytes > MAX_HELD_BYTES else self.settings.max_requests - self.requests

    def refuse_body(self, size: int) -> Response | None:
        """Judge what has arrived of a body; its length may not have been told."""
        limit = self.settings.max_body_bytes
        if size > limit:
            text = f"content length too large (>{limit})"
            return Response(413, failure_body(INVALID_REQUEST, text), close=True)
        return None

    def get_headers(self, head: Head) -> Headers:
        """Return the headers that let a page of an allowed origin read the answer."""
        origin = head.origin
        if not origin or not self.settings.allows_origin(origin.decode("latin-1")):
            return NO_HEADERS
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]

    def post(self, body: bytes) -> bytes | Awaitable[bytes | None] | None:
        return self.finish_post(self.dispatcher.answer(body, Exchange()))

    def post_here(self, body: bytes) -> bytes | Awaitable[bytes | None] | None:
        """Answer a body without the kernel's responder."""
        return self.finish_post(self.dispatcher.answer_here(body, Exchange()))

    def finish_post(
        self, answer: bytes | Awaitable[bytes | None] | None
    ) -> bytes | Awaitable[bytes | None] | None:
        if answer is None or isinstance(answer, bytes):
            return answer
        return self.count(answer)

    async def count(self, answer: Awaitable[bytes | None]) -> bytes | None:
        self.requests += 1
        try:
            return await answer
        finally:
            self.requests -= 1

    async def get(self, head: Head) -> Response:
        path, _, query = head.url.partition(b"?")
        if path == b"/":
            facts = self.api.get_facts()
            if b"text/html" in head.accept:
                return Response(200, render_page(facts), HTML)
            return Response(200, render_info(facts))
        if path in (b"/liveness", b"/healthz"):
            return Response(200, b'{"status":"UP"}')
        if path not in (b"/readiness", b"/readyz"):
            return Response(404, failure_body(INVALID_REQUEST, "not found"))
        values = parse_qs(query.decode("latin-1"))
        reason = await self.api.get_unready_reason(
            get_number(values, "minPeers", self.settings.min_peers),
            get_number(values, "maxBlocksBehind", self.settings.max_blocks_behind),
        )
        if reason is None:
            return Response(200, b'{"status":"UP"}')
        return Response(503, msgspec.json.encode({"status": "DOWN", "reason": reason}))

    # WebSocket

    async def serve_websocket(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection: the ASGI application that uvicorn calls after an upgrade."""
        await receive()
        headers = dict(scope["headers"])
        host: bytes = headers.get(b"host", b"")
        origin: str = headers.get(b"origin", b"").decode("latin-1")
        if not self.allows_host(host.decode("latin-1")):
            await deny(send, refuse_host(host))
            return
        same = origin.partition("://")[2] == host.decode("latin-1")
        if origin and not same and not self.settings.allows_origin(origin):
            text = f"origin {origin[:128]} is not allowed; add it with --cors-origin"
            await deny(send, failure_body(INVALID_REQUEST, text))
            return
        await send({"type": "websocket.accept"})
        connection = Connection(self.settings, self.dispatcher, receive, send)
        try:
            await connection.serve()
        finally:
            self.api.subscriptions.drop(connection)


async def deny(send: Send, body: bytes) -> None:
    """Refuse a WebSocket before it opens."""
    headers = [(b"content-type", JSON), (b"content-length", b"%d" % len(body))]
    await send({"type": "websocket.http.response.start", "status": 403, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def failure_body(code: int, text: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":null,"error":%b}' % RpcError(code, text).encode()


def refuse_host(host: bytes) -> bytes:
    name = host.decode("latin-1")[:128]
    text = f"host {name} is not allowed; add it to rpc.host_allowlist in network.toml"
    return failure_body(INVALID_REQUEST, text)


def get_number(query: dict[str, list[str]], name: str, default: int) -> int:
    value = query.get(name, [""])[0]
    return int(value) if value.isdecimal() and len(value) < 10 else default
