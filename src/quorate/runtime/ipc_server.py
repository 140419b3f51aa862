"""A validator's Unix socket: answers its JSON-RPC process and the command line (`ipc.py`).

The socket is for the owner of the validator's folder alone. Clients are bounded in number, their
unanswered requests too: beyond that the connection is not read until answers have left. A client
that does not read its answers or events is dropped, so that it costs a bounded buffer.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from msgspec import Raw

from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash, Height
from quorate.node.status import NodeStatus
from quorate.runtime import ipc

__all__ = ["IpcServer", "PoolReader", "Questions"]

MAX_UNREAD_BYTES = 96 << 20
"""Answers that a client may leave unread; more than the largest answer."""
MAX_UNREAD_EVENT_BYTES = 8 << 20
"""The same for events, which come unasked."""

_ENCODER = msgspec.msgpack.Encoder()
_REQUESTS: msgspec.msgpack.Decoder[ipc.Request] = msgspec.msgpack.Decoder(ipc.Request)

Verdicts = list[tuple[Hash, str | None]]
Log = Callable[..., None]


class PoolReader(Protocol):
    """The part of a pool that can be asked; the kernel's `Pool` is one."""

    def nonce(self, account: bytes, /) -> int: ...
    def counts(self) -> tuple[int, int, int]: ...
    def content_json(self, account: bytes | None, /) -> bytes: ...
    def transaction_json(self, hash: bytes, /) -> bytes | None: ...
    def get(self, hash: bytes, /) -> bytes | None: ...


