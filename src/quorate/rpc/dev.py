"""What Anvil and Hardhat let developers do to a chain, done through agreement (`evm_`, `anvil_`,
`hardhat_`).

Only where the genesis file says `config.quorate.dev`. A command is an item of a block like a
transaction (`kernel/src/dev.rs`), so that every validator executes it alike; a method answers once
its command is in a block that this node's store shows. What is another thing on a chain whose
blocks are final, or whose validators decide, is refused, with what to do instead.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from quorate.base.types import Address, Hash
from quorate.rpc.dev_clock import set_next_time
from quorate.rpc.dev_parameters import (
    parse_any_number,
    parse_mine,
    parse_value,
)
from quorate.rpc.dispatch import Kind, Method, Parameter, optional, required
from quorate.rpc.encoding import FALSE, NULL, TRUE, data, quantity, text, to_hex
from quorate.rpc.errors import NO_METHOD, SERVER, BadArgument, RpcError, invalid_params
from quorate.rpc.events import Events
from quorate.rpc.parameters import (
    LATEST,
    parse_address,
    parse_bool,
    parse_data,
    parse_hash,
    wrong_type,
)
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store
from quorate.rpc.validator import Validator, Verdict

BOOKS = bytes.fromhex("0000000000000000000000000000000000001001")
"""Whom commands are from and for (`DEV` in the kernel)."""
ACCOUNTS = (
    "f39fd6e51aad88f6f4ce6ab8827279cfffb92266",
    "70997970c51812dc3a010c7d01b50e0d17dc79c8",
    "3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
    "90f79bf6eb2c4f870365e785982e1f101e93b906",
    "15d34aaf54267db7d7c367839aaf71a00a2c6a65",
    "9965507d1a55bcc2695c58ba16fb37d819b0a4dc",
    "976ea74026e726554db657fa54763abd0c3a0aa9",
    "14dc79964da2c08b23698b3d3cc7ca32193d9955",
    "23618e81e3f5cdf7f54c3d65f7fbc0abf5b21e8f",
    "a0ee7a142d267c1f36714e4a8f75612f20a79720",
)
"""Of the mnemonic that every tool knows; unlocked where the genesis file funds them."""
TRIES = 16
"""Another node's command may take the place of ours."""
LOOK_SECONDS = 0.25
"""How often a waiting command looks whether its place was taken."""
INCLUSION_SECONDS = 2.0
"""How long the answer to a sent transaction waits for its block."""
MAX_IMPERSONATED = 4096
MAX_IN_FLIGHT = 32
"""Commands of this process that wait for a block; an account has 64 places in the pool."""
MAX_DROPPED = 256
CALL_FIELDS = ("from", "to", "value", "data", "input", "accessList", "authorizationList")

REFUSED = {
    "reset": "the chain is the validators' own and final; evm_snapshot and evm_revert take state "
    "back, `quorate reset` begins anew, and no chain is forked from elsewhere",
    "reorg": "blocks of this network are final, none can be replaced; evm_revert takes state back "
    "in a new block, and `quorate up --engine pow` has branches that lose",
    "rollback": "blocks of this network are final, none can be taken out; evm_revert takes state "
    "back in a new block",
    "setCoinbase": "fees go to whoever proposed the block, which is part of what is agreed on; "
    "setBalance gives an account money",
    "setPrevRandao": "it is the hash of the envelope that was agreed on; eth_call takes a block "
    "override `random`",
    "setChainId": "signatures and validators depend on it; `quorate up --chain-id` makes a chain",
    "setRpcUrl": "no chain is forked from elsewhere",
    "setMinGasPrice": "the base fee is the rule; setNextBlockBaseFeePerGas changes it",
    "setBlockTimestampInterval": "timestamps follow the validators' clocks; mine takes an interval",
    "removeBlockTimestampInterval": "there is none to remove",
    "dumpState": "`quorate export` writes blocks to a file",
    "loadState": "the state is agreed on; setBalance, setCode and setStorageAt change it",
}
"""By name without prefix: why not, and what to do instead."""


class Log(Struct):
    data: str


