"""What waits in the pool, for those who turn the namespace on."""

from typing import TypeAlias

import msgspec
from msgspec import Struct

from quorate.base.types import Address
from quorate.crypto.addresses import to_checksum
from quorate.rpc.dispatch import Kind, Method, required
from quorate.rpc.parameters import parse_address
from quorate.rpc.validator import Validator
from quorate.rpc.workers import Workers


class Waiting(Struct, rename="camel"):
    """What txpool_inspect says of a transaction."""

    to: str | None
    value: str
    gas: str
    gas_price: str

    def describe(self) -> str:
        target = "contract creation"
        if self.to is not None:
            target = to_checksum(bytes.fromhex(self.to[2:]))
        value, gas, price = (int(part, 16) for part in (self.value, self.gas, self.gas_price))
        return f"{target}: {value} wei + {gas} gas × {price} wei"


Part: TypeAlias = dict[str, dict[str, Waiting]]


class Content(Struct):
    pending: Part
    queued: Part


CONTENT = msgspec.json.Decoder(Content)


def describe(content: bytes) -> bytes:
    """Return txpool_inspect from the JSON of txpool_content."""
    decoded = CONTENT.decode(content)

    def show(part: Part) -> dict[str, dict[str, str]]:
        return {
            account: {nonce: waiting.describe() for nonce, waiting in waiters.items()}
            for account, waiters in part.items()
        }

    return msgspec.json.encode({"pending": show(decoded.pending), "queued": show(decoded.queued)})


class TransactionPool:
    """txpool methods; the JSON comes from the kernel."""

    def __init__(self, validator: Validator, workers: Workers) -> None:
        self.validator = validator
        self.workers = workers

    def methods(self) -> list[Method]:
        waits, account = Kind.ASYNC, required(parse_address)
        return [
            Method("txpool_status", waits, self.get_counts),
            Method("txpool_content", waits, self.get_content),
            Method("txpool_contentFrom", waits, self.get_content_from, (account,)),
            Method("txpool_inspect", waits, self.inspect),
        ]

    async def get_counts(self) -> bytes:
        executable, queued, _ = await self.validator.get_pool_counts()
        return msgspec.json.encode({"pending": hex(executable), "queued": hex(queued)})

    async def get_content(self) -> bytes:
        return await self.validator.get_pool_content(None)

    async def get_content_from(self, account: Address) -> bytes:
        return await self.validator.get_pool_content(account)

    async def inspect(self) -> bytes:
        content = await self.validator.get_pool_content(None)
        return await self.workers.run(describe, (content,))
