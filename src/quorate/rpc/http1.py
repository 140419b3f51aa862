"""HTTP/1.1 for small requests in great number: one object a connection, no framework in between.

A request that can be answered at once is answered inside `data_received`, without a task; pipelined
requests are answered in order, and those of one read leave in one write. A WebSocket upgrade hands
the connection to uvicorn. Source: RFC 9110, RFC 9112; parsing is httptools' (llhttp).

Bounds: size of head and body, requests under way and bytes unread on a connection, bytes of bodies
of all connections, and the time that a client may take to send a request or stay idle.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

import httptools
from msgspec import Struct

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 << 10
MAX_PIPELINED = 16
"""Requests of one connection under way; no more are read until answers have left."""
MAX_UNREAD_BYTES = 64 << 20
"""Answers that a client may leave unread before it is cut off."""
IDLE_SECONDS = 120.0
REQUEST_SECONDS = 30.0
"""From the first byte of a request to its last."""
LINGER_SECONDS = 5.0
"""After a refusal the rest of the request is read and dropped so long, so that it arrives."""

JSON = b"application/json"
WEBSOCKET = b"websocket"
OK_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
STATUS_LINES = {status: f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Headers: TypeAlias = list[tuple[bytes, bytes]]


class Head:
    """What is read of a request before its body; values as sent, empty where absent."""

    __slots__ = ("accept", "content_type", "expect", "host", "length", "method", "origin", "url")

    def __init__(self) -> None:
        self.url = self.method = self.host = self.origin = b""
        self.accept = self.content_type = self.expect = self.length = b""


FIELDS = {
    b"host": "host",
    b"origin": "origin",
    b"accept": "accept",
    b"content-type": "content_type",
    b"content-length": "length",
    b"expect": "expect",
}


class Response(Struct):
    """An answer; `close` ends the connection after it."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = []
    close: bool = False

    def encode(self, head_only: bool) -> bytes:
        lines = [STATUS_LINES[HTTPStatus(self.status)]]
        if self.body:
            lines.append(b"content-type: %b\r\n" % self.content_type)
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(b"content-length: %d\r\n" % len(self.body))
        lines += [b"%b: %b\r\n" % header for header in self.headers]
        if self.close:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        if not head_only:
            lines.append(self.body)
        return b"".join(lines)


class Handler(Protocol):
    """Who decides and answers."""

    held_bytes: int
    """Of bodies that are not complete or not answered."""
    max_request_bytes: int
    """Of a request as sent, whatever its encoding."""

    def open(self, connection: "HttpProtocol") -> bool:
        """Take note of a connection; whether there may be one more."""
        ...

    def forget(self, connection: "HttpProtocol") -> None: ...
    def refuse(self, head: Head) -> Response | None:
        """Judge a request by its head; None: it may go on."""
        ...

    def refuse_body(self, size: int) -> Response | None:
        """Judge what has arrived of a body."""
        ...

    def get_headers(self, head: Head) -> Headers:
        """Return what every answer to this request carries."""
        ...

    def post(self, body: bytes) -> bytes | Awaitable[bytes | None] | None:
        """Answer a body with JSON."""
        ...

    def get(self, head: Head) -> Awaitable[Response]: ...
    def make_websocket(self) -> asyncio.Protocol:
        """Return a protocol that takes over a connection from the head of its request."""
        ...


class Slot:
    """An answer that is not written, because it or one before it is not ready."""

    __slots__ = ("close", "data", "head_only", "headers", "size")

    def __init__(self, headers: Headers, head_only: bool, size: int) -> None:
        self.data: bytes | None = None
        self.headers = headers
        self.close = False
        self.head_only = head_only
        self.size = size


class HttpProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self.handler = handler
        self.loop = loop
        self.transport: Any = None
        self.parser: Any = httptools.HttpRequestParser(self)
        self.slots: deque[Slot] = deque()
        self.out: list[bytes] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.reading = self.writable = True
        self.flushing = False
        """`flush` comes in this turn of the loop."""
        self.closing = False
        """No more requests are taken."""
        self.ended = False
        """The client will send no more."""
        self.since = loop.time()
        """When the present request began, or the last one ended."""
        self.begin()

    def begin(self) -> None:
        self.head = Head()
        self.headers: Headers = []
        self.parts: list[bytes] = []
        self.size = self.received = 0
        self.in_request = self.has_head = False
        self.upgrading = b""
        self.refusal: Response | None = None

    # the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if not self.handler.open(self):
            self.closing = True
            self.transport.write(Response(503, b"", close=True).encode(False))
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.closing = True
        self.handler.forget(self)
        self.handler.held_bytes -= self.size
        self.size = 0
        for task in self.tasks:
            task.cancel()

    def eof_received(self) -> bool:
        # Answers that are under way still leave; without any, the connection ends here.
        self.ended = True
        return bool(self.slots)

    def pause_writing(self) -> None:
        self.writable = False
        self.control_reading()

    def resume_writing(self) -> None:
        self.writable = True
        self.control_reading()

    def control_reading(self) -> None:
        """Read on only while the client reads too, and while it has few requests under way."""
        reading = self.writable and len(self.slots) < MAX_PIPELINED
        if reading != self.reading and not self.transport.is_closing():
            self.reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def sweep(self, now: float) -> None:
        """End the connection of a client that takes too long."""
        patience = REQUEST_SECONDS if self.in_request else IDLE_SECONDS
        if not self.slots and now - self.since > (LINGER_SECONDS if self.closing else patience):
            self.transport.abort()

    def shutdown(self) -> None:
        """End once the answers that are under way have left."""
        self.closing = True
        if not self.slots:
            self.transport.close()

    # reading

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self.received += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as error:
                rest = data[error.args[0] :]
                if self.upgrading == WEBSOCKET:
                    self.hand_over(rest)
                    return
                data = self.restart(rest)
            except httptools.HttpParserError:
                self.reject(400)
                break
        if self.in_request and not self.closing:
            if not self.has_head and self.received > MAX_HEAD_BYTES:
                self.reject(431)
            elif self.received > self.handler.max_request_bytes:
                self.reject(413)
        self.write_out()
        if self.closing:
            self.finish()

    def write_out(self) -> None:
        """Write what was answered at once, and read no more where much is under way."""
        if self.out:
            self.transport.write(self.out[0] if len(self.out) == 1 else b"".join(self.out))
            self.out.clear()
            self.cut_off_slow()
        if len(self.slots) >= MAX_PIPELINED and not self.closing:
            self.control_reading()

    def cut_off_slow(self) -> bool:
        """Whether the client has left so much unread that its connection ends."""
        if self.transport.get_write_buffer_size() <= MAX_UNREAD_BYTES:
            return False
        self.closing = True
        self.transport.abort()
        return True

    def on_message_begin(self) -> None:
        self.in_request = True
        self.since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self.head.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            # A trailer.
            return
        name = name.lower()
        if name in FIELDS:
            setattr(self.head, FIELDS[name], value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.closing:
            return
        self.has_head = True
        head = self.head
        head.method = self.parser.get_method()
        if self.parser.should_upgrade():
            offers = [value.lower() for name, value in self.headers if name == b"upgrade"]
            self.upgrading = WEBSOCKET if WEBSOCKET in offers else b"other"
            return
        self.refusal = self.handler.refuse(head)
        if self.refusal is not None and self.refusal.close:
            self.complete()
            self.closing = True
        elif head.expect.lower() == b"100-continue" and self.refusal is None and not self.slots:
            self.out.append(CONTINUE)

    def on_body(self, body: bytes) -> None:
        if self.closing or self.refusal is not None:
            return
        self.size += len(body)
        self.handler.held_bytes += len(body)
        self.parts.append(body)
        self.refusal = self.handler.refuse_body(self.size)
        if self.refusal is not None:
            self.complete()
            self.closing = True

    def on_message_complete(self) -> None:
        if self.closing or self.upgrading:
            return
        self.complete()
        self.begin()
        self.since = self.loop.time()

    # answering

    def complete(self) -> None:
        """Answer the request that was read, or begin to."""
        head, size = self.head, self.size
        self.size = 0
        slot = Slot(self.handler.get_headers(head), head.method == b"HEAD", size)
        slot.close = not self.parser.should_keep_alive()
        if self.refusal is not None:
            self.release(slot, self.refusal)
        elif head.method != b"POST":
            self.wait(slot, self.handler.get(head))
        else:
            parts = self.parts
            answer = self.handler.post(parts[0] if len(parts) == 1 else b"".join(parts))
            if answer is None or isinstance(answer, bytes):
                self.release(slot, answer or b"")
            else:
                self.wait(slot, answer)

    def release(self, slot: Slot, answer: bytes | Response) -> None:
        """Write an answer that came at once, behind those that are under way."""
        data = encode(slot, answer)
        self.handler.held_bytes -= slot.size
        if self.slots:
            slot.data = data
            self.slots.append(slot)
        else:
            self.out.append(data)
        self.closing = self.closing or slot.close

    def wait(self, slot: Slot, answer: Awaitable[bytes | Response | None]) -> None:
        self.slots.append(slot)
        self.closing = self.closing or slot.close
        self.start_task(slot, answer)

    def start_task(self, slot: Slot, answer: Awaitable[bytes | Response | None]) -> None:
        task = self.loop.create_task(self.deliver(slot, answer))
        self.tasks.add(task)
        task.add_done_callback(partial(self.done, slot))

    async def deliver(self, slot: Slot, answer: Awaitable[bytes | Response | None]) -> None:
        try:
            found = await answer
        except Exception:
            logger.exception("a request failed")
            found = Response(500, b"")
        slot.data = encode(slot, found or b"")
        if not self.flushing:
            # Answers that became ready in the same turn of the loop leave in one write.
            self.flushing = True
            self.loop.call_soon(self.flush)

    def done(self, slot: Slot, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        self.handler.held_bytes -= slot.size

    def flush(self) -> None:
        """Write the answers whose turn it is."""
        self.flushing = False
        if self.transport.is_closing():
            return
        slots, ready = self.slots, []
        while slots and (data := slots[0].data) is not None:
            ready.append(data)
            slots.popleft()
        if ready:
            self.transport.write(b"".join(ready))
            if self.cut_off_slow():
                return
        if not slots and (self.closing or self.ended):
            self.finish()
        elif not self.reading:
            self.control_reading()

    def reject(self, status: int) -> None:
        """Answer what is not HTTP, or too long, and close."""
        self.release(Slot([], False, 0), Response(status, b"", close=True))
        self.closing = True

    def finish(self) -> None:
        """Close after the last answer.

        Where the client still sends, closing would destroy the answer before it is read: our side
        ends, and what comes is dropped until the client ends too.
        """
        if self.slots or self.transport.is_closing():
            return
        if self.in_request and not self.ended:
            self.since = self.loop.time()
            self.transport.write_eof()
        else:
            self.transport.close()

    def hand_over(self, rest: bytes) -> None:
        """Let the WebSocket protocol go on, from the head of this request."""
        if self.slots:
            self.reject(400)
            self.flush()
            return
        head = self.render_head(self.headers)
        protocol = self.handler.make_websocket()
        self.handler.forget(self)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.data_received(head + rest)

    def restart(self, rest: bytes) -> bytes:
        """Return the request without its offer of another protocol, for a new parser."""
        headers = [item for item in self.headers if item[0] not in (b"upgrade", b"connection")]
        data = self.render_head(headers) + rest
        self.parser = httptools.HttpRequestParser(self)
        self.begin()
        self.received = len(data)
        return data

    def render_head(self, headers: Headers) -> bytes:
        lines = [b"%b %b HTTP/1.1\r\n" % (self.head.method, self.head.url)]
        lines += [b"%b: %b\r\n" % header for header in headers]
        lines.append(b"\r\n")
        return b"".join(lines)


def encode(slot: Slot, answer: bytes | Response) -> bytes:
    """Return the bytes of an answer in its slot, which learns whether it is the last."""
    if isinstance(answer, bytes):
        if not slot.headers and not slot.close:
            return OK_HEAD % (len(answer), answer)
        answer = Response(200, answer)
    slot.close = slot.close or answer.close
    answer.close = slot.close
    answer.headers = [*answer.headers, *slot.headers]
    return answer.encode(slot.head_only)
