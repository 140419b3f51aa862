"""Connections between the members of one network.

Each member listens, and each dials every other: whoever finds the other first makes the link, so a
member that comes back needs nobody's patience. One link per pair stays. When both dialled at the
same moment, the one that the lower address dialled stays; both sides compute that alike. A new link
from another run of the peer's process replaces the old one, which can only be dead.

Dialling backs off exponentially, with jitter, to a bound; a link that comes in ends the waiting. A
peer that says nothing for `timeout_ms` is dead. Who has not proved which member he is costs little:
such connections are bounded in number, in rate and in time, and hold no buffer but a hello's.
"""

import asyncio
import os
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from quorate.base.types import Address, Hash
from quorate.runtime.config import Peers
from quorate.runtime.hello import Hello
from quorate.runtime.link import Link, Outbox, as_protocol
from quorate.runtime.strangers import Dropped, KeepAlive, Strangers, Traffic, is_better, tune
from quorate.runtime.tls import TlsIdentity

__all__ = ["Dropped", "PeerPlace", "Transport", "TransportEvents"]

FIRST_PAUSE_S = 0.05
SECOND_DIAL_S = 0.1
"""How long the higher address leaves the first attempt to the lower one."""
STEADY_S = 2.0
"""A link that lasted as long was a good one: the next attempt comes without a long pause."""
LONGEST = 16
"""Attempts after which the pause grows no more."""

Log = Callable[..., None]


class TransportEvents(Protocol):
    """What the transport tells; all calls come from the event loop."""

    def connected(self, peer: Address) -> None: ...
    def disconnected(self, peer: Address) -> None: ...
    def received(self, peer: Address, frame: bytes) -> None: ...


class PeerPlace(Struct, frozen=True):
    """A member: its name for people, where it listens, and the fingerprint of its certificate."""

    name: str
    host: str
    port: int
    pin: bytes


class Dialler(Struct):
    """The attempts to reach one peer."""

    attempts: int = 0
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    reported: str = ""
    banned_until: float = 0.0


