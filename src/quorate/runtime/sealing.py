"""Mining threads: the search for nonces beside the event loop.

Each thread tries a slice of nonces in one call of the kernel, without the interpreter's lock, then
looks whether the work is still the same. Threads have the lowest priority, so that agreement and
execution come first; with `hashes_per_second` they also rest, so that a network for trials does not
heat the machine it runs on.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable

from quorate._kernel import seal

__all__ = ["Sealer"]

FIRST_SLICE = 1 << 14
MAX_SLICE = 1 << 26
SLICE_NS = 20_000_000
"""How long a slice shall take: what is lost of a slice when the tip moves."""
REST_S = 0.05
"""A thread with a bounded rate works this often."""
NICE = 19


class Work:
    """One search: what all threads try until one finds."""

    __slots__ = ("done", "header", "target")

    def __init__(self, header: bytes, target: int, done: Callable[[int], None]) -> None:
        self.header, self.done = header, done
        self.target = target.to_bytes(32, "big")


class Sealer:
    """The mining threads of one process; none before the first search."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_error: Callable[[str, BaseException], None],
        *,
        threads: int,
        hashes_per_second: int,
    ) -> None:
        """`hashes_per_second` is of all threads together, 0: as many as they can."""
        self.loop, self.on_error = loop, on_error
        self.threads, self.rate = threads, hashes_per_second
        self.tried = [0] * threads
        """Nonces of each thread since the start, for metrics."""
        self._work: Work | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._running: list[threading.Thread] = []

    def seal(self, header: bytes, target: int, done: Callable[[int], None]) -> None:
        """Search; replaces the search that is under way. `done` is called on the loop."""
        with self._changed:
            self._work = Work(header, target, done)
            self._changed.notify_all()
        if not self._running and not self._closed:
            self._running = [
                threading.Thread(target=self._run, args=(i,), name=f"quorate-seal-{i}", daemon=True)
                for i in range(self.threads)
            ]
            for thread in self._running:
                thread.start()

    def stop(self) -> None:
        """End the search that is under way."""
        with self._changed:
            self._work = None

    def close(self) -> None:
        """Let the threads end."""
        with self._changed:
            self._work, self._closed = None, True
            self._changed.notify_all()

    def get_tried(self) -> int:
        """Return how many nonces were tried since the start."""
        return sum(self.tried)

    def _run(self, index: int) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            self._search(index)
        except BaseException as error:
            self._tell(self.on_error, "seal", error)

    def _search(self, index: int) -> None:
        """Try slices until closed. Threads share the nonces by their upper bits."""
        rate = self.rate // self.threads
        count = max(int(rate * REST_S), 1) if rate else FIRST_SLICE
        known: Work | None = None
        start = 0
        while True:
            with self._changed:
                while self._work is None and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                work = self._work
            assert work is not None
            if work is not known:
                known, start = work, index * ((1 << 64) // self.threads)
            began = time.monotonic_ns()
            nonce = seal(work.header, work.target, start, count)
            spent = time.monotonic_ns() - began
            start = (start + count) % (1 << 64)
            self.tried[index] += count
            if nonce is not None:
                self._found(work, nonce)
            if rate:
                with self._changed:
                    if not self._closed:
                        self._changed.wait(max(count / rate - spent / 1e9, 0))
            elif spent > 2 * SLICE_NS:
                count = max(count // 2, 1)
            elif spent < SLICE_NS // 2 and nonce is None:
                count = min(2 * count, MAX_SLICE)

    def _found(self, work: Work, nonce: int) -> None:
        with self._changed:
            if self._work is not work:
                return
            self._work = None
        self._tell(self._done, work, nonce)

    def _done(self, work: Work, nonce: int) -> None:
        # On the loop. Something else may have begun since then, which does not make it less true,
        # but the node was promised to hear of the last search only.
        with self._changed:
            if self._work is not None or self._closed:
                return
        work.done(nonce)

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self.loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            # The loop is closed: the process ends.
            return
