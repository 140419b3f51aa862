"""Links among strangers, over real sockets: who is let in, who is found, and what is refused."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from quorate.base.types import Address, Hash
from quorate.node.contacts import Meeting
from quorate.node.peer_file import Kept, encode_kept
from quorate.node.places import Place, parse_host
from quorate.runtime.config import BootnodePlace, Peers
from quorate.runtime.open_node import load_kept
from quorate.runtime.open_transport import IDENTITY_BYTES, OpenTransport, resolve
from quorate.runtime.tls import TlsIdentity, create_certificate
from runtime.worlds import GENESIS, drive, until

LOCALHOST = parse_host("127.0.0.1")


class Party:
    """A transport and what it told; implements `OpenEvents`."""

    def __init__(self, name: str, *, genesis: Hash = GENESIS, admits: int = 1000) -> None:
        key, certificate, self.pin = create_certificate(name)
        self.identity = TlsIdentity(key, certificate)
        self.genesis, self.admits = genesis, admits
        self.here = 0
        """Connections that were admitted and not released."""
        self.admitted = 0
        self.peers: dict[Address, Meeting] = {}
        self.frames: list[tuple[Address, bytes]] = []
        self.failures: list[tuple[Place, str, Address | None]] = []
        self.lines: list[str] = []
        self.transport: OpenTransport

    @property
    def me(self) -> Address:
        return self.pin[:IDENTITY_BYTES]

    async def start(self, **settings: Any) -> "Party":
        peers = Peers(**{"handshake_timeout_ms": 60_000, **settings})
        self.transport = OpenTransport(self.genesis, self.identity, peers, self, self.log)
        self.place = Place(LOCALHOST, await self.transport.start("127.0.0.1", 0))
        return self

    def connected(self, peer: Address, meeting: Meeting) -> None:
        assert peer not in self.peers
        self.peers[peer] = meeting

    def disconnected(self, peer: Address) -> None:
        del self.peers[peer]

    def received(self, peer: Address, frame: bytes) -> None:
        assert peer in self.peers
        self.frames.append((peer, frame))

    def undialled(self, place: Place, reason: str, found: Address | None) -> None:
        self.failures.append((place, reason, found))

    def admit(self, host: bytes) -> str | None:
        assert host == LOCALHOST
        if self.here >= self.admits:
            return "enough"
        self.here += 1
        self.admitted += 1
        return None

    def release(self, host: bytes) -> None:
        self.here -= 1

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.lines.append(event)


async def start(count: int, **settings: Any) -> list[Party]:
    return [await Party(f"party {i}").start(**settings) for i in range(count)]


async def stop(parties: list[Party]) -> None:
    for party in parties:
        await party.transport.stop()
    for party in parties:
        assert party.here == 0


def test_strangers_meet_and_frames_arrive() -> None:
    async def run() -> None:
        a, b = await start(2)
        a.transport.dial(b.place, b"")
        await until(lambda: b.me in a.peers and a.me in b.peers, "a link")
        assert a.peers[b.me] == Meeting(LOCALHOST, b.place.port, b.place)
        assert b.peers[a.me].dialled is None
        assert a.transport.send(b.me, b"hello")
        assert b.transport.send(a.me, b"and you")
        await until(lambda: a.frames and b.frames, "frames")
        assert (a.frames, b.frames) == ([(b.me, b"and you")], [(a.me, b"hello")])
        assert b.here == 1
        b.transport.disconnect(a.me, "enough")
        await until(lambda: not a.peers and not b.peers, "the end")
        assert not a.failures
        await stop([a, b])

    drive(run())


def test_the_one_who_answers_is_told() -> None:
    async def run() -> None:
        a, b = await start(2)
        other = await Party("other", genesis=b"h" * 32).start()
        a.transport.dial(a.place, b"")
        await until(lambda: len(a.failures) == 1, "ourselves")
        assert a.failures[0] == (a.place, "it is ourselves", a.me)
        a.transport.dial(b.place, a.me)
        await until(lambda: len(a.failures) == 2, "another key")
        assert a.failures[1][2] == b.me
        a.transport.dial(other.place, b"")
        await until(lambda: len(a.failures) == 3, "another genesis")
        assert a.failures[2] == (other.place, "another genesis", None)
        a.transport.dial(Place(LOCALHOST, 1), b"")
        await until(lambda: len(a.failures) == 4, "nobody")
        assert a.failures[3][2] is None
        assert not a.peers
        await stop([a, b, other])

    drive(run())


def test_one_link_stays_of_two() -> None:
    async def run() -> None:
        a, b = await start(2)
        a.transport.dial(b.place, b.me)
        b.transport.dial(a.place, b"")
        await until(lambda: b.me in a.peers and a.me in b.peers, "a link")
        a.transport.dial(b.place, b"")
        b.transport.dial(a.place, b"")
        await until(lambda: len(a.transport.strangers) + len(b.transport.strangers) == 0, "rest")
        await asyncio.sleep(0)
        assert a.transport.send(b.me, b"one")
        await until(lambda: b.frames, "a frame")
        assert len(a.transport.links) == len(b.transport.links) == 1
        await stop([a, b])

    drive(run())


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff"]
)
def test_garbage_harms_nobody_and_is_bounded(garbage: bytes) -> None:
    async def run() -> None:
        a, b = await start(2)
        a.admits = 6
        writers = []
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", a.place.port)
            writers.append(writer)
        await until(lambda: a.transport.dropped.limited == 14, "all but six refused")
        assert a.here == 6
        for writer in writers:
            writer.write(garbage)
        await until(lambda: a.here == 0, "all released")
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert not a.peers
        b.transport.dial(a.place, b"")
        await until(lambda: b.me in a.peers, "an honest link")
        await stop([a, b])

    drive(run())


def test_a_silent_connection_ends_and_a_silent_listener_is_told() -> None:
    async def run() -> None:
        (a,) = await start(1, handshake_timeout_ms=200)
        reader, writer = await asyncio.open_connection("127.0.0.1", a.place.port)
        assert await reader.read() == b""
        assert a.admitted == 1
        await until(lambda: a.here == 0, "it is gone")
        writer.close()
        mute = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        place = Place(LOCALHOST, mute.sockets[0].getsockname()[1])
        a.transport.dial(place, b"")
        await until(lambda: a.failures, "the dial is answered")
        assert a.failures == [(place, "handshake took too long", None)]
        mute.close()
        await stop([a])

    drive(run())


def test_names_of_bootnodes_are_looked_up() -> None:
    async def run() -> None:
        lines: list[str] = []

        def log(level: str, event: str, **fields: Any) -> None:
            lines.append(event)

        found = await resolve(BootnodePlace(b"k" * 32, "127.0.0.1", 7), log)
        assert [(boot.place, boot.key) for boot in found] == [(Place(LOCALHOST, 7), b"k" * 20)]
        assert await resolve(BootnodePlace(b"", "no-such-name.invalid", 7), log) == []
        assert lines == ["bootnode not found"]

    drive(run())


def test_a_damaged_file_of_addresses_is_told_and_set_aside(tmp_path: Path) -> None:
    lines: list[tuple[str, dict[str, Any]]] = []

    def log(level: str, event: str, **fields: Any) -> None:
        lines.append((event, fields))

    path = tmp_path / "peers"
    assert load_kept(path, GENESIS, log) is None  # type: ignore[arg-type]
    kept = Kept(GENESIS, bytes(32), [], [Place(LOCALHOST, 7)], [])
    path.write_bytes(encode_kept(kept))
    assert load_kept(path, GENESIS, log) == kept  # type: ignore[arg-type]
    assert not lines
    path.write_bytes(encode_kept(kept)[:-1])
    assert load_kept(path, GENESIS, log) is None  # type: ignore[arg-type]
    assert not path.exists()
    assert (tmp_path / "peers.damaged").exists()
    assert "checksum" in lines[0][1]["reason"]
