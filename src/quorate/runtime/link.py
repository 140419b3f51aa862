"""One connection to one peer: TLS over memory buffers, frames, a bounded queue.

A frame is 4 bytes of length, big-endian, and that many bytes. Length 0 is a sign of life. The first
frame of each side is its hello (`Hello` below); until the peer's has come the link carries nothing.

Sending is coalesced: what is given in one turn of the event loop leaves as one TLS record or more.
What waits for the socket is bounded in bytes; beyond that a new frame is dropped and counted. The
protocols above tolerate loss, and a stream must not lose what it has begun.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from msgspec import Struct
from OpenSSL import SSL

from quorate.base.types import Address, Hash
from quorate.runtime.tls import get_peer_fingerprint

__all__ = ["Hello", "Link", "LinkOwner"]

HELLO_MAGIC = b"quorate\x01"
HELLO_BYTES = len(HELLO_MAGIC) + 8 + 32
READ_BYTES = 16 << 10
RECORD_BYTES = 16 << 10
"""What one TLS record holds."""
RECORD_HEAD_BYTES = 5
WRITE_HIGH_BYTES = 256 << 10
"""Beyond this in the socket's own buffer the frames wait in the link's queue."""
PING = bytes(4)
LENGTH = struct.Struct(">I")


class Hello(Struct, frozen=True):
    """Who speaks: which run of its process, and which network it belongs to.

    `incarnation` differs for every start of a process, so that a second connection from a restarted
    peer replaces the dead first one at once.
    """

    incarnation: bytes
    genesis: Hash

    def encode(self) -> bytes:
        return HELLO_MAGIC + self.incarnation + self.genesis

    @staticmethod
    def decode(frame: bytes) -> "Hello | None":
        if len(frame) != HELLO_BYTES or not frame.startswith(HELLO_MAGIC):
            return None
        start = len(HELLO_MAGIC)
        return Hello(frame[start : start + 8], frame[start + 8 :])


class LinkOwner(Protocol):
    """What a link tells; all calls come from the event loop."""

    def on_identified(self, link: "Link", fingerprint: bytes | None) -> Address | None:
        """The TLS handshake is done; return whose certificate it is, None to refuse."""
        ...

    def on_hello(self, link: "Link", hello: Hello) -> None: ...
    def on_frame(self, link: "Link", frame: bytes) -> None: ...
    def on_closed(self, link: "Link", reason: str) -> None:
        """Once for each link; nothing follows it."""
        ...


class Link(asyncio.Protocol):
    """A connection from its first byte to its last."""

    __slots__ = (
        "_buffer",
        "_closed",
        "_flushing",
        "_hello",
        "_loop",
        "_on_open",
        "_owner",
        "_paused",
        "_queue",
        "_record_head",
        "_record_left",
        "_socket",
        "_tls",
        "dialled",
        "dropped_frames",
        "end",
        "heard_at",
        "hello",
        "max_frame",
        "max_queue",
        "peer",
        "queued_bytes",
        "received_bytes",
        "remote",
        "sent_at",
        "sent_bytes",
        "state",
        "up_at",
        "wanted",
    )

    def __init__(
        self,
        owner: LinkOwner,
        tls: SSL.Connection,
        hello: bytes,
        *,
        wanted: Address | None,
        max_frame: int,
        max_queue: int,
        on_open: Callable[["Link"], bool],
    ) -> None:
        """`wanted` is who was dialled, None for a connection that came in.

        `on_open` may refuse a connection before a byte of TLS is spent on it.
        """
        self._owner, self._tls, self._hello = owner, tls, hello
        self._loop = asyncio.get_running_loop()
        self._socket: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._queue: deque[bytes] = deque()
        self._flushing = self._paused = False
        self._record_left = 0
        """Bytes of the TLS record under way that have not arrived."""
        self._record_head = b""
        """What has arrived of the next record's head, if that is not whole."""
        self._closed = ""
        self._on_open = on_open
        self.wanted, self.dialled = wanted, wanted is not None
        self.max_frame, self.max_queue = max_frame, max_queue
        self.state = "handshake"
        """handshake, hello, up, closed."""
        self.peer: Address | None = None
        self.hello: Hello | None = None
        self.remote = ""
        self.end: tuple[str, int] | None = None
        """Address and port of the other end."""
        self.queued_bytes = self.received_bytes = self.sent_bytes = self.dropped_frames = 0
        self.heard_at = self.sent_at = self._loop.time()
        self.up_at: float | None = None

    # ---- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._socket = cast(asyncio.Transport, transport)
        where = transport.get_extra_info("peername")
        self.remote = f"{where[0]}:{where[1]}" if where else "unknown"
        self.end = (where[0], where[1]) if where else None
        if not self._on_open(self):
            self.close("refused")
            return
        self._socket.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._advance()

    def get_socket(self) -> socket.socket | None:
        return None if self._socket is None else self._socket.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self.heard_at = self._loop.time()
        self.received_bytes += len(data)
        self._tls.bio_write(data)
        records = self._count_records(data)
        if self.state == "handshake":
            self._advance()
            # Some of the records were the handshake's: those that follow are found by trying.
            records = -1
        if records and self.state != "handshake" and not self._closed:
            self._read(records)

    def connection_lost(self, error: Exception | None) -> None:
        self.close(f"connection lost: {error}" if error else "closed by the peer")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    # ---- TLS

    def _advance(self) -> None:
        """Go on with the handshake as far as the bytes that are there allow."""
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._write_records()
            return
        except SSL.Error as error:
            self._write_records()
            self.close(f"TLS handshake failed: {describe(error)}")
            return
        self.state = "hello"
        self.peer = self._owner.on_identified(self, get_peer_fingerprint(self._tls))
        if self.peer is None:
            self.close("unknown certificate")
            return
        self._tls.sendall(LENGTH.pack(len(self._hello)) + self._hello)
        self._write_records()

    def _count_records(self, data: bytes) -> int:
        """Return how many TLS records end in received bytes (RFC 8446, 5.1: type, version, length).

        Asking OpenSSL for one more costs as much as reading one, in an exception.
        """
        records, left = 0, self._record_left
        if self._record_head:
            data, self._record_head = self._record_head + data, b""
        at, size = left, len(data)
        while at <= size:
            if left:
                records += 1
            if size - at < RECORD_HEAD_BYTES:
                self._record_head, self._record_left = data[at:], 0
                return records
            left = RECORD_HEAD_BYTES + (data[at + 3] << 8 | data[at + 4])
            at += left
        self._record_left = at - size
        return records

    def _read(self, records: int) -> None:
        """Read what so many records hold, each at most `READ_BYTES`; negative: all there are."""
        buffer = self._buffer
        try:
            while records:
                records -= 1
                buffer += self._tls.recv(READ_BYTES)
                # A frame is taken out as soon as it is whole: the buffer holds less than one
                # frame and one read, whatever the peer sends.
                if len(buffer) >= 4:
                    self._parse()
                    if self._closed:
                        return
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.close("closed by the peer")
        except SSL.Error as error:
            self.close(f"TLS failed: {describe(error)}")

    def _parse(self) -> None:
        buffer, offset, available = self._buffer, 0, len(self._buffer)
        while available - offset >= 4:
            (size,) = LENGTH.unpack_from(buffer, offset)
            limit = self.max_frame if self.state == "up" else HELLO_BYTES
            if size > limit:
                self.close(f"frame of {size} bytes, expected at most {limit}")
                return
            end = offset + 4 + size
            if end > available:
                break
            if size:
                self._on_frame(bytes(buffer[offset + 4 : end]))
                if self._closed:
                    return
            offset = end
        if offset:
            del buffer[:offset]

    def _on_frame(self, frame: bytes) -> None:
        if self.state == "up":
            self._owner.on_frame(self, frame)
            return
        hello = Hello.decode(frame)
        if hello is None:
            self.close(f"first frame {frame[:8].hex()}, expected the hello of this version")
            return
        self.hello, self.state, self.up_at = hello, "up", self._loop.time()
        self._owner.on_hello(self, hello)

    # ---- sending

    def send(self, frame: bytes) -> bool:
        """Queue a frame for the end of this turn; False if it was dropped."""
        if self.state != "up":
            return False
        size = len(frame) + 4
        if self.queued_bytes + size > self.max_queue or len(frame) > self.max_frame:
            self.dropped_frames += 1
            return False
        self._queue.append(frame)
        self.queued_bytes += size
        if not self._flushing and not self._paused:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return True

    def ping(self) -> None:
        """Send a sign of life, unless frames wait anyway."""
        if self.state == "up" and not self._queue and not self._paused:
            self._encrypt(PING)

    def _flush(self) -> None:
        self._flushing = False
        queue = self._queue
        while queue and not self._paused and not self._closed:
            parts: list[bytes] = []
            size = 0
            while queue and size < WRITE_HIGH_BYTES:
                frame = queue.popleft()
                parts += LENGTH.pack(len(frame)), frame
                size += len(frame) + 4
            self.queued_bytes -= size
            self._encrypt(b"".join(parts))

    def _encrypt(self, plain: bytes) -> None:
        try:
            self._tls.sendall(plain)
        except SSL.Error as error:
            self.close(f"TLS failed: {describe(error)}")
            return
        self._write_records(len(plain))

    def _write_records(self, expected: int = 4096) -> None:
        """Hand what TLS has produced to the socket."""
        assert self._socket is not None
        # Room for the records' own headers and tags, so that one read takes all of them.
        size = expected + (expected // RECORD_BYTES + 1) * 64
        while True:
            try:
                data = self._tls.bio_read(size)
            except SSL.Error:
                return
            self.sent_at = self._loop.time()
            self.sent_bytes += len(data)
            self._socket.write(data)
            if len(data) < size:
                return

    # ---- the end

    def close(self, reason: str) -> None:
        """End the connection at once; what waits is lost."""
        if self._closed:
            return
        self._closed = reason
        self.state = "closed"
        self._queue.clear()
        self.queued_bytes = 0
        self._buffer.clear()
        if self._socket is not None:
            # Not abort(): an alert that explains the refusal shall still reach the peer. The
            # timer bounds how long a peer that does not read can hold the socket.
            self._socket.close()
            self._loop.call_later(1.0, self._socket.abort)
        self._owner.on_closed(self, reason)


def describe(error: SSL.Error) -> str:
    """Return OpenSSL's own words for an error, on one line."""
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        return "; ".join(str(entry[-1]) for entry in error.args[0])
    if isinstance(error, SSL.SysCallError) and len(error.args) == 2:
        return str(error.args[1])
    return "the bytes are not TLS"
