"""What waits in the pool, for those who turn the namespace on."""

import msgspec

from quorate.base.types import Address
from quorate.rpc.dispatch import Kind, Method, required
from quorate.rpc.parameters import parse_address
from quorate.rpc.validator import Validator


class TransactionPool:
    """txpool methods; the JSON comes from the kernel."""

    def __init__(self, validator: Validator) -> None:
        self.validator = validator

    def methods(self) -> list[Method]:
        return [
            Method("txpool_status", Kind.ASYNC, self.get_counts),
            Method("txpool_content", Kind.ASYNC, self.get_content),
            Method(
                "txpool_contentFrom", Kind.ASYNC, self.get_content_from, (required(parse_address),)
            ),
        ]

    async def get_counts(self) -> bytes:
        executable, queued, _ = await self.validator.get_pool_counts()
        return msgspec.json.encode({"pending": hex(executable), "queued": hex(queued)})

    async def get_content(self) -> bytes:
        return await self.validator.get_pool_content(None)

    async def get_content_from(self, account: Address) -> bytes:
        return await self.validator.get_pool_content(account)
