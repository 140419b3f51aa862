"""Links over memory: frames arrive whatever pieces the network cuts them into, or the link ends."""

import asyncio
import random
import struct
from typing import Any

import pytest
from OpenSSL import SSL

from quorate._kernel import TlsKeys, TlsLink
from quorate.base.errors import Invalid
from quorate.base.types import Address
from quorate.runtime.hello import HELLO_BYTES, Hello
from quorate.runtime.link import WRITE_HIGH_BYTES, Link, Outbox
from quorate.runtime.tls import TlsIdentity, create_certificate
from runtime.openssl import OpenSslEnd

ME, OTHER = b"a" * 20, b"b" * 20
GENESIS = b"g" * 32
HELLO = Hello(b"x" * 8, GENESIS).encode()
MAX_FRAME = 1 << 20


class Wire:
    """A socket that only remembers what was written."""

    def __init__(self) -> None:
        self.written = bytearray()

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None: ...
    def abort(self) -> None: ...


class Owner:
    def __init__(self, peer: Address) -> None:
        self.peer = peer
        self.fingerprint: bytes | None = None
        self.frames: list[bytes] = []
        self.reason = ""
        self.outbox = Outbox()

    def on_identified(self, link: Link, fingerprint: bytes | None) -> Address | None:
        self.fingerprint = fingerprint
        return self.peer if fingerprint else None

    def on_hello(self, link: Link, hello: Hello) -> None:
        assert hello.genesis == GENESIS

    def on_frame(self, link: Link, frame: bytes) -> None:
        self.frames.append(frame)

    def on_closed(self, link: Link, reason: str) -> None:
        self.reason = reason


class Side:
    def __init__(self, dials: bool) -> None:
        key, certificate, self.fingerprint = create_certificate("side")
        identity = TlsIdentity(key, certificate)
        self.owner = Owner(OTHER if dials else ME)
        self.wire = Wire()
        self.link = Link(
            self.owner,
            identity,
            HELLO,
            wanted=OTHER if dials else None,
            max_frame=MAX_FRAME,
            max_queue=1 << 22,
            on_open=lambda _: True,
        )

    def open(self) -> "Side":
        self.link.connection_made(self.wire)  # type: ignore[arg-type]
        return self

    def take_written(self) -> bytes:
        data, self.wire.written = bytes(self.wire.written), bytearray()
        return data

    def receive(self, other: "Side", choose: "random.Random", most: int) -> bool:
        """Take what the other side has written, in pieces of at most `most` bytes."""
        data, at = other.take_written(), 0
        while at < len(data):
            piece = data[at : at + choose.randint(1, most)]
            self.link.data_received(piece)
            at += len(piece)
        return bool(data)


async def settle(first: Side, second: Side, choose: random.Random, most: int) -> None:
    """Carry bytes both ways until there are none."""
    while True:
        await asyncio.sleep(0)
        moved = first.receive(second, choose, most)
        if not (second.receive(first, choose, most) or moved):
            return


async def make_pair(choose: random.Random | None = None, most: int = 70_000) -> tuple[Side, Side]:
    """Return both sides of a link, the one that dialled first."""
    second, first = Side(False).open(), Side(True).open()
    await settle(first, second, choose or random.Random(1), most)
    assert first.owner.fingerprint == second.fingerprint
    assert second.owner.fingerprint == first.fingerprint
    return first, second


async def make_strange_pair(dials: bool) -> tuple[Side, OpenSslEnd]:
    """Return our side of a link and the other end, which another implementation of TLS holds."""
    key, certificate, fingerprint = create_certificate("strange")
    side, end = Side(not dials).open(), OpenSslEnd(key, certificate, dials=dials)
    while not (end.established and side.owner.fingerprint):
        end.receive(side.take_written())
        side.link.data_received(end.take_records())
    assert side.owner.fingerprint == fingerprint
    assert end.get_fingerprint() == side.fingerprint
    return side, end


