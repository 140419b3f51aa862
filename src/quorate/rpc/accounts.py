"""State: balances, code, storage, nonces, proofs, calls and gas estimates."""

from quorate.base.types import Address
from quorate.rpc.dispatch import Kind, Method, optional, required
from quorate.rpc.encoding import data, quantity
from quorate.rpc.parameters import (
    LATEST,
    PENDING,
    Selector,
    parse_address,
    parse_block,
    parse_call,
    parse_overrides,
    parse_slot,
    parse_slots,
)
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store
from quorate.rpc.validator import Validator


class Accounts:
    """Reads of state at a block, and executions over it that leave no trace."""

    def __init__(self, settings: Settings, store: Store, validator: Validator) -> None:
        self.settings = settings
        self.store = store
        self.validator = validator

    def methods(self) -> list[Method]:
        account, block = required(parse_address), optional(parse_block, LATEST)
        call = (required(parse_call), block, optional(parse_overrides))
        inline = Kind.INLINE
        return [
            Method("eth_accounts", inline, self.get_accounts),
            Method("eth_getBalance", inline, self.get_balance, (account, block)),
            Method("eth_getCode", inline, self.get_code, (account, block)),
            Method(
                "eth_getStorageAt",
                inline,
                self.get_storage,
                (account, required(parse_slot), block),
            ),
            Method("eth_getTransactionCount", Kind.ASYNC, self.get_nonce, (account, block)),
            Method(
                "eth_getProof", Kind.SLOW, self.get_proof, (account, required(parse_slots), block)
            ),
            Method("eth_call", Kind.SLOW, self.call, call),
            Method("eth_estimateGas", Kind.SLOW, self.estimate_gas, call),
        ]

    def get_accounts(self) -> bytes:
        """Return no accounts: nodes hold no users' keys."""
        return b"[]"

    def get_balance(self, account: Address, block: Selector) -> bytes:
        return quantity(self.store.view.balance(self.store.locate(block), account))

    def get_code(self, account: Address, block: Selector) -> bytes:
        return data(self.store.view.code(self.store.locate(block), account))

    def get_storage(self, account: Address, slot: bytes, block: Selector) -> bytes:
        return data(self.store.view.storage(self.store.locate(block), account, slot))

    async def get_nonce(self, account: Address, block: Selector) -> bytes:
        if block == PENDING:
            return quantity(await self.validator.get_nonce(account))
        return quantity(self.store.view.nonce(self.store.locate(block), account))

    def get_proof(self, account: Address, slots: list[bytes], block: Selector) -> bytes:
        return self.store.view.proof_json(self.store.locate(block), account, slots)

    def call(self, request: bytes, block: Selector, overrides: bytes | None) -> bytes:
        located = self.store.locate(block)
        return data(self.store.view.call(located, request, overrides, self.settings.gas_cap))

    def estimate_gas(self, request: bytes, block: Selector, overrides: bytes | None) -> bytes:
        located = self.store.locate(block)
        return quantity(
            self.store.view.estimate_gas(located, request, overrides, self.settings.gas_cap)
        )
