"""What Anvil and Hardhat let developers do to a chain, done through agreement (`evm_`, `anvil_`,
`hardhat_`).

Only where the genesis file says `config.quorate.dev`. A command is an item of a block like a
transaction (`kernel/src/dev.rs`), so that every validator executes it alike; a method answers once
its command is in a block that this node's store shows. What is another thing on a chain whose
blocks are final, or whose validators decide, is refused, with what to do instead.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct

from quorate.base.errors import Unavailable
from quorate.base.types import Address, Hash
from quorate.rpc.dev_inclusion import Inclusion
from quorate.rpc.dev_parameters import (
    parse_any_number,
    parse_mine,
    parse_value,
)
from quorate.rpc.dev_wallet import BOOKS, TRIES, Wallet
from quorate.rpc.dispatch import Kind, Method, Parameter, optional, required
from quorate.rpc.encoding import FALSE, NULL, TRUE, quantity, text, to_hex
from quorate.rpc.errors import NO_METHOD, SERVER, RpcError
from quorate.rpc.events import Events
from quorate.rpc.parameters import (
    LATEST,
    parse_address,
    parse_bool,
    parse_data,
    parse_hash,
)
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store
from quorate.rpc.validator import Validator

LOOK_SECONDS = 0.25
"""How often a waiting command looks whether its place was taken."""
MAX_IN_FLIGHT = 32
"""Commands of this process that wait for a block; an account has 64 places in the pool."""
MAX_DROPPED = 256

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
    """Commands; what is signed and sent for accounts is `wallet`."""

    def __init__(
        self, settings: Settings, store: Store, validator: Validator, events: Events
    ) -> None:
        self.settings, self.store = settings, store
        self.validator, self.events = validator, events
        self.inclusion = Inclusion(store, validator, events)
        self.wallet = Wallet(settings, store, validator, self.inclusion)
        self.pacing: asyncio.Task[None] | None = None
        self.in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)

    # ---- the table

    def methods(self) -> list[Method]:
        account, number = required(parse_address), required(parse_any_number)
        wallet = self.wallet
        found = [
            *wallet.methods(),
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
            *self.both("impersonateAccount", wallet.impersonate, account),
            *self.both("stopImpersonatingAccount", wallet.stop_impersonating, account),
            *self.both("autoImpersonateAccount", wallet.impersonate_all, required(parse_bool)),
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
            *self.both("getIntervalMining", self.get_interval),
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
        waits, _ = self.store.view.dev_mining()
        return FALSE if waits else TRUE

    async def set_automine(self, enabled: bool) -> bytes:
        """Let blocks come when something waits for one, or only when asked for."""
        waits, pace = self.store.view.dev_mining()
        if enabled == waits:
            await self.command("setMining", encode(not enabled), encode(0 if enabled else pace))
        return TRUE

    async def set_interval(self, seconds: int) -> bytes:
        """Let this node ask for a block each so many seconds; 0: nobody does any more."""
        _, pace = self.store.view.dev_mining()
        if seconds or pace:
            await self.command("setMining", encode(True), encode(seconds))
        if seconds and (self.pacing is None or self.pacing.done()):
            self.pacing = asyncio.create_task(self.keep_pace())
        return NULL

    async def get_interval(self) -> bytes:
        _, pace = self.store.view.dev_mining()
        return b"%d" % pace if pace else NULL

    async def keep_pace(self) -> None:
        """Ask for a block whenever none has come for as long as the chain says, until it says 0."""
        loop = asyncio.get_running_loop()
        head, since = self.store.view.head(), loop.time()
        while pace := self.store.view.dev_mining()[1]:
            await asyncio.sleep(min(LOOK_SECONDS, pace))
            now, latest = loop.time(), self.store.view.head()
            if latest != head:
                head, since = latest, now
            elif now - since >= pace:
                since = now
                with contextlib.suppress(RpcError, Unavailable):
                    await self.command("mine", encode(1), encode(0))

    def close(self) -> None:
        if self.pacing is not None:
            self.pacing.cancel()

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

    # ---- into blocks

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
        async with self.wallet.numbering:
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
            receipt = await self.inclusion.wait(transaction, LOOK_SECONDS)
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
