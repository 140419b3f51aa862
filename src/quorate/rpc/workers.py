"""A bounded pool of threads for slow calls; the kernel releases the GIL in them."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias

from quorate.rpc.errors import LIMIT, RpcError

Job: TypeAlias = tuple[Callable[..., bytes], tuple[Any, ...]]

CHUNK = 32
"""Jobs of one batch that a thread does in one go, before others get their turn."""


class Workers:
    """Runs jobs in threads, at most `max_waiting` at a time; each answer within `seconds`."""

    __slots__ = ("max_waiting", "pool", "seconds", "waiting")

    def __init__(self, threads: int, max_waiting: int, seconds: float) -> None:
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="rpc")
        self.max_waiting = max_waiting
        self.seconds = seconds
        self.waiting = 0

    async def run(self, call: Callable[..., bytes], arguments: tuple[Any, ...]) -> bytes:
        """Return the result of one job. Raises what it raises, TimeoutError, or RpcError."""
        outcome = (await self.run_all([(call, arguments)]))[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def run_all(self, jobs: Sequence[Job]) -> list[bytes | Exception]:
        """Return each job's result or exception, in order."""
        if self.waiting + len(jobs) > self.max_waiting:
            raise RpcError(
                LIMIT, f"{self.waiting} calls are waiting, at most {self.max_waiting} may"
            )
        loop = asyncio.get_running_loop()
        futures = []
        for start in range(0, len(jobs), CHUNK):
            chunk = jobs[start : start + CHUNK]
            self.waiting += len(chunk)
            future = loop.run_in_executor(self.pool, run_chunk, chunk)
            # A job that timed out still occupies its thread, so it counts until it really ends.
            future.add_done_callback(partial(self.release, len(chunk)))
            futures.append(future)
        outcomes: list[bytes | Exception] = []
        try:
            async with asyncio.timeout(self.seconds):
                for future in futures:
                    outcomes += await asyncio.shield(future)
        except TimeoutError as error:
            for future in futures:
                future.cancel()
            outcomes += [error] * (len(jobs) - len(outcomes))
        return outcomes

    def release(self, size: int, _: object) -> None:
        self.waiting -= size

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)


def run_chunk(jobs: Sequence[Job]) -> list[bytes | Exception]:
    outcomes: list[bytes | Exception] = []
    for call, arguments in jobs:
        try:
            outcomes.append(call(*arguments))
        except Exception as error:
            outcomes.append(error)
    return outcomes
