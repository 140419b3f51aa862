"""Connections of a node in a network that anybody may join.

Any certificate is accepted: it proves a key, and that key is the peer's identity among peers (the
first 20 bytes of the certificate's SHA-256). The hello compares what networks must have in common.
Whom to dial, whom to let in and whom to end is the node's say (`node.discovery`); here are sockets,
TLS, and what it takes to have one link per peer. Who comes from a range that has its share already
is refused before a byte of TLS.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Protocol

from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash
from quorate.node.contacts import Bootnode, Meeting
from quorate.node.places import Place, format_host, parse_host
from quorate.runtime.config import BootnodePlace, Peers
from quorate.runtime.hello import Hello
from quorate.runtime.link import Link, Outbox, as_protocol
from quorate.runtime.strangers import Dropped, KeepAlive, Strangers, Traffic, is_better, tune
from quorate.runtime.tls import TlsIdentity

__all__ = ["IDENTITY_BYTES", "OpenEvents", "OpenTransport", "resolve"]

IDENTITY_BYTES = 20
RESOLVE_S = 10.0
"""How long a name may take to be looked up."""

Log = Callable[..., None]


class OpenEvents(Protocol):
    """What the transport tells, and asks, the node; all calls come from the event loop."""

    def connected(self, peer: Address, meeting: Meeting) -> None: ...
    def disconnected(self, peer: Address) -> None: ...
    def received(self, peer: Address, frame: bytes) -> None: ...
    def undialled(self, place: Place, reason: str, found: Address | None) -> None: ...
    def admit(self, host: bytes) -> str | None:
        """Why a connection from there is not to be answered."""
        ...

    def release(self, host: bytes) -> None:
        """A connection that was admitted has ended."""
        ...


class OpenTransport:
    """All connections of one node. `start`, then `dial` and `send`; `stop` ends everything."""

    def __init__(
        self,
        genesis: Hash,
        identity: TlsIdentity,
        settings: Peers,
        events: OpenEvents,
        log: Log,
    ) -> None:
        self.identity, self.settings, self.events, self.log = identity, settings, events, log
        self.me = identity.fingerprint[:IDENTITY_BYTES]
        self.hello = Hello(os.urandom(8), genesis)
        self.links: dict[Address, Link] = {}
        self.strangers = Strangers(settings, log)
        self.dropped: Dropped = self.strangers.dropped
        self._admitted: dict[Link, bytes] = {}
        self._dialled: dict[Link, Place] = {}
        """Links whose dial is not answered yet."""
        self._verdicts: dict[Link, tuple[str, Address | None]] = {}
        """Why a link is about to end, and who was found at its end."""
        self._dials: dict[Place, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._keep_alive = KeepAlive(self.links, settings)
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self.outbox = Outbox()

    # ---- life

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port (0 chooses one). Raises OSError."""
        self._server = await self._loop.create_server(
            self._accept, host or None, port, reuse_address=True, backlog=128
        )
        self._keep_alive.start()
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the port and every connection. What has been given to `send` this turn leaves."""
        self._stopped = True
        if self._server is not None:
            self._server.close()
        self._keep_alive.stop()
        tasks = list(self._dials.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.outbox.flush()
        for link in [*self.strangers, *self.links.values()]:
            link.close("this node stops")

    # ---- use

    def send(self, peer: Address, frame: bytes) -> bool:
        """Queue a frame for a peer; False if it was dropped (no link, or its queue is full)."""
        link = self.links.get(peer)
        return link is not None and link.send(frame)

    def disconnect(self, peer: Address, reason: str) -> None:
        """End the link to a peer."""
        link = self.links.get(peer)
        if link is not None:
            link.close(reason)

    def get_peers(self) -> list[Address]:
        return list(self.links)

    def get_traffic(self, peer: Address) -> Traffic:
        """Return the totals of the present link to a peer."""
        link = self.links.get(peer)
        if link is None:
            return Traffic()
        return Traffic(link.received_bytes, link.sent_bytes, link.dropped_frames)

    # ---- dialling

    def dial(self, place: Place, key: bytes) -> None:
        """Try to connect once; the answer is `connected` or `undialled`."""
        if self._stopped or place in self._dials:
            return
        self._dials[place] = self._loop.create_task(self._connect(place, key))

    async def _connect(self, place: Place, key: bytes) -> None:
        timeout_s = self.settings.handshake_timeout_ms / 1000
        failure = ""
        try:
            async with asyncio.timeout(timeout_s):
                await self._loop.create_connection(
                    lambda: as_protocol(self._make_link(place, key)),
                    format_host(place.host),
                    place.port,
                )
        except TimeoutError:
            failure = f"no answer within {timeout_s:g} s"
        except OSError as error:
            failure = error.strerror or str(error)
        finally:
            del self._dials[place]
        if failure:
            self.log("debug", "dial failed", at=str(place), reason=failure)
            self.events.undialled(place, failure, None)

    # ---- links from the first byte to the hello

    def _accept(self) -> asyncio.Protocol:
        return as_protocol(self._make_link(None, b""))

    def _make_link(self, place: Place | None, key: bytes) -> Link:
        link = Link(
            self,
            self.identity,
            self.hello.encode(),
            wanted=None if place is None else key,
            max_frame=self.settings.max_frame_bytes,
            max_queue=self.settings.send_queue_bytes,
            on_open=self._admit if place is None else self.strangers.watch,
        )
        if place is not None:
            self._dialled[link] = place
        return link

    def _admit(self, link: Link) -> bool:
        """Whether a connection that came in may begin its handshake."""
        host = get_host(link)
        if self._stopped or host is None or self.events.admit(host) is not None:
            self.dropped.limited += 1
            return False
        self._admitted[link] = host
        return self.strangers.admit(link)

    def on_identified(self, link: Link, fingerprint: bytes | None) -> Address | None:
        if fingerprint is None:
            self.dropped.unknown += 1
            return None
        peer = fingerprint[:IDENTITY_BYTES]
        if fingerprint == self.identity.fingerprint:
            self._verdicts[link] = ("it is ourselves", peer)
            return None
        if link.wanted and link.wanted != peer:
            self.dropped.unknown += 1
            self._verdicts[link] = (f"0x{peer.hex()} answers there", peer)
            self.strangers.log(
                "warning",
                "peer refused: another key answers at its place",
                remote=link.remote,
                found=f"0x{peer.hex()}",
                expected=f"0x{link.wanted.hex()}",
            )
            return None
        return peer

    def on_hello(self, link: Link, hello: Hello) -> None:
        peer = link.peer
        assert peer is not None
        self.strangers.forget(link)
        if hello.genesis != self.hello.genesis:
            self.strangers.log(
                "info",
                "peer refused: it has another genesis",
                remote=link.remote,
                found=f"0x{hello.genesis.hex()}",
                expected=f"0x{self.hello.genesis.hex()}",
            )
            self._verdicts[link] = ("another genesis", None)
            link.close("another genesis")
            return
        old = self.links.get(peer)
        if old is not None:
            assert old.hello is not None
            if old.hello.incarnation == hello.incarnation and not is_better(link, old, self.me):
                self._verdicts[link] = ("connected already", peer)
                link.close("a second link")
                return
            old.close("replaced by a new link")
        tune(link)
        self.links[peer] = link
        place = self._dialled.pop(link, None)
        # Within the bound for strangers: who comes and goes all day must not fill the disk.
        self.strangers.log(
            "info",
            "peer connected",
            peer=f"0x{peer.hex()}",
            remote=link.remote,
            dialled_by="peer" if place is None else "us",
        )
        host, port = get_host(link) or b"", 0 if link.end is None else link.end[1]
        self.events.connected(peer, Meeting(host, port, place))

    # ---- links that are up

    def on_frame(self, link: Link, frame: bytes) -> None:
        # A link that was refused or replaced is closed, and hands on nothing more.
        peer = link.peer
        assert peer is not None
        self.events.received(peer, frame)

    def on_closed(self, link: Link, reason: str) -> None:
        was_stranger = link in self.strangers
        self.strangers.forget(link)
        host = self._admitted.pop(link, None)
        if host is not None:
            self.events.release(host)
        verdict = self._verdicts.pop(link, None)
        place = self._dialled.pop(link, None)
        if was_stranger and verdict is None and reason != "unknown certificate":
            self.dropped.garbage += 1
            self.strangers.log(
                "info", "connection without a peer closed", remote=link.remote, reason=reason
            )
        peer = link.peer
        if peer is not None and self.links.get(peer) is link:
            del self.links[peer]
            self.strangers.log("info", "peer disconnected", peer=f"0x{peer.hex()}", reason=reason)
            self.events.disconnected(peer)
        if place is not None and not self._stopped:
            why, found = verdict or (reason, None)
            self.events.undialled(place, why, found)


def get_host(link: Link) -> bytes | None:
    """Return the address of a link's other end."""
    try:
        return None if link.end is None else parse_host(link.end[0])
    except Invalid:
        return None


async def resolve(boot: BootnodePlace, log: Log) -> list[Bootnode]:
    """Look up the name of a bootnode; empty, and told, if it has no address."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            answers = await loop.getaddrinfo(boot.host, boot.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        log("warning", "bootnode not found", host=boot.host, reason=str(error) or "no answer")
        return []
    hosts = dict.fromkeys(parse_host(str(answer[4][0])) for answer in answers)
    return [Bootnode(Place(host, boot.port), boot.key[:IDENTITY_BYTES]) for host in hosts]
