"""State: balances, code, storage, nonces, proofs, calls and gas estimates."""

from typing import Any

import msgspec

from quorate.base.types import Address
from quorate.rpc.dev_clock import set_next_time
from quorate.rpc.dispatch import Kind, Method, optional, required
from quorate.rpc.encoding import data, quantity, to_hex
from quorate.rpc.errors import invalid_params
from quorate.rpc.parameters import (
    LATEST,
    MAX_STORAGE_KEYS,
    PENDING,
    Selector,
    join_overrides,
    parse_address,
    parse_block,
    parse_block_overrides,
    parse_call,
    parse_hash,
    parse_overrides,
    parse_slot,
    parse_slots,
    wrong_type,
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
        listed = (required(parse_call), block, optional(parse_overrides))
        call = (*listed, optional(parse_block_overrides))
        inline = Kind.INLINE
        return [
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
            Method("eth_simulateV1", Kind.SLOW, self.simulate, (required(parse_call), block)),
            Method("eth_createAccessList", Kind.SLOW, self.create_access_list, listed),
            Method(
                "eth_getStorageValues",
                Kind.SLOW,
                self.get_storage_values,
                (required(parse_places), block),
            ),
        ]

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

    def call(
        self, request: bytes, block: Selector, state: bytes | None, changes: dict[str, Any] | None
    ) -> bytes:
        located = self.store.locate(block)
        if block == PENDING:
            changes = set_next_time(self.store.view, block, changes)
        overrides = join_overrides(state, changes)
        return data(self.store.view.call(located, request, overrides, self.settings.gas_cap))

    def estimate_gas(
        self, request: bytes, block: Selector, state: bytes | None, changes: dict[str, Any] | None
    ) -> bytes:
        located = self.store.locate(block)
        overrides = join_overrides(state, set_next_time(self.store.view, block, changes))
        return quantity(
            self.store.view.estimate_gas(located, request, overrides, self.settings.gas_cap)
        )

    def simulate(self, request: bytes, block: Selector) -> bytes:
        return self.store.view.simulate(self.store.locate(block), request, self.settings.gas_cap)

    def create_access_list(self, request: bytes, block: Selector, overrides: bytes | None) -> bytes:
        located = self.store.locate(block)
        return self.store.view.access_list(located, request, overrides, self.settings.gas_cap)

    def get_storage_values(self, places: dict[str, list[bytes]], block: Selector) -> bytes:
        """Return the values of many slots of many accounts, in the order asked for."""
        view, located = self.store.view, self.store.locate(block)
        values = {
            name: [to_hex(view.storage(located, parse_address(name), slot)) for slot in slots]
            for name, slots in places.items()
        }
        return msgspec.json.encode(values)


def parse_places(value: Any) -> dict[str, list[bytes]]:
    """Return storage keys by account, at most `MAX_STORAGE_KEYS` together."""
    if type(value) is not dict:
        raise wrong_type(value, "map[common.Address][]common.Hash")
    if not value:
        raise invalid_params("empty request")
    places: dict[str, list[bytes]] = {}
    for name, slots in value.items():
        parse_address(name)
        if type(slots) is not list:
            raise wrong_type(slots, "[]common.Hash")
        places[name] = [parse_hash(slot) for slot in slots]
    if sum(map(len, places.values())) > MAX_STORAGE_KEYS:
        raise invalid_params(f"too many slots (max {MAX_STORAGE_KEYS})")
    return places
