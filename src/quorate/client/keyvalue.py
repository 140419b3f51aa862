"""A client of a key-value network over its framed port (`quorate/rpc/keyvalue_framed.py`).

Every operation carries the client's identity and a number. When a connection is lost, or no answer
comes in time, the very same operation is sent again, to the next node: the network carries it out
once, and answers as it would have the first time. Many operations may be under way at a time.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from quorate.base.errors import Invalid, Unavailable
from quorate.ledger.operations import (
    CONFLICT,
    DONE,
    MAX_KEY_BYTES,
    MISSING,
    NOTHING,
    REFUSED,
    WINDOW,
    Action,
    Entry,
    check_key,
    encode,
    make_call,
    make_compare,
    make_delete,
    make_put,
)

__all__ = ["Change", "Comparison", "KeyValueClient", "Refusal"]

PREAMBLE = b"\x00qkv1\n"
MAX_FRAME_BYTES = 64 << 20
"""Of an answer."""
MAX_REQUEST_BYTES = 1 << 18
"""A node ends the connection, and all that is under way on it, for more."""
CONNECT_S = 3.0
ATTEMPT_S = 5.0
"""Without an answer for so long, an operation is sent again elsewhere."""
TIMEOUT_S = 60.0
"""Of an operation as a whole; its deadline makes sure that nothing happens to it later."""
PAUSE_S = 0.05
SILENCE_S = 5.0
"""Without an event for so long, a watch asks whether its node is there at all."""
AGAIN = (503, 504)
"""Statuses after which the same is worth sending again."""
CLOSED = "the client is closed"
MAX_EVENTS = 10_000
"""Events of a watch that wait to be read; beyond it the watch ends."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[int, int, Any])


class Refusal(Exception):
    """The application, or the port, does not accept a request."""


class Comparison(Struct, frozen=True):
    """What became of a compare-and-swap; `revision` is that of the key afterwards."""

    succeeded: bool
    revision: int


class Change(Struct, frozen=True):
    """An event of a watch; `entry` None: the key was deleted."""

    key: bytes
    revision: int
    entry: Entry | None


class Lost(Exception):
    """The connection ended before the answer came."""


class Busy(Lost):
    """The node has no room for what was asked; another may."""


class Connection(asyncio.Protocol):
    """One connection; requests by their number."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.buffer = bytearray()
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.watches: dict[int, asyncio.Queue[list[Any] | Exception]] = {}
        self.number = 0
        self.out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(PREAMBLE)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(Lost())
        self.waiting.clear()
        for queue in self.watches.values():
            queue.put_nowait(Lost())
        self.watches.clear()

    def request(self, kind: int, *arguments: Any) -> "tuple[int, asyncio.Future[Any]]":
        """Send a request; its number and the future of (status, result)."""
        if self.transport is None:
            raise Lost
        body = _ENCODER.encode((self.number + 1, kind, *arguments))
        if len(body) > MAX_REQUEST_BYTES:
            raise Invalid(f"request: {len(body)} bytes, expected at most {MAX_REQUEST_BYTES}")
        self.number += 1
        loop = asyncio.get_running_loop()
        if not self.out:
            loop.call_soon(self.flush)
        self.out += (len(body).to_bytes(4, "big"), body)
        future: asyncio.Future[Any] = loop.create_future()
        self.waiting[self.number] = future
        return self.number, future

    async def wait_for_events(
        self, queue: "asyncio.Queue[list[Any] | Exception]"
    ) -> list[Any] | Exception:
        """Return what a watch is told next; a node that does not even answer in time is lost."""
        while True:
            try:
                return await asyncio.wait_for(queue.get(), SILENCE_S)
            except TimeoutError:
                _, future = self.request(2, [], False)
                try:
                    await asyncio.wait_for(future, ATTEMPT_S)
                except TimeoutError:
                    return Lost("a node that does not answer any more")

    def end_watch(self, number: int) -> None:
        """Tell the node that nobody reads these events any more, unless it has ended them."""
        if self.watches.pop(number, None) is not None and self.transport is not None:
            _, future = self.request(4, number)
            future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def flush(self) -> None:
        out, self.out = self.out, []
        if self.transport is not None:
            self.transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        buffer, at = self.buffer, 0
        buffer += data
        while len(buffer) - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if size > MAX_FRAME_BYTES:
                self.transport.abort()
                return
            end = at + 4 + size
            if end > len(buffer):
                break
            self.take(bytes(buffer[at + 4 : end]))
            at = end
        del buffer[:at]

    def take(self, frame: bytes) -> None:
        try:
            number, status, result = _DECODER.decode(frame)
        except msgspec.MsgspecError:
            self.transport.abort()
            return
        future = self.waiting.pop(number, None)
        if future is not None:
            if not future.done():
                future.set_result((status, result))
            return
        queue = self.watches.get(number)
        if queue is None:
            return
        if status == -1 and queue.qsize() < MAX_EVENTS:
            queue.put_nowait(result)
            return
        text = "events were not read in time" if status == -1 else str(result)
        queue.put_nowait(Busy(text) if status in AGAIN else Refusal(text))
        del self.watches[number]


def expect_bytes(key: bytes) -> bytes:
    """Return a key. Raises TypeError for text: how it becomes bytes is the caller's choice."""
    if not isinstance(key, bytes):
        raise TypeError(f"key: found {type(key).__name__}, expected bytes")
    return key


