"""Waiting until what was sent is in a block that this node shows, as tests for Anvil expect."""

from collections.abc import Sequence

from quorate.base.types import Hash
from quorate.rpc.events import Events
from quorate.rpc.store import Store
from quorate.rpc.transactions import wait_for_receipt
from quorate.rpc.validator import Validator, Verdict

INCLUSION_SECONDS = 2.0
"""How long the answer to a sent transaction waits for its block."""


class Inclusion:
    """The way into blocks of a network for development."""

    def __init__(self, store: Store, validator: Validator, events: Events) -> None:
        self.store, self.validator, self.events = store, validator, events

    async def submit(self, raws: list[bytes]) -> Sequence[Verdict]:
        """Admit raw transactions; on a network for development, wait a little for their blocks.

        Tests for Anvil and Hardhat read what a transaction did without asking for its receipt.
        """
        verdicts = await self.validator.submit(raws)
        await self.follow([transaction for transaction, reason in verdicts if reason is None])
        return verdicts

    async def follow(self, admitted: Sequence[Hash]) -> None:
        """Wait a little for the last of these, unless blocks wait to be asked for."""
        if admitted and self.store.is_dev and not self.store.view.dev_mining()[0]:
            await self.wait(admitted[-1], INCLUSION_SECONDS)

    async def wait(self, transaction: Hash, seconds: float) -> bytes | None:
        """Return the receipt; None if it has not come within so many seconds."""
        try:
            return await wait_for_receipt(self.store, self.events, transaction, seconds)
        except TimeoutError:
            return None
