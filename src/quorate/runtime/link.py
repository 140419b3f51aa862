"""One connection to one peer: a socket, its TLS and frames in the kernel, a bounded queue.

A frame is 4 bytes of length, big-endian, and that many bytes. Length 0 is a sign of life. The first
frame of each side is its hello (`Hello`); until the peer's has come the link carries nothing.
The kernel's `TlsLink` turns bytes of the socket into frames and frames into bytes for the socket,
one call for what one read brought and one for what one turn of the event loop sends, and refuses a
frame that is too long before it is buffered.

Sending is coalesced: what is given in one turn leaves as one TLS record or more, in one write. What
waits for the socket is bounded in bytes; beyond that a new frame is dropped and counted. The
protocols above tolerate loss, and a stream must not lose what it has begun.
"""

import asyncio
import hashlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from quorate._kernel import TlsLink
from quorate.base.types import Address
from quorate.runtime.hello import HELLO_BYTES, Hello
from quorate.runtime.tls import TlsIdentity

__all__ = ["Link", "LinkOwner", "Outbox", "as_protocol"]

WRITE_HIGH_BYTES = 256 << 10
"""Beyond this in the socket's own buffer the frames wait in the link's queue."""
HEAD_BYTES = 4
PING = b""


class Outbox:
    """The links of one node that have something to send.

    What a node says while it handles an input leaves when that is done, together; `flush` is called
    then. The end of the turn would be later by whatever else waits in it, such as the answers and
    the requests of all clients; it comes in anyway, for what is said at other times.
    """

    __slots__ = ("_links", "_loop", "_scheduled")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._links: list[Link] = []
        self._scheduled = False

    def add(self, link: "Link") -> None:
        self._links.append(link)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_turn)

    def flush(self) -> None:
        if self._links:
            links, self._links = self._links, []
            for link in links:
                link.flush()

    def _end_turn(self) -> None:
        self._scheduled = False
        self.flush()


class LinkOwner(Protocol):
    """What a link tells; all calls come from the event loop."""

    outbox: Outbox

    def on_identified(self, link: "Link", fingerprint: bytes | None) -> Address | None:
        """The TLS handshake is done; return whose certificate it is, None to refuse."""
        ...

    def on_hello(self, link: "Link", hello: Hello) -> None: ...
    def on_frame(self, link: "Link", frame: bytes) -> None: ...
    def on_closed(self, link: "Link", reason: str) -> None:
        """Once for each link; nothing follows it."""
        ...


class Link:
    """A connection from its first byte to its last.

    It is a protocol to event loops without inheriting from asyncio's, since a class that does
    cannot be compiled.
    """

    __slots__ = (
        "_closed",
        "_flushing",
        "_hello",
        "_loop",
        "_on_open",
        "_owner",
        "_paused",
        "_queue",
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
        identity: TlsIdentity,
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
        self.wanted, self.dialled = wanted, wanted is not None
        self.max_frame, self.max_queue = max_frame, max_queue
        self._owner, self._hello = owner, hello
        self._tls: TlsLink | None = TlsLink(identity.keys, self.dialled, HELLO_BYTES, max_frame)
        self._loop = asyncio.get_running_loop()
        self._socket: asyncio.Transport | None = None
        self._queue: deque[bytes] = deque()
        self._flushing = self._paused = False
        self._closed = ""
        self._on_open = on_open
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
        # Who dials speaks first; the other side has nothing to say yet.
        self._write(self._session().receive(b"")[1])

    def get_socket(self) -> socket.socket | None:
        return None if self._socket is None else self._socket.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self.heard_at = self._loop.time()
        self.received_bytes += len(data)
        tls = self._session()
        frames, records, trouble = tls.receive(data)
        if records:
            # Of a handshake, or the alert that tells the peer what `trouble` tells us.
            self._write(records)
        if self.state == "handshake" and tls.established:
            self._identify()
        for frame in frames:
            if self._closed:
                return
            if self.state == "up":
                self._owner.on_frame(self, frame)
            else:
                self._on_hello(frame)
        if trouble is not None:
            self.close(trouble)
        self._owner.outbox.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self.close(f"connection lost: {error}" if error else "closed by the peer")

    def eof_received(self) -> bool:
        """Nothing more comes: the event loop shall close the socket."""
        return False

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    # ---- from the handshake to the hello

    def _identify(self) -> None:
        self.state = "hello"
        certificate = self._session().certificate
        fingerprint = None if certificate is None else hashlib.sha256(certificate).digest()
        self.peer = self._owner.on_identified(self, fingerprint)
        if self.peer is None:
            self.close("unknown certificate")
            return
        self._seal([self._hello])

    def _on_hello(self, frame: bytes) -> None:
        hello = Hello.decode(frame)
        if hello is None:
            self.close(f"first frame {frame[:8].hex()}, expected the hello of this version")
            return
        self.hello, self.state, self.up_at = hello, "up", self._loop.time()
        self._owner.on_hello(self, hello)

    # ---- sending

    def send(self, frame: bytes) -> bool:
        """Queue a frame for the next flush; False if it was dropped."""
        if self.state != "up":
            return False
        size = len(frame) + HEAD_BYTES
        if self.queued_bytes + size > self.max_queue or len(frame) > self.max_frame:
            self.dropped_frames += 1
            return False
        self._queue.append(frame)
        self.queued_bytes += size
        if not self._flushing and not self._paused:
            self._flushing = True
            self._owner.outbox.add(self)
        return True

    def ping(self) -> None:
        """Send a sign of life, unless frames wait anyway."""
        if self.state == "up" and not self._queue and not self._paused:
            self._seal([PING])

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        self._flushing = False
        queue = self._queue
        while queue and not self._paused and not self._closed:
            if self.queued_bytes <= WRITE_HIGH_BYTES:
                frames = list(queue)
                queue.clear()
                self.queued_bytes = 0
            else:
                frames = self._take()
            self._seal(frames)

    def _take(self) -> list[bytes]:
        """Return the first frames that wait, so many that the socket's buffer is full of them."""
        frames: list[bytes] = []
        size = 0
        while self._queue and size < WRITE_HIGH_BYTES:
            frame = self._queue.popleft()
            frames.append(frame)
            size += len(frame) + HEAD_BYTES
        self.queued_bytes -= size
        return frames

    def _seal(self, frames: list[bytes]) -> None:
        self._write(self._session().seal(frames))

    def _session(self) -> TlsLink:
        assert self._tls is not None
        return self._tls

    def _write(self, records: bytes) -> None:
        assert self._socket is not None
        self.sent_at = self._loop.time()
        self.sent_bytes += len(records)
        # uvloop writes to the socket at once while nothing waits for it.
        self._socket.write(records)

    # ---- the end

    def close(self, reason: str) -> None:
        """End the connection at once; what waits is lost."""
        if self._closed:
            return
        self._closed = reason
        self.state = "closed"
        self._queue.clear()
        self.queued_bytes = 0
        # With what it has buffered of a frame; nothing asks it from now on.
        self._tls = None
        if self._socket is not None:
            # Not abort(): an alert that explains the refusal shall still reach the peer. The
            # timer bounds how long a peer that does not read can hold the socket.
            self._socket.close()
            self._loop.call_later(1.0, self._socket.abort)
        self._owner.on_closed(self, reason)


def as_protocol(link: Link) -> asyncio.Protocol:
    """Return a link as what event loops say they want."""
    return cast(asyncio.Protocol, link)
