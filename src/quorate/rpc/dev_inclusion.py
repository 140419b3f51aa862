"""Waiting until what was sent is in a block that this node shows, as tests for Anvil expect."""

from collections.abc import Sequence
from contextlib import suppress

from quorate.base.types import Hash
from quorate.rpc.errors import RpcError
from quorate.rpc.events import Events
from quorate.rpc.store import Store
from quorate.rpc.transactions import wait_for_receipt
from quorate.rpc.validator import Validator, Verdict

INCLUSION_SECONDS = 2.0
"""How long the answer to a sent transaction waits for its block."""
LONGEST_SECONDS = 8.0
"""The same while something waits that the next block could hold; clients wait for at least ten."""


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
        if not admitted or not self.store.is_dev or self.store.view.dev_mining()[0]:
            return
        waited = 0.0
        # It is admitted, whatever its validator can tell of it.
        with suppress(RpcError):
            while await self.wait(admitted[-1], INCLUSION_SECONDS) is None:
                waited += INCLUSION_SECONDS
                executable, _, _ = await self.validator.get_pool_counts()
                if waited >= LONGEST_SECONDS:
                    return
                if not executable:
                    # It is queued behind others, perhaps for ever, or executed and not written yet.
                    height = await self.validator.get_executed_height()
                    await self.events.reach(height, LONGEST_SECONDS - waited)
                    return

    async def wait(self, transaction: Hash, seconds: float) -> bytes | None:
        """Return the receipt; None if it has not come within so many seconds."""
        try:
            return await wait_for_receipt(self.store, self.events, transaction, seconds)
        except TimeoutError:
            return None
