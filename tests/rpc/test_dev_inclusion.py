"""How long the answer to a sent transaction waits for its block on a network for development."""

import asyncio
from typing import Any, cast

import pytest

from quorate.base.types import Hash
from quorate.rpc.dev_inclusion import INCLUSION_SECONDS, LONGEST_SECONDS, Inclusion
from quorate.rpc.errors import RpcError

SENT = b"t" * 32


class Store:
    """A chain whose transactions wait, or do not, until somebody asks for a block."""

    def __init__(self, *, is_dev: bool = True, held: bool = False) -> None:
        self.is_dev, self.held = is_dev, held

    @property
    def view(self) -> "Store":
        return self

    def dev_mining(self) -> tuple[bool, int]:
        return self.held, 0


class Validator:
    def __init__(self, executable: int) -> None:
        self.executable = executable
        self.is_there = True

    async def get_pool_counts(self) -> tuple[int, int, int]:
        if not self.is_there:
            raise RpcError(-32002, "the validator is not running")
        return self.executable, 1, 100

    async def get_executed_height(self) -> int:
        return 9


class Events:
    def __init__(self) -> None:
        self.reached: list[tuple[int, float]] = []

    async def reach(self, height: int, seconds: float) -> None:
        self.reached.append((height, seconds))


class Timeless(Inclusion):
    """Waits for no time, and finds the receipt at the given attempt."""

    def __init__(self, store: Store, validator: Validator, found_at: int = 1 << 30) -> None:
        self.told = Events()
        super().__init__(cast(Any, store), cast(Any, validator), cast(Any, self.told))
        self.found_at, self.waited = found_at, 0.0
        self.attempts = 0

    async def wait(self, transaction: Hash, seconds: float) -> bytes | None:
        assert transaction == SENT
        self.attempts += 1
        self.waited += seconds
        return b"{}" if self.attempts == self.found_at else None


@pytest.mark.parametrize(
    ("store", "found_at", "executable", "waited"),
    [
        (Store(), 1, 1, INCLUSION_SECONDS),
        # A slow machine: the next block could hold it.
        (Store(), 3, 1, 3 * INCLUSION_SECONDS),
        # No quorum: its client would give up.
        (Store(), 1 << 30, 1, LONGEST_SECONDS),
        # It is queued behind a gap.
        (Store(), 1 << 30, 0, INCLUSION_SECONDS),
        (Store(held=True), 1, 1, 0),
        (Store(is_dev=False), 1, 1, 0),
    ],
)
def test_it_waits_as_long_as_a_block_may_bring_it(
    store: Store, found_at: int, executable: int, waited: float
) -> None:
    inclusion = Timeless(store, Validator(executable), found_at)
    asyncio.run(inclusion.follow([b"o" * 32, SENT]))
    assert inclusion.waited == waited


def test_what_is_executed_and_not_written_yet_is_waited_for() -> None:
    inclusion = Timeless(Store(), Validator(0))
    asyncio.run(inclusion.follow([SENT]))
    assert inclusion.told.reached == [(9, LONGEST_SECONDS - INCLUSION_SECONDS)]


def test_a_validator_that_goes_away_does_not_take_the_admission_back() -> None:
    validator = Validator(1)
    validator.is_there = False
    asyncio.run(Timeless(Store(), validator).follow([SENT]))
    asyncio.run(Timeless(Store(), validator).follow([]))
