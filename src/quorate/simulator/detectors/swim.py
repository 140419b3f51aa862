"""SWIM: membership by random probes, with help from others and a right of reply.

Source: Das, Gupta, Motivala, "SWIM: scalable weakly-consistent infection-style process group
membership protocol", DSN 2002: probes in turn over a shuffled ring (4.3), indirect probes (3.1),
news on the back of probes (4.1), suspicion with incarnation numbers (4.2).

In our words. In each protocol period a process pings one other. Without an answer it asks `helpers`
others to ping it too; without an answer by the end of the period the other is a suspect, which all
learn. A suspect that hears of it objects with a greater incarnation; one that does not is declared
faulty after `suspicion_periods`. Load per process does not grow with the group.

What this detector gives out as suspicion is the declaration; `get_level` shows suspects at half.

Deviations: a faulty process stays on the ring and may come back by objecting (in the paper it would
have to join anew), and whoever pings a process tells it what is held against it ("buddy system" of
Dadgar, Phillips, Currey, "Lifeguard", 2018), so it can object at once.
"""

from typing import Any

from msgspec import Struct

from quorate.base.types import Nanoseconds
from quorate.simulator.detectors.detector import CERTAIN, Detector, Probe, Timer
from quorate.simulator.plan import MS

__all__ = ["Swim", "SwimSettings"]

ALIVE, SUSPECT, FAULTY = 0, 1, 2
PERIOD = Timer("period")
MAX_NEWS = 6
"""Pieces of news on one probe."""
MAX_RELAYED = 64
"""Pings on behalf of others that are not answered yet."""


class SwimSettings(Struct, frozen=True, kw_only=True):
    """`period_ns` should be three times a round trip, and `ping_ns` one."""

    period_ns: Nanoseconds = 150 * MS
    ping_ns: Nanoseconds = 40 * MS
    """How long a direct ping is waited for before others are asked."""
    helpers: int = 3
    suspicion_periods: int = 6
    spread: int = 3
    """A piece of news is told this many times the logarithm of the group's size."""


class News(Struct, frozen=True, gc=False):
    """What is said of a process."""

    process: int
    state: int
    incarnation: int


class Ping(Probe, frozen=True, gc=False):
    number: int
    news: tuple[News, ...]


class Help(Probe, frozen=True, gc=False):
    """Ping another for me (the paper's ping-req)."""

    number: int
    target: int
    news: tuple[News, ...]


class Ack(Probe, frozen=True, gc=False):
    number: int
    """Of the ping, or of the request for help."""
    news: tuple[News, ...]


class Swim(Detector):
    """One process of the group."""

    SETTINGS = SwimSettings

    def start(self, now: Nanoseconds) -> None:
        self.states = {p: News(p, ALIVE, 0) for p in (self.me, *self.peers)}
        self.ring: list[int] = []
        self.number = 0
        self.target = -1
        self.answered = True
        self.relayed: dict[int, tuple[int, int]] = {}
        """Our ping for somebody else -> who asked, and its number there."""
        self.telling: dict[int, tuple[News, int]] = {}
        """News by process, and how often it was told."""
        self.limit = self.settings.spread * (len(self.peers) + 1).bit_length()
        if self.peers:
            self.begin_period()

    # ---- probing

    def begin_period(self) -> None:
        if not self.ring:
            self.ring = self.shuffle(self.peers)
        self.target = self.ring.pop()
        self.answered = False
        self.ping(self.target)
        self.probe = self.number
        self.set_timer(Timer("direct", number=self.number), self.settings.ping_ns)
        self.set_timer(PERIOD, self.settings.period_ns)

    def shuffle(self, processes: list[int]) -> list[int]:
        rest = list(processes)
        return [rest.pop(self.choices.choose(len(rest))) for _ in processes]

    def ping(self, process: int) -> None:
        self.number += 1
        self.send(process, Ping(self.number, self.gather(process)))

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        if timer == PERIOD:
            if not self.answered:
                held = self.states[self.target]
                self.hear(News(self.target, SUSPECT, held.incarnation))
            self.begin_period()
        elif timer.kind == "direct":
            if timer.number == self.probe and not self.answered:
                others = [p for p in self.peers if p != self.target]
                for helper in self.shuffle(others)[: self.settings.helpers]:
                    self.send(helper, Help(self.probe, self.target, self.gather(helper)))
        else:
            held = self.states[timer.process]
            if held.state == SUSPECT and held.incarnation == timer.number:
                self.hear(News(timer.process, FAULTY, held.incarnation))

    def receive(self, now: Nanoseconds, sender: int, message: Any) -> None:
        for news in message.news:
            self.hear(news)
        if isinstance(message, Ping):
            self.send(sender, Ack(message.number, self.gather(sender)))
        elif isinstance(message, Help):
            self.ping(message.target)
            self.relayed[self.number] = (sender, message.number)
            while len(self.relayed) > MAX_RELAYED:
                del self.relayed[next(iter(self.relayed))]
        elif isinstance(message, Ack):
            if message.number == self.probe:
                self.answered = True
            asked = self.relayed.pop(message.number, None)
            if asked is not None:
                self.send(asked[0], Ack(asked[1], self.gather(asked[0])))

    # ---- news

    def gather(self, receiver: int) -> tuple[News, ...]:
        """Return what the next probe carries: what is held against its receiver, then the news
        that was told least often."""
        chosen = []
        held = self.states[receiver]
        if held.state != ALIVE:
            chosen.append(held)
        for process, (news, times) in sorted(
            self.telling.items(), key=lambda entry: (entry[1][1], entry[0])
        )[:MAX_NEWS]:
            chosen.append(news)
            if times + 1 >= self.limit:
                del self.telling[process]
            else:
                self.telling[process] = (news, times + 1)
        return tuple(chosen)

    def hear(self, news: News) -> None:
        """Take up a piece of news that overrides what is known, and pass it on.

        The paper's rules of precedence are one order: by incarnation, then alive, suspect, faulty.
        """
        held = self.states.get(news.process)
        if held is None:
            return
        if news.process == self.me:
            if news.state != ALIVE and news.incarnation >= held.incarnation:
                self.accept(News(self.me, ALIVE, news.incarnation + 1))
            return
        if (news.incarnation, news.state) > (held.incarnation, held.state):
            self.accept(news)

    def accept(self, news: News) -> None:
        self.states[news.process] = news
        self.telling[news.process] = (news, 0)
        if news.process == self.me:
            return
        if news.state == SUSPECT:
            patience = self.settings.suspicion_periods * self.settings.period_ns
            self.set_timer(Timer("suspicion", news.process, news.incarnation), patience)
        if news.state == FAULTY:
            self.suspect(news.process)
        else:
            self.trust(news.process)

    def get_level(self, now: Nanoseconds, process: int) -> int:
        return self.states[process].state * CERTAIN // FAULTY
