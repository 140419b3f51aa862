"""The framed port of a key-value network: many requests under way on one connection.

A client begins with `PREAMBLE`. Then both sides send frames: a length (4 bytes, big-endian) and a
msgpack array of so many bytes.

    request    [number, kind, ...]
               1 [number, 1, operation]                         carry out (`ledger/operations.py`)
               2 [number, 2, [key, ...], linearizable]          read entries
               3 [number, 3, key, whether prefix, revision]     watch from a revision (0: now)
               4 [number, 4, number of a watch]                 end a watch
               5 [number, 5, key]                               read with a proof
    answer     [number, 0, result]                              or [number, status, message]
               1 [outcome, revision, detail]
               2 [height, revision, [[value, created, modified, version] or nil, ...]]
               3 [height], and later [number, -1, [[key, revision, entry or nil], ...]]
               5 as `rpc/keyvalue_proof.py` makes it

Answers come in any order. A number may be used again once it was answered.
"""

from typing import TYPE_CHECKING, Any

import msgspec

from quorate.base.errors import Invalid, Unavailable
from quorate.ledger.keyvalue import Event
from quorate.rpc.keyvalue_proof import make_proof
from quorate.rpc.keyvalue_requests import Request
from quorate.rpc.keyvalue_service import Failure, Result, Watch

if TYPE_CHECKING:
    from quorate.rpc.keyvalue_server import KeyValueServer

__all__ = ["PREAMBLE", "FramedProtocol"]

PREAMBLE = b"\x00qkv1\n"
MAX_FRAME_BYTES = 1 << 18
MAX_IN_FLIGHT = 4096
"""Requests of one connection; beyond it nothing is read until answers have left."""
MAX_UNREAD_BYTES = 16 << 20
MAX_WATCHES = 256
"""Of one connection."""
MAX_KEYS = 1024
"""Of one read."""

_DECODER = msgspec.msgpack.Decoder(Request)
_ENCODER = msgspec.msgpack.Encoder()


