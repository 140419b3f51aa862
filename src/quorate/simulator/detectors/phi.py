"""The phi accrual failure detector: a timeout that learns how beats arrive.

Source: Hayashibara, Defago, Yared, Katayama, "The phi accrual failure detector", SRDS 2004. Beats
come at intervals; their mean and deviation over a window are taken for a normal distribution, and
phi is minus the decimal logarithm of the chance that a beat still comes after so long. Phi 1 is
wrong once in ten times, phi 8 (the usual threshold) once in 10^8, if arrivals were really normal.

Deviations: everything is integers, so that all machines see the same. The quantiles of the normal
distribution are a table in thousandths of a deviation, between whose entries we go in straight
lines (right within 0.03 deviations); so the moment at which phi reaches the threshold is computed,
and a timer falls then, instead of asking again and again. As in the implementations that people
use, the deviation has a floor, a pause may be allowed for, and the window begins with a guess.
"""

from bisect import bisect_right
from collections import deque
from math import isqrt
from typing import Any

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Nanoseconds
from quorate.simulator.detectors.detector import CERTAIN, Detector, Timer
from quorate.simulator.detectors.timeouts import BEAT, Beat
from quorate.simulator.plan import MS

__all__ = ["PhiAccrual", "PhiSettings", "compute_deviations", "compute_phi"]

STEP = 250
"""Thousandths of phi between two entries."""
# fmt: off
QUANTILES = (
    -157, 478, 924, 1282, 1587, 1857, 2102, 2326, 2535, 2730, 2915, 3090, 3257, 3417, 3571, 3719,
    3862, 4000, 4135, 4265, 4392, 4515, 4636, 4753, 4868, 4981, 5091, 5199, 5305, 5409, 5512, 5612,
    5711, 5808, 5904, 5998, 6091, 6182, 6272, 6361, 6449, 6536, 6621, 6706, 6790, 6872, 6954, 7034,
    7114, 7193, 7271, 7349, 7425, 7501, 7576, 7651, 7724, 7797, 7870, 7941, 8012, 8083, 8153, 8222,
)
# fmt: on
"""How many thousandths of a deviation above the mean phi is 0.25, 0.5, ... 16."""
MAX_PHI = STEP * len(QUANTILES)


def compute_deviations(phi: int) -> int:
    """Return how far above the mean phi (in thousandths, 250 to 16000) is reached."""
    index, rest = divmod(phi, STEP)
    low = QUANTILES[index - 1]
    return low + (QUANTILES[index] - low) * rest // STEP if rest else low


def compute_phi(deviations: int) -> int:
    """Return phi in thousandths at so many thousandths of a deviation above the mean."""
    index = bisect_right(QUANTILES, deviations)
    if not index:
        return 0
    if index == len(QUANTILES):
        return MAX_PHI
    low, high = QUANTILES[index - 1], QUANTILES[index]
    return STEP * index + STEP * (deviations - low) // (high - low)


class PhiSettings(Struct, frozen=True, kw_only=True):
    """`threshold` is phi in thousandths; `window` counts intervals."""

    interval_ns: Nanoseconds = 100 * MS
    threshold: int = 8_000
    window: int = 200
    least_deviation_ns: Nanoseconds = 20 * MS
    pause_ns: Nanoseconds = 0
    """A silence of the sender that is allowed for, beyond what was seen."""

    def __post_init__(self) -> None:
        if not STEP <= self.threshold <= MAX_PHI:
            raise Invalid(f"phi threshold {self.threshold}, expected {STEP} to {MAX_PHI}")
        if self.window < 2:
            raise Invalid(f"phi window of {self.window} intervals, expected at least 2")


class Window:
    """The last intervals between beats of one process, their sum and sum of squares."""

    __slots__ = ("intervals", "size", "squares", "total")

    def __init__(self, size: int, guess: Nanoseconds) -> None:
        self.size = size
        self.intervals: deque[int] = deque()
        self.total = self.squares = 0
        # Around the guess, with a deviation of a quarter of it.
        self.add(guess - guess // 4)
        self.add(guess + guess // 4)

    def add(self, interval: Nanoseconds) -> None:
        self.intervals.append(interval)
        self.total += interval
        self.squares += interval * interval
        if len(self.intervals) > self.size:
            old = self.intervals.popleft()
            self.total -= old
            self.squares -= old * old

    def compute_mean(self) -> int:
        return self.total // len(self.intervals)

    def compute_deviation(self) -> int:
        n = len(self.intervals)
        return isqrt((n * self.squares - self.total * self.total) // (n * n))


class PhiAccrual(Detector):
    """Suspects a process when its phi reaches the threshold."""

    SETTINGS = PhiSettings

    def start(self, now: Nanoseconds) -> None:
        settings = self.settings
        self.heard = dict.fromkeys(self.peers, now)
        self.stamps = dict.fromkeys(self.peers, -1)
        self.windows = {p: Window(settings.window, settings.interval_ns) for p in self.peers}
        for peer in self.peers:
            self.expect(peer)
        self.beat(now)

    def beat(self, now: Nanoseconds) -> None:
        for peer in self.peers:
            self.send(peer, Beat(now))
        self.set_timer(BEAT, self.settings.interval_ns)

    def expect(self, peer: int) -> None:
        """Let a timer fall when phi reaches the threshold."""
        mean, deviation = self.estimate(peer)
        silence = mean + deviation * compute_deviations(self.settings.threshold) // 1_000
        self.set_timer(Timer("silent", peer), max(silence, 1))

    def estimate(self, peer: int) -> tuple[Nanoseconds, Nanoseconds]:
        """Return mean and deviation of the next interval of a process."""
        window, settings = self.windows[peer], self.settings
        deviation = max(window.compute_deviation(), settings.least_deviation_ns)
        return window.compute_mean() + settings.pause_ns, deviation

    def receive(self, now: Nanoseconds, sender: int, message: Any) -> None:
        if not isinstance(message, Beat) or message.stamp <= self.stamps[sender]:
            return
        first = self.stamps[sender] < 0
        if not first and sender not in self.suspected:
            # An interval across a suspicion measures an outage, not how beats arrive.
            self.windows[sender].add(now - self.heard[sender])
        self.stamps[sender], self.heard[sender] = message.stamp, now
        self.trust(sender)
        self.expect(sender)

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        if timer == BEAT:
            self.beat(now)
        else:
            self.suspect(timer.process)

    def get_level(self, now: Nanoseconds, process: int) -> int:
        mean, deviation = self.estimate(process)
        phi = compute_phi((now - self.heard[process] - mean) * 1_000 // deviation)
        return phi * CERTAIN // int(self.settings.threshold)
