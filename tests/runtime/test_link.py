"""Links over memory: frames arrive whatever pieces the network cuts them into."""

import asyncio
import random
from typing import Any

import pytest

from quorate.base.types import Address
from quorate.runtime.link import Hello, Link
from quorate.runtime.tls import TlsIdentity, create_certificate

ME, OTHER = b"a" * 20, b"b" * 20
GENESIS = b"g" * 32


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
        self.frames: list[bytes] = []
        self.reason = ""

    def on_identified(self, link: Link, fingerprint: bytes | None) -> Address | None:
        return self.peer if fingerprint else None

    def on_hello(self, link: Link, hello: Hello) -> None:
        assert hello.genesis == GENESIS

    def on_frame(self, link: Link, frame: bytes) -> None:
        self.frames.append(frame)

    def on_closed(self, link: Link, reason: str) -> None:
        self.reason = reason


class Side:
    def __init__(self, dials: bool) -> None:
        key, certificate, _ = create_certificate("side")
        identity = TlsIdentity(key, certificate)
        self.owner = Owner(OTHER if dials else ME)
        self.wire = Wire()
        self.link = Link(
            self.owner,
            identity.connect() if dials else identity.accept(),
            Hello(b"x" * 8, GENESIS).encode(),
            wanted=OTHER if dials else None,
            max_frame=1 << 20,
            max_queue=1 << 22,
            on_open=lambda _: True,
        )

    def receive(self, other: "Side", choose: "random.Random", most: int) -> bool:
        """Take what the other side has written, in pieces of at most `most` bytes."""
        data, other.wire.written = bytes(other.wire.written), bytearray()
        at = 0
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


@pytest.mark.parametrize("most", [1, 4, 7, 1000, 70_000])
def test_frames_arrive_in_order_whatever_pieces_they_come_in(most: int) -> None:
    async def run() -> None:
        choose = random.Random(most)
        first, second = Side(True), Side(False)
        for side in (second, first):
            side.link.connection_made(side.wire)  # type: ignore[arg-type]
        await settle(first, second, choose, most)
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
        first, second = Side(True), Side(False)
        for side in (second, first):
            side.link.connection_made(side.wire)  # type: ignore[arg-type]
        await settle(first, second, choose, most)
        first.link.send(b"hello")
        await asyncio.sleep(0)
        first.wire.written[-1] ^= 1
        await settle(first, second, choose, most)
        assert second.owner.frames == []
        assert second.owner.reason.startswith("TLS failed")

    asyncio.run(run())
