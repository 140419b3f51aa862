"""Load on a key-value store, in a process of its own on uvloop: puts as fast as answers come.

`python keyvalue_load.py KIND HOST:PORT,... CONNECTIONS IN_FLIGHT SECONDS` prints one JSON object
with operations per second and latencies. KIND: `quorate-http`, `quorate-framed`, `etcd-http` (its
JSON gateway), `etcd-grpc` (HTTP/2 frames composed here, since gRPC for Python would be the
bottleneck).

Requests are composed in advance as far as they are alike, and answers are only told apart as good
or bad, so that all four kinds cost this process little.
"""

import asyncio
import base64
import json
import os
import struct
import sys
import time
from abc import ABC, abstractmethod
from typing import Any

import uvloop

KEYS = 100_000
VALUE = b"v" * 256
NAMES = [b"key%013d" % number for number in range(KEYS)]
HEAD = struct.Struct(">IBBIBBHB16sQQ")
"""Of a framed put, see `QuorateFramed.send`."""
WARM_UP_S = 1.0


class Load:
    """What all connections share."""

    def __init__(self, seconds: float) -> None:
        self.begin = time.monotonic() + WARM_UP_S
        self.end = self.begin + seconds
        self.latencies: list[float] = []
        self.errors = self.puts = 0
        self.number = int.from_bytes(os.urandom(2), "big")

    def next_key(self) -> bytes:
        self.number += 7919
        return NAMES[self.number % KEYS]

    def count(self, since: float, now: float, good: bool) -> bool:
        """Take note of an answer; whether to go on."""
        if not good:
            self.errors += 1
            return now < self.end
        self.puts += 1
        if self.begin <= now < self.end:
            self.latencies.append(now - since)
        return now < self.end


class Client(asyncio.Protocol, ABC):
    """A connection with a number of requests under way."""

    def __init__(self, load: Load, in_flight: int) -> None:
        self.load, self.in_flight = load, in_flight
        self.done = asyncio.get_running_loop().create_future()
        self.transport: Any = None
        self.open = 0
        self.out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.greet()
        now = time.monotonic()
        for _ in range(self.in_flight):
            self.begin(now)
        self.flush()

    def greet(self) -> None:
        pass

    def begin(self, now: float) -> None:
        self.open += 1
        self.send(self.load.next_key(), now)

    @abstractmethod
    def send(self, key: bytes, since: float) -> None:
        """Put the request that sets a key behind those that leave next."""

    def settle(self, since: float, good: bool) -> None:
        self.open -= 1
        now = time.monotonic()
        if self.load.count(since, now, good):
            self.begin(now)
        elif not self.open and not self.done.done():
            self.done.set_result(None)

    def flush(self) -> None:
        if self.out:
            self.transport.write(b"".join(self.out))
            self.out.clear()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.load.errors += self.open
            self.done.set_result(None)


class Http(Client):
    """One request at a time; an answer is complete when its announced length is there."""

    def __init__(self, load: Load, in_flight: int) -> None:
        super().__init__(load, 1)
        self.buffer = b""
        self.since = 0.0

    def send(self, key: bytes, since: float) -> None:
        self.since = since
        self.out.append(self.compose(key))

    @abstractmethod
    def compose(self, key: bytes) -> bytes:
        """Return the request that sets a key."""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.buffer.lower().find(b"content-length: ", 0, head)
        if at < 0:
            if not self.buffer.endswith(b"0\r\n\r\n"):
                return
        elif len(self.buffer) < head + 4 + int(self.buffer[at + 16 : self.buffer.index(b"\r", at)]):
            return
        good = self.buffer.startswith(b"HTTP/1.1 200")
        if not good and not self.load.errors:
            print(self.buffer[:300].decode(errors="replace"), file=sys.stderr)
        self.buffer = b""
        self.settle(self.since, good)
        self.flush()


class QuorateHttp(Http):
    def compose(self, key: bytes) -> bytes:
        return b"PUT /v1/kv/%b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (
            key,
            len(VALUE),
            VALUE,
        )


