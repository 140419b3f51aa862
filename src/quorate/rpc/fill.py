"""eth_fillTransaction: what a transaction lacks, with the defaults that geth gives it."""

from typing import Any

import msgspec

from quorate._kernel import fill_transaction
from quorate.base.types import Address
from quorate.rpc.dispatch import Kind, Method, required
from quorate.rpc.errors import SERVER, RpcError
from quorate.rpc.parameters import LATEST, parse_address, parse_call, parse_quantity
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store
from quorate.rpc.validator import Validator
from quorate.rpc.workers import Workers


class Filler:
    """Completes transactions; nothing is signed, kept or sent."""

    def __init__(
        self, settings: Settings, store: Store, validator: Validator, workers: Workers
    ) -> None:
        self.settings = settings
        self.store = store
        self.validator = validator
        self.workers = workers

    def methods(self) -> list[Method]:
        parameters = (required(parse_fields),)
        return [Method("eth_fillTransaction", Kind.ASYNC, self.fill, parameters)]

    async def fill(self, given: dict[str, Any]) -> bytes:
        """Return the transaction, and its encoding without signature, ready for one."""
        fields = dict(given)
        account = parse_address(fields.get("from", "0x" + "00" * 20))
        if fields.get("nonce") is None:
            fields["nonce"] = hex(await self.get_nonce(account))
        return await self.workers.run(self.complete, (fields,))

    async def get_nonce(self, account: Address) -> int:
        if self.validator.path is None:
            return self.store.view.nonce(LATEST, account)
        return await self.validator.get_nonce(account)

    def complete(self, fields: dict[str, Any]) -> bytes:
        view = self.store.view
        self.set_prices(fields)
        fields.setdefault("value", "0x0")
        chain = parse_quantity(fields.setdefault("chainId", hex(view.chain_id)))
        if chain != view.chain_id:
            message = f"chainId does not match node's (have={chain}, want={view.chain_id})"
            raise RpcError(SERVER, message)
        if fields.get("to") is None and not (fields.get("input") or fields.get("data")):
            raise RpcError(SERVER, "contract creation without any data provided")
        if fields.get("gas") is None:
            call = msgspec.json.encode(fields)
            fields["gas"] = hex(view.estimate_gas(LATEST, call, None, self.settings.gas_cap))
        return fill_transaction(msgspec.json.encode(fields))

    def set_prices(self, fields: dict[str, Any]) -> None:
        """Offer twice the base fee above the usual tip, unless prices are named."""
        price, most, tip = (
            fields.get(name) for name in ("gasPrice", "maxFeePerGas", "maxPriorityFeePerGas")
        )
        if price is not None:
            if most is not None or tip is not None:
                message = "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"
                raise RpcError(SERVER, message)
            return
        view = self.store.view
        if tip is None:
            suggested = view.suggest_tip()
            if most is not None:
                suggested = min(suggested, parse_quantity(most, bits=256))
            fields["maxPriorityFeePerGas"] = hex(suggested)
        offered = parse_quantity(fields["maxPriorityFeePerGas"], bits=256)
        if most is None:
            fields["maxFeePerGas"] = hex(2 * view.base_fee(LATEST) + offered)
        elif parse_quantity(most, bits=256) < offered:
            message = f"maxFeePerGas ({int(most, 16)}) < maxPriorityFeePerGas ({offered})"
            raise RpcError(SERVER, message)


def parse_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a transaction that are named."""
    fields = msgspec.json.decode(parse_call(value), type=dict[str, Any])
    for name, bits in NUMBERS.items():
        if fields.get(name) is not None:
            parse_quantity(fields[name], bits=bits)
    if fields.get("from") is not None:
        parse_address(fields["from"])
    return {name: field for name, field in fields.items() if field is not None}


NUMBERS = {
    "nonce": 64,
    "gas": 64,
    "chainId": 256,
    "gasPrice": 256,
    "maxFeePerGas": 256,
    "maxPriorityFeePerGas": 256,
}