class Questions(Protocol):
    """Who answers. All calls come from the event loop."""

    pool: PoolReader | None

    def submit(self, items: list[bytes], done: Callable[[Verdicts], None]) -> None: ...
    def get_status(self) -> NodeStatus: ...
    def get_durable(self) -> Height: ...
    def get_metrics(self) -> bytes: ...
    def ban(self, who: str, seconds: int, reason: str) -> bool:
        """Talk to somebody no more, in an open network. Raises Invalid."""
        ...

    def unban(self, who: str) -> bool:
        """End a ban; whether there was one. Raises Invalid."""
        ...

    def hand_over(self, to: Address | None) -> str:
        """Let another member lead; why not, or empty."""
        ...

    def read(self, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Make a call off the loop; `done` gets the result, or the exception it raised."""
        ...


class IpcServer:
    """Accepts clients until `stop`."""

    def __init__(
        self, path: Path, questions: Questions, log: Log, *, max_clients: int, max_in_flight: int
    ) -> None:
        self.path, self.questions, self.log = path, questions, log
        self.max_clients, self.max_in_flight = max_clients, max_in_flight
        self.clients: set[Client] = set()
        self._server: asyncio.Server | None = None
        self._pending: list[Hash] = []
        self._height: Height | None = None
        self._telling = False

    async def start(self) -> None:
        """Listen. The socket is made with its owner's permissions alone from the first moment."""
        self.path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with ipc.short_path(self.path) as name:
                self._server = await asyncio.get_running_loop().create_unix_server(
                    lambda: Client(self), name
                )
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Take no more requests, and close once the answers that are ready have left."""
        if self._server is not None:
            self._server.close()
        for client in list(self.clients):
            client.close()
        self.path.unlink(missing_ok=True)

    # ---- events

    def tell_committed(self, height: Height) -> None:
        """Tell subscribers that a height is visible; several in one turn are told as one."""
        self._height = height
        self._tell_soon()

    def tell_pending(self, hashes: list[Hash]) -> None:
        """Tell those who asked for it which transactions now wait."""
        if any(client.wants_pending for client in self.clients):
            self._pending += hashes
            self._tell_soon()

    def _tell_soon(self) -> None:
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        pending, self._pending = self._pending, []
        height, self._height = self._height, None
        committed = None if height is None else frame_of(ipc.Committed(height))
        waiting = frame_of(ipc.Pending(pending)) if pending else None
        for client in list(self.clients):
            if client.wants_pending and waiting is not None:
                client.send_event(waiting)
            if client.wants_committed and committed is not None:
                client.send_event(committed)


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: IpcServer) -> None:
        self.server = server
        self.wants_committed = self.wants_pending = False
        self.in_flight = 0
        self._buffer = bytearray()
        self._reading = True
        self._socket: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        if len(self.server.clients) >= self.server.max_clients:
            limit = self.server.max_clients
            self.server.log("warning", "ipc client refused", found=limit + 1, limit=limit)
            self.close()
            return
        self.server.clients.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.server.clients.discard(self)
        self._socket = None

    def close(self) -> None:
        self.server.clients.discard(self)
        self.wants_committed = self.wants_pending = False
        if self._socket is not None:
            self._socket.close()

    def drop(self, reason: str) -> None:
        """End a connection that cannot go on."""
        self.server.log("warning", "ipc client dropped", reason=reason)
        self.close()
        if self._socket is not None:
            self._socket.abort()

    # ---- requests

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._parse()

    def _parse(self) -> None:
        """Take whole requests out of the buffer, as many as may be in flight."""
        buffer, offset = self._buffer, 0
        while self._socket is not None and len(buffer) - offset >= 4:
            if self.in_flight >= self.server.max_in_flight:
                break
            size = int.from_bytes(buffer[offset : offset + 4], "big")
            if size > ipc.MAX_FRAME:
                self.drop(f"frame of {size} bytes, expected at most {ipc.MAX_FRAME}")
                break
            end = offset + 4 + size
            if end > len(buffer):
                break
            try:
                request = _REQUESTS.decode(memoryview(buffer)[offset + 4 : end].tobytes())
            except msgspec.MsgspecError as error:
                self.drop(f"malformed request: {error}")
                break
            offset = end
            self._handle(request)
        del buffer[:offset]
        self._control_reading()

    def _control_reading(self) -> None:
        """Read on only while requests may be taken: what a client may send is bounded by that."""
        reading = self.in_flight < self.server.max_in_flight
        if reading == self._reading or self._socket is None:
            return
        self._reading = reading
        if reading:
            self._socket.resume_reading()
        else:
            self._socket.pause_reading()

    def _handle(self, request: ipc.Request) -> None:
        questions, number = self.server.questions, request.id
        self.in_flight += 1
        if isinstance(request, ipc.Submit):
            questions.submit(request.items, lambda verdicts: self._reply(number, verdicts))
        elif isinstance(request, ipc.GetStatus):
            self._reply(number, questions.get_status())
        elif isinstance(request, ipc.GetMetrics):
            self._reply(number, questions.get_metrics())
        elif isinstance(request, ipc.HandOver):
            self._reply(number, questions.hand_over(request.to or None))
        elif isinstance(request, ipc.Ban | ipc.Unban):
            self._judge(request)
        elif isinstance(request, ipc.Subscribe):
            self.wants_committed = True
            self.wants_pending = request.pending
            self._reply(number, questions.get_durable())
        elif questions.pool is None:
            self._fail(number, "the application of this network has no pool of transactions")
        else:
            call = read_pool(questions.pool, request)
            questions.read(call, lambda result: self._answer(number, result))

    def _judge(self, request: ipc.Ban | ipc.Unban) -> None:
        questions = self.server.questions
        try:
            if isinstance(request, ipc.Ban):
                done = questions.ban(request.who, request.seconds, request.reason)
            else:
                done = questions.unban(request.who)
        except Invalid as error:
            self._fail(request.id, str(error))
        else:
            self._reply(request.id, done)

    def _answer(self, number: int, result: Any) -> None:
        if isinstance(result, Exception):
            self._fail(number, str(result))
        else:
            self._reply(number, result)

    # ---- answers

    def _reply(self, number: int, result: Any) -> None:
        self._finish(ipc.Reply(number, Raw(_ENCODER.encode(result))))

    def _fail(self, number: int, message: str) -> None:
        self._finish(ipc.Failure(number, message))

    def _finish(self, response: ipc.Reply | ipc.Failure) -> None:
        self.in_flight -= 1
        if self._socket is None:
            return
        frame = frame_of(response)
        if len(frame) > ipc.MAX_FRAME:
            message = f"answer of {len(frame)} bytes, expected at most {ipc.MAX_FRAME}"
            frame = frame_of(ipc.Failure(response.id, message))
        self._write(frame, MAX_UNREAD_BYTES)
        if not self._reading and self.in_flight < self.server.max_in_flight:
            # Later, not here: an answer that comes at once must not recurse into the next request.
            asyncio.get_running_loop().call_soon(self._parse)

    def send_event(self, frame: bytes) -> None:
        self._write(frame, MAX_UNREAD_EVENT_BYTES)

    def _write(self, frame: bytes, limit: int) -> None:
        if self._socket is None or self._socket.is_closing():
            return
        self._socket.write(frame)
        unread = self._socket.get_write_buffer_size()
        if unread > limit:
            self.drop(f"{unread} bytes unread, expected at most {limit}")


def read_pool(pool: PoolReader, request: ipc.Request) -> Callable[[], Any]:
    """Return the call that answers a question about the pool."""
    if isinstance(request, ipc.GetNonce):
        account: Address = request.account
        return lambda: pool.nonce(account)
    if isinstance(request, ipc.GetPoolCounts):
        return pool.counts
    if isinstance(request, ipc.GetPoolContent):
        which = request.account
        return lambda: pool.content_json(which)
    assert isinstance(request, ipc.GetPoolTransaction)
    return lambda: get_transaction(pool, request.hash)


def get_transaction(pool: PoolReader, hash: Hash) -> tuple[bytes, bytes] | None:
    # Asked twice without a lock: a transaction may leave the pool in between.
    described, raw = pool.transaction_json(hash), pool.get(hash)
    return None if described is None or raw is None else (described, raw)


def frame_of(message: msgspec.Struct) -> bytes:
    body = _ENCODER.encode(message)
    return len(body).to_bytes(4, "big") + body
