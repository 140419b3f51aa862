"""The other end of a validator's Unix socket: for its JSON-RPC process and for the command line.

`IpcClient` keeps one connection and makes it again when it breaks; requests meanwhile fail at once
with Unavailable, since whoever asks can wait better than we can queue. `ask` is one blocking
question for a command line.
"""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Address, Hash, Height
from quorate.node.status import NodeStatus
from quorate.runtime import ipc

__all__ = ["IpcClient", "ask", "ask_status"]

T = TypeVar("T")

RETRY_FIRST_S = 0.02
RETRY_LONGEST_S = 1.0

_ENCODER = msgspec.msgpack.Encoder()
_RESPONSES: msgspec.msgpack.Decoder[ipc.Response] = msgspec.msgpack.Decoder(ipc.Response)

Verdicts = list[tuple[Hash, str | None]]
OnCommitted = Callable[[Height], None]
OnPending = Callable[[list[Hash]], None]


def encode_frame(message: msgspec.Struct) -> bytes:
    """Return a message with its length before it. Raises Invalid when it is too large."""
    body = _ENCODER.encode(message)
    if len(body) > ipc.MAX_FRAME:
        raise Invalid(f"request of {len(body)} bytes, expected at most {ipc.MAX_FRAME}")
    return len(body).to_bytes(4, "big") + body


class IpcClient:
    """Asks one validator process. Use from one event loop; `start` first, `stop` at the end."""

    def __init__(
        self,
        path: Path,
        *,
        on_committed: OnCommitted | None = None,
        on_pending: OnPending | None = None,
        on_connected: Callable[[bool], None] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        """With `on_committed` or `on_pending` every new connection subscribes by itself.

        `on_connected` is told True when the connection is there and False when it broke.
        """
        self.path, self.timeout_s = path, timeout_s
        self._on_committed, self._on_pending = on_committed, on_pending
        self._on_connected = on_connected
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Raw]] = {}
        self._last_id = 0
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    # ---- life

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._keep_connected())

    async def wait_connected(self, timeout_s: float) -> None:
        """Return when the connection is there. Raises Unavailable after the timeout."""
        try:
            await asyncio.wait_for(self._ready.wait(), timeout_s)
        except TimeoutError:
            raise Unavailable(f"{self.path}: no validator answers") from None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def is_connected(self) -> bool:
        return self._writer is not None

    def watch_pending(self, on_pending: OnPending) -> None:
        """Get the hashes of admitted transactions too, from now on."""
        self._on_pending = on_pending
        if self._writer is not None:
            self._writer.write(encode_frame(ipc.Subscribe(0, True)))

    # ---- questions

    async def submit(self, items: list[bytes]) -> Verdicts:
        """Return (hash, None or why not) of each transaction, in order."""
        return await self._ask(lambda i: ipc.Submit(i, items), Verdicts)

    async def get_status(self) -> NodeStatus:
        return await self._ask(ipc.GetStatus, NodeStatus)

    async def get_nonce(self, account: Address) -> int:
        """Return the next nonce of an account, waiting transactions counted."""
        return await self._ask(lambda i: ipc.GetNonce(i, account), int)

    async def get_pool_counts(self) -> tuple[int, int, int]:
        """Return (executable, queued behind a gap, bytes)."""
        return await self._ask(ipc.GetPoolCounts, tuple[int, int, int])

    async def get_pool_content(self, account: Address | None) -> bytes:
        """Return txpool_content as JSON, of one account if given."""
        return await self._ask(lambda i: ipc.GetPoolContent(i, account), bytes)

    async def get_pool_transaction(self, hash: Hash) -> tuple[bytes, bytes] | None:
        """Return (JSON, raw) of a waiting transaction, None if none waits under that hash."""
        kind: Any = tuple[bytes, bytes] | None
        found: tuple[bytes, bytes] | None = await self._ask(
            lambda i: ipc.GetPoolTransaction(i, hash), kind
        )
        return found

    async def get_metrics(self) -> bytes:
        return await self._ask(ipc.GetMetrics, bytes)

    async def _ask(self, make: Callable[[int], ipc.Request], kind: type[T]) -> T:
        """Raises Unavailable when no validator answers, Invalid when it refuses the request."""
        if self._writer is None:
            raise Unavailable("the validator is not running, or starts just now; try again")
        self._last_id += 1
        number = self._last_id
        frame = encode_frame(make(number))
        answer: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._writer.write(frame)
            async with asyncio.timeout(self.timeout_s):
                raw = await answer
        except TimeoutError:
            raise Unavailable(f"the validator did not answer in {self.timeout_s:g} s") from None
        finally:
            self._waiting.pop(number, None)
        return msgspec.msgpack.decode(raw, type=kind)

    # ---- the connection

    async def _keep_connected(self) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                with ipc.short_path(self.path) as name:
                    reader, writer = await asyncio.open_unix_connection(name)
            except OSError:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_LONGEST_S)
                continue
            pause_s = RETRY_FIRST_S
            try:
                await self._serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError, Invalid):
                # Whatever was wrong, a new connection begins afresh; a pause keeps a validator
                # that refuses us from being asked without end.
                await asyncio.sleep(pause_s)
            finally:
                self._disconnect(writer)

    def _disconnect(self, writer: asyncio.StreamWriter) -> None:
        self._writer = None
        self._ready.clear()
        writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Unavailable("the validator went away before it answered"))
        self._waiting.clear()
        if self._on_connected is not None:
            self._on_connected(False)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subscription = 0
        if self._on_committed is not None or self._on_pending is not None:
            writer.write(encode_frame(ipc.Subscribe(subscription, self._on_pending is not None)))
        self._writer = writer
        self._ready.set()
        if self._on_connected is not None:
            self._on_connected(True)
        while True:
            size = int.from_bytes(await reader.readexactly(4), "big")
            if size > ipc.MAX_FRAME:
                raise Invalid(f"reply of {size} bytes, expected at most {ipc.MAX_FRAME}")
            self._on_response(_RESPONSES.decode(await reader.readexactly(size)))

    def _on_response(self, response: ipc.Response) -> None:
        if isinstance(response, ipc.Reply):
            if response.id == 0:
                self._on_height(msgspec.msgpack.decode(response.result, type=int))
                return
            answer = self._waiting.get(response.id)
            if answer is not None and not answer.done():
                answer.set_result(response.result)
        elif isinstance(response, ipc.Failure):
            answer = self._waiting.get(response.id)
            if answer is not None and not answer.done():
                answer.set_exception(Invalid(response.message))
        elif isinstance(response, ipc.Committed):
            self._on_height(response.height)
        elif self._on_pending is not None:
            self._on_pending(response.hashes)

    def _on_height(self, height: Height) -> None:
        if self._on_committed is not None:
            self._on_committed(height)


