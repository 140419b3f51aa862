"""Threads beside the event loop: one for each lane, calls of a lane in order.

A thread pool would do, but its futures cost more than most of our calls; a queue and a callback on
the loop are all that is needed.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["Lane"]

Job = tuple[Callable[[], Any], Callable[[Any], None]]


class Lane:
    """One worker thread. What it returns reaches the loop in the order of the calls."""

    __slots__ = ("_loop", "_on_error", "_queue", "_thread", "name", "waiting")

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        on_error: Callable[[str, BaseException], None],
    ) -> None:
        """`on_error(lane, error)` is told on the loop when a call raises; its `done` is not."""
        self.name, self._loop, self._on_error = name, loop, on_error
        self.waiting = 0
        """Calls whose result has not reached the loop; bounded by whoever calls."""
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"quorate-{name}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Make a call on the lane's thread, then `done(result)` on the loop."""
        self.waiting += 1
        self._queue.put((call, done))

    def close(self) -> None:
        """Take no more calls; the thread ends when it has made those that wait."""
        self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of a closed lane; whether it came in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            call, done = job
            try:
                result = call()
            except BaseException as error:
                self._tell(self._raised, error)
            else:
                self._tell(self._done, done, result)
            # Not kept until the next call comes: a result may hold a large block.
            del job, call, done

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The loop is closed: the process ends, nobody waits for this result.
            return

    def _done(self, done: Callable[[Any], None], result: Any) -> None:
        self.waiting -= 1
        done(result)

    def _raised(self, error: BaseException) -> None:
        self.waiting -= 1
        self._on_error(self.name, error)
