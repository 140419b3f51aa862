"""Threads beside the event loop: one for each lane, calls of a lane in order.

A thread pool would do, but its futures cost more than most of our calls; a queue and a callback on
the loop are all that is needed.

Waking a thread and being woken by it takes longer than many calls themselves. A lane that is told
so makes its calls on the loop, in a later turn, while recent ones were short on average; one that
takes long costs the loop a pause and sends those that follow to the thread.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["Lane"]

Job = tuple[Callable[[], Any], Callable[[Any], None]]

SHORT_NS = 250_000
"""Calls that take up to this long on average are made on the loop."""
WEIGHT = 16
"""How many recent calls the average is about."""


class Lane:
    """One worker thread. What it returns reaches the loop in the order of the calls."""

    __slots__ = (
        "_after",
        "_closed",
        "_here",
        "_loop",
        "_on_error",
        "_queue",
        "_short",
        "_usual_ns",
        "_worker",
        "name",
        "waiting",
    )

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        on_error: Callable[[str, BaseException], None],
        *,
        after: Callable[[], None],
        short: bool = False,
    ) -> None:
        """`on_error(lane, error)` is told on the loop when a call raises; its `done` is not.

        `after` is called after each `done`.
        `short`: calls that wait for nothing but the processor may be made on the loop.
        """
        self.name, self._loop, self._on_error = name, loop, on_error
        self._after = after
        self._short, self._closed = short, False
        self._usual_ns = 2.0 * SHORT_NS
        """How long recent calls took, a moving average; the first ones go to the thread."""
        self._here = 0
        """Calls that wait for their turn of the loop."""
        self.waiting = 0
        """Calls whose result has not reached the loop; bounded by whoever calls."""
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._worker = threading.Thread(target=self._run, name=f"quorate-{name}", daemon=True)
        self._worker.start()

    def put(self, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Make a call on the lane's thread, or in a later turn, then `done(result)` on the loop."""
        self.waiting += 1
        first = self.waiting == 1 and self._short and not self._closed
        # Calls keep their order: none overtakes those that wait on the other side.
        if self._here or (first and self._usual_ns < SHORT_NS):
            self._here += 1
            self._loop.call_soon(self._run_here, call, done)
        else:
            self._queue.put((call, done))

    def close(self) -> None:
        """Take no more calls; the thread ends when it has made those that wait."""
        self._closed = True
        self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of a closed lane; whether it came in time."""
        self._worker.join(timeout_s)
        return not self._worker.is_alive()

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            call, done = job
            # Of the processor alone, here and there: a busy machine makes no call longer, and a
            # thread also waits for its turn, which a call on the loop would not.
            began = time.thread_time_ns()
            try:
                result = call()
            except BaseException as error:
                self._tell(self._raised, error)
            else:
                self._tell(self._done, done, result, time.thread_time_ns() - began)
            # Not kept until the next call comes: a result may hold a large block.
            del job, call, done

    def _run_here(self, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._here -= 1
        began = time.thread_time_ns()
        try:
            result = call()
        except BaseException as error:
            self._raised(error)
        else:
            self._done(done, result, time.thread_time_ns() - began)

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The loop is closed: the process ends, nobody waits for this result.
            return

    def _done(self, done: Callable[[Any], None], result: Any, spent_ns: int) -> None:
        self.waiting -= 1
        # One outlier must not move it for long.
        self._usual_ns += (min(spent_ns, 16 * SHORT_NS) - self._usual_ns) / WEIGHT
        done(result)
        self._after()

    def _raised(self, error: BaseException) -> None:
        self.waiting -= 1
        self._on_error(self.name, error)