def as_frame(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize("most", [1, 4, 7, 1000, 70_000])
def test_frames_arrive_in_order_whatever_pieces_they_come_in(most: int) -> None:
    async def run() -> None:
        choose = random.Random(most)
        first, second = await make_pair(choose, most)
        assert (first.link.state, second.link.state) == ("up", "up")
        sizes = [0, 1, 40, 16_379, 16_380, 16_384, 50_000 if most > 1 else 17_000]
        for round_number in range(3):
            for side, other in ((first, second), (second, first)):
                # A frame of nothing is a sign of life, which is not handed on.
                frames = [bytes((round_number,)) * size for size in sizes]
                for frame in frames:
                    assert side.link.send(frame)
                side.link.ping()
                await settle(first, second, choose, most)
                assert other.owner.frames == [frame for frame in frames if frame]
                other.owner.frames.clear()
        assert (first.owner.reason, second.owner.reason) == ("", "")

    asyncio.run(run())


@pytest.mark.parametrize("most", [1, 70_000])
def test_a_damaged_record_ends_the_link(most: int) -> None:
    async def run() -> None:
        choose = random.Random(most)
        first, second = await make_pair(choose, most)
        first.link.send(b"hello")
        await asyncio.sleep(0)
        first.wire.written[-1] ^= 1
        await settle(first, second, choose, most)
        assert second.owner.frames == []
        assert second.owner.reason.startswith("TLS failed")

    asyncio.run(run())


@pytest.mark.parametrize("dials", [True, False])
@pytest.mark.parametrize("step", [1, 1000, 100_000])
def test_frames_pass_between_us_and_another_implementation(dials: bool, step: int) -> None:
    async def run() -> None:
        side, end = await make_strange_pair(dials)
        frames = [b"a", bytes(16_380), b"b" * 16_384, b"c" * 90_000]
        end.send(b"".join(map(as_frame, [HELLO, b"", *frames])))
        wire = end.take_records()
        for at in range(0, len(wire), step):
            side.link.data_received(wire[at : at + step])
        assert side.owner.frames == frames
        for frame in frames:
            assert side.link.send(frame)
        side.link.ping()  # nothing, for frames wait
        await asyncio.sleep(0)
        side.link.ping()
        end.receive(side.take_written())
        assert end.plain == b"".join(map(as_frame, [HELLO, *frames, b""]))
        end.tls.shutdown()
        side.link.data_received(end.take_records())
        assert side.owner.reason == "closed by the peer"

    asyncio.run(run())


@pytest.mark.parametrize("dials", [True, False])
def test_another_implementation_is_told_why_a_link_ends(dials: bool) -> None:
    async def run() -> None:
        side, end = await make_strange_pair(dials)
        end.send(as_frame(HELLO))
        wire = bytearray(end.take_records())
        wire[-1] ^= 1
        side.link.data_received(bytes(wire))
        assert side.owner.reason == "TLS failed: a record was damaged or forged on its way"
        with pytest.raises(SSL.Error, match="bad record mac"):
            end.receive(side.take_written())

    asyncio.run(run())


def test_records_may_be_cut_at_every_byte_or_end_there() -> None:
    async def run() -> None:
        first, second = await make_pair()
        frames = [b"one", b"two" * 20]
        for cut in range(1, 140):
            for frame in frames:
                first.link.send(frame)
                await asyncio.sleep(0)
            wire = first.take_written()
            second.link.data_received(wire[:cut])
            second.link.data_received(wire[cut:])
            assert second.owner.frames == frames
            second.owner.frames.clear()
        for frame in frames:
            first.link.send(frame)
            await asyncio.sleep(0)
        second.link.data_received(first.take_written()[:40])
        second.link.connection_lost(None)
        assert second.owner.frames == frames[:1]
        assert second.owner.reason == "closed by the peer"
        second.link.data_received(b"late")
        assert not second.link.send(b"late")
        second.link.ping()

    asyncio.run(run())


def test_damage_at_any_stage_ends_the_link_and_loses_only_what_follows() -> None:
    async def run() -> None:
        choose = random.Random(7)
        ended = 0
        for _ in range(300):
            first, second = Side(True).open(), Side(False).open()
            damaged, at = choose.randrange(6), 0
            for turn in range(6):
                await asyncio.sleep(0)
                for side, other in ((first, second), (second, first)):
                    if side.link.state == "up":
                        for number in range(3):
                            side.link.send(b"%d %d" % (turn, number))
                        await asyncio.sleep(0)
                    wire = side.take_written()
                    if at == damaged:
                        wire = damage(wire, choose)
                    at += 1
                    most = choose.choice((7, 100_000))
                    for start in range(0, len(wire), most):
                        other.link.data_received(wire[start : start + most])
            sent = [b"%d %d" % (turn, number) for turn in range(6) for number in range(3)]
            for side in (first, second):
                frames = side.owner.frames
                assert not frames or frames[0] in sent
                begin = sent.index(frames[0]) if frames else 0
                assert frames == sent[begin : begin + len(frames)]
                ended += bool(side.owner.reason)
                assert bool(side.owner.reason) == (side.link.state == "closed")
        # A cut merely leaves both waiting; all else is noticed.
        assert ended > 200

    asyncio.run(run())


def damage(wire: bytes, choose: random.Random) -> bytes:
    """Return what a broken or hostile network makes of some bytes."""
    at = choose.randrange(len(wire) + 1)
    noise = choose.randbytes(choose.choice((1, 5, 300, 20_000)))
    return choose.choice(
        (
            wire[:at],
            wire[:at] + noise,
            noise + wire,
            wire[:at] + noise + wire[at:],
            wire + wire,
            wire[:at] + bytes((wire[at] ^ (1 << choose.randrange(8)),)) + wire[at + 1 :]
            if at < len(wire)
            else wire[1:],
        )
    )


@pytest.mark.parametrize("step", [1, 100_000])
def test_what_is_not_tls_is_refused_within_a_bound(step: int) -> None:
    async def run() -> None:
        choose = random.Random(step)
        for begin in (b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x40\x00", b"\x17\x03\x03\x40\x00"):
            for dials in (True, False):
                side = Side(dials).open()
                wire, taken = begin + choose.randbytes(70_000), 0
                while not side.owner.reason:
                    side.link.data_received(wire[taken : taken + step])
                    taken += step
                    assert taken < 40_000 + step
                assert side.owner.reason.startswith("TLS handshake failed: ")
                assert "\n" not in side.owner.reason

    asyncio.run(run())


def test_first_frame_must_be_a_hello_and_later_ones_within_the_limit() -> None:
    async def run(wire: bytes) -> tuple[str, list[bytes]]:
        side, end = await make_strange_pair(True)
        end.send(wire)
        side.link.data_received(end.take_records())
        return side.owner.reason, side.owner.frames

    def judge(*wire: bytes) -> tuple[str, list[bytes]]:
        return asyncio.run(run(b"".join(wire)))

    long = struct.pack(">I", HELLO_BYTES + 1)
    assert judge(long) == (f"frame of {HELLO_BYTES + 1} bytes, expected at most {HELLO_BYTES}", [])
    assert judge(as_frame(b"GET /"), as_frame(b"more")) == (
        "first frame 474554202f, expected the hello of this version",
        [],
    )
    hello = as_frame(HELLO)
    assert judge(bytes(4), hello, bytes(4), as_frame(b"x")) == ("", [b"x"])
    longest = as_frame(bytes(MAX_FRAME))
    assert judge(hello, longest) == ("", [bytes(MAX_FRAME)])
    longer = struct.pack(">I", MAX_FRAME + 1)
    reason = f"frame of {MAX_FRAME + 1} bytes, expected at most {MAX_FRAME}"
    assert judge(hello, as_frame(b"x"), longer, bytes(9)) == (reason, [b"x"])


def test_what_waits_for_a_full_socket_leaves_in_order_once_it_drains() -> None:
    async def run() -> None:
        first, second = await make_pair()
        first.link.pause_writing()
        frames = [b"%d" % number * 5000 for number in range(200)]
        for frame in frames:
            assert first.link.send(frame)
        await asyncio.sleep(0)
        assert first.take_written() == b""
        assert first.link.queued_bytes == sum(len(frame) + 4 for frame in frames)
        written: list[int] = []
        write = first.wire.write

        def fill(data: bytes) -> None:
            written.append(len(data))
            write(data)
            first.link.pause_writing()

        first.wire.write = fill  # type: ignore[method-assign]
        while first.link.queued_bytes:
            first.link.resume_writing()
        assert len(written) > 5
        # Full, by one frame and what TLS adds at most.
        assert max(written) < WRITE_HIGH_BYTES + len(frames[-1]) + 1000
        await settle(first, second, random.Random(3), 70_000)
        assert second.owner.frames == frames
        assert first.link.sent_bytes >= sum(written)
        assert second.link.received_bytes == first.link.sent_bytes

    asyncio.run(run())


def test_frames_of_one_turn_leave_in_one_write() -> None:
    async def run() -> None:
        first, second = await make_pair()
        writes: list[bytes] = []
        first.wire.write = writes.append  # type: ignore[method-assign]
        for number in range(50):
            first.link.send(b"%d" % number)
        await asyncio.sleep(0)
        assert len(writes) == 1
        # And in one record: 5 bytes before it, a byte for its type and 16 for its tag.
        assert len(writes[0]) == sum(4 + len(b"%d" % n) for n in range(50)) + 22
        second.link.data_received(writes[0])
        assert len(second.owner.frames) == 50

    asyncio.run(run())


def test_what_an_input_led_to_leaves_with_it_and_together() -> None:
    async def run() -> None:
        first, second = await make_pair()
        first.link.send(b"question")
        first.owner.outbox.flush()
        writes: list[bytes] = []
        second.wire.write = writes.append  # type: ignore[method-assign]

        def answer(link: Link, frame: bytes) -> None:
            link.send(b"answer to " + frame)
            link.send(b"and more")

        second.owner.on_frame = answer  # type: ignore[method-assign]
        second.link.data_received(first.take_written())
        # Still in the same turn.
        assert len(writes) == 1
        await asyncio.sleep(0)
        assert len(writes) == 1
        first.link.data_received(writes[0])
        assert first.owner.frames == [b"answer to question", b"and more"]

    asyncio.run(run())


def test_keys_that_cannot_be_used_are_refused_and_nothing_is_sealed_too_early() -> None:
    with pytest.raises(Invalid, match="expected ECDSA P-256"):
        TlsKeys(b"", b"")
    key, certificate, _ = create_certificate("side")
    link = TlsLink(TlsIdentity(key, certificate).keys, True, HELLO_BYTES, MAX_FRAME)
    assert not link.established
    assert link.certificate is None
    with pytest.raises(Invalid, match="before the end of the handshake"):
        link.seal([b"x"])
    frames, records, trouble = link.receive(b"")
    assert (frames, trouble) == ([], None)
    assert len(records) > 100
    assert link.receive(b"\xff" * 100)[2] is not None
    assert link.receive(b"\xff" * 100) == ([], b"", None)


def test_frames_are_bytes_and_a_link_that_has_ended_seals_none() -> None:
    async def run() -> None:
        first, _ = await make_pair()
        tls = first.link._tls
        with pytest.raises(TypeError):
            tls.seal(["x"])  # type: ignore[list-item]
        assert tls.receive(b"\xff" * 100)[2] is not None
        assert tls.seal([b"x"]) == b""

    asyncio.run(run())
