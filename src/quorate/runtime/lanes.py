"""Threads beside the event loop: one for each lane, calls of a lane in order.

A thread pool would do, but its futures cost more than most of our calls; a queue and a callback on
the loop are all that is needed.

Waking a thread and being woken by it takes longer than many calls themselves. A lane that is told
so makes its calls on the loop, `Soon`, while recent ones were short on average; one that takes long
costs the loop a pause and sends those that follow to the thread.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["Lane", "Soon"]

Job = tuple[Callable[[], Any], Callable[[Any], None]]

SHORT_NS = 250_000
"""Calls that take up to this long on average are made on the loop."""
WEIGHT = 16
"""How many recent calls the average is about."""


MAX_AT_ONCE = 4
"""Calls that follow from each other before the loop looks at its sockets again."""


class Soon:
    """Calls that the loop makes one after another, never from inside of each other.

    What a call leads to is made in the same turn, up to a bound, since a turn costs as much as some
    calls.
    """

    __slots__ = ("_calls", "_loop", "_run_bound", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[[Any, Any], None], Any, Any]] = deque()
        self._scheduled = False
        # Bound once, since that costs as much as a call.
        self._run_bound: Callable[[], None] = self._run

    def has_calls(self) -> bool:
        """Whether calls wait for their turn."""
        return self._scheduled

    def put(self, call: Callable[[Any, Any], None], first: Any, second: Any) -> None:
        """Make a call with two arguments, when those before it are done."""
        self._calls.append((call, first, second))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run_bound)

    def _run(self) -> None:
        calls = self._calls
        try:
            for _ in range(MAX_AT_ONCE):
                if not calls:
                    break
                call, first, second = calls.popleft()
                call(first, second)
        finally:
            self._scheduled = bool(calls)
            if calls:
                self._loop.call_soon(self._run_bound)


class Lane:
    """One worker thread. What it returns reaches the loop in the order of the calls."""

    __slots__ = (
        "_after",
        "_closed",
        "_here",
        "_loop",
        "_on_error",
        "_queue",
        "_run_bound",
        "_soon",
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
        soon: Soon | None = None,
    ) -> None:
        """`on_error(lane, error)` is told on the loop when a call raises; its `done` is not.

        `after` is called after each `done`.
        With `soon`, calls wait for nothing but the processor, and may be made on the loop.
        """
        self.name, self._loop, self._on_error = name, loop, on_error
        self._after = after
        self._soon, self._closed = soon, False
        self._run_bound: Callable[[Any, Any], None] = self._run_here
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
        soon = self._soon
        may = self.waiting == 1 and not self._closed and self._usual_ns < SHORT_NS
        # Calls keep their order: none overtakes those that wait on the other side.
        if soon is not None and (self._here or may):
            self._here += 1
            soon.put(self._run_bound, call, done)
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