class Receipt(Struct):
    """What matters of a command's receipt."""

    status: str
    block_number: str = msgspec.field(name="blockNumber")
    logs: list[Log]


RECEIPT = msgspec.json.Decoder(Receipt)
OFF = (
    "the method {name} is for development networks: `quorate up --dev` makes one; a chain is "
    "one from genesis on, or never"
)


class Dev:
    """Commands, and transactions that nobody signs."""

    def __init__(
        self, settings: Settings, store: Store, validator: Validator, events: Events
    ) -> None:
        self.settings, self.store = settings, store
        self.validator, self.events = validator, events
        self.impersonated: dict[Address, None] = {}
        self.impersonates_all = False
        self.numbering = asyncio.Lock()
        """Held from asking for a nonce until it is taken."""
        self.in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)

    # ---- the table

    def methods(self) -> list[Method]:
        account, number = required(parse_address), required(parse_any_number)
        found = [
            *self.both("setBalance", self.set_balance, account, required(parse_value)),
            *self.both("setNonce", self.set_nonce, account, number),
            *self.both("setCode", self.set_code, account, required(parse_data)),
            *self.both(
                "setStorageAt",
                self.set_storage,
                account,
                required(parse_value),
                required(parse_value),
            ),
            *self.both("impersonateAccount", self.impersonate, account),
            *self.both("stopImpersonatingAccount", self.stop_impersonating, account),
            *self.both("autoImpersonateAccount", self.impersonate_all, required(parse_bool)),
            *self.both(
                "mine", self.mine, optional(parse_any_number, 1), optional(parse_any_number)
            ),
            self.method("evm_mine", self.mine_at, optional(parse_mine, (None, 1))),
            *self.both("setNextBlockBaseFeePerGas", self.set_base_fee, number),
            *self.timed("setBlockGasLimit", self.set_gas_limit, number),
            *self.timed("increaseTime", self.increase_time, number),
            *self.timed("setNextBlockTimestamp", self.set_next_timestamp, number),
            *self.timed("setTime", self.set_time, number),
            *self.timed("snapshot", self.snapshot),
            *self.timed("revert", self.revert, number),
            *self.both("dropTransaction", self.drop, required(parse_hash)),
            *self.both("dropAllTransactions", self.drop_all),
            *self.both("removePoolTransactions", self.drop_of, account),
            *self.both("getAutomine", self.get_automine),
            *self.both("metadata", self.get_metadata),
            *self.both("nodeInfo", self.get_metadata),
            *self.both("setLoggingEnabled", self.set_logging, required(parse_bool)),
            *self.timed("setAutomine", self.set_automine, required(parse_bool)),
            *self.timed("setIntervalMining", self.set_interval, number),
            Method("eth_accounts", Kind.ASYNC, self.get_accounts),
            Method("eth_sendTransaction", Kind.ASYNC, self.send, (required(parse_request),)),
        ]
        for name, reason in REFUSED.items():
            found += self.both(name, self.refusal(name, reason), *[optional(keep)] * 3)
        return found

    def method(
        self, name: str, call: Callable[..., Awaitable[bytes]], *parameters: Parameter
    ) -> Method:
        async def guarded(*arguments: Any) -> bytes:
            if not self.store.view.is_dev:
                raise RpcError(NO_METHOD, OFF.format(name=name))
            return await call(*arguments)

        return Method(name, Kind.ASYNC, guarded, parameters)

    def both(
        self, name: str, call: Callable[..., Awaitable[bytes]], *parameters: Parameter
    ) -> list[Method]:
        return [self.method(f"{p}_{name}", call, *parameters) for p in ("anvil", "hardhat")]

    def timed(
        self, name: str, call: Callable[..., Awaitable[bytes]], *parameters: Parameter
    ) -> list[Method]:
        return [self.method(f"{p}_{name}", call, *parameters) for p in ("evm", "anvil", "hardhat")]

    def refusal(self, name: str, reason: str) -> Callable[..., Awaitable[bytes]]:
        async def refuse(*_: Any) -> bytes:
            raise RpcError(SERVER, f"{name} is not possible here: {reason}")

        return refuse

    # ---- accounts

    async def set_balance(self, account: Address, wei: bytes) -> bytes:
        await self.command("setBalance", account, wei)
        return TRUE

    async def set_nonce(self, account: Address, nonce: int) -> bytes:
        await self.command("setNonce", account, encode(nonce))
        return TRUE

    async def set_code(self, account: Address, code: bytes) -> bytes:
        await self.command("setCode", account, code)
        return TRUE

    async def set_storage(self, account: Address, slot: bytes, value: bytes) -> bytes:
        await self.command("setStorageAt", account, slot, value)
        return TRUE

    # ---- time and blocks

    async def increase_time(self, seconds: int) -> bytes:
        """Return by how many seconds the chain's clock is ahead."""
        await self.command("increaseTime", encode(seconds))
        return b"%d" % self.store.view.dev_clock()[1]

    async def set_next_timestamp(self, timestamp: int) -> bytes:
        await self.command("setNextBlockTimestamp", encode(timestamp))
        return NULL

    async def set_time(self, timestamp: int) -> bytes:
        await self.command("setTime", encode(timestamp))
        return b"%d" % self.store.view.dev_clock()[1]

    async def set_base_fee(self, wei: int) -> bytes:
        await self.command("setNextBlockBaseFeePerGas", encode(wei))
        return TRUE

    async def set_gas_limit(self, gas: int) -> bytes:
        await self.command("setBlockGasLimit", encode(gas))
        return TRUE

    async def mine_at(self, asked: tuple[int | None, int]) -> bytes:
        timestamp, blocks = asked
        if timestamp is not None:
            await self.command("setNextBlockTimestamp", encode(timestamp))
        await self.mine(blocks, None)
        return text("0x0")

    async def mine(self, blocks: int, interval: int | None) -> bytes:
        """Let the network make blocks, with or without transactions."""
        if blocks == 0:
            return TRUE
        seconds = 1 if interval is None else interval
        receipt = await self.command("mine", encode(blocks), encode(seconds))
        last = int(receipt.block_number, 16) + blocks - 1
        deadline = asyncio.get_running_loop().time() + self.settings.max_sync_seconds
        while (head := self.store.view.head()) < last:
            if asyncio.get_running_loop().time() > deadline:
                raise RpcError(
                    SERVER,
                    f"mine: block {head} of {last} after {self.settings.max_sync_seconds:g} s; "
                    "the network goes on, fewer blocks at a time are answered sooner",
                )
            await asyncio.sleep(0.01)
        return TRUE

    async def get_automine(self) -> bytes:
        return TRUE

    async def set_automine(self, enabled: bool) -> bytes:
        if not enabled:
            raise RpcError(
                SERVER,
                "setAutomine(false) is not possible here: validators make a block when "
                "transactions wait; `quorate up --block-time` lets them wait between blocks",
            )
        return TRUE

    async def set_interval(self, interval: int) -> bytes:
        if interval:
            raise RpcError(
                SERVER,
                "setIntervalMining is not possible while the network runs: `quorate down`, then "
                "`quorate up --block-time MS` makes blocks at an interval",
            )
        return TRUE

    # ---- snapshots

    async def snapshot(self) -> bytes:
        """Return the name of the state of now: the height of the latest block."""
        return quantity(self.store.view.head())

    async def revert(self, height: int) -> bytes:
        """Let the next block begin from an older state. False where there is no such snapshot."""
        view = self.store.view
        if height > view.head() or view.is_reverted(height):
            return FALSE
        await self.command("revertTo", encode(height))
        return TRUE

    # ---- the pool

    async def drop(self, transaction: Hash) -> bytes:
        """Take a transaction out of every validator's pool."""
        if await self.validator.get_pool_transaction(transaction) is None:
            return FALSE
        await self.command("dropTransaction", transaction)
        return TRUE

    async def drop_all(self) -> bytes:
        await self.drop_each(await self.validator.get_pool_content(None), True)
        return TRUE

    async def drop_of(self, account: Address) -> bytes:
        await self.drop_each(await self.validator.get_pool_content(account), False)
        return TRUE

    async def drop_each(self, content: bytes, by_account: bool) -> None:
        pool: dict[str, Any] = msgspec.json.decode(content)
        parts = [part for part in pool.values() if part]
        if by_account:
            parts = [nonces for part in parts for nonces in part.values()]
        hashes = [
            tx["hash"]
            for part in parts
            for tx in part.values()
            if tx["from"].removeprefix("0x").lower() != BOOKS.hex()
        ]
        if len(hashes) > MAX_DROPPED:
            raise RpcError(SERVER, f"{len(hashes)} transactions wait, at most {MAX_DROPPED} go")
        commands = [self.command("dropTransaction", bytes.fromhex(name[2:])) for name in hashes]
        await asyncio.gather(*commands)

    # ---- who and what

    async def get_metadata(self) -> bytes:
        view = self.store.view
        head = view.head()
        return msgspec.json.encode(
            {
                "clientVersion": "quorate",
                "chainId": view.chain_id,
                "instanceId": to_hex(view.genesis_hash),
                "latestBlockNumber": head,
                "latestBlockHash": to_hex(view.block_hash(head) or b""),
            }
        )

    async def set_logging(self, enabled: bool) -> bytes:
        """Accept what changes nothing: what validators write is a setting of theirs."""
        return TRUE

    async def get_accounts(self) -> bytes:
        """Return whom eth_sendTransaction sends for: nobody, but on networks for development."""
        if not self.store.is_dev:
            return b"[]"
        view = self.store.view
        known = map(bytes.fromhex, ACCOUNTS)
        funded = [account for account in known if view.balance(0, account)]
        listed = dict.fromkeys(funded) | self.impersonated
        return msgspec.json.encode([to_hex(account) for account in listed])

    # ---- transactions that nobody signs

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

    def is_unlocked(self, account: Address) -> bool:
        if self.impersonates_all or account in self.impersonated:
            return True
        return account.hex() in ACCOUNTS and self.store.view.balance(0, account) > 0

    async def send(self, request: dict[str, Any]) -> bytes:
        """Put a transaction of an unlocked account into a block; return its hash."""
        view = self.store.view
        if not view.is_dev:
            raise RpcError(
                NO_METHOD, "the method eth_sendTransaction does not exist/is not available"
            )
        sender = parse_address(request.get("from"))
        if not self.is_unlocked(sender):
            raise RpcError(
                SERVER,
                f"unknown account {to_hex(sender)}: impersonateAccount lets it be sent for, or "
                "sign and use eth_sendRawTransaction",
            )
        reason: str | None = None
        for _ in range(TRIES):
            async with self.numbering:
                try:
                    filled = await self.fill(sender, request)
                except BadArgument as error:
                    raise invalid_params(f"invalid argument 0: {error}") from None
                raw = view.impersonate(msgspec.json.encode(filled))
                ((transaction, reason),) = await self.validator.submit([raw])
            if reason is None:
                await self.wait(transaction, INCLUSION_SECONDS)
                return data(transaction)
            if "nonce" in request or not reason.startswith("nonce too low"):
                break
        raise RpcError(SERVER, reason or "the transaction was refused")

    async def fill(self, sender: Address, request: dict[str, Any]) -> dict[str, Any]:
        """Return the request with the fields that were left to the node."""
        view = self.store.view
        filled = {name: value for name, value in request.items() if value is not None}
        chain_id = filled.pop("chainId", None)
        if chain_id is not None and parse_any_number(chain_id) != view.chain_id:
            raise RpcError(
                SERVER, f"chainId does not match node's (have={chain_id}, want={view.chain_id})"
            )
        if "nonce" not in filled:
            filled["nonce"] = hex(await self.validator.get_nonce(sender))
        filled.setdefault("gas", filled.pop("gasLimit", None))
        if filled["gas"] is None:
            call = {name: filled[name] for name in CALL_FIELDS if name in filled}
            estimate = view.estimate_gas(
                LATEST,
                msgspec.json.encode(call),
                set_next_time(view, LATEST, None),
                self.settings.gas_cap,
            )
            filled["gas"] = hex(estimate)
        tip = view.suggest_tip()
        if filled.pop("type", None) in ("0x0", "0x1") and "maxFeePerGas" not in filled:
            filled.setdefault("gasPrice", hex(2 * view.next_base_fee() + tip))
        if "gasPrice" not in filled:
            filled.setdefault("maxPriorityFeePerGas", hex(tip))
            own = parse_any_number(filled["maxPriorityFeePerGas"])
            filled.setdefault("maxFeePerGas", hex(2 * view.next_base_fee() + own))
        filled.setdefault("value", "0x0")
        return filled

    # ---- into blocks

    async def submit(self, raws: list[bytes]) -> Sequence[Verdict]:
        """Admit raw transactions; on a network for development, wait a little for their blocks.

        Tests for Anvil and Hardhat read what a transaction did without asking for its receipt.
        """
        verdicts = await self.validator.submit(raws)
        if self.store.is_dev:
            admitted = [transaction for transaction, reason in verdicts if reason is None]
            if admitted:
                await self.wait(admitted[-1], INCLUSION_SECONDS)
        return verdicts

    async def wait(self, transaction: Hash, seconds: float) -> bytes | None:
        """Return the receipt; None if it has not come within so many seconds."""
        name = to_hex(transaction)
        included = self.events.wait_for(name)
        try:
            # It may have been included before the waiting began.
            receipt = self.store.view.receipt_json(transaction)
            if receipt is None:
                await asyncio.wait_for(included, seconds)
                receipt = self.store.view.receipt_json(transaction)
            return receipt
        except TimeoutError:
            return None
        finally:
            self.events.forget(name, included)

    async def command(self, name: str, *arguments: bytes) -> Receipt:
        """Have a command executed by all validators. Raises RpcError where it took no effect."""
        async with self.in_flight:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + self.settings.sync_seconds
            for _ in range(TRIES):
                placed = await self.place(name, list(arguments))
                receipt = None if placed is None else await self.follow(*placed, deadline)
                reason = None if receipt is None else get_reason(receipt)
                if receipt is not None and reason is None:
                    return receipt
                if reason is not None and "has to come first" not in reason:
                    raise RpcError(SERVER, reason)
                if loop.time() > deadline:
                    break
            seconds = self.settings.sync_seconds
            raise RpcError(SERVER, f"{name}: in no block after {seconds:g} s; does the network go?")

    async def place(self, name: str, arguments: list[bytes]) -> tuple[Hash, int] | None:
        """Put a command into the pool; its hash and nonce, None if its place was taken."""
        view = self.store.view
        async with self.numbering:
            nonce = await self.validator.get_nonce(BOOKS)
            raw = view.encode_command(nonce, os.urandom(8), name, arguments)
            ((transaction, reason),) = await self.validator.submit([raw])
        if reason is None:
            return transaction, nonce
        if reason.startswith("nonce too low"):
            return None
        raise RpcError(SERVER, reason)

    async def follow(self, transaction: Hash, nonce: int, deadline: float) -> Receipt | None:
        """Return the receipt of a command; None where another one took its place, or too late."""
        loop = asyncio.get_running_loop()
        while loop.time() < deadline:
            receipt = await self.wait(transaction, LOOK_SECONDS)
            if receipt is None and self.store.view.nonce(LATEST, BOOKS) > nonce:
                receipt = self.store.view.receipt_json(transaction)
                if receipt is None:
                    return None
            if receipt is not None:
                return RECEIPT.decode(receipt)
        return None


def get_reason(receipt: Receipt) -> str | None:
    """Return why a command took no effect: the text of the event `Refused(string)`."""
    if receipt.status == "0x1":
        return None
    words = bytes.fromhex(receipt.logs[0].data[2:]) if receipt.logs else bytes(64)
    length = int.from_bytes(words[32:64], "big")
    return words[64 : 64 + length].decode(errors="replace") or "refused"


def encode(number: int) -> bytes:
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def keep(value: Any) -> Any:
    return value


def parse_request(value: Any) -> dict[str, Any]:
    """Return the fields of a transaction that names its sender."""
    if type(value) is not dict:
        raise wrong_type(value, "ethapi.TransactionArgs")
    if value.get("from") is None:
        raise BadArgument("from not specified")
    parse_address(value["from"])
    return dict(value)