class KeyValueClient:
    """Use as `async with KeyValueClient([("127.0.0.1", 8545), ...]) as client`."""

    def __init__(
        self, addresses: Sequence[tuple[str, int]], *, timeout_s: float = TIMEOUT_S
    ) -> None:
        if not addresses:
            raise Invalid("client: found no address, expected at least one")
        self.addresses, self.timeout_s = list(addresses), timeout_s
        self.client = os.urandom(16)
        self.sequence = 0
        self.open: dict[int, None] = {}
        """Numbers of operations without an answer, in order."""
        self.room = asyncio.Semaphore(WINDOW // 2)
        self.place = 0
        self.connection: Connection | None = None
        self.connecting = asyncio.Lock()
        self.closed = False

    async def __aenter__(self) -> "KeyValueClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; what is under way, and watches, raise Unavailable."""
        self.closed = True
        if self.connection is not None and self.connection.transport is not None:
            self.connection.transport.close()
        self.connection = None

    # ---- requests

    async def put(self, key: bytes, value: bytes) -> int:
        """Set a key; return the revision."""
        return (await self.change(make_put(key, value)))[1]

    async def delete(self, key: bytes) -> bool:
        """Delete a key; whether it was there."""
        return (await self.change(make_delete(key)))[0] == DONE

    async def compare(
        self,
        key: bytes,
        value: bytes | None,
        *,
        revision: int | None = None,
        expected: bytes | None = None,
    ) -> Comparison:
        """Set a key (None: delete it) if it is as expected; revision 0: if it is absent."""
        action = make_compare(key, value, revision=revision, expected=expected)
        outcome, found, _ = await self.change(action)
        return Comparison(outcome == DONE, found)

    async def call(self, body: bytes) -> bytes:
        """Call the application's own code. Raises Refusal where it says no."""
        return (await self.change(make_call(body)))[2]

    async def barrier(self) -> int:
        """Wait until the network agrees on something new; return the revision then."""
        return (await self.change(NOTHING))[1]

    async def change(self, action: Action) -> tuple[int, int, bytes]:
        """Carry out an action once; return (outcome, revision, detail). Raises Refusal, Unavailable
        when nothing is known of it in the end.
        """
        async with self.room:
            self.sequence += 1
            number = self.sequence
            self.open[number] = None
            acknowledged = next(iter(self.open)) - 1
            deadline_ms = time.time_ns() // 1_000_000 + int(self.timeout_s * 1000)
            operation = encode(action, self.client, number, acknowledged, deadline_ms)
            try:
                outcome, revision, detail = await self.ask(1, operation)
            finally:
                self.open.pop(number, None)
        if outcome == REFUSED:
            raise Refusal(bytes(detail).decode("utf-8", "replace"))
        assert outcome in (DONE, MISSING, CONFLICT)
        return outcome, revision, detail

    async def get(self, key: bytes, *, stale: bool = False) -> Entry | None:
        """Return the entry of a key; `stale`: as one node knows it."""
        return (await self.get_many([key], stale=stale))[2][0]

    async def get_many(
        self, keys: Sequence[bytes], *, stale: bool = False
    ) -> tuple[int, int, list[Entry | None]]:
        """Return height, revision and the entries of keys, all of one moment."""
        for key in keys:
            check_key(expect_bytes(key))
        height, revision, entries = await self.ask(2, list(keys), not stale)
        return height, revision, [None if e is None else Entry(*e) for e in entries]

    async def prove(self, key: bytes) -> dict[str, Any]:
        """Return an entry with its proof, for `quorate.light.keyvalue.verify_entry`."""
        proof: dict[str, Any] = await self.ask(5, check_key(expect_bytes(key)))
        return proof

    async def watch(
        self, key: bytes, *, prefix: bool = False, revision: int = 0
    ) -> AsyncIterator[Change]:
        """Yield changes of a key (or of all that begin with it) from a revision on, 0: from now.

        Goes on at another node when a connection is lost, without a gap. Raises Refusal where the
        history is gone, Unavailable where no node answers for as long as a request may take.
        """
        if len(expect_bytes(key)) > MAX_KEY_BYTES:
            raise Invalid(f"key: {len(key)} bytes, expected at most {MAX_KEY_BYTES}")
        heard, reason = time.monotonic(), "no node answers"
        while time.monotonic() < heard + self.timeout_s:
            connection, number = None, 0
            try:
                connection = await self.connect()
                queue: asyncio.Queue[list[Any] | Exception] = asyncio.Queue()
                number, future = connection.request(3, key, prefix, revision)
                connection.watches[number] = queue
                status, result = await asyncio.wait_for(future, ATTEMPT_S)
                if status in AGAIN:
                    reason = str(result)
                    await asyncio.sleep(PAUSE_S)
                    continue
                if status != 0:
                    raise Refusal(str(result))
                if not revision:
                    # What comes from now on is not to be missed if the connection is lost.
                    revision = (await self.get_many([], stale=True))[1] + 1
                while True:
                    found = await connection.wait_for_events(queue)
                    if isinstance(found, Exception):
                        if not isinstance(found, Busy):
                            heard = time.monotonic()
                        raise found
                    for name, at, entry in found:
                        yield Change(name, at, None if entry is None else Entry(*entry))
                        revision = at + 1
            except (Lost, OSError, TimeoutError) as error:
                reason = str(error) or reason
                if connection is not None:
                    await self.forget(connection)
                await asyncio.sleep(PAUSE_S)
            finally:
                if connection is not None:
                    connection.end_watch(number)
        raise Unavailable(f"no answer within {self.timeout_s:g} s: {reason}")

    async def ask(self, kind: int, *arguments: Any) -> Any:
        """Send a request until it is answered. Raises Refusal, Unavailable."""
        deadline = time.monotonic() + self.timeout_s
        reason = "no node answers"
        while time.monotonic() < deadline:
            connection = None
            try:
                connection = await self.connect()
                _, future = connection.request(kind, *arguments)
                status, result = await asyncio.wait_for(future, ATTEMPT_S)
            except (Lost, OSError, TimeoutError) as error:
                reason = str(error) or reason
                if connection is not None:
                    await self.forget(connection)
                await asyncio.sleep(PAUSE_S)
                continue
            if status == 0:
                return result
            if status not in AGAIN:
                raise Refusal(str(result))
            reason = str(result)
            await asyncio.sleep(PAUSE_S)
        raise Unavailable(f"no answer within {self.timeout_s:g} s: {reason}")

    async def connect(self) -> Connection:
        async with self.connecting:
            if self.closed:
                raise Unavailable(CLOSED)
            if self.connection is not None and self.connection.transport is not None:
                return self.connection
            host, port = self.addresses[self.place % len(self.addresses)]
            self.place += 1
            loop = asyncio.get_running_loop()
            making = loop.create_connection(Connection, host, port)
            transport, connection = await asyncio.wait_for(making, CONNECT_S)
            if self.closed:
                transport.abort()
                raise Unavailable(CLOSED)
            self.connection = connection
            return connection

    async def forget(self, connection: Connection) -> None:
        """Use another connection from now on."""
        if connection.transport is not None:
            connection.transport.abort()
        if self.connection is connection:
            self.connection = None
