"""Syncs beside the event loop: a thread of the kernel waits for the disk, a pipe wakes the loop."""

import asyncio
import os
from collections.abc import Callable

from quorate._kernel import FileSync
from quorate.base.types import Nanoseconds

__all__ = ["Syncing"]

SIGNALS = 64
"""Bytes of the pipe that are read at a time; each stands for a sync that is done."""


class Syncing:
    """One thread and its pipe. `done(error, duration)` is called on the loop for each sync."""

    __slots__ = ("_done", "_loop", "_reader", "_sync", "_writer", "under_way")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, done: Callable[[OSError | None, Nanoseconds], None]
    ) -> None:
        self._loop, self._done = loop, done
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._sync = FileSync(self._writer)
        self.under_way = 0
        """Syncs whose end the loop has not heard of."""
        loop.add_reader(self._reader, self._on_signal)

    def begin(self, descriptor: int) -> None:
        """Make a file durable. It has to stay open meanwhile."""
        self.under_way += 1
        self._sync.begin(descriptor)

    def close(self) -> None:
        """End the thread, if nothing is under way; a thread that a disk holds keeps its pipe."""
        self._loop.remove_reader(self._reader)
        self._sync.close()
        if not self.under_way:
            os.close(self._reader)
            os.close(self._writer)

    def _on_signal(self) -> None:
        os.read(self._reader, SIGNALS)
        while (outcome := self._sync.take()) is not None:
            number, spent = outcome
            self.under_way -= 1
            self._done(OSError(number, os.strerror(number)) if number else None, spent)
