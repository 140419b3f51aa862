"""The load: prepared JSON-RPC bodies over keep-alive connections, as fast as they are answered.

A process of its own, so that preparing and measuring do not share its core: the parent writes the
bodies to a file, starts this with the file, waits for the line `ready`, writes `go`, and reads one
line of JSON. HTTP/1.1 is pipelined: each connection keeps `depth` requests under way. Every body is
sent once; with `--seconds S` they are sent again and again for that long.
"""

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, cast

import msgspec
import uvloop

MAX_RESPONSE_BYTES = 16 << 20


class Load:
    """What the connections share: requests that wait, and what came back."""

    def __init__(self, requests: list[bytes], depth: int) -> None:
        self.requests = requests
        self.depth = depth
        self.until: float | None = None
        """When to send no more; None: when every request was sent once."""
        self.next = 0
        self.answered = 0
        self.errors: list[str] = []
        self.latencies: list[float] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, count: int) -> list[bytes]:
        first = self.next
        if self.until is None:
            self.next = min(len(self.requests), first + count)
            return self.requests[first : self.next]
        if time.perf_counter() >= self.until:
            return []
        self.next += count
        return [self.requests[i % len(self.requests)] for i in range(first, self.next)]

    def is_done(self) -> bool:
        over = self.until is None or time.perf_counter() >= self.until
        return over and self.answered >= (self.next if self.until else len(self.requests))


class Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.sent: deque[float] = deque()
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's classes.
        self.transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent and not self.load.finished.done():
            self.load.finished.set_exception(ConnectionError(f"connection lost: {error}"))

    def fill(self) -> None:
        assert self.transport is not None
        batch = self.load.take(self.load.depth - len(self.sent))
        if batch:
            now = time.perf_counter()
            self.sent.extend([now] * len(batch))
            self.transport.write(b"".join(batch))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        try:
            while (body := self.read_response()) is not None:
                self.note(body)
        except ValueError as error:
            if not self.load.finished.done():
                self.load.finished.set_exception(error)
            return
        self.fill()

    def read_response(self) -> bytes | None:
        """Return the body of the next complete response, None if it has not all arrived."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self.buffer[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(f"response: {self.buffer[:200]!r}, expected HTTP/1.1 200")
        _, found, rest = head.partition(b"\ncontent-length:")
        if not found:
            raise ValueError(f"response: {head!r}, expected a content-length")
        length = int(rest.split(b"\r", 1)[0])
        if length > MAX_RESPONSE_BYTES:
            raise ValueError(f"response: {length} bytes, expected at most {MAX_RESPONSE_BYTES}")
        start = end + 4
        if len(self.buffer) < start + length:
            return None
        body = self.buffer[start : start + length]
        self.buffer = self.buffer[start + length :]
        return body

    def note(self, body: bytes) -> None:
        load = self.load
        load.latencies.append(time.perf_counter() - self.sent.popleft())
        at = body.find(b'"error"')
        if at >= 0 and len(load.errors) < 5:
            load.errors.append(body[at : at + 300].decode(errors="replace"))
        load.answered += 1
        if load.is_done() and not load.finished.done():
            load.finished.set_result(None)


def build_request(host: str, port: int, body: bytes) -> bytes:
    head = (
        f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(
    targets: list[str], bodies: list[bytes], connections: int, depth: int, seconds: float | None
) -> Any:
    places = [(host, int(port)) for host, port in (t.rsplit(":", 1) for t in targets)]
    # All requests name the first target in their Host header, which every local server allows.
    load = Load([build_request(*places[0], body) for body in bodies], depth)
    loop = asyncio.get_running_loop()
    opened = []
    for i in range(connections):
        host, port = places[i % len(places)]
        opened.append((await loop.create_connection(lambda: Connection(load), host, port))[1])
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    started = time.perf_counter()
    load.until = None if seconds is None else started + seconds
    for connection in opened:
        connection.fill()
    await load.finished
    elapsed = time.perf_counter() - started
    ordered = sorted(load.latencies)
    return {
        "seconds": elapsed,
        "answered": load.answered,
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
        "errors": load.errors,
    }


def main() -> None:
    arguments, seconds = sys.argv[1:], None
    if arguments[0] == "--seconds":
        seconds, arguments = float(arguments[1]), arguments[2:]
    path, connections, depth, *targets = arguments
    bodies = msgspec.msgpack.decode(Path(path).read_bytes(), type=list[bytes])
    result = uvloop.run(run(targets, bodies, int(connections), int(depth), seconds))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
