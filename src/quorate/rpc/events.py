"""What happens on the ledger, told to subscribers and to callers that wait for a receipt.

The validator says up to which height everything is durable; each height is told once, in order.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from quorate.base.types import Hash, Height
from quorate.rpc.encoding import data
from quorate.rpc.errors import RpcError
from quorate.rpc.logs import Criteria
from quorate.rpc.store import Store

logger = logging.getLogger(__name__)

MAX_CATCH_UP = 1024
"""Heights told after an absence; a subscriber that needs older ones reads them."""
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
        self.told: Height | None = None
        """The last height that was told; None before the validator said the first."""
        self.subscriptions: dict[str, dict[str, Subscription]] = {
            "newHeads": {},
            "logs": {},
            "newPendingTransactions": {},
            "syncing": {},
        }
        self.waiters: dict[str, list[asyncio.Future[None]]] = {}
        self.listeners: list[Callable[[list[Hash]], None]] = []
        """Called with the hashes of admitted transactions."""

    def add(self, subscription: Subscription) -> None:
        self.subscriptions[subscription.kind][subscription.name] = subscription

    def remove(self, subscription: Subscription) -> None:
        self.subscriptions[subscription.kind].pop(subscription.name, None)

    def on_committed(self, height: Height) -> None:
        """Tell every height up to this one that was not told."""
        if self.told is None:
            self.told = height
            return
        first = max(self.told + 1, height + 1 - MAX_CATCH_UP)
        self.told = max(self.told, height)
        try:
            for number in range(first, height + 1):
                self.tell_block(number)
        except RpcError as error:
            logger.warning("block %d could not be told: %s", height, error)

    def tell_block(self, height: Height) -> None:
        view = self.store.view
        if heads := self.subscriptions["newHeads"]:
            header = view.header_json(height)
            if header is not None:
                for subscription in list(heads.values()):
                    subscription.tell(header)
        if logs := self.subscriptions["logs"]:
            found = view.block_logs(height)
            for subscription in list(logs.values()):
                criteria = subscription.criteria
                for address, topics, log in found:
                    if criteria is None or criteria.match(address, topics):
                        subscription.tell(log)
        if self.waiters:
            block = view.block_json(height, False)
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
