"""Detectors with one fixed timeout: ask and wait, or listen for a beat.

They are what most systems have. Where messages have a known bound they are perfect; elsewhere every
choice of the timeout trades the time of detection for mistakes (Chen, Toueg, Aguilera, "On the
quality of service of failure detectors", IEEE Trans. Computers 51(5), 2002, section 1).

A probe carries its sender's monotonic clock, which survives restarts of the process, so what is
left over from an earlier life is told from what is new.
"""

from typing import Any

from msgspec import Struct

from quorate.base.types import Nanoseconds
from quorate.simulator.detectors.detector import CERTAIN, Detector, Probe, Timer
from quorate.simulator.plan import MS

__all__ = ["Heartbeat", "HeartbeatSettings", "PingAck", "PingSettings"]

BEAT = Timer("beat")


class PingSettings(Struct, frozen=True, kw_only=True):
    """One ping to everybody in each interval; suspected if none is answered within the timeout."""

    interval_ns: Nanoseconds = 100 * MS
    timeout_ns: Nanoseconds = 300 * MS


class Ping(Probe, frozen=True, gc=False):
    stamp: Nanoseconds


class Ack(Probe, frozen=True, gc=False):
    stamp: Nanoseconds
    """Of the ping."""


class PingAck(Detector):
    """Pull: whoever does not answer a ping, or a later one, within the timeout is suspected."""

    SETTINGS = PingSettings

    def start(self, now: Nanoseconds) -> None:
        self.answered = dict.fromkeys(self.peers, now - 1)
        self.ask(now)

    def ask(self, now: Nanoseconds) -> None:
        for peer in self.peers:
            self.send(peer, Ping(now))
        self.set_timer(Timer("wait", number=now), self.settings.timeout_ns)
        self.set_timer(BEAT, self.settings.interval_ns)

    def receive(self, now: Nanoseconds, sender: int, message: Any) -> None:
        if isinstance(message, Ping):
            self.send(sender, Ack(message.stamp))
        elif isinstance(message, Ack) and message.stamp <= now:
            self.answered[sender] = max(self.answered[sender], message.stamp)
            if now - message.stamp <= self.settings.timeout_ns:
                self.trust(sender)

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        if timer == BEAT:
            self.ask(now)
            return
        for peer in self.peers:
            if self.answered[peer] < timer.number:
                self.suspect(peer)

    def get_level(self, now: Nanoseconds, process: int) -> int:
        """The age of the last answered ping, to the timeout and an interval."""
        whole = int(self.settings.timeout_ns + self.settings.interval_ns)
        return (now - self.answered[process]) * CERTAIN // whole


class HeartbeatSettings(Struct, frozen=True, kw_only=True):
    """One beat in each interval; suspected after this long without one."""

    interval_ns: Nanoseconds = 100 * MS
    timeout_ns: Nanoseconds = 400 * MS


class Beat(Probe, frozen=True, gc=False):
    stamp: Nanoseconds


class Heartbeat(Detector):
    """Push: whoever's beats stay away longer than the timeout is suspected until the next one."""

    SETTINGS = HeartbeatSettings

    def start(self, now: Nanoseconds) -> None:
        self.heard = dict.fromkeys(self.peers, now)
        self.stamps = dict.fromkeys(self.peers, -1)
        for peer in self.peers:
            self.set_timer(Timer("silent", peer), self.settings.timeout_ns)
        self.beat(now)

    def beat(self, now: Nanoseconds) -> None:
        for peer in self.peers:
            self.send(peer, Beat(now))
        self.set_timer(BEAT, self.settings.interval_ns)

    def receive(self, now: Nanoseconds, sender: int, message: Any) -> None:
        # A beat that another overtook says nothing new.
        if isinstance(message, Beat) and message.stamp > self.stamps[sender]:
            self.stamps[sender], self.heard[sender] = message.stamp, now
            self.trust(sender)
            self.set_timer(Timer("silent", sender), self.settings.timeout_ns)

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        if timer == BEAT:
            self.beat(now)
        else:
            self.suspect(timer.process)

    def get_level(self, now: Nanoseconds, process: int) -> int:
        return (now - self.heard[process]) * CERTAIN // int(self.settings.timeout_ns)
