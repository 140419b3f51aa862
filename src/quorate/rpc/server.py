"""The ASGI application: JSON-RPC by POST and WebSocket on one port, an information page, health.

HTTP status codes are about HTTP only: a request that reaches the dispatcher is answered with 200,
whatever the answer says.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import msgspec

from quorate.rpc.api import Api
from quorate.rpc.dispatch import Exchange
from quorate.rpc.errors import INVALID_REQUEST, LIMIT, RpcError
from quorate.rpc.page import render_info, render_page
from quorate.rpc.websocket import Connection

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

JSON_TYPES = ("application/json", "application/json-rpc", "application/jsonrequest")
JSON = b"application/json"
PREFLIGHT_SECONDS = b"600"


class Application:
    """Serves one `Api`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.settings = api.settings
        self.dispatcher = api.dispatcher
        self.requests = 0
        self.connections: set[Connection] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.serve_http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self.serve_websocket(scope, receive, send)

    # HTTP

    async def serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = origin = content_type = accept = b""
        length: bytes = b"0"
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"content-type":
                content_type = value
            elif name == b"content-length":
                length = value
            elif name == b"origin":
                origin = value
            elif name == b"accept":
                accept = value
        extra = self.allow_origin(origin) if origin else []
        if not self.settings.allows_host(host.decode("latin-1")):
            await respond(send, 403, refuse_host(host), extra)
            return
        method = scope["method"]
        if method == "POST":
            kind = content_type.partition(b";")[0].strip().lower().decode("latin-1")
            if kind not in JSON_TYPES:
                text = "invalid content type, only application/json is supported"
                await respond(send, 415, failure_body(INVALID_REQUEST, text), extra)
                return
            await self.serve_post(length, receive, send, extra)
        elif method in ("GET", "HEAD"):
            await self.serve_get(scope, accept, send, extra)
        elif method == "OPTIONS":
            await respond(send, 204, b"", extra + (preflight() if extra else []))
        else:
            await respond(send, 405, failure_body(INVALID_REQUEST, "method not allowed"), extra)

    async def serve_post(self, length: bytes, receive: Receive, send: Send, extra: Headers) -> None:
        limit = self.settings.max_body_bytes
        if length.isdigit() and int(length) > limit:
            text = f"content length too large ({int(length)}>{limit})"
            await respond(send, 413, failure_body(INVALID_REQUEST, text), extra, close=True)
            return
        if self.requests >= self.settings.max_requests:
            text = f"{self.requests} requests are being answered, try again later"
            await respond(send, 503, failure_body(LIMIT, text), extra)
            return
        self.requests += 1
        try:
            body = await collect(receive, limit)
            if body is None:
                text = f"content length too large (>{limit})"
                await respond(send, 413, failure_body(INVALID_REQUEST, text), extra, close=True)
                return
            answer = self.dispatcher.answer(body, Exchange())
            if isinstance(answer, Awaitable):
                answer = await answer
            await respond(send, 200, answer or b"", extra)
        except ConnectionResetError:
            # The client left before its request was complete: nobody waits for an answer.
            return
        finally:
            self.requests -= 1

    async def serve_get(self, scope: Scope, accept: bytes, send: Send, extra: Headers) -> None:
        path = scope["path"]
        if path == "/":
            facts = self.api.get_facts()
            if b"text/html" in accept:
                await respond(send, 200, render_page(facts), extra, b"text/html; charset=utf-8")
            else:
                await respond(send, 200, render_info(facts), extra)
        elif path in ("/liveness", "/healthz"):
            await respond(send, 200, b'{"status":"UP"}', extra)
        elif path in ("/readiness", "/readyz"):
            query = parse_qs(scope["query_string"].decode("latin-1"))
            reason = await self.api.get_unready_reason(
                get_number(query, "minPeers", self.settings.min_peers),
                get_number(query, "maxBlocksBehind", self.settings.max_blocks_behind),
            )
            if reason is None:
                await respond(send, 200, b'{"status":"UP"}', extra)
            else:
                body = msgspec.json.encode({"status": "DOWN", "reason": reason})
                await respond(send, 503, body, extra)
        else:
            await respond(send, 404, failure_body(INVALID_REQUEST, "not found"), extra)

    def allow_origin(self, origin: bytes) -> Headers:
        """Return the headers that let a page of this origin read the answer."""
        if not self.settings.allows_origin(origin.decode("latin-1")):
            return []
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]

    # WebSocket

    async def serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        event = await receive()
        if event["type"] != "websocket.connect":
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"")
        origin = headers.get(b"origin", b"").decode("latin-1")
        same = origin.partition("://")[2] == host.decode("latin-1")
        if not self.settings.allows_host(host.decode("latin-1")):
            await deny(send, refuse_host(host))
            return
        if origin and not same and not self.settings.allows_origin(origin):
            text = f"origin {origin[:128]} is not allowed; add it with --cors-origin"
            await deny(send, failure_body(INVALID_REQUEST, text))
            return
        await send({"type": "websocket.accept"})
        connection = Connection(self.settings, self.dispatcher, receive, send)
        self.connections.add(connection)
        try:
            await connection.serve()
        finally:
            self.connections.discard(connection)
            self.api.subscriptions.drop(connection)


async def collect(receive: Receive, limit: int) -> bytes | None:
    """Return the body of a request, None once over the limit. Raises ConnectionResetError."""
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionResetError
        part: bytes = event.get("body", b"")
        size += len(part)
        if size > limit:
            return None
        if not event.get("more_body"):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


async def respond(
    send: Send,
    status: int,
    body: bytes,
    extra: Iterable[tuple[bytes, bytes]] = (),
    content_type: bytes = JSON,
    close: bool = False,
) -> None:
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        *extra,
    ]
    if close:
        # What is left of the body will not be read, so the connection cannot be used again.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def deny(send: Send, body: bytes) -> None:
    """Refuse a WebSocket before it opens."""
    headers = [(b"content-type", JSON), (b"content-length", b"%d" % len(body))]
    await send({"type": "websocket.http.response.start", "status": 403, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def preflight() -> Headers:
    return [
        (b"access-control-allow-methods", b"POST, GET"),
        (b"access-control-allow-headers", b"content-type"),
        (b"access-control-max-age", PREFLIGHT_SECONDS),
    ]


def failure_body(code: int, text: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":null,"error":%b}' % RpcError(code, text).encode()


def refuse_host(host: bytes) -> bytes:
    name = host.decode("latin-1")[:128]
    text = f"host {name} is not allowed; add it with --allow-host"
    return failure_body(INVALID_REQUEST, text)


def get_number(query: dict[str, list[str]], name: str, default: int) -> int:
    value = query.get(name, [""])[0]
    return int(value) if value.isdecimal() and len(value) < 10 else default
