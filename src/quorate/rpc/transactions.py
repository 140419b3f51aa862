"""Sending transactions, with and without waiting for the receipt.

Source: EIP-7966 for eth_sendRawTransactionSync.
"""

import asyncio

from quorate.base.types import Hash
from quorate.rpc.dispatch import Kind, Method, optional, required
from quorate.rpc.encoding import data, to_hex
from quorate.rpc.errors import SERVER, SYNC_TIMEOUT, RpcError
from quorate.rpc.events import Events
from quorate.rpc.parameters import parse_data, parse_number_or_quantity
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store
from quorate.rpc.validator import Validator


class Transactions:
    """The way into the pool."""

    def __init__(
        self, settings: Settings, store: Store, validator: Validator, events: Events
    ) -> None:
        self.settings = settings
        self.store = store
        self.validator = validator
        self.events = events

    def methods(self) -> list[Method]:
        raw = required(parse_data)
        timeout = optional(parse_number_or_quantity)
        return [
            Method("eth_sendRawTransaction", Kind.SUBMIT, self.validator.submit, (raw,)),
            Method("eth_sendRawTransactionSync", Kind.ASYNC, self.send_and_wait, (raw, timeout)),
        ]

    async def send_and_wait(self, raw: bytes, timeout_ms: int | None) -> bytes:
        """Return the receipt. Raises code 4, with the hash as data, when it takes too long."""
        seconds = self.settings.sync_seconds if timeout_ms is None else timeout_ms / 1000
        seconds = min(seconds or self.settings.sync_seconds, self.settings.max_sync_seconds)
        ((transaction, reason),) = await self.validator.submit([raw])
        if reason is not None:
            raise RpcError(SERVER, reason)
        try:
            receipt = await wait_for_receipt(self.store, self.events, transaction, seconds)
        except TimeoutError:
            message = (
                "The transaction was added to the transaction pool "
                f"but wasn't processed in {seconds:g}s"
            )
            raise RpcError(SYNC_TIMEOUT, message, data(transaction)) from None
        if receipt is None:
            raise RpcError(SERVER, "transaction indexing is in progress")
        return receipt


async def wait_for_receipt(
    store: Store, events: Events, transaction: Hash, seconds: float
) -> bytes | None:
    """Return the receipt; None if its block is known and cannot be read. Raises TimeoutError."""
    name = to_hex(transaction)
    included = events.wait_for(name)
    try:
        # It may have been included before the waiting began.
        receipt = store.view.receipt_json(transaction)
        if receipt is None:
            await asyncio.wait_for(included, seconds)
            receipt = store.view.receipt_json(transaction)
        return receipt
    finally:
        events.forget(name, included)
