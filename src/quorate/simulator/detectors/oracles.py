"""The oracles of Chandra and Toueg as scripts: detectors that know the truth, and when to lie.

Source: Chandra, Toueg, "Unreliable failure detectors for reliable distributed systems", JACM 43(2),
1996; Chandra, Hadzilacos, Toueg, "The weakest failure detector for solving consensus", JACM 43(4),
1996. What a class of detectors promises is exact here by construction, on any links: they are told
of every crash and start, and send nothing.

    P          suspects exactly the crashed, after a delay
    eventual P makes mistakes until it is stable, then is P
    Omega      until it is stable every process trusts itself; then all trust the first correct one

A script can break one promise and keep the rest: a lie that somebody is suspected breaks accuracy,
one that somebody is trusted breaks completeness.
"""

from typing import Any

from msgspec import Struct

from quorate.base.types import Nanoseconds
from quorate.simulator.detectors.detector import CERTAIN, Detector, Timer
from quorate.simulator.plan import MS

__all__ = ["EventuallyPerfect", "Lie", "Omega", "OracleSettings", "Perfect"]


class Lie(Struct, frozen=True, kw_only=True):
    """What an observer says of a process for a while, whatever is true; `observer` -1: all do."""

    process: int
    suspected: bool
    from_ns: Nanoseconds
    until_ns: Nanoseconds
    observer: int = -1


class OracleSettings(Struct, frozen=True, kw_only=True):
    delay_ns: Nanoseconds = 50 * MS
    """Between a crash and its suspicion."""
    stable_ns: Nanoseconds = 0
    """When mistakes end, by the observer's clock. Of P: it makes none."""
    flip_ns: Nanoseconds = 200 * MS
    """How often a mistake may begin or end before."""
    mistake_permille: int = 300
    lies: list[Lie] = []


class LateSettings(OracleSettings, frozen=True, kw_only=True):
    stable_ns: Nanoseconds = 5_000 * MS


class Perfect(Detector):
    """P: strong completeness and strong accuracy, save for the script's lies."""

    SETTINGS = OracleSettings

    def start(self, now: Nanoseconds) -> None:
        self.down: dict[int, None] = {}
        self.lies: dict[int, bool] = {}
        """What is said of a process instead of the truth."""
        for number, lie in enumerate(self.settings.lies):
            if lie.observer in (-1, self.me) and lie.process in self.peers and now < lie.until_ns:
                delay = max(lie.from_ns - now, 1)
                self.set_timer(Timer("lie", lie.process, number), delay)

    def on_fate(self, now: Nanoseconds, process: int, up: bool) -> None:
        if process not in self.peers:
            return
        if up:
            self.down.pop(process, None)
            self.tell(process)
        else:
            self.down[process] = None
            self.set_timer(Timer("notice", process), self.settings.delay_ns)

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        if timer.kind == "lie":
            lie = self.settings.lies[timer.number]
            self.lies[timer.process] = lie.suspected
            self.set_timer(Timer("truth", timer.process), max(lie.until_ns - now, 1))
        elif timer.kind == "truth":
            self.lies.pop(timer.process, None)
        self.tell(timer.process)

    def receive(self, now: Nanoseconds, sender: int, message: Any) -> None:
        """Oracles send nothing."""

    def tell(self, process: int) -> None:
        """Say what is true of a process, or what the script wants."""
        if self.lies.get(process, process in self.down):
            self.suspect(process)
        else:
            self.trust(process)

    def get_level(self, now: Nanoseconds, process: int) -> int:
        return CERTAIN if process in self.suspected else 0


class EventuallyPerfect(Perfect):
    """Eventual P: as P, but anything goes before it is stable."""

    SETTINGS = LateSettings

    def start(self, now: Nanoseconds) -> None:
        super().start(now)
        if now < self.settings.stable_ns:
            self.set_timer(Timer("flip"), self.settings.flip_ns)

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        if timer.kind != "flip":
            super().timeout(now, timer)
            return
        stable = now >= self.settings.stable_ns
        for peer in self.peers:
            self.lies.pop(peer, None)
            if not stable and self.choices.chance(self.settings.mistake_permille):
                self.lies[peer] = peer not in self.down
            self.tell(peer)
        if not stable:
            left = max(self.settings.stable_ns - now, 1)
            self.set_timer(timer, min(self.settings.flip_ns, left))


class Omega(Perfect):
    """Omega: trusts one process at a time, its leader; all others are suspected."""

    SETTINGS = LateSettings

    def start(self, now: Nanoseconds) -> None:
        super().start(now)
        self.stable = now >= self.settings.stable_ns
        if not self.stable:
            self.set_timer(Timer("stable"), self.settings.stable_ns - now)
        self.elect()

    def get_leader(self) -> int:
        """Return whom this process takes for the leader; it may be itself."""
        if not self.stable:
            return self.me
        alive = (p for p in (self.me, *self.peers) if not self.lies.get(p, p in self.down))
        return min(alive)

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        if timer.kind == "stable":
            self.stable = True
            self.elect()
        else:
            super().timeout(now, timer)

    def tell(self, process: int) -> None:
        self.elect()

    def elect(self) -> None:
        leader = self.get_leader()
        for peer in self.peers:
            if peer == leader:
                self.trust(peer)
            else:
                self.suspect(peer)
