"""What the tests of the runtime share: identities, collecting events, waiting with a deadline."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from ports import free_port
from quorate.base.types import Address, Hash
from quorate.consensus.replica import Situation
from quorate.node.status import NodeStatus
from quorate.runtime.config import Peers
from quorate.runtime.tls import TlsIdentity, create_certificate
from quorate.runtime.transport import PeerPlace, Transport

GENESIS = b"g" * 32

STATUS = NodeStatus(
    address=b"a" * 20,
    engine="tendermint",
    genesis=b"g" * 32,
    version="1",
    height=7,
    durable=6,
    block=b"b" * 32,
    block_time_ms=5,
    syncing_to=None,
    situation=Situation(7, 0, "propose", None, "a proposal", "", [b"c" * 20], ("propose", 99)),
    why_stalled="waits for a proposal",
    next_timeout_ms=3,
    peers=[],
    validators=[],
    pool_ready=1,
    pool_queued=2,
    pool_bytes=3,
    counters={"rounds": 4},
    latest=7,
    latest_block=b"b" * 32,
)


def get_address(index: int) -> Address:
    return bytes([index + 1]) * 20


def drive(main: Coroutine[Any, Any, None]) -> None:
    """Run on the loop that validators use."""
    uvloop.run(main)


async def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Return as soon as the condition holds; fail with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen in {seconds} s: {what}"
        await asyncio.sleep(0.005)


class Recorder:
    """Collects what a transport tells, and what it logs."""

    def __init__(self) -> None:
        self.peers: set[Address] = set()
        self.history: list[tuple[str, Address]] = []
        self.frames: list[tuple[Address, bytes]] = []
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def connected(self, peer: Address) -> None:
        assert peer not in self.peers
        self.peers.add(peer)
        self.history.append(("connected", peer))

    def disconnected(self, peer: Address) -> None:
        self.peers.remove(peer)
        self.history.append(("disconnected", peer))

    def received(self, peer: Address, frame: bytes) -> None:
        assert peer in self.peers
        self.frames.append((peer, frame))

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.lines.append((level, event, fields))

    def find(self, event: str) -> list[dict[str, Any]]:
        return [fields for _, line, fields in self.lines if event in line]


class Place:
    """One member of a test network: its port, identity and transport."""

    def __init__(self, index: int) -> None:
        self.address = get_address(index)
        key, certificate, self.pin = create_certificate(f"validator-{index}")
        self.key_pem, self.certificate_pem = key, certificate
        self.identity = TlsIdentity(key, certificate)
        self.name, self.port = f"validator-{index}", free_port()
        self.recorder = Recorder()
        self.transport: Transport

    async def start(
        self,
        places: "list[Place]",
        settings: Peers | None = None,
        genesis: Hash = GENESIS,
    ) -> None:
        self.recorder = Recorder()
        self.transport = Transport(
            self.address,
            genesis,
            self.identity,
            {p.address: PeerPlace(p.name, "127.0.0.1", p.port, p.pin) for p in places},
            settings or Peers(reconnect_max_ms=200),
            self.recorder,
            self.recorder.log,
        )
        await self.transport.start("127.0.0.1", self.port)


async def start_places(count: int, settings: Peers | None = None) -> list[Place]:
    places = [Place(i) for i in range(count)]
    for place in places:
        await place.start(places, settings)
    await until(lambda: are_settled(places), "all connected")
    return places


def are_settled(places: list[Place]) -> bool:
    """Whether each has a link to each, and no second one is under way that could replace it."""
    return all(
        len(place.recorder.peers) == len(places) - 1
        and not len(place.transport._strangers)
        and all(dialler.task is None for dialler in place.transport._diallers.values())
        for place in places
    )


async def stop_places(places: list[Place]) -> None:
    for place in places:
        await place.transport.stop()
