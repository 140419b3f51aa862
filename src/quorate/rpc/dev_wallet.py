"""Accounts that a node of a network for development signs or sends for.

The ten known ones sign, where the genesis file funds them; whoever else is impersonated sends
transactions that nobody signs (`kernel/src/dev.rs`). A node of any other network holds no keys, and
these methods do not exist there.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from quorate import _kernel
from quorate.base.types import Address
from quorate.rpc.dev_clock import set_next_time
from quorate.rpc.dev_inclusion import Inclusion
from quorate.rpc.dev_keys import KEYS, sign
from quorate.rpc.dev_parameters import parse_any_number
from quorate.rpc.dispatch import MALFORMED, Kind, Method, Parameter, required
from quorate.rpc.encoding import FALSE, TRUE, data, to_hex
from quorate.rpc.errors import NO_METHOD, SERVER, BadArgument, RpcError, invalid_params
from quorate.rpc.parameters import (
    LATEST,
    join_overrides,
    parse_address,
    parse_data,
    wrong_type,
)
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store
from quorate.rpc.typed_data import TypedData, hash_message
from quorate.rpc.validator import Validator

BOOKS = bytes.fromhex("0000000000000000000000000000000000001001")
"""Whom commands are from and for (`DEV` in the kernel)."""
TRIES = 16
"""Somebody else's transaction may take the place of ours."""
MAX_IMPERSONATED = 4096
CALL_FIELDS = ("from", "to", "value", "data", "input", "accessList", "authorizationList")


