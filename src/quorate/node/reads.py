"""Linearizable reads: the engine names a height, and the application has to be there.

A read is answered exactly once. What waits for longer than `read_timeout_ms` is refused, so that an
engine without a leader, or an application that does not keep up, holds nobody for ever.
"""

from collections.abc import Callable

from quorate.base.types import MILLISECOND, Height, Nanoseconds
from quorate.consensus.replica import Readable, Timer
from quorate.node.execution import Execution
from quorate.node.guard import GuardedPort
from quorate.node.interpreter import Interpreter
from quorate.node.settings import Settings

__all__ = ["READ_TIMER", "Reads"]

READ_TIMER = Timer("node.read")
"""Falls when the oldest read has waited too long."""
REFUSED: Height = -1

Done = Callable[[Height], None]


class Reads:
    """Reads of one node that wait for the engine, or for the application."""

    __slots__ = (
        "counters",
        "execution",
        "heights",
        "interpreter",
        "number",
        "port",
        "settings",
        "waiting",
    )

    def __init__(
        self,
        port: GuardedPort,
        settings: Settings,
        counters: dict[str, int],
        execution: Execution,
        interpreter: Interpreter,
    ) -> None:
        self.port, self.settings, self.counters = port, settings, counters
        self.execution, self.interpreter = execution, interpreter
        self.number = 0
        self.waiting: dict[int, tuple[Nanoseconds, Done]] = {}
        """Until when, and whom to tell, by number; the oldest first."""
        self.heights: dict[int, Height] = {}
        """Of those in `waiting` that the application still has to reach."""

    def read(self, done: Done) -> None:
        """Call `done` with a height that is final here once a read is linearizable, or with -1."""
        if len(self.waiting) >= self.settings.max_reads:
            self.count("reads_refused")
            done(REFUSED)
            return
        self.number += 1
        timeout_ns = self.settings.read_timeout_ms * MILLISECOND
        if not self.waiting:
            self.port.set_timer(READ_TIMER, timeout_ns)
        self.waiting[self.number] = (self.port.now() + timeout_ns, done)
        self.interpreter.read(self.number)

    def on_readable(self, effect: Readable) -> None:
        """The engine answered."""
        if effect.height <= self.execution.final.height:
            self.answer(effect.number, effect.height)
        elif effect.number in self.waiting:
            self.heights[effect.number] = effect.height

    def on_final(self) -> None:
        """The application is one height further."""
        if self.heights:
            height = self.execution.final.height
            for number in [n for n, wanted in self.heights.items() if wanted <= height]:
                self.answer(number, self.heights[number])

    def answer(self, number: int, height: Height) -> None:
        found = self.waiting.pop(number, None)
        self.heights.pop(number, None)
        if found is None:
            return
        if height < 0:
            self.count("reads_refused")
            found[1](REFUSED)
        else:
            self.count("reads")
            found[1](self.execution.final.height)

    def on_timer(self) -> None:
        """Refuse what has waited too long."""
        now = self.port.now()
        late = []
        for number, (deadline, _) in self.waiting.items():
            if deadline > now:
                break
            late.append(number)
        for number in late:
            self.answer(number, REFUSED)
        if self.waiting:
            soonest = next(iter(self.waiting.values()))[0]
            self.port.set_timer(READ_TIMER, max(soonest - now, MILLISECOND))

    def count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
