"""Detectors by hand: a group of them on links that a test rules, in virtual time."""

import heapq
from collections.abc import Callable
from typing import Any

from quorate.simulator.detectors.detector import Changed, Detector, Send, SetTimer, Timer
from quorate.simulator.plan import MS
from quorate.simulator.tape import Tape


class Group:
    """Processes 0 to n - 1; `delay_ms(sender, receiver, now)` says how long, or None: lost."""

    def __init__(
        self,
        kind: type[Detector],
        n: int,
        settings: Any = None,
        *,
        seed: int = 1,
        delay_ms: Callable[[int, int, int], int | None] = lambda a, b, now: 1,
    ) -> None:
        tape = Tape(seed)
        self.delay_ms = delay_ms
        self.now = self.sequence = 0
        self.queue: list[tuple[int, int, int, Any]] = []
        self.timers: list[dict[Timer, int]] = [{} for _ in range(n)]
        self.down: dict[int, None] = {}
        self.changes: list[tuple[int, int, int, bool]] = []
        """(ms, observer, process, suspected)"""
        self.sent = 0
        self.all = [
            kind(
                i,
                [j for j in range(n) if j != i],
                tape.stream(f"{i}"),
                settings or kind.SETTINGS(),
            )
            for i in range(n)
        ]
        for i in range(n):
            self.all[i].start(0)
            self.carry_out(i)

    def carry_out(self, process: int) -> None:
        for effect in self.all[process].take():
            self.sequence += 1
            match effect:
                case Send(to, message):
                    self.sent += 1
                    delay = self.delay_ms(process, to, self.now // MS)
                    if delay is not None:
                        entry = (self.now + delay * MS, self.sequence, to, (process, message))
                        heapq.heappush(self.queue, entry)
                case SetTimer(timer, delay_ns):
                    self.timers[process][timer] = self.sequence
                    entry = (self.now + delay_ns, self.sequence, process, timer)
                    heapq.heappush(self.queue, entry)
                case Changed(other, suspected):
                    self.changes.append((self.now // MS, process, other, suspected))

    def run(self, until_ms: int) -> None:
        while self.queue and self.queue[0][0] <= until_ms * MS:
            self.now, number, process, what = heapq.heappop(self.queue)
            if process in self.down:
                continue
            detector = self.all[process]
            if isinstance(what, Timer):
                if self.timers[process].get(what) != number:
                    continue
                del self.timers[process][what]
                detector.timeout(self.now, what)
            else:
                detector.receive(self.now, *what)
            self.carry_out(process)
        self.now = until_ms * MS

    def crash(self, process: int) -> None:
        self.down[process] = None
        self.tell(process, False)

    def restart(self, process: int) -> None:
        del self.down[process]
        self.timers[process] = {}
        detector = self.all[process]
        detector.suspected.clear()
        detector.start(self.now)
        self.carry_out(process)
        self.tell(process, True)

    def tell(self, process: int, up: bool) -> None:
        for i, detector in enumerate(self.all):
            if i != process and i not in self.down:
                detector.on_fate(self.now, process, up)
                self.carry_out(i)

    def suspects(self) -> list[list[int]]:
        """Whom each process suspects."""
        return [sorted(detector.suspected) for detector in self.all]
