"""What the validator process is asked for: the pool and its status."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Address, Hash, Height
from quorate.node.status import NodeStatus
from quorate.rpc.errors import LIMIT, SERVER, UNAVAILABLE, RpcError
from quorate.runtime.ipc_client import IpcClient

T = TypeVar("T")

Verdict: TypeAlias = tuple[Hash, str | None]
"""The hash of a transaction, and why it was refused, if it was."""

STATUS_SECONDS = 0.1
"""How long a status is good enough for the next asker."""
MAX_SUBMITTED = 100_000
MAX_SUBMITTED_BYTES = 64 << 20
"""Transactions that wait for the validator's verdict."""
FRAME_ITEMS = 4096
FRAME_BYTES = 16 << 20
"""At most so much goes into one message."""
ANSWER_SECONDS = 20.0
"""After this time without an answer the validator counts as unavailable."""


class Shared(Generic[T]):
    """An answer that is dear, for many who ask at the same time.

    One question is under way at most, and whoever asks meanwhile shares the next: an answer to an
    earlier question may lack what the asker has just been told.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self.ask = ask
        self.current: asyncio.Task[T] | None = None
        self.next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        if self.next is None:
            self.next = asyncio.create_task(self.run(self.current))
            # Perhaps all who asked are gone when it fails.
            self.next.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self.next)

    async def run(self, before: "asyncio.Task[T] | None") -> T:
        if before is not None:
            await asyncio.wait((before,))
        self.current, self.next = self.next, None
        try:
            return await self.ask()
        finally:
            self.current = None


class Validator:
    """The connection to the validator process, with transactions of one loop turn sent together.

    Every method raises RpcError (unavailable) while the validator is away.
    """

    def __init__(
        self,
        path: str | None,
        on_committed: Callable[[Height], None],
        on_pending: Callable[[list[Hash]], None],
    ) -> None:
        self.path = path
        self.client = IpcClient(
            Path(path or "no validator"),
            on_committed=on_committed,
            on_connected=self.on_connected,
            timeout_s=ANSWER_SECONDS,
        )
        self.on_pending = on_pending
        self.watches_pending = False
        self.queue: list[tuple[list[bytes], asyncio.Future[list[Verdict]]]] = []
        self.submitted = 0
        self.submitted_bytes = 0
        self.status: NodeStatus | None = None
        self.status_until = 0.0
        self.status_task: asyncio.Task[NodeStatus] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.whole_pool = Shared(lambda: guard(self.client.get_pool_content(None)))
        self.part_of_pool = asyncio.Lock()
        """Held while an account's part is asked for: several at once, or the whole pool twice,
        might be more than the validator lets wait before it ends the connection.
        """

    async def start(self) -> None:
        """Connect, and connect again whenever the connection breaks."""
        if self.path is not None:
            await self.client.start()

    async def stop(self) -> None:
        await self.client.stop()

    def on_connected(self, _: bool) -> None:
        # Another process may answer from now on.
        self.status = None

    def watch_pending(self) -> None:
        """Also get the hashes of admitted transactions, from now on."""
        if not self.watches_pending:
            self.watches_pending = True
            self.client.watch_pending(self.on_pending)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # transactions

    def submit(self, raws: list[bytes]) -> "asyncio.Future[list[Verdict]]":
        """Return the verdicts on raw transactions, in order."""
        future: asyncio.Future[list[Verdict]] = asyncio.get_running_loop().create_future()
        size = sum(map(len, raws))
        over = self.submitted + len(raws) > MAX_SUBMITTED
        if over or self.submitted_bytes + size > MAX_SUBMITTED_BYTES:
            message = f"{self.submitted} transactions wait to be admitted, try again later"
            future.set_exception(RpcError(LIMIT, message))
            return future
        self.submitted += len(raws)
        self.submitted_bytes += size
        if not self.queue:
            asyncio.get_running_loop().call_soon(self.flush)
        self.queue.append((raws, future))
        return future

    def flush(self) -> None:
        """Send what this turn of the loop brought, in as few messages as may be."""
        queue, self.queue = self.queue, []
        start = count = size = 0
        for end, (raws, _) in enumerate(queue):
            length = sum(map(len, raws))
            if count and (count + len(raws) > FRAME_ITEMS or size + length > FRAME_BYTES):
                self.spawn(self.send(queue[start:end]))
                start, count, size = end, 0, 0
            count += len(raws)
            size += length
        self.spawn(self.send(queue[start:]))

    async def send(self, group: list[tuple[list[bytes], "asyncio.Future[list[Verdict]]"]]) -> None:
        items = group[0][0] if len(group) == 1 else [raw for raws, _ in group for raw in raws]
        try:
            verdicts = await guard(self.client.submit(items))
        except Exception as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
        else:
            start = 0
            for raws, future in group:
                if not future.done():
                    future.set_result(verdicts[start : start + len(raws)])
                start += len(raws)
        finally:
            self.submitted -= len(items)
            self.submitted_bytes -= sum(map(len, items))

    # questions

    async def get_status(self) -> NodeStatus:
        """Return the node's status, at most `STATUS_SECONDS` old."""
        now = asyncio.get_running_loop().time()
        if self.status is not None and now < self.status_until:
            return self.status
        if self.status_task is None:
            self.status_task = asyncio.get_running_loop().create_task(self.fetch_status())
        return await asyncio.shield(self.status_task)

    async def fetch_status(self) -> NodeStatus:
        try:
            status = await guard(self.client.get_status())
        finally:
            self.status_task = None
        self.status = status
        self.status_until = asyncio.get_running_loop().time() + STATUS_SECONDS
        return status

    async def get_executed_height(self) -> Height:
        """Return the height that the validator has executed by now; the store may be behind it."""
        status = await guard(self.client.get_status())
        return max(status.height, status.latest)

    async def get_nonce(self, account: Address) -> int:
        """Return the next nonce, counting waiting transactions."""
        return await guard(self.client.get_nonce(account))

    async def get_pool_counts(self) -> tuple[int, int, int]:
        """Return (executable, queued, bytes)."""
        return await guard(self.client.get_pool_counts())

    async def get_pool_content(self, account: Address | None) -> bytes:
        """Return the JSON of txpool_content, or of one account's part."""
        if account is None:
            return await self.whole_pool.get()
        async with self.part_of_pool:
            return await guard(self.client.get_pool_content(account))

    async def get_pool_transaction(self, transaction: Hash) -> tuple[bytes, bytes] | None:
        """Return the JSON and the raw bytes of a waiting transaction."""
        return await guard(self.client.get_pool_transaction(transaction))


async def guard(question: Awaitable[T]) -> T:
    """Return the validator's answer. Raises RpcError where it has none."""
    try:
        return await question
    except Unavailable as error:
        raise RpcError(UNAVAILABLE, str(error)) from None
    except Invalid as error:
        raise RpcError(SERVER, str(error)) from None