class FramedProtocol:
    """One connection, from behind its preamble on.

    No subclass of asyncio's protocols, so that it can be compiled.
    """

    def __init__(self, server: "KeyValueServer", transport: Any) -> None:
        self.server, self.service, self.transport = server, server.service, transport
        self.number = self.service.connect(self)
        self.buffer = b""
        self.out: list[bytes] = []
        self.in_flight = 0
        self.reading = True
        self.watches: dict[int, Watch] = {}

    def connection_made(self, transport: Any) -> None:
        """It was made already: this protocol takes the place of another."""

    def eof_received(self) -> bool:
        """Nothing more comes: the event loop shall close the socket."""
        return False

    def pause_writing(self) -> None:
        """What waits is bounded when it leaves."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def connection_lost(self, _: Exception | None) -> None:
        for watch in self.watches.values():
            self.service.forget(watch)
        self.watches.clear()
        self.transport = None
        self.service.disconnect(self.number)
        self.server.forget(self)

    def drop(self, reason: str) -> None:
        if self.transport is not None:
            self.server.log("info", "client dropped", reason=reason)
            self.transport.abort()
            self.transport = None

    # ---- in

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        self.parse()

    def parse(self) -> None:
        """Take whole requests out of the buffer, as many as may be under way."""
        if self.transport is None:
            return
        room = MAX_IN_FLIGHT - self.in_flight
        if room > 0 and self.buffer:
            size, count, others, found = self.service.take(self.number, self.buffer, room)
            self.buffer = self.buffer[size:]
            self.in_flight += count
            for body in others:
                self.handle_body(body)
            if found:
                self.drop(f"a frame of {found} bytes, expected at most {MAX_FRAME_BYTES}")
        reading = self.in_flight < MAX_IN_FLIGHT
        if reading != self.reading and self.transport is not None:
            self.reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def handle_body(self, body: bytes) -> None:
        """Take a request that is no plain operation."""
        if self.transport is None:
            return
        try:
            request = _DECODER.decode(body)
        except msgspec.MsgspecError as error:
            self.drop(f"malformed request: {error}")
            return
        self.handle(request)

    def handle(self, request: Request) -> None:
        kind, number, first = request.kind, request.number, request.first
        try:
            if kind == 1 and isinstance(first, bytes):
                self.service.submit(first, lambda result: self.on_result(number, result))
            elif kind == 2 and isinstance(first, list):
                self.read(number, first, request.second)
            elif kind == 3 and isinstance(first, bytes):
                self.watch(number, first, request.second, request.third)
            elif kind == 4 and isinstance(first, int):
                watch = self.watches.pop(first, None)
                if watch is not None:
                    self.service.forget(watch)
                self.reply(number, [])
            elif kind == 5 and isinstance(first, bytes):
                self.reply(number, make_proof(self.service.ledger, first))
            else:
                raise Failure(400, f"request of kind {kind}: not known, or not of this form")
        except Failure as failure:
            self.fail(number, failure)
        except Invalid as error:
            self.fail(number, Failure(400, str(error)))
        except Unavailable as error:
            self.fail(number, Failure(503, str(error)))

    def read(self, number: int, keys: list[bytes], linearizable: bool) -> None:
        if len(keys) > MAX_KEYS:
            raise Failure(400, f"{len(keys)} keys, expected at most {MAX_KEYS}")
        if not linearizable:
            self.reply(number, self.service.ledger.store.get(keys))
            return

        def on_readable(failure: Failure | None) -> None:
            if failure is not None:
                self.fail(number, failure)
            else:
                self.reply(number, self.service.ledger.read(keys))

        self.service.read(on_readable)

    def watch(self, number: int, key: bytes, prefix: bool, revision: int) -> None:
        if len(self.watches) >= MAX_WATCHES:
            raise Failure(503, f"{MAX_WATCHES} watches of this connection are open already")
        if number in self.watches:
            raise Failure(400, f"a watch has number {number} already")
        watch = Watch(self, number, key, prefix, revision)
        self.watches[number] = watch
        try:
            # The answer comes before the first event.
            self.reply(number, [self.service.height])
            self.service.watch(watch)
        except (Failure, Unavailable) as error:
            del self.watches[number]
            self.end(watch, error if isinstance(error, Failure) else Failure(410, str(error)))

    # ---- out

    def on_result(self, number: int, result: Result | Failure) -> None:
        if isinstance(result, Failure):
            self.fail(number, result)
        else:
            self.reply(number, result)

    def give(self, frames: bytes, count: int) -> None:
        """Take so many answers, whose frames the kernel made; they leave when all have theirs."""
        self.in_flight -= count
        if self.transport is None:
            return
        if not self.out:
            self.server.leaving.append(self)
        self.out.append(frames)

    def reply(self, number: int, result: Any) -> None:
        self.in_flight -= 1
        self.send((number, 0, result))

    def fail(self, number: int, failure: Failure) -> None:
        self.in_flight -= 1
        self.send((number, failure.status, failure.message))

    def tell(self, watch: Watch, events: list[Event]) -> bool:
        self.send((watch.number, -1, events))
        transport = self.transport
        return transport is None or transport.get_write_buffer_size() < MAX_UNREAD_BYTES

    def end(self, watch: Watch, failure: Failure) -> None:
        self.watches.pop(watch.number, None)
        self.send((watch.number, failure.status, failure.message))

    def send(self, message: tuple[Any, ...]) -> None:
        """Put a frame behind those that leave at the end of this turn."""
        if self.transport is None:
            return
        body = _ENCODER.encode(message)
        if not self.out:
            self.server.leave_soon(self)
        self.out.append(len(body).to_bytes(4, "big"))
        self.out.append(body)

    def flush(self) -> None:
        out, self.out = self.out, []
        if self.transport is None:
            return
        self.transport.write(b"".join(out))
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.drop("answers were not read in time")
        elif not self.reading and self.in_flight < MAX_IN_FLIGHT:
            self.parse()