class Wallet:
    """Who is unlocked, and what is signed for them."""

    def __init__(
        self, settings: Settings, store: Store, validator: Validator, inclusion: Inclusion
    ) -> None:
        self.settings, self.store = settings, store
        self.validator, self.inclusion = validator, inclusion
        self.impersonated: dict[Address, None] = {}
        self.impersonates_all = False
        self.numbering = asyncio.Lock()
        """Held from asking for a nonce until it is taken."""

    def methods(self) -> list[Method]:
        account, message = required(parse_address), required(parse_data)
        typed, request = required(parse_typed_data), required(parse_request)
        slow = Kind.SLOW
        return [
            Method("eth_accounts", Kind.INLINE, self.get_accounts),
            self.method("eth_sign", slow, self.sign_message, account, message),
            self.method("personal_sign", slow, self.sign_personal, message, account),
            self.method("eth_signTypedData", slow, self.sign_typed, account, typed),
            self.method("eth_signTypedData_v4", slow, self.sign_typed, account, typed),
            self.method("eth_signTransaction", Kind.ASYNC, self.sign_transaction, request),
            self.method("eth_sendTransaction", Kind.ASYNC, self.send, request),
        ]

    def method(
        self, name: str, kind: Kind, call: Callable[..., Any], *parameters: Parameter
    ) -> Method:
        def guarded(*arguments: Any) -> Any:
            if not self.store.is_dev:
                message = f"the method {name} does not exist/is not available"
                raise RpcError(NO_METHOD, message)
            return call(*arguments)

        return Method(name, kind, guarded, parameters)

    # ---- who is unlocked

    def get_accounts(self) -> bytes:
        """Return whom eth_sendTransaction sends for: nobody, but on networks for development."""
        if not self.store.is_dev:
            return b"[]"
        known = filter(self.is_known, KEYS)
        listed = dict.fromkeys(known) | self.impersonated
        return msgspec.json.encode([to_hex(account) for account in listed])

    async def impersonate(self, account: Address) -> bytes:
        if account == BOOKS:
            raise invalid_params(f"account {to_hex(account)} sends dev commands only")
        if len(self.impersonated) >= MAX_IMPERSONATED and account not in self.impersonated:
            raise RpcError(SERVER, f"{MAX_IMPERSONATED} accounts are impersonated, expected fewer")
        self.impersonated[account] = None
        return TRUE

    async def stop_impersonating(self, account: Address) -> bytes:
        return FALSE if self.impersonated.pop(account, self) is self else TRUE

    async def impersonate_all(self, enabled: bool) -> bytes:
        self.impersonates_all = enabled
        return TRUE

    def is_known(self, account: Address) -> bool:
        return account in KEYS and self.store.view.balance(0, account) > 0

    def is_impersonated(self, account: Address) -> bool:
        return account in self.impersonated or self.impersonates_all

    # ---- signatures

    def sign_message(self, account: Address, message: bytes) -> bytes:
        return data(sign(self.get_signer(account), hash_message(message)))

    def sign_personal(self, message: bytes, account: Address) -> bytes:
        return self.sign_message(account, message)

    def sign_typed(self, account: Address, typed: TypedData) -> bytes:
        try:
            digest = typed.hash()
        except BadArgument as error:
            raise invalid_params(str(error)) from None
        return data(sign(self.get_signer(account), digest))

    def get_signer(self, account: Address) -> Address:
        """Return the account, if this node signs for it. Raises RpcError."""
        if not self.is_known(account):
            raise RpcError(
                SERVER,
                f"unknown account {to_hex(account)}: only the known development accounts that "
                "the genesis file funds sign here",
            )
        return account

    async def sign_transaction(self, request: dict[str, Any]) -> bytes:
        """Return `{raw, tx}`; nothing is kept or sent."""
        sender = self.get_signer(parse_address(request["from"]))
        filled = await self.fill_checked(sender, request)
        return _kernel.sign_transaction(msgspec.json.encode(filled), KEYS[sender])

    # ---- transactions

    async def send(self, request: dict[str, Any]) -> bytes:
        """Put a transaction of an unlocked account into a block; return its hash."""
        sender = parse_address(request["from"])
        if not (self.is_impersonated(sender) or self.is_known(sender)):
            raise RpcError(
                SERVER,
                f"unknown account {to_hex(sender)}: impersonateAccount lets it be sent for, or "
                "sign and use eth_sendRawTransaction",
            )
        reason: str | None = None
        for _ in range(TRIES):
            async with self.numbering:
                raw = self.encode(sender, await self.fill_checked(sender, request))
                # Only admission: other senders need not wait for the block of this one.
                ((transaction, reason),) = await self.validator.submit([raw])
            if reason is None:
                await self.inclusion.follow([transaction])
                return data(transaction)
            if "nonce" in request or not reason.startswith("nonce too low"):
                break
        raise RpcError(SERVER, reason or "the transaction was refused")

    def encode(self, sender: Address, filled: dict[str, Any]) -> bytes:
        """Return the raw transaction: signed if the key is known, for the impersonated without."""
        request = msgspec.json.encode(filled)
        if self.is_impersonated(sender):
            return self.store.view.impersonate(request)
        signed = msgspec.json.decode(_kernel.sign_transaction(request, KEYS[sender]))
        return bytes.fromhex(signed["raw"][2:])

    async def fill_checked(self, sender: Address, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self.fill(sender, request)
        except BadArgument as error:
            raise invalid_params(f"invalid argument 0: {error}") from None

    async def fill(self, sender: Address, request: dict[str, Any]) -> dict[str, Any]:
        """Return the request with the fields that were left to the node."""
        view = self.store.view
        filled = {name: value for name, value in request.items() if value is not None}
        chain_id = filled.get("chainId")
        if chain_id is not None and parse_any_number(chain_id) != view.chain_id:
            raise RpcError(
                SERVER, f"chainId does not match node's (have={chain_id}, want={view.chain_id})"
            )
        filled["chainId"] = hex(view.chain_id)
        if "nonce" not in filled:
            filled["nonce"] = hex(await self.validator.get_nonce(sender))
        filled.setdefault("gas", filled.pop("gasLimit", None))
        if filled["gas"] is None:
            call = {name: filled[name] for name in CALL_FIELDS if name in filled}
            estimate = view.estimate_gas(
                LATEST,
                msgspec.json.encode(call),
                join_overrides(None, set_next_time(view, LATEST, None)),
                self.settings.gas_cap,
            )
            filled["gas"] = hex(estimate)
        tip = view.suggest_tip()
        if filled.pop("type", None) in ("0x0", "0x1") and "maxFeePerGas" not in filled:
            filled.setdefault("gasPrice", hex(2 * view.next_base_fee() + tip))
        if "gasPrice" not in filled:
            filled.setdefault("maxPriorityFeePerGas", hex(tip))
            own = parse_any_number(filled["maxPriorityFeePerGas"], 256)
            filled.setdefault("maxFeePerGas", hex(2 * view.next_base_fee() + own))
        filled.setdefault("value", "0x0")
        return filled


def parse_request(value: Any) -> dict[str, Any]:
    """Return the fields of a transaction that names its sender."""
    if type(value) is not dict:
        raise wrong_type(value, "ethapi.TransactionArgs")
    if value.get("from") is None:
        raise BadArgument("from not specified")
    parse_address(value["from"])
    return dict(value)


def parse_typed_data(value: Any) -> TypedData:
    """Return typed data given as an object, or as the text of one as MetaMask takes it."""
    if type(value) is str:
        try:
            value = msgspec.json.decode(value)
        except MALFORMED as error:
            raise BadArgument(f"typed data: {error}") from None
    return TypedData(value)
