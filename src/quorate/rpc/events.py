"""What happens on the ledger, told to subscribers and to callers that wait for a receipt.

The validator says that the store shows more, or something else; each block is told once, in order.
Where blocks are seen before they are final, the logs of abandoned ones are told again as removed,
then the blocks of the other branch (which therefore may have heights that were told before), as
geth does.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from quorate._kernel import Unavailable
from quorate.base.types import Hash, Height
from quorate.rpc.encoding import data
from quorate.rpc.errors import RpcError
from quorate.rpc.logs import Criteria
from quorate.rpc.store import Store
from quorate.rpc.trail import Told, Trail

logger = logging.getLogger(__name__)

MAX_WAITERS = 65536


class Sink(Protocol):
    """Where a subscription's notifications go."""

    def put(self, frame: bytes) -> None: ...


class Subscription:
    """One interest of one connection. Notifications are held back until its id is on its way."""

    __slots__ = ("criteria", "held", "kind", "name", "sink")

    def __init__(self, name: str, kind: str, sink: Sink, criteria: Criteria | None = None) -> None:
        self.name = name
        self.kind = kind
        self.sink = sink
        self.criteria = criteria
        self.held: list[bytes] | None = []

    def tell(self, value: bytes) -> None:
        frame = (
            b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"%b","result":%b}}'
            % (self.name.encode(), value)
        )
        if self.held is None:
            self.sink.put(frame)
        else:
            self.held.append(frame)

    def release(self) -> None:
        held, self.held = self.held or [], None
        for frame in held:
            self.sink.put(frame)


class BlockTransactions(Struct):
    """The hashes in a block."""

    transactions: list[str]


BLOCK_TRANSACTIONS = msgspec.json.Decoder(BlockTransactions)


class Events:
    """Follows the ledger's head."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trail = Trail(store)
        self.subscriptions: dict[str, dict[str, Subscription]] = {
            "newHeads": {},
            "logs": {},
            "newPendingTransactions": {},
            "syncing": {},
        }
        self.waiters: dict[str, list[asyncio.Future[None]]] = {}
        self.heights: list[tuple[Height, asyncio.Future[None]]] = []
        self.listeners: list[Callable[[list[Hash]], None]] = []
        """Called with the hashes of admitted transactions."""

    def add(self, subscription: Subscription) -> None:
        self.subscriptions[subscription.kind][subscription.name] = subscription

    def remove(self, subscription: Subscription) -> None:
        self.subscriptions[subscription.kind].pop(subscription.name, None)

    @property
    def told(self) -> Height | None:
        """The last height that was told; None before the validator said the first."""
        return None if self.trail.next is None else self.trail.next - 1

    def on_committed(self, height: Height) -> None:
        """Tell what is new in the store."""
        try:
            self.catch_up()
        except (RpcError, Unavailable) as error:
            logger.warning("block %d could not be told: %s", height, error)

    def catch_up(self) -> Height:
        """Tell what is new in the store; return the latest height. Raises RpcError."""
        news = self.trail.follow()
        for told in news.removed:
            self.tell_removed(told)
        for told in news.added:
            self.tell_block(told)
        assert self.told is not None
        for height, future in self.heights:
            if height <= self.told and not future.done():
                future.set_result(None)
        return self.told

    async def reach(self, height: Height, seconds: float) -> None:
        """Return once the store shows a height, or after so many seconds."""
        if (self.told or 0) >= height or len(self.heights) >= MAX_WAITERS:
            return
        waiter = (height, asyncio.get_running_loop().create_future())
        self.heights.append(waiter)
        try:
            await asyncio.wait_for(waiter[1], seconds)
        except TimeoutError:
            return
        finally:
            self.heights.remove(waiter)

    def tell_removed(self, told: Told) -> None:
        for subscription in list(self.subscriptions["logs"].values()):
            for log in told.find(subscription.criteria):
                subscription.tell(log)

    def tell_block(self, told: Told) -> None:
        view = self.store.view
        if heads := self.subscriptions["newHeads"]:
            header = view.header_json(told.block)
            if header is not None:
                for subscription in list(heads.values()):
                    subscription.tell(header)
        if logs := self.subscriptions["logs"]:
            found = view.block_logs(told.block) if told.logs is None else told.logs
            for subscription in list(logs.values()):
                criteria = subscription.criteria
                for address, topics, log in found:
                    if criteria is None or criteria.match(address, topics):
                        subscription.tell(log)
        if self.waiters:
            block = view.block_json(told.block, False)
            if block is not None:
                self.wake(BLOCK_TRANSACTIONS.decode(block).transactions)

    def wake(self, transactions: list[str]) -> None:
        for name in transactions:
            for future in self.waiters.pop(name, ()):
                if not future.done():
                    future.set_result(None)

    def on_pending(self, hashes: list[Hash]) -> None:
        """Tell of transactions that were admitted to the pool."""
        for listener in self.listeners:
            listener(hashes)
        subscriptions = self.subscriptions["newPendingTransactions"]
        if not subscriptions:
            return
        values = [data(item) for item in hashes]
        for subscription in list(subscriptions.values()):
            for value in values:
                subscription.tell(value)

    def tell_syncing(self, value: bytes) -> None:
        for subscription in list(self.subscriptions["syncing"].values()):
            subscription.tell(value)

    def wait_for(self, transaction: str) -> "asyncio.Future[None]":
        """Return a future that is done once the transaction is in a durable block."""
        if len(self.waiters) >= MAX_WAITERS:
            raise RpcError(-32005, f"{MAX_WAITERS} callers wait for receipts")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.setdefault(transaction, []).append(future)
        return future

    def forget(self, transaction: str, future: "asyncio.Future[None]") -> None:
        futures = self.waiters.get(transaction)
        if futures is not None and future in futures:
            futures.remove(future)
            if not futures:
                del self.waiters[transaction]
