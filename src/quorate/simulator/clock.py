"""The clocks of one machine, as integer arithmetic over the world's time.

A machine has two. Its **monotonic** clock is an oscillator: it runs too fast or too slow by some
parts per million (the rho of Cristian, Fetzer, "The timed asynchronous distributed system model",
IEEE TPDS 1999), never stops and never goes back. Timers are set by it, so a drifting
machine's timeouts are shorter or longer than its peers believe. Its **wall** clock is what the
operating system says of Unix time: true time and errors that add up (`clock_errors`).

Model: 0 <= t is the world's time in nanoseconds. Nothing here is chosen; `choose_drift` and
`choose_error` turn the choices of a stream into clock faults, where zero is no fault.
"""

from typing import Final

from quorate.base.types import Milliseconds, Nanoseconds
from quorate.simulator.clock_errors import MS, ClockError

__all__ = ["MAX_DRIFT_PPM", "START_MS", "Clock"]

MILLION: Final = 1_000_000

START_MS: Final = 1_800_000_000_000
"""Unix time at the world's time 0 (January 2027)."""
MAX_DRIFT_PPM: Final = 900_000
"""A monotonic clock that runs almost twice as fast, or at a tenth of the speed."""
MAX_ERRORS: Final = 64
"""Wall errors at one time on one machine."""


class Clock:
    """The two clocks of one machine. They go on while its process is down.

    The monotonic clock is a line through (`world_ns`, `local_ns`) with a rate of a million and
    `drift_ppm` millionths; a change of drift starts a new line where the old one is.
    """

    __slots__ = ("ahead_ns", "drift_ppm", "errors", "local_ns", "was_wrong", "world_ns")

    def __init__(self, *, boot_ns: Nanoseconds = 0, drift_ppm: int = 0) -> None:
        """`boot_ns` is what the monotonic clock says at the world's time 0."""
        self.world_ns, self.local_ns = 0, boot_ns
        self.ahead_ns = boot_ns
        """How far the monotonic clock is before the world's time, while it does not drift."""
        self.errors: list[ClockError] = []
        self.was_wrong = False
        """Whether the wall clock was ever wrong."""
        self.drift_ppm = 0
        self.set_drift(0, drift_ppm)

    # ---- monotonic

    def now(self, t: Nanoseconds) -> Nanoseconds:
        """Return what the monotonic clock says at a time that is not before the last change."""
        if not self.drift_ppm:
            return t + self.ahead_ns
        # In two steps, so that products stay small: that is several times as fast.
        gone = t - self.world_ns
        millions, rest = gone // MILLION, gone % MILLION
        drift = self.drift_ppm
        return self.local_ns + gone + millions * drift + rest * drift // MILLION

    def set_drift(self, t: Nanoseconds, ppm: int) -> None:
        """Change the rate from now on. The world then has to ask again when its timers fall."""
        if not -MAX_DRIFT_PPM <= ppm <= MAX_DRIFT_PPM:
            raise ValueError(f"a drift of {ppm} ppm, expected at most {MAX_DRIFT_PPM} either way")
        self.local_ns, self.world_ns = self.now(t), t
        self.drift_ppm = ppm
        self.ahead_ns = self.local_ns - self.world_ns

    def compute_world_time(self, local: Nanoseconds) -> Nanoseconds:
        """Return the first time at which the monotonic clock says at least `local`.

        Rounds up, so that a timer that falls then has never run too short by its own clock.
        """
        ahead = local - self.local_ns
        if not self.drift_ppm:
            return self.world_ns + ahead
        return self.world_ns - (-ahead * MILLION // (MILLION + self.drift_ppm))

    def compute_delay(self, t: Nanoseconds, delay: Nanoseconds) -> Nanoseconds:
        """Return how long the world waits from `t` while this clock counts `delay`."""
        if not self.drift_ppm:
            return max(delay, 0)
        return max(self.compute_world_time(self.now(t) + delay) - t, 0)

    # ---- wall

    def wall_ns(self, t: Nanoseconds) -> Nanoseconds:
        """Return Unix time as the machine has it; it may jump and go back."""
        wall = START_MS * MS + t
        for error in self.errors:
            wall += error.compute_error(t)
        return max(wall, 0)

    def wall_ms(self, t: Nanoseconds) -> Milliseconds:
        if not self.errors:
            return START_MS + t // MS
        return self.wall_ns(t) // MS

    def add_error(self, error: ClockError) -> None:
        """Add to what is wrong with the wall clock; the oldest error makes room."""
        self.errors.append(error)
        self.was_wrong = True
        del self.errors[:-MAX_ERRORS]

    def correct(self) -> None:
        """Somebody sets the wall clock right."""
        self.errors.clear()
