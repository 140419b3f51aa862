"""ots_: what the explorer Otterscan asks a node for beside the standard methods.

Source: the API documentation in Otterscan's book, and Erigon's answers where it is silent.
"""

from typing import Any

import msgspec
from msgspec import Raw

from quorate.base.types import Address, Hash
from quorate.rpc.addresses import Addresses
from quorate.rpc.dispatch import Kind, Method, optional, required
from quorate.rpc.encoding import FALSE, NULL, TRUE, data, to_hex
from quorate.rpc.errors import PRUNED, SERVER, RpcError
from quorate.rpc.parameters import (
    LATEST,
    Selector,
    parse_address,
    parse_block,
    parse_block_number,
    parse_hash,
    parse_number_or_quantity,
)
from quorate.rpc.store import Store

API_LEVEL = 8
MAX_PAGE = 25
"""Transactions that a search is asked for (Erigon's default)."""
MAX_BLOCK_PAGE = 255
MAX_HEIGHT = (1 << 63) - 1


def parse_place(value: Any) -> Selector:
    """Return the block that a tag or a number names, which Otterscan sends as a plain one."""
    return value if type(value) is int and 0 <= value <= MAX_HEIGHT else parse_block_number(value)


class Found(msgspec.Struct):
    txs: list[Raw]
    receipts: list[Raw]


class Page(msgspec.Struct, rename="camel"):
    """What a search gives: newest first."""

    txs: list[Raw]
    receipts: list[Raw]
    first_page: bool
    last_page: bool


FOUND = msgspec.json.Decoder(Found)


class Otterscan:
    """Reads of blocks and traces in the explorer's shapes, and searches by address."""

    def __init__(self, store: Store, addresses: Addresses) -> None:
        self.store = store
        self.addresses = addresses

    def methods(self) -> list[Method]:
        slow, block, tx = Kind.SLOW, required(parse_place), required(parse_hash)
        account, number = required(parse_address), required(parse_number_or_quantity)
        search = (account, number, number)
        at = optional(parse_block, LATEST)
        return [
            Method("ots_getApiLevel", Kind.INLINE, self.get_level),
            Method("ots_hasCode", slow, self.has_code, (account, at)),
            Method("ots_getInternalOperations", slow, self.get_operations, (tx,)),
            Method("ots_getTransactionError", slow, self.get_error, (tx,)),
            Method("ots_traceTransaction", slow, self.trace, (tx,)),
            Method("ots_getBlockDetails", slow, self.get_details, (block,)),
            Method("ots_getBlockDetailsByHash", slow, self.get_details, (tx,)),
            Method(
                "ots_getBlockTransactions", slow, self.get_transactions, (block, number, number)
            ),
            Method("ots_searchTransactionsBefore", slow, self.search_before, search),
            Method("ots_searchTransactionsAfter", slow, self.search_after, search),
            Method(
                "ots_getTransactionBySenderAndNonce", slow, self.get_by_nonce, (account, number)
            ),
            Method("ots_getContractCreator", slow, self.get_creator, (account,)),
            # Otterscan asks for the first block's header to see that a node is there.
            Method("erigon_getHeaderByNumber", slow, self.get_header, (block,)),
        ]

    def get_level(self) -> bytes:
        # Whoever asks this will search later.
        self.addresses.start()
        return b"%d" % API_LEVEL

    def has_code(self, account: Address, block: Selector) -> bytes:
        return TRUE if self.store.view.code(self.store.locate(block), account) else FALSE

    def get_operations(self, transaction: Hash) -> bytes:
        return require(self.store.view.ots_operations(transaction), transaction)

    def get_error(self, transaction: Hash) -> bytes:
        return data(require(self.store.view.ots_error(transaction), transaction))

    def trace(self, transaction: Hash) -> bytes:
        return require(self.store.view.ots_trace(transaction), transaction)

    def get_header(self, block: Selector) -> bytes:
        return self.store.view.header_json(self.store.locate(block)) or NULL

    def get_details(self, block: Selector) -> bytes:
        return self.store.view.ots_block_details(self.store.locate(block)) or NULL

    def get_transactions(self, block: Selector, page: int, size: int) -> bytes:
        """Return a page of a block's transactions; page 0 holds the last ones."""
        if size > MAX_BLOCK_PAGE:
            raise RpcError(SERVER, f"max allowed page size: {MAX_BLOCK_PAGE}")
        return self.store.view.ots_block_transactions(self.store.locate(block), page, size) or NULL

    def search_before(self, account: Address, height: int, size: int) -> bytes:
        """Return transactions below a height, from the top where that is 0, newest first."""
        first = min(height or MAX_HEIGHT, MAX_HEIGHT) - (1 if height else 0)
        places, more = self.search(account, first, False, size)
        return self.show(places, not height, not more)

    def search_after(self, account: Address, height: int, size: int) -> bytes:
        """Return transactions above a height, from the bottom where that is 0, newest first."""
        first = min(height, MAX_HEIGHT - 1) + 1
        places, more = self.search(account, first, True, size)
        return self.show(places[::-1], not more, not height)

    def search(
        self, account: Address, first: int, is_up: bool, size: int
    ) -> tuple[list[tuple[int, int]], bool]:
        if size > MAX_PAGE:
            raise RpcError(SERVER, f"max allowed page size: {MAX_PAGE}")
        return self.addresses.search(account, first, is_up, max(size, 1))

    def show(self, places: list[tuple[int, int]], is_first: bool, is_last: bool) -> bytes:
        found = FOUND.decode(self.store.view.ots_transactions(places) or b"{}")
        return msgspec.json.encode(Page(found.txs, found.receipts, is_first, is_last))

    def get_by_nonce(self, sender: Address, nonce: int) -> bytes:
        view = self.store.view
        place = self.addresses.get_index().sent(view, sender, nonce)
        found = None if place is None else view.transaction_hash_at(*place)
        if found is None and nonce < view.nonce(LATEST, sender):
            self.check_whole()
        return NULL if found is None else data(found)

    def get_creator(self, account: Address) -> bytes:
        """Return who created a contract that is still there, and with which transaction."""
        view = self.store.view
        if not view.code(LATEST, account):
            return NULL
        found = self.addresses.get_index().creator(view, account)
        transaction = None if found is None else view.transaction_hash_at(found[0], found[1])
        if found is None or transaction is None:
            # A contract of the genesis block has no creator; one that is younger has.
            self.check_whole()
            return NULL
        return msgspec.json.encode({"hash": to_hex(transaction), "creator": to_hex(found[2])})

    def check_whole(self) -> None:
        """Raise RpcError where what was not found may be in a block that is not kept."""
        first = self.addresses.get_first_block()
        if first > 1:
            message = f"pruned history unavailable: the index of addresses begins at block {first}"
            raise RpcError(PRUNED, message)


def require(answer: bytes | None, transaction: Hash) -> bytes:
    if answer is None:
        raise RpcError(SERVER, f"transaction {to_hex(transaction)} not found")
    return answer
