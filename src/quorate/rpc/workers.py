"""A bounded pool of threads for slow calls; the kernel releases the GIL in them.

Lighter than `concurrent.futures`, whose hop to a thread and back costs more than most calls: all
results that are ready come back to the loop in one wake-up, and one timer watches all deadlines.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias
from weakref import ref

from quorate.rpc.errors import LIMIT, RpcError

Job: TypeAlias = tuple[Callable[..., bytes], tuple[Any, ...]]
Outcomes: TypeAlias = list[bytes | Exception]
Answer: TypeAlias = "asyncio.Future[Outcomes]"

CHUNK = 32
"""Jobs of one batch that a thread does in one go, before others get their turn."""


class Workers:
    """Runs jobs in threads, at most `max_waiting` at a time; each answer within `seconds`.

    Belongs to the event loop that first uses it. The threads begin with the first job.
    """

    def __init__(self, threads: int, max_waiting: int, seconds: float) -> None:
        self.size = threads
        self.max_waiting = max_waiting
        self.seconds = seconds
        self.waiting = 0
        self.jobs: SimpleQueue[tuple[Sequence[Job], Answer] | None] = SimpleQueue()
        self.threads: list[Thread] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.finished: deque[tuple[int, Answer, Outcomes]] = deque()
        self.is_waking = False
        self.deadlines: deque[tuple[float, ref[Answer]]] = deque()
        """Weak, so that answers long given do not stay in memory until their time is over."""
        self.timer: asyncio.TimerHandle | None = None

    async def run(self, call: Callable[..., bytes], arguments: tuple[Any, ...]) -> bytes:
        """Return the result of one job. Raises what it raises, TimeoutError, or RpcError."""
        outcome = (await self.put([(call, arguments)]))[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def run_all(self, jobs: Sequence[Job]) -> Outcomes:
        """Return each job's result or exception, in order. Raises RpcError if too many wait."""
        if self.waiting + len(jobs) > self.max_waiting:
            raise self.refuse()
        chunks = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
        answers = [self.put(chunk) for chunk in chunks]
        outcomes: Outcomes = []
        for chunk, answer in zip(chunks, answers, strict=True):
            try:
                outcomes += await answer
            except TimeoutError as error:
                outcomes += [error] * len(chunk)
        return outcomes

    def put(self, jobs: Sequence[Job]) -> Answer:
        """Queue jobs for one thread; the future fails with TimeoutError."""
        if self.waiting + len(jobs) > self.max_waiting:
            raise self.refuse()
        loop = self.loop or self.start()
        answer: Answer = loop.create_future()
        self.waiting += len(jobs)
        self.deadlines.append((loop.time() + self.seconds, ref(answer)))
        if self.timer is None:
            self.timer = loop.call_later(self.seconds, self.expire)
        self.jobs.put((jobs, answer))
        return answer

    def refuse(self) -> RpcError:
        return RpcError(LIMIT, f"{self.waiting} calls are waiting, at most {self.max_waiting} may")

    def start(self) -> asyncio.AbstractEventLoop:
        self.loop = asyncio.get_running_loop()
        for index in range(self.size):
            # Daemons, so that a long call does not hold up the end of the process.
            thread = Thread(target=self.work, name=f"rpc-{index}", daemon=True)
            thread.start()
            self.threads.append(thread)
        return self.loop

    def work(self) -> None:
        """Do jobs until told to end: the life of a thread."""
        while (item := self.jobs.get()) is not None:
            jobs, answer = item
            # Nobody waits any more for what was given up.
            outcomes = [] if answer.done() else run_chunk(jobs)
            self.finished.append((len(jobs), answer, outcomes))
            if not self.is_waking:
                self.is_waking = True
                assert self.loop is not None
                try:
                    self.loop.call_soon_threadsafe(self.deliver)
                except RuntimeError:
                    # The loop has ended.
                    return

    def deliver(self) -> None:
        """Hand over what is finished."""
        # Cleared first: what is appended from here on wakes the loop again.
        self.is_waking = False
        while self.finished:
            size, answer, outcomes = self.finished.popleft()
            # A job that timed out still occupied its thread, so it counted until now.
            self.waiting -= size
            if not answer.done():
                answer.set_result(outcomes)

    def expire(self) -> None:
        """Fail what is over its time, and look again when the next one may be."""
        self.timer = None
        assert self.loop is not None
        now = self.loop.time()
        deadlines = self.deadlines
        while deadlines:
            deadline, found = deadlines[0]
            answer = found()
            if answer is not None and not answer.done():
                if deadline > now:
                    break
                answer.set_exception(TimeoutError())
            deadlines.popleft()
        if deadlines:
            self.timer = self.loop.call_at(deadlines[0][0], self.expire)

    def close(self) -> None:
        for _ in self.threads:
            self.jobs.put(None)
        if self.timer is not None:
            self.timer.cancel()


def run_chunk(jobs: Sequence[Job]) -> Outcomes:
    outcomes: Outcomes = []
    for call, arguments in jobs:
        try:
            outcomes.append(call(*arguments))
        except Exception as error:
            outcomes.append(error)
    return outcomes
