"""Simulated work: a nonce comes after a time that the tape draws, and is a token of that.

The search for a nonce has no memory: how much work it still takes is exponential, whatever was done
before. So a machine draws its luck once for each nonce that it finds, in units of the mean, and
what is left of it goes from one search to the next. Zero on the tape is the mean itself, and the
first time a part of it by the machine's place: on the empty tape equal miners take turns.

The token is a hash of header and target that only a machine's port hands out, in this world by
construction, as with simulated signatures. Under real signatures the nonce is searched in fact.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from quorate import _kernel
from quorate.base.types import SECOND, Nanoseconds
from quorate.crypto.hashes import keccak256

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine

__all__ = ["DRAWS", "HASHES_PER_SECOND", "REAL_HASHES_PER_SECOND", "Rig", "make_token"]

HASHES_PER_SECOND = 1 << 20
"""Of a machine, for each unit of its power; who has no power does not mine."""
REAL_HASHES_PER_SECOND = 1 << 8
"""The same where nonces are really searched."""
REAL_TRIES = 1 << 24
"""Nonces that are tried at most; beyond that a target is no tiny one."""
DRAWS = 1 << 32
"""The tape draws one of so many."""
FRACTION = 24
"""Bits behind the point."""
MEAN = 1 << FRACTION
MANTISSA = 30
"""Bits of a number behind its first one: its square fits into a machine's word."""
LN_2 = 11629080
"""ln 2 with those bits."""


class Rig:
    """Searches nonces for a machine, as fast as its rate is."""

    __slots__ = (
        "alarm",
        "done",
        "due",
        "header",
        "left",
        "machine",
        "rate",
        "since",
        "spent",
        "target",
        "tries",
        "unit",
        "usual_rate",
    )

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        world = machine.world
        real = world.plan.signatures == "real"
        self.unit = REAL_HASHES_PER_SECOND if real else HASHES_PER_SECOND
        """Hashes in a second of one unit of power."""
        self.rate = machine.member.power * self.unit
        """Hashes in a second."""
        self.usual_rate = self.rate
        """As the plan has it."""
        self.left = 0
        """Work until the next nonce, of the mean, as a number with `FRACTION` bits; 0: nothing was
        drawn yet.
        """
        self.spent = 0
        """Nanoseconds times hashes per second, of searches that are over."""
        self.alarm: tuple[int, int, Nanoseconds] = (0, -1, 0)
        """What waits in the queue: its number, in which life of the machine, and for what time. One
        for many searches, since most are replaced before they are over.
        """
        self.due: Nanoseconds = 0
        """When the search is over."""
        self.header = b""
        self.target = 0
        self.tries = 0
        """How many hashes it takes to meet the target, on average."""
        self.since: Nanoseconds = 0
        self.done: Callable[[int], None] | None = None

    def seal(self, header: bytes, target: int, done: Callable[[int], None]) -> None:
        """Find a nonce in time, in place of the one that is searched now."""
        self.stop()
        self.header, self.target, self.done = header, target, done
        self.tries = compute_tries(target)
        if not self.left:
            machine = self.machine
            self.draw(MEAN * (machine.index + 1) // len(machine.world.plan.machines))
        self.begin()

    def stop(self) -> None:
        """End the search; how far it came is kept."""
        if self.done is None:
            return
        self.work()
        self.done = None

    def set_rate(self, rate: int) -> None:
        """Search faster or slower from now on; 0: not at all."""
        done = self.done
        self.stop()
        self.rate = rate
        if done is not None:
            self.done = done
            self.begin()

    def begin(self) -> None:
        machine = self.machine
        self.since = machine.world.now
        if not self.rate:
            return
        delay = self.left * self.tries * SECOND // self.rate >> FRACTION
        self.due = self.since + max(delay, 1)
        number, life, at = self.alarm
        if life != machine.life or not number or at > self.due:
            self.wait()

    def wait(self) -> None:
        """Look again when the search is over."""
        machine = self.machine
        number = self.alarm[0] + 1
        self.alarm = (number, machine.life, self.due)
        machine.later(self.due - machine.world.now, self.finish, number)

    def work(self) -> None:
        """Count what was done since the search began."""
        work = (self.machine.world.now - self.since) * self.rate
        self.spent += work
        self.left = max(self.left - (work << FRACTION) // (self.tries * SECOND), 1)

    def finish(self, number: int) -> None:
        """The search is over, or an earlier one would have been."""
        if number != self.alarm[0]:
            return
        machine = self.machine
        self.alarm = (number, -1, 0)
        if self.done is None or not self.rate:
            return
        if machine.world.now < self.due:
            self.wait()
            return
        done, header, target = self.done, self.header, self.target
        self.stop()
        self.draw(MEAN)
        nonce = self.make_nonce(header, target)
        for hook in machine.world.on_sealed:
            hook(machine, header, nonce)
        done(nonce)

    def draw(self, usual: int) -> None:
        machine = self.machine
        choice = machine.world.tape.stream(f"seal {machine.index}").choose(DRAWS)
        self.left = compute_luck(choice, usual)

    def make_nonce(self, header: bytes, target: int) -> int:
        if self.machine.world.plan.signatures != "real":
            return make_token(header, target)
        found = _kernel.seal(header, target.to_bytes(32, "big"), 0, REAL_TRIES)
        if found is None:
            raise AssertionError(f"no nonce among {REAL_TRIES}: the target is not a tiny one")
        return found

    @property
    def hashes(self) -> int:
        """How many were computed in searches that are over."""
        return self.spent // SECOND


def compute_tries(target: int) -> int:
    """Return how many hashes it takes to meet a target, on average."""
    return (1 << 256) // (target + 1)


def compute_luck(draw: int, usual: int) -> int:
    """Return how much of the mean work a nonce takes for a draw from [0, DRAWS): -ln of a uniform
    number, in integers, since logarithms in floating point need not agree between machines.
    """
    if not draw:
        return max(usual, 1)
    whole, fraction = compute_log2(draw, 32)
    return max((((32 - whole) << FRACTION) - fraction) * LN_2 >> FRACTION, 1)


def compute_log2(value: int, most_bits: int) -> tuple[int, int]:
    """Return the whole part of log2 and its fraction with `FRACTION` bits."""
    whole = value.bit_length() - 1
    mantissa = (value << (most_bits - whole)) >> (most_bits - MANTISSA)
    two, fraction = 2 << MANTISSA, 0
    for _ in range(FRACTION):
        # Squaring doubles the logarithm: what passes two is the next bit.
        mantissa = mantissa * mantissa >> MANTISSA
        fraction <<= 1
        if mantissa >= two:
            mantissa >>= 1
            fraction |= 1
    return whole, fraction


def make_token(header: bytes, target: int) -> int:
    """Return what stands for the nonce of a finished search."""
    # In two steps: hashes of short inputs are remembered, and everybody computes this one.
    digest = keccak256(b"sealed" + target.to_bytes(32, "big") + keccak256(header))
    return int.from_bytes(digest[:8], "big")
