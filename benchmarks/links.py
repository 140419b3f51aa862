"""What does a frame from node to node cost in processor time?

A frame goes there and back over loopback, both ends in this process on uvloop: once over links as
nodes have them, once over the same sockets with pyOpenSSL on memory buffers and the least Python
around it. Runs alternate, and the ratio of medians is printed.

    python benchmarks/links.py [--rounds 5] [--frames 4000] [--sizes 300 16000 1000000]
"""

import argparse
import asyncio
import statistics
import struct
import time
from typing import Any, Protocol, cast

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from quorate.base.types import Address
from quorate.runtime.hello import Hello
from quorate.runtime.link import Link, Outbox
from quorate.runtime.strangers import tune
from quorate.runtime.tls import TlsIdentity, create_certificate

HELLO = Hello(bytes(8), bytes(32)).encode()
MOST = 16 << 20
LENGTH = struct.Struct(">I")


class Sender(Protocol):
    def send(self, frame: bytes) -> object: ...


class Counter:
    """Answers each frame with itself until enough have come; the owner of a link."""

    def __init__(self) -> None:
        self.left = 0
        self.sender: Sender | None = None
        self.outbox = Outbox()
        self.ready, self.done = asyncio.Event(), asyncio.Event()

    def on_identified(self, link: Link, fingerprint: bytes | None) -> Address | None:
        return bytes(20)

    def on_hello(self, link: Link, hello: Hello) -> None:
        tune(link)
        self.sender = link
        self.ready.set()

    def on_frame(self, link: object, frame: bytes) -> None:
        assert self.sender is not None
        self.left -= 1
        if self.left > 0:
            self.sender.send(frame)
        elif self.left == 0:
            self.done.set()

    def on_closed(self, link: Link, reason: str) -> None: ...


class OpenSslLink(asyncio.Protocol):
    """The least that carries frames over pyOpenSSL."""

    def __init__(self, owner: Counter, tls: SSL.Connection) -> None:
        self.owner, self.tls = owner, tls
        self.buffer = bytearray()
        self.is_ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast(asyncio.Transport, transport)
        self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        if data:
            self.tls.bio_write(data)
        try:
            if not self.is_ready:
                self.tls.do_handshake()
                self.is_ready, self.owner.sender = True, self
                self.write()
                self.owner.ready.set()
            while True:
                self.buffer += self.tls.recv(16 << 10)
        except SSL.WantReadError:
            if not self.is_ready:
                self.write()
        while len(self.buffer) >= 4:
            (size,) = LENGTH.unpack_from(self.buffer)
            if len(self.buffer) < 4 + size:
                break
            frame = bytes(self.buffer[4 : 4 + size])
            del self.buffer[: 4 + size]
            self.owner.on_frame(self, frame)

    def send(self, frame: bytes) -> None:
        self.tls.sendall(LENGTH.pack(len(frame)) + frame)
        self.write()

    def write(self) -> None:
        try:
            while True:
                self.socket.write(self.tls.bio_read(1 << 20))
        except SSL.WantReadError:
            pass


def make_link(owner: Counter, dials: bool) -> asyncio.Protocol:
    key, certificate, _ = create_certificate("bench")
    return Link(
        cast(Any, owner),
        TlsIdentity(key, certificate),
        HELLO,
        wanted=bytes(20) if dials else None,
        max_frame=MOST,
        max_queue=4 * MOST,
        on_open=lambda _: True,
    )


def make_openssl(owner: Counter, dials: bool) -> asyncio.Protocol:
    key, certificate, _ = create_certificate("bench")
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.use_certificate(x509.load_pem_x509_certificate(certificate))
    context.use_privatekey(cast(Any, serialization.load_pem_private_key(key, None)))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_arguments: True)
    tls = SSL.Connection(context)
    if dials:
        tls.set_connect_state()
    else:
        tls.set_accept_state()
    return OpenSslLink(owner, tls)


async def measure(make: Any, size: int, frames: int) -> float:
    """Return microseconds of processor time that a frame takes, both ends together."""
    loop = asyncio.get_running_loop()
    ends = Counter(), Counter()
    server = await loop.create_server(lambda: make(ends[0], False), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_connection(lambda: make(ends[1], True), "127.0.0.1", port)
    for end in ends:
        await end.ready.wait()
    ends[0].left, ends[1].left = frames // 2, frames
    assert ends[0].sender is not None
    began = time.process_time()
    ends[0].sender.send(bytes(size))
    await ends[0].done.wait()
    spent = time.process_time() - began
    transport.close()
    server.close()
    return spent / frames * 1e6


async def compare(sizes: list[int], rounds: int, frames: int) -> None:
    print("microseconds of processor a frame")
    print(f"{'bytes':>9} {'links':>10} {'pyOpenSSL':>10} {'ratio':>6}")
    for size in sizes:
        count = max(20, frames * 1000 // (1000 + size))
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(await measure(make_link, size, count))
            theirs.append(await measure(make_openssl, size, count))
        ours_us, theirs_us = statistics.median(ours), statistics.median(theirs)
        print(f"{size:9,} {ours_us:10.1f} {theirs_us:10.1f} {theirs_us / ours_us:6.2f}")


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 16_000, 1_000_000])
    arguments = parser.parse_args()
    uvloop.run(compare(arguments.sizes, arguments.rounds, arguments.frames))


if __name__ == "__main__":
    main()
