"""Blocks, transactions and receipts."""

from functools import partial

import msgspec
from msgspec import Raw, Struct

from quorate.base.types import Hash
from quorate.rpc.dispatch import Kind, Method, optional, required
from quorate.rpc.encoding import NULL, data, quantity
from quorate.rpc.events import Events
from quorate.rpc.parameters import (
    PENDING,
    Selector,
    parse_block,
    parse_block_number,
    parse_bool,
    parse_hash,
    parse_quantity,
)
from quorate.rpc.store import Store
from quorate.rpc.validator import Shared, Validator
from quorate.rpc.workers import Workers

MAX_PENDING_TRANSACTIONS = 5000
"""Shown in the pending block."""


class PoolContent(Struct):
    """txpool_content: account -> nonce -> transaction."""

    pending: dict[str, dict[str, Raw]]


class WaitingTransaction(Struct):
    hash: str


class Uncles(Struct):
    uncles: list[str]


WRITE_SECONDS = 8.0
"""How long a question waits for a write that is under way."""
UNCLES = msgspec.json.Decoder(Uncles)
POOL_CONTENT = msgspec.json.Decoder(PoolContent)
WAITING = msgspec.json.Decoder(WaitingTransaction)


class Chain:
    """Reads of what is stored; `pending` adds what waits in the pool."""

    def __init__(
        self, store: Store, validator: Validator, workers: Workers, events: Events
    ) -> None:
        self.store = store
        self.validator = validator
        self.workers = workers
        self.events = events
        self.pending = [Shared(partial(self.make_pending_block, full)) for full in (False, True)]

    def methods(self) -> list[Method]:
        number, block, tx = (
            required(parse_block_number),
            required(parse_block),
            required(parse_hash),
        )
        full, index = optional(parse_bool, False), required(parse_quantity)
        inline, waits = Kind.INLINE, Kind.ASYNC
        return [
            Method("eth_chainId", inline, self.get_chain_id),
            Method("eth_blockNumber", inline, self.get_block_number),
            Method("eth_getBlockByNumber", waits, self.get_block_by_number, (number, full)),
            Method("eth_getBlockByHash", waits, self.get_block, (tx, full)),
            Method("eth_getHeaderByNumber", inline, self.get_header, (number,)),
            Method("eth_getHeaderByHash", inline, self.get_header, (tx,)),
            Method("eth_getBlockTransactionCountByNumber", waits, self.count_by_number, (number,)),
            Method("eth_getBlockTransactionCountByHash", inline, self.count_transactions, (tx,)),
            Method("eth_getUncleCountByBlockNumber", inline, self.count_uncles, (number,)),
            Method("eth_getUncleCountByBlockHash", inline, self.count_uncles, (tx,)),
            Method("eth_getBlockReceipts", Kind.SLOW, self.get_block_receipts, (block,)),
            Method("eth_getTransactionByHash", waits, self.get_transaction, (tx,)),
            Method("eth_getRawTransactionByHash", waits, self.get_raw_transaction, (tx,)),
            Method(
                "eth_getTransactionByBlockHashAndIndex",
                inline,
                self.get_transaction_at,
                (tx, index),
            ),
            Method(
                "eth_getTransactionByBlockNumberAndIndex",
                inline,
                self.get_transaction_at,
                (number, index),
            ),
            Method(
                "eth_getRawTransactionByBlockHashAndIndex",
                inline,
                self.get_raw_transaction_at,
                (tx, index),
            ),
            Method(
                "eth_getRawTransactionByBlockNumberAndIndex",
                inline,
                self.get_raw_transaction_at,
                (number, index),
            ),
            Method("eth_getTransactionReceipt", inline, self.get_receipt, (tx,)),
        ]

    def get_chain_id(self) -> bytes:
        return quantity(self.store.view.chain_id)

    def get_block_number(self) -> bytes:
        return quantity(self.store.view.head())

    async def get_block_by_number(self, selector: Selector, full: bool) -> bytes:
        if selector == PENDING:
            return await self.pending[full].get()
        return await self.get_block(selector, full)

    async def get_block(self, selector: Selector, full: bool) -> bytes:
        """Return a block's JSON; that of whole transactions is long, and made in a thread."""
        if full:
            return await self.workers.run(self.render_block, (selector, True))
        return self.render_block(selector, False)

    def render_block(self, selector: Selector, full: bool) -> bytes:
        return self.store.view.block_json(self.store.locate(selector), full) or NULL

    def get_header(self, selector: Selector) -> bytes:
        return self.store.view.header_json(self.store.locate(selector)) or NULL

    async def make_pending_block(self, full: bool) -> bytes:
        content = await self.validator.get_pool_content(None)
        return await self.workers.run(self.render_pending_block, (content, full))

    def render_pending_block(self, content: bytes, full: bool) -> bytes:
        """Return a block of what waits in the pool; fields that nobody knows yet are null."""
        pool = POOL_CONTENT.decode(content)
        view = self.store.view
        head = view.head()
        block = msgspec.json.decode(view.block_json(head, False) or b"{}", type=dict[str, object])
        waiting = [raw for nonces in pool.pending.values() for raw in nonces.values()]
        waiting = waiting[:MAX_PENDING_TRANSACTIONS]
        fees = msgspec.json.decode(view.fee_history_json(1, head, []))
        block |= {
            "number": hex(head + 1),
            "parentHash": block["hash"],
            "hash": None,
            "nonce": None,
            "logsBloom": None,
            "miner": None,
            "baseFeePerGas": fees["baseFeePerGas"][-1],
            "transactions": waiting if full else [WAITING.decode(raw).hash for raw in waiting],
        }
        return msgspec.json.encode(block)

    async def count_by_number(self, selector: Selector) -> bytes:
        if selector == PENDING:
            return quantity((await self.validator.get_pool_counts())[0])
        return self.count_transactions(selector)

    def count_transactions(self, selector: Selector) -> bytes:
        count = self.store.view.block_transaction_count(self.store.locate(selector))
        return NULL if count is None else quantity(count)

    def count_uncles(self, selector: Selector) -> bytes:
        """Return how many a block names: none, unless it is an imported one."""
        block = self.store.view.block_json(self.store.locate(selector), False)
        return NULL if block is None else quantity(len(UNCLES.decode(block).uncles))

    def get_block_receipts(self, selector: Selector) -> bytes:
        return self.store.view.block_receipts_json(self.store.locate(selector)) or NULL

    async def get_transaction(self, transaction: Hash) -> bytes:
        found = self.store.view.transaction_json(transaction)
        if found is not None:
            return found
        waiting = await self.validator.get_pool_transaction(transaction)
        if waiting is not None:
            return waiting[0]
        await self.wait_for_writes()
        return self.store.view.transaction_json(transaction) or NULL

    async def get_raw_transaction(self, transaction: Hash) -> bytes:
        raw = self.store.view.transaction_raw(transaction)
        if raw is None:
            waiting = await self.validator.get_pool_transaction(transaction)
            if waiting is not None:
                return data(waiting[1])
            await self.wait_for_writes()
            raw = self.store.view.transaction_raw(transaction)
        return NULL if raw is None else data(raw)

    async def wait_for_writes(self) -> None:
        """Wait until the store has what the validator has executed.

        A transaction leaves the pool once its block is executed, and is in the store only when that
        block is written; a client that has just sent it must not be told that it is unknown.
        """
        await self.events.reach(await self.validator.get_executed_height(), WRITE_SECONDS)

    def get_transaction_at(self, selector: Selector, index: int) -> bytes:
        located = self.store.locate(selector)
        return self.store.view.transaction_at_json(located, index) or NULL

    def get_raw_transaction_at(self, selector: Selector, index: int) -> bytes:
        found = self.store.view.transaction_at_json(self.store.locate(selector), index)
        if found is None:
            return NULL
        name = bytes.fromhex(WAITING.decode(found).hash.removeprefix("0x"))
        raw = self.store.view.transaction_raw(name)
        return NULL if raw is None else data(raw)

    def get_receipt(self, transaction: Hash) -> bytes:
        return self.store.view.receipt_json(transaction) or NULL
