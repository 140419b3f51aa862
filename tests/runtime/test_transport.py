"""Connections between members, over real sockets: who gets in, what is lost, what is bounded."""

import asyncio
import contextlib
import os
import ssl
import struct
import time
from pathlib import Path

import pytest

from quorate.runtime.config import Peers
from quorate.runtime.hello import Hello
from quorate.runtime.tls import create_certificate
from runtime.openssl import OpenSslEnd
from runtime.worlds import GENESIS, Place, drive, start_places, stop_places, until


class Stranger:
    """Speaks TLS to a peer port by hand, and by another implementation than ours."""

    def __init__(self, key_pem: bytes, certificate_pem: bytes) -> None:
        self.tls = OpenSslEnd(key_pem, certificate_pem, dials=True)

    async def open(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.tls.receive(b"")
        while not self.tls.established:
            await self.flush()
            self.tls.receive(await self.reader.read(65536))
        await self.flush()

    async def flush(self) -> None:
        self.writer.write(self.tls.take_records())
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        self.tls.send(data)
        await self.flush()

    async def closed(self) -> bool:
        """Whether the other side ends the connection (within the test's time limit)."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True


def as_frame(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_every_pair_has_one_link_and_frames_arrive_in_order() -> None:
    async def run() -> None:
        places = await start_places(4)
        for place in places:
            for other in places:
                if other is not place:
                    for i in range(200):
                        assert place.transport.send(other.address, b"%d" % i)
        await until(lambda: all(len(p.recorder.frames) == 600 for p in places), "600 frames each")
        for place in places:
            for other in places:
                got = [f for who, f in place.recorder.frames if who == other.address]
                assert got == ([] if other is place else [b"%d" % i for i in range(200)])
        await stop_places(places)

    drive(run())


def test_large_frame_arrives_whole_and_the_peer_may_answer_at_once() -> None:
    async def run() -> None:
        a, b = await start_places(2)
        frame = os.urandom(12 << 20)
        assert a.transport.send(b.address, frame)
        await until(lambda: b.recorder.frames, "the frame")
        assert b.recorder.frames == [(a.address, frame)]
        assert a.transport.get_traffic(b.address).sent_bytes > len(frame)
        await stop_places([a, b])

    drive(run())


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff" * 70000, b"\x16\x03\x01\xff\xff"]
)
def test_garbage_on_the_peer_port_harms_nobody(garbage: bytes) -> None:
    async def run() -> None:
        settings = Peers(reconnect_max_ms=200, handshake_timeout_ms=300)
        places = await start_places(2, settings)
        reader, writer = await asyncio.open_connection("127.0.0.1", places[0].port)
        writer.write(garbage)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        recorder = places[0].recorder
        await until(lambda: recorder.find("connection without a peer closed"), "the log line")
        assert places[0].transport.send(places[1].address, b"still here")
        await until(lambda: places[1].recorder.frames, "a frame")
        assert all(("disconnected", p.address) not in recorder.history for p in places)
        await stop_places(places)

    drive(run())


def test_certificate_of_a_stranger_is_refused_and_its_fingerprint_logged() -> None:
    async def run() -> None:
        places = await start_places(2)
        key, certificate, fingerprint = create_certificate("stranger")
        stranger = Stranger(key, certificate)
        await stranger.open(places[0].port)
        assert await stranger.closed()
        (fields,) = places[0].recorder.find("peer refused: its certificate")
        assert fields["found_tls_sha256"] == fingerprint.hex()
        assert places[0].transport.dropped.unknown == 1
        await stop_places(places)

    drive(run())


def test_client_without_a_certificate_and_client_with_tls_1_2_are_refused() -> None:
    async def run() -> None:
        places = await start_places(2)
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.maximum_version = version
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                reader, _ = await asyncio.open_connection("127.0.0.1", places[0].port, ssl=context)
                assert await reader.read() == b""
        recorder = places[0].recorder
        reasons = [f["reason"] for f in recorder.find("connection without a peer closed")]
        assert len(reasons) == 2
        assert "certificate" in reasons[0]
        assert "protocol" in reasons[1]
        await stop_places(places)

    drive(run())


def test_oversize_frame_ends_the_link_and_says_found_and_limit() -> None:
    async def run() -> None:
        settings = Peers(reconnect_max_ms=200, max_frame_bytes=64 << 10)
        a, b = Place(0), Place(1)
        await a.start([a, b], settings)
        fake_b = Stranger(b.key_pem, b.certificate_pem)
        await fake_b.open(a.port)
        await fake_b.send(as_frame(Hello(b"12345678", GENESIS).encode()))
        await until(lambda: b.address in a.recorder.peers, "the link")
        await fake_b.send(as_frame(bytes(64 << 10)))
        await until(lambda: a.recorder.frames, "a frame of the limit's size")
        await fake_b.send(struct.pack(">I", (64 << 10) + 1))
        assert await fake_b.closed()
        (fields,) = a.recorder.find("peer disconnected")
        assert fields["reason"] == "frame of 65537 bytes, expected at most 65536"
        await a.transport.stop()

    drive(run())


def test_own_oversize_frame_is_dropped_before_it_is_sent() -> None:
    async def run() -> None:
        a, b = await start_places(2, Peers(reconnect_max_ms=200, max_frame_bytes=64 << 10))
        assert not a.transport.send(b.address, bytes((64 << 10) + 1))
        assert a.transport.get_traffic(b.address).dropped_frames == 1
        assert b.address in a.recorder.peers
        await stop_places([a, b])

    drive(run())


def test_peer_with_another_genesis_is_refused_with_both_hashes() -> None:
    async def run() -> None:
        a, b = Place(0), Place(1)
        await a.start([a, b])
        await b.start([a, b], genesis=b"h" * 32)
        await until(lambda: a.recorder.find("another genesis"), "the log line")
        fields = a.recorder.find("another genesis")[0]
        assert fields["peer"] == "validator-1"
        assert fields["found"] == "0x" + (b"h" * 32).hex()
        assert fields["expected"] == "0x" + GENESIS.hex()
        assert not a.recorder.history
        await stop_places([a, b])

    drive(run())


def test_another_validator_at_the_place_of_a_peer_is_refused_by_name() -> None:
    async def run() -> None:
        a, b, c = Place(0), Place(1), Place(2)
        b.port = c.port
        await c.start([a, b, c])
        await a.start([a, b, c])
        await until(lambda: a.recorder.find("another validator answers"), "the log line")
        fields = a.recorder.find("another validator answers")[0]
        assert (fields["found"], fields["expected"]) == ("validator-2", "validator-1")
        await stop_places([a, c])

    drive(run())


def test_slow_reader_costs_a_bounded_queue_and_loses_frames() -> None:
    async def run() -> None:
        settings = Peers(reconnect_max_ms=200, send_queue_bytes=1 << 20, timeout_ms=60_000)
        a, b = Place(0), Place(1)
        await a.start([a, b], settings)
        fake_b = Stranger(b.key_pem, b.certificate_pem)
        await fake_b.open(a.port)
        await fake_b.send(as_frame(Hello(b"12345678", GENESIS).encode()))
        await until(lambda: b.address in a.recorder.peers, "the link")
        fake_b.writer.transport.pause_reading()  # type: ignore[attr-defined]
        link = a.transport.links[b.address]
        frame, sent = bytes(100_000), 0
        while a.transport.send(b.address, frame):
            sent += 1
            assert sent < 2000, "nothing bounds the queue"
            await asyncio.sleep(0)
        assert link.queued_bytes <= 1 << 20
        assert a.transport.get_traffic(b.address).dropped_frames == 1
        assert b.address in a.recorder.peers
        await a.transport.stop()

    drive(run())


def test_silent_peer_is_dead_after_the_timeout() -> None:
    async def run() -> None:
        settings = Peers(reconnect_max_ms=200, ping_ms=50, timeout_ms=200)
        a, b = Place(0), Place(1)
        await a.start([a, b], settings)
        fake_b = Stranger(b.key_pem, b.certificate_pem)
        await fake_b.open(a.port)
        await fake_b.send(as_frame(Hello(b"12345678", GENESIS).encode()))
        await until(lambda: ("disconnected", b.address) in a.recorder.history, "the end")
        (fields,) = a.recorder.find("peer disconnected")
        assert fields["reason"] == "silent for 0.2 s"
        await a.transport.stop()

    drive(run())


def test_idle_links_stay_up_by_signs_of_life() -> None:
    async def run() -> None:
        settings = Peers(reconnect_max_ms=200, ping_ms=50, timeout_ms=200)
        a, b = await start_places(2, settings)
        history = list(a.recorder.history)
        link = a.transport.links[b.address]
        before, opened = link.received_bytes, link.up_at
        assert opened is not None
        await until(lambda: link.heard_at - opened > 0.6, "pings for three timeouts")
        assert link.received_bytes > before
        assert a.recorder.history == history
        await stop_places([a, b])

    drive(run())


def test_who_was_held_up_takes_nobody_for_dead() -> None:
    async def run() -> None:
        settings = Peers(reconnect_max_ms=200, ping_ms=50, timeout_ms=200)
        places = await start_places(2, settings)
        history = [list(place.recorder.history) for place in places]
        for _ in range(5):
            # What the other one says meanwhile waits unread.
            time.sleep(0.5)
            links = [link for place in places for link in place.transport.links.values()]
            held_up = asyncio.get_running_loop().time()
            await until(
                lambda links=links, since=held_up: all(link.heard_at > since for link in links),
                "signs of life",
            )
        assert [place.recorder.history for place in places] == history
        await stop_places(places)

    drive(run())


def test_peer_that_comes_back_is_connected_again_from_either_side() -> None:
    async def run() -> None:
        places = await start_places(3)
        for who in (0, 2):
            away = places[who]
            await away.transport.stop()
            rest = [p for p in places if p is not away]
            await until(
                lambda away=away, rest=rest: all(
                    away.address not in p.recorder.peers for p in rest
                ),
                "the others notice",
            )
            await away.start(places)
            await until(
                lambda: all(len(p.recorder.peers) == 2 for p in places), "all connected again"
            )
        await stop_places(places)

    drive(run())


def test_new_run_of_a_peer_replaces_its_dead_link_at_once() -> None:
    async def run() -> None:
        # The peer has the higher address, so by the tie-break alone its links would lose.
        a, b = Place(0), Place(1)
        await a.start([a, b], Peers(reconnect_max_ms=60_000, timeout_ms=60_000))
        runs = []
        for incarnation in (b"11111111", b"22222222"):
            fake_b = Stranger(b.key_pem, b.certificate_pem)
            await fake_b.open(a.port)
            await fake_b.send(as_frame(Hello(incarnation, GENESIS).encode()))
            await until(
                lambda incarnation=incarnation: (
                    (link := a.transport.links.get(b.address)) is not None
                    and link.hello is not None
                    and link.hello.incarnation == incarnation
                ),
                "the link",
            )
            runs.append(fake_b)
        assert await runs[0].closed()
        assert [event for event, _ in a.recorder.history] == [
            "connected",
            "disconnected",
            "connected",
        ]
        await a.transport.stop()

    drive(run())


def test_unauthenticated_connections_are_bounded() -> None:
    async def run() -> None:
        settings = Peers(reconnect_max_ms=200, max_handshakes=3, handshake_timeout_ms=60_000)
        a, b = Place(0), Place(1)
        await a.start([a, b], settings)
        held = [await asyncio.open_connection("127.0.0.1", a.port) for _ in range(6)]
        await until(lambda: a.transport.dropped.limited >= 3, "three refused")
        assert len(a.transport._strangers) <= 4  # three that came in, perhaps one dialled
        await a.transport.stop()
        for _, writer in held:
            writer.close()

    drive(run())


def test_disconnected_peer_stays_away_for_a_pause() -> None:
    async def run() -> None:
        a, b = await start_places(2)
        a.transport.disconnect(b.address, "trial")
        assert b.address not in a.recorder.peers
        await until(lambda: b.address in a.recorder.peers, "connected again")
        assert a.recorder.find("peer disconnected")[0]["reason"] == "trial"
        await stop_places([a, b])

    drive(run())


def test_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    from quorate.base.errors import Invalid
    from quorate.runtime.tls import load_identity, write_private

    key, _, _ = create_certificate("a")
    _, certificate, _ = create_certificate("b")
    write_private(tmp_path / "tls.key", key)
    write_private(tmp_path / "tls.crt", certificate)
    assert (tmp_path / "tls.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Invalid, match="found a key of another certificate"):
        load_identity(tmp_path / "tls.key", tmp_path / "tls.crt")
    with pytest.raises(Invalid, match="cannot be read"):
        load_identity(tmp_path / "no.key", tmp_path / "tls.crt")