class EtcdHttp(Http):
    value = base64.b64encode(VALUE)

    def compose(self, key: bytes) -> bytes:
        body = b'{"key":"%b","value":"%b"}' % (base64.b64encode(key), self.value)
        return (
            b"POST /v3/kv/put HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )


class QuorateFramed(Client):
    """Frames of `quorate/rpc/keyvalue_framed.py`, with what is constant written out."""

    def greet(self) -> None:
        self.client = os.urandom(16)
        self.sequence = 0
        self.since: dict[int, float] = {}
        self.buffer = b""
        deadline = int(time.time() * 1000 + 120_000)
        # What stands before the key: the deadline and the key's length.
        self.middle = deadline.to_bytes(8, "big") + b"\x00\x10"
        self.size = 41 + 2 + 16 + len(VALUE)
        self.out.append(b"\x00qkv1\n")

    def send(self, key: bytes, since: float) -> None:
        self.sequence = number = self.sequence + 1
        self.since[number] = since
        acknowledged = next(iter(self.since)) - 1
        # A frame's length; msgpack: an array of three, an integer of 32 bits, 1, bytes of 16-bit
        # length; the operation.
        head = HEAD.pack(
            self.size + 10,
            0x93,
            0xCE,
            number,
            1,
            0xC5,
            self.size,
            1,
            self.client,
            number,
            acknowledged,
        )
        self.out += (head, self.middle, key, VALUE)

    def data_received(self, data: bytes) -> None:
        buffer, at = self.buffer + data if self.buffer else data, 0
        end = len(buffer)
        while end - at >= 4:
            following = at + 4 + (buffer[at + 2] << 8 | buffer[at + 3])
            if following > end:
                break
            # Short answers only, so that two bytes tell their length.
            kind = buffer[at + 5]
            size = 0 if kind < 0x80 else 1 << (kind - 0xCC)
            number = int.from_bytes(buffer[at + 6 : at + 6 + size], "big") if size else kind
            self.settle(self.since.pop(number), buffer[at + 6 + size] == 0)
            at = following
        self.buffer = buffer[at:]
        self.flush()


class EtcdGrpc(Client):
    """gRPC's /etcdserverpb.KV/Put over HTTP/2 (RFC 9113, RFC 7541), one stream a request."""

    DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
    END_STREAM, END_HEADERS, ACK = 1, 4, 1

    def greet(self) -> None:
        self.stream = 1
        self.since: dict[int, float] = {}
        self.buffer = b""
        self.window = 65_535
        self.blocked: list[tuple[bytes, ...]] = []
        self.received = 0
        # :method POST, :scheme http by index; the others as literals that are not indexed.
        self.head = b"\x83\x86" + b"".join(
            literal(name, value)
            for name, value in (
                (b":path", b"/etcdserverpb.KV/Put"),
                (b":authority", b"localhost"),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
            )
        )
        # A put: the message's size, the key (16 bytes) and the value (256).
        self.message_middle = b"\x12\x80\x02"
        message_size = 2 + 16 + len(self.message_middle) + len(VALUE)
        self.message_head = b"\x00" + message_size.to_bytes(4, "big") + b"\x0a\x10"
        self.data_size = 5 + message_size
        # The frames' heads but for the stream.
        self.data_head = frame(self.DATA, self.END_STREAM, 0, bytes(self.data_size))[:5]
        self.request_head = frame(self.HEADERS, self.END_HEADERS, 0, self.head)[:5]
        self.out.append(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        # INITIAL_WINDOW_SIZE, so that streams need no updates; the connection's own follows.
        self.out.append(frame(self.SETTINGS, 0, 0, b"\x00\x04\x7f\xff\xff\xff"))
        self.out.append(frame(self.WINDOW_UPDATE, 0, 0, b"\x7f\x00\x00\x00"))

    def send(self, key: bytes, since: float) -> None:
        stream = self.stream
        self.stream = stream + 2
        self.since[stream] = since
        name = stream.to_bytes(4, "big")
        body = (self.data_head, name, self.message_head, key, self.message_middle, VALUE)
        self.out += (self.request_head, name, self.head)
        if self.blocked or self.data_size > self.window:
            self.blocked.append(body)
        else:
            self.window -= self.data_size
            self.out += body

    def data_received(self, data: bytes) -> None:
        buffer, at = self.buffer + data if self.buffer else data, 0
        available = len(buffer)
        while available - at >= 9:
            size = buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2]
            end = at + 9 + size
            if end > available:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            if kind == self.DATA:
                self.received += size
            elif kind == self.HEADERS:
                if flags & self.END_STREAM:
                    # The trailers; those of an error are longer than of grpc-status 0, which comes
                    # spelled out the first time.
                    stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
                    self.settle(self.since.pop(stream), size < 48)
            else:
                stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
                self.take(kind, flags, stream, buffer[at + 9 : end])
            at = end
        if self.received > 1 << 20:
            self.out.append(frame(self.WINDOW_UPDATE, 0, 0, self.received.to_bytes(4, "big")))
            self.received = 0
        self.buffer = buffer[at:]
        self.flush()

    def take(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == self.SETTINGS and not flags & self.ACK:
            self.out.append(frame(self.SETTINGS, self.ACK, 0, b""))
        elif kind == self.PING and not flags & self.ACK:
            self.out.append(frame(self.PING, self.ACK, 0, body))
        elif kind == self.WINDOW_UPDATE and stream == 0:
            self.window += int.from_bytes(body, "big")
            while self.blocked and self.data_size <= self.window:
                self.window -= self.data_size
                self.out += self.blocked.pop(0)


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


KINDS: dict[str, type[Client]] = {
    "quorate-http": QuorateHttp,
    "quorate-framed": QuorateFramed,
    "etcd-http": EtcdHttp,
    "etcd-grpc": EtcdGrpc,
}


async def run(
    kind: str, places: list[str], connections: int, in_flight: int, seconds: float
) -> None:
    loop = asyncio.get_running_loop()
    load = Load(seconds)
    clients = []
    for number in range(connections):
        host, _, port = places[number % len(places)].rpartition(":")
        making = loop.create_connection(lambda: KINDS[kind](load, in_flight), host, int(port))
        clients.append((await making)[1])
    await asyncio.wait([client.done for client in clients], timeout=seconds + WARM_UP_S + 30)
    found = sorted(load.latencies)
    result = {
        "per_second": len(found) / seconds,
        "errors": load.errors,
        "puts": load.puts,
        **{f"p{p}_ms": 1000 * found[min(len(found) * p // 100, len(found) - 1)] for p in (50, 99)},
    }
    print(json.dumps(result))


def main() -> None:
    kind, places, connections, in_flight, seconds = sys.argv[1:]
    uvloop.run(run(kind, places.split(","), int(connections), int(in_flight), float(seconds)))


if __name__ == "__main__":
    main()
