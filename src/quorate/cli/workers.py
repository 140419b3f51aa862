"""Processes that run simulations at the same time, for commands that need many runs of one."""

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

__all__ = ["Workers"]

A = TypeVar("A")
B = TypeVar("B")

CHUNKS = 4
"""Parts of a batch for each process: few messages, and still an even load."""


class Workers:
    """So many processes; none if one is enough."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pool: ProcessPoolExecutor | None = None
        if count > 1:
            # A fork has loaded already what a run needs.
            methods = multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
            self.pool = ProcessPoolExecutor(count, mp_context=context, initializer=ignore_interrupt)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if self.pool is None:
            return
        # Nobody wants to know any more what they are at.
        for process in multiprocessing.active_children():
            process.terminate()
        # Its own thread has to end before the program does: at the end it would be told once more.
        self.pool.shutdown(cancel_futures=True)

    def map(self, call: Callable[[A], B], items: list[A]) -> list[B]:
        """Call a function with each item, at the same time; return the results in order."""
        if self.pool is None or len(items) == 1:
            return [call(item) for item in items]
        size = max(1, len(items) // (self.count * CHUNKS))
        return list(self.pool.map(call, items, chunksize=size))


def ignore_interrupt() -> None:
    """Ctrl-C is for the process that leads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
