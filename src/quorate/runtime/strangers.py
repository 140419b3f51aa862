"""Connections that have not shown whose they are: bounded in number, in rate and in time.

Each costs a TLS handshake and no more than a hello's buffer, and what is logged of them is bounded
too, since strangers must not fill the disk. Beside them what all links share: signs of life.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from quorate.base.types import Address
from quorate.runtime.config import Peers
from quorate.runtime.link import Link

__all__ = ["Dropped", "KeepAlive", "Strangers", "Traffic", "is_better", "tune"]

UNKNOWN_LINES_PER_SECOND = 5
"""How many connections of strangers may write into the log; the rest is counted."""
SWEEPS_PER_PING = 2

Log = Callable[..., None]


class Traffic(Struct):
    """Bytes and losses of one peer since the start, over all links."""

    received_bytes: int = 0
    sent_bytes: int = 0
    dropped_frames: int = 0


class Dropped(Struct):
    """Connections that came to nothing, since the start."""

    unknown: int = 0
    garbage: int = 0
    limited: int = 0


class Strangers:
    """The connections between their first byte and their hello."""

    def __init__(self, settings: Peers, log: Log) -> None:
        self.settings, self._write = settings, log
        self.dropped = Dropped()
        self._loop = asyncio.get_running_loop()
        self._timers: dict[Link, asyncio.TimerHandle] = {}
        self._handshake_credit = float(settings.handshakes_per_second)
        self._line_credit = float(UNKNOWN_LINES_PER_SECOND)
        self._credited_at = self._loop.time()

    def __len__(self) -> int:
        return len(self._timers)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._timers))

    def __contains__(self, link: Link) -> bool:
        return link in self._timers

    def admit(self, link: Link) -> bool:
        """Whether a connection that came in may begin its handshake."""
        self._earn()
        if len(self._timers) >= self.settings.max_handshakes or self._handshake_credit < 1:
            self.dropped.limited += 1
            return False
        self._handshake_credit -= 1
        return self.watch(link)

    def watch(self, link: Link) -> bool:
        """Give a connection a limited time to show whose it is."""
        self._timers[link] = self._loop.call_later(
            self.settings.handshake_timeout_ms / 1000, link.close, "handshake took too long"
        )
        return True

    def forget(self, link: Link) -> None:
        """It has shown whose it is, or is gone."""
        timer = self._timers.pop(link, None)
        if timer is not None:
            timer.cancel()

    def log(self, level: str, event: str, **fields: object) -> None:
        """Log about a stranger, within the bound."""
        self._earn()
        if self._line_credit >= 1:
            self._line_credit -= 1
            self._write(level, event, **fields)

    def _earn(self) -> None:
        now = self._loop.time()
        passed, self._credited_at = now - self._credited_at, now
        rate = self.settings.handshakes_per_second
        self._handshake_credit = min(rate, self._handshake_credit + passed * rate)
        self._line_credit = min(
            UNKNOWN_LINES_PER_SECOND, self._line_credit + passed * UNKNOWN_LINES_PER_SECOND
        )


def is_better(new: Link, old: Link, me: Address) -> bool:
    """Whether `new` shall replace `old`, both from the same run of the peer."""
    if new.dialled == old.dialled:
        # A peer dials again only when it holds the old one for dead.
        return True
    assert new.peer is not None
    return new.dialled == (me < new.peer)


class KeepAlive:
    """Sends signs of life where nothing was sent, and ends links that have fallen silent."""

    def __init__(self, links: Mapping[Address, Link], settings: Peers) -> None:
        self.links = links
        self.ping_s, self.timeout_s = settings.ping_ms / 1000, settings.timeout_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        due = self._loop.time() + self.ping_s / SWEEPS_PER_PING
        self._timer = self._loop.call_at(due, self._look, due)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, due: float) -> None:
        now = self._loop.time()
        # While this process was held up (a busy machine, a suspended one) it read nothing: what
        # peers sent meanwhile still waits, and so the delay is not their silence.
        for link in list(self.links.values()):
            if due - link.heard_at > self.timeout_s:
                link.close(f"silent for {self.timeout_s:g} s")
            elif now - link.sent_at >= self.ping_s:
                link.ping()
        self.start()


def tune(link: Link) -> None:
    """Set what keeps a link fast and lets the kernel notice a dead host."""
    sock = link.get_socket()
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