class Transport:
    """All connections of one member. `start`, then `send`; `stop` ends everything."""

    def __init__(
        self,
        me: Address,
        genesis: Hash,
        identity: TlsIdentity,
        places: Mapping[Address, PeerPlace],
        settings: Peers,
        events: TransportEvents,
        log: Log,
    ) -> None:
        self.me, self.identity, self.settings = me, identity, settings
        self.places = {peer: place for peer, place in places.items() if peer != me}
        self.members = {place.pin: peer for peer, place in self.places.items()}
        self.hello = Hello(os.urandom(8), genesis)
        self.events, self.log = events, log
        self.links: dict[Address, Link] = {}
        self.traffic = {peer: Traffic() for peer in self.places}
        self._strangers = Strangers(settings, log)
        self.dropped = self._strangers.dropped
        self._diallers = {peer: Dialler() for peer in self.places}
        self._server: asyncio.Server | None = None
        self._keep_alive = KeepAlive(self.links, settings)
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self.outbox = Outbox()

    # ---- life

    async def start(self, host: str, port: int) -> int:
        """Listen and begin to dial; return the port (0 chooses one). Raises OSError."""
        self._server = await self._loop.create_server(
            self._accept, host or None, port, reuse_address=True, backlog=128
        )
        for peer in self.places:
            self._dial_soon(peer, 0.0 if self.me < peer else SECOND_DIAL_S)
        self._keep_alive.start()
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the port and every connection. What has been given to `send` this turn leaves."""
        self._stopped = True
        if self._server is not None:
            self._server.close()
        self._keep_alive.stop()
        tasks = []
        for dialler in self._diallers.values():
            if dialler.timer is not None:
                dialler.timer.cancel()
            if dialler.task is not None:
                dialler.task.cancel()
                tasks.append(dialler.task)
        await asyncio.gather(*tasks, return_exceptions=True)
        self.outbox.flush()
        for link in [*self._strangers, *self.links.values()]:
            link.close("this validator stops")

    # ---- use

    def send(self, peer: Address, frame: bytes) -> bool:
        """Queue a frame for a peer; False if it was dropped (no link, or its queue is full)."""
        link = self.links.get(peer)
        return link is not None and link.send(frame)

    def disconnect(self, peer: Address, reason: str) -> None:
        """End the link to a peer; nothing is heard from it until the longest pause is over."""
        link = self.links.get(peer)
        if link is not None:
            dialler = self._diallers[peer]
            dialler.banned_until = self._loop.time() + self.settings.reconnect_max_ms / 1000
            dialler.attempts = LONGEST
            link.close(reason)

    def get_peers(self) -> list[Address]:
        """Return whom `get_traffic` knows."""
        return list(self.places)

    def get_traffic(self, peer: Address) -> Traffic:
        """Return the totals of a peer, those of the present link included."""
        total = self.traffic[peer]
        link = self.links.get(peer)
        if link is None:
            return total
        return Traffic(
            total.received_bytes + link.received_bytes,
            total.sent_bytes + link.sent_bytes,
            total.dropped_frames + link.dropped_frames,
        )

    # ---- dialling

    def _dial_soon(self, peer: Address, delay_s: float) -> None:
        dialler = self._diallers[peer]
        if self._stopped or dialler.task is not None:
            return
        if dialler.timer is not None:
            dialler.timer.cancel()
        dialler.timer = self._loop.call_later(delay_s, self._dial, peer)

    def _dial(self, peer: Address) -> None:
        dialler = self._diallers[peer]
        dialler.timer = None
        if not self._stopped and dialler.task is None and peer not in self.links:
            dialler.task = self._loop.create_task(self._connect(peer, dialler))

    async def _connect(self, peer: Address, dialler: Dialler) -> None:
        place = self.places[peer]
        timeout_s = self.settings.handshake_timeout_ms / 1000
        failure = ""
        try:
            async with asyncio.timeout(timeout_s):
                await self._loop.create_connection(
                    lambda: as_protocol(self._make_link(peer)), place.host, place.port
                )
        except TimeoutError:
            failure = f"no answer within {timeout_s:g} s"
        except OSError as error:
            failure = error.strerror or str(error)
        dialler.task = None
        if failure:
            if failure != dialler.reported:
                dialler.reported = failure
                self.log(
                    "info",
                    "peer unreachable, trying on",
                    peer=place.name,
                    at=f"{place.host}:{place.port}",
                    reason=failure,
                )
            self._retry(peer)

    def _retry(self, peer: Address) -> None:
        """Dial again after a pause that doubles, between a half and the whole of it."""
        dialler = self._diallers[peer]
        longest_s = self.settings.reconnect_max_ms / 1000
        pause_s = min(longest_s, FIRST_PAUSE_S * 2 ** min(dialler.attempts, LONGEST))
        dialler.attempts += 1
        self._dial_soon(peer, pause_s * (0.5 + random.random() / 2))

    # ---- links from the first byte to the hello

    def _accept(self) -> asyncio.Protocol:
        return as_protocol(self._make_link(None))

    def _make_link(self, wanted: Address | None) -> Link:
        return Link(
            self,
            self.identity,
            self.hello.encode(),
            wanted=wanted,
            max_frame=self.settings.max_frame_bytes,
            max_queue=self.settings.send_queue_bytes,
            on_open=self._admit if wanted is None else self._strangers.watch,
        )

    def _admit(self, link: Link) -> bool:
        """Whether a stranger's connection may begin its handshake."""
        return not self._stopped and self._strangers.admit(link)

    def on_identified(self, link: Link, fingerprint: bytes | None) -> Address | None:
        peer = None if fingerprint is None else self.members.get(fingerprint)
        if peer is None:
            self.dropped.unknown += 1
            self._strangers.log(
                "warning",
                "peer refused: its certificate belongs to no validator of network.toml",
                remote=link.remote,
                found_tls_sha256=fingerprint.hex() if fingerprint else "none",
            )
        elif link.wanted is not None and link.wanted != peer:
            self.dropped.unknown += 1
            self._strangers.log(
                "warning",
                "peer refused: another validator answers at its place",
                remote=link.remote,
                found=self.places[peer].name,
                expected=self.places[link.wanted].name,
            )
            return None
        return peer

    def on_hello(self, link: Link, hello: Hello) -> None:
        peer = link.peer
        assert peer is not None
        self._strangers.forget(link)
        name = self.places[peer].name
        if hello.genesis != self.hello.genesis:
            self._strangers.log(
                "error",
                "peer refused: it has another genesis (see `quorate genesis show`)",
                peer=name,
                found=f"0x{hello.genesis.hex()}",
                expected=f"0x{self.hello.genesis.hex()}",
            )
            self._diallers[peer].attempts = LONGEST
            link.close("another genesis")
            return
        if self._loop.time() < self._diallers[peer].banned_until:
            link.close("disconnected a moment ago")
            return
        old = self.links.get(peer)
        if old is not None:
            assert old.hello is not None
            if old.hello.incarnation == hello.incarnation and not is_better(link, old, self.me):
                link.close("a second link")
                return
            old.close("replaced by a new link")
        tune(link)
        self.links[peer] = link
        self._diallers[peer].reported = ""
        self.log(
            "info",
            "peer connected",
            peer=name,
            remote=link.remote,
            dialled_by="us" if link.dialled else "peer",
        )
        self.events.connected(peer)

    # ---- links that are up

    def on_frame(self, link: Link, frame: bytes) -> None:
        # A link that was refused or replaced is closed, and hands on nothing more.
        peer = link.peer
        assert peer is not None
        self.events.received(peer, frame)

    def on_closed(self, link: Link, reason: str) -> None:
        was_stranger = link in self._strangers
        self._strangers.forget(link)
        peer = link.peer
        if peer is None:
            if was_stranger and reason != "unknown certificate":
                self.dropped.garbage += 1
                self._strangers.log(
                    "info", "connection without a peer closed", remote=link.remote, reason=reason
                )
            if link.wanted is not None and link.wanted not in self.links:
                self._retry(link.wanted)
            return
        total = self.traffic[peer]
        total.received_bytes += link.received_bytes
        total.sent_bytes += link.sent_bytes
        total.dropped_frames += link.dropped_frames
        if link.up_at is not None and self._loop.time() - link.up_at >= STEADY_S:
            self._diallers[peer].attempts = 0
        if self.links.get(peer) is link:
            del self.links[peer]
            name = self.places[peer].name
            self.log("info", "peer disconnected", peer=name, reason=reason)
            self.events.disconnected(peer)
        if peer not in self.links:
            self._retry(peer)
