"""The interface of a failure detector: a small protocol of its own beside each node.

Source of the idea: Chandra, Toueg, "Unreliable failure detectors for reliable distributed systems",
JACM 43(2), 1996. A detector gives each process a list of those it suspects, which may be wrong and
may change. Like an engine it is driven by inputs and appends effects; it reads its machine's
monotonic clock, never the world's, and knows others by their index.

Nothing that a detector does reaches the node beside it: a run with a detector and one without have
the same digest.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from quorate.base.types import Nanoseconds
from quorate.simulator.tape import Choices

__all__ = ["Changed", "Detector", "Effect", "Probe", "Send", "SetTimer", "Timer"]

CERTAIN = 1_000
"""The level at which a detector suspects."""


class Probe(Struct, frozen=True, gc=False):
    """Something that detectors send each other; not a message of nodes."""


class Timer(Struct, frozen=True, gc=False):
    """The name of a timer; setting an equal one replaces it."""

    kind: str
    process: int = -1
    number: int = 0


class Send(Struct, frozen=True, gc=False):
    """Send to another process; links treat it as they treat frames of nodes."""

    to: int
    message: Probe


class SetTimer(Struct, frozen=True, gc=False):
    timer: Timer
    delay_ns: Nanoseconds


class Changed(Struct, frozen=True, gc=False):
    """The detector now suspects a process, or trusts it again."""

    process: int
    suspected: bool


Effect: TypeAlias = Send | SetTimer | Changed


class Detector(ABC):
    """One process's detector. It begins by trusting everybody.

    `settings` is the detector's own frozen Struct with defaults; `choices` its stream of the tape.
    """

    SETTINGS: type[Any]

    def __init__(self, me: int, peers: Sequence[int], choices: Choices, settings: Any) -> None:
        self.me, self.peers, self.choices = me, list(peers), choices
        self.settings = settings
        self.out: list[Effect] = []
        self.suspected: dict[int, None] = {}

    @abstractmethod
    def start(self, now: Nanoseconds) -> None:
        """The process begins, perhaps again: nothing is remembered of a life before."""

    @abstractmethod
    def receive(self, now: Nanoseconds, sender: int, message: Any) -> None:
        """A probe came."""

    @abstractmethod
    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        """A timer fell."""

    @abstractmethod
    def get_level(self, now: Nanoseconds, process: int) -> int:
        """Return how strongly a process is suspected, in thousandths of what it takes."""

    def on_fate(self, now: Nanoseconds, process: int, up: bool) -> None:  # noqa: B027
        """A process in truth stopped or started: only oracles listen."""

    def is_suspected(self, process: int) -> bool:
        return process in self.suspected

    def suspect(self, process: int) -> None:
        if process not in self.suspected:
            self.suspected[process] = None
            self.out.append(Changed(process, True))

    def trust(self, process: int) -> None:
        if process in self.suspected:
            del self.suspected[process]
            self.out.append(Changed(process, False))

    def send(self, to: int, message: Probe) -> None:
        self.out.append(Send(to, message))

    def set_timer(self, timer: Timer, delay_ns: Nanoseconds) -> None:
        self.out.append(SetTimer(timer, delay_ns))

    def take(self) -> list[Effect]:
        """Return the effects since the last call, in order, and forget them."""
        effects, self.out = self.out, []
        return effects