def ask(path: Path, request: ipc.Request, kind: type[T], timeout_s: float = 5.0) -> T:
    """Ask one question and wait for its answer, without an event loop.

    Raises Unavailable when nobody answers in time, Invalid when the request is refused.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            with ipc.short_path(path) as name:
                connection.connect(name)
            connection.sendall(encode_frame(request))
            while True:
                size = int.from_bytes(read_exactly(connection, 4), "big")
                if size > ipc.MAX_FRAME:
                    raise Invalid(f"reply of {size} bytes, expected at most {ipc.MAX_FRAME}")
                response = _RESPONSES.decode(read_exactly(connection, size))
                if isinstance(response, ipc.Failure):
                    raise Invalid(response.message)
                if isinstance(response, ipc.Reply):
                    return msgspec.msgpack.decode(response.result, type=kind)
    except TimeoutError:
        raise Unavailable(f"{path}: no answer in {timeout_s:g} s") from None
    except OSError as error:
        raise Unavailable(f"{path}: no validator answers ({error.strerror or error})") from None


def ask_status(path: Path, timeout_s: float = 5.0) -> NodeStatus:
    """Return the status of the validator behind a socket. Raises Unavailable."""
    return ask(path, ipc.GetStatus(1), NodeStatus, timeout_s)


def read_exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise ConnectionResetError(0, "the validator closed the connection")
        parts += part
    return bytes(parts)
