"""What may be wrong with a machine's clocks, as values: functions of the world's time.

The shapes follow TigerBeetle's simulator (linear, periodic, step) and what real ones do: drift
(Corbett et al., "Spanner", OSDI 2012, assumes 200 ppm), the smeared leap seconds of public NTP
servers, virtual machines that stand still and then jump.
"""

from typing import Final, TypeAlias

from msgspec import Struct

from quorate.base.types import SECOND, Milliseconds, Nanoseconds
from quorate.simulator.tape import Choices

__all__ = [
    "MS",
    "SECOND",
    "Backwards",
    "ClockError",
    "Drift",
    "Frozen",
    "Leap",
    "Offset",
    "Sine",
    "Step",
    "choose_drift",
    "choose_error",
]

MS: Final = 1_000_000
MILLION: Final = 1_000_000

LEAP_SMEAR_NS: Final = 86_400 * SECOND
"""Public servers smear a leap second from noon to noon."""


class Offset(Struct, frozen=True, tag=True):
    """Wrong by a constant from the start."""

    offset_ns: Nanoseconds

    def compute_error(self, t: Nanoseconds) -> Nanoseconds:
        return self.offset_ns


class Step(Struct, frozen=True, tag=True):
    """Jumps at some time: somebody sets the clock, or NTP steps it. Negative: back."""

    at_ns: Nanoseconds
    offset_ns: Nanoseconds

    def compute_error(self, t: Nanoseconds) -> Nanoseconds:
        return self.offset_ns if t >= self.at_ns else 0


class Drift(Struct, frozen=True, tag=True):
    """Gains so many parts per million from a time on, until it is corrected (0: never)."""

    ppm: int
    since_ns: Nanoseconds = 0
    until_ns: Nanoseconds = 0

    def compute_error(self, t: Nanoseconds) -> Nanoseconds:
        if t < self.since_ns or (self.until_ns and t >= self.until_ns):
            return 0
        return (t - self.since_ns) * self.ppm // MILLION


class Frozen(Struct, frozen=True, tag=True):
    """Stands still, then jumps to the right time, or (`behind`) goes on from where it stood."""

    since_ns: Nanoseconds
    until_ns: Nanoseconds
    behind: bool = False

    def compute_error(self, t: Nanoseconds) -> Nanoseconds:
        if t < self.since_ns:
            return 0
        if t < self.until_ns:
            return self.since_ns - t
        return self.since_ns - self.until_ns if self.behind else 0


class Backwards(Struct, frozen=True, tag=True):
    """Runs backwards for a while, then jumps to the right time."""

    since_ns: Nanoseconds
    until_ns: Nanoseconds

    def compute_error(self, t: Nanoseconds) -> Nanoseconds:
        return 2 * (self.since_ns - t) if self.since_ns <= t < self.until_ns else 0


class Sine(Struct, frozen=True, tag=True):
    """Swings around the truth, as under a servo that always overshoots."""

    amplitude_ns: Nanoseconds
    period_ns: Nanoseconds

    def compute_error(self, t: Nanoseconds) -> Nanoseconds:
        return compute_sine(self.amplitude_ns, t % self.period_ns, self.period_ns)


class Leap(Struct, frozen=True, tag=True):
    """A leap second is inserted at `at_ns`: the clock ends one second behind.

    Smeared over `smear_ns` around that time, or (0) stepped. Machines of two kinds in one network
    disagree by up to half a second meanwhile.
    """

    at_ns: Nanoseconds
    smear_ns: Nanoseconds = LEAP_SMEAR_NS

    def compute_error(self, t: Nanoseconds) -> Nanoseconds:
        if not self.smear_ns:
            return -SECOND if t >= self.at_ns else 0
        gone = t - (self.at_ns - self.smear_ns // 2)
        return -SECOND * min(max(gone, 0), self.smear_ns) // self.smear_ns


ClockError: TypeAlias = Offset | Step | Drift | Frozen | Backwards | Sine | Leap


def compute_sine(amplitude: int, phase: int, period: int) -> int:
    """Return amplitude * sin(2 pi phase / period) within 0.2 % of the amplitude, in integers.

    Source: the approximation of Bhaskara I (7th century), 16 x (pi - x) / (5 pi^2 - 4 x (pi - x)).
    """
    x = 2 * phase % period
    product = x * (period - x)
    value = 16 * amplitude * product // (5 * period * period - 4 * product)
    return value if 2 * phase < period else -value


DRIFTS_PPM = (0, 50, -50, 1_000, -1_000, 20_000, -20_000, 300_000, -300_000)
"""From quartz (50) over a bad oscillator to a virtual machine that is robbed of its processor."""
SIZES_MS: Final = (1, 20, 500, 3_000, 60_000, 3_600_000)


def choose_drift(stream: Choices) -> int:
    """Return a drift in ppm; the first choice is none."""
    return DRIFTS_PPM[stream.choose(len(DRIFTS_PPM))]


def choose_error(
    stream: Choices, t: Nanoseconds, most_ms: Milliseconds = SIZES_MS[-1]
) -> ClockError | None:
    """Return something that goes wrong with a wall clock at `t`, by at most so much; the first
    choice is nothing.
    """
    kind = stream.choose(9)
    if not kind:
        return None
    size = min(SIZES_MS[stream.choose(len(SIZES_MS))], most_ms) * MS
    if kind == 1:
        return Step(t, size)
    if kind == 2:
        return Step(t, -size)
    if kind == 3:
        return Drift(20_000 if stream.choose(2) else -20_000, t, t + size)
    if kind == 4:
        return Frozen(t, t + size)
    if kind == 5:
        return Frozen(t, t + size, behind=True)
    if kind == 6:
        return Backwards(t, t + size)
    if kind == 7:
        return Sine(size, 8 * size)
    return Leap(t, size if stream.choose(2) else 0)
