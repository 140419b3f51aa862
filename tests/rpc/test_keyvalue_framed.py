"""The framed port in this process: many requests at a time, bad ones, and slow readers."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from quorate.base.types import Hash, Height, Member
from quorate.ledger.keyvalue import KeyValueLedger, make_genesis, open_keyvalue
from quorate.ledger.operations import NOTHING, encode, make_put
from quorate.rpc import keyvalue_framed, keyvalue_service
from quorate.rpc.keyvalue_framed import MAX_FRAME_BYTES, MAX_IN_FLIGHT, PREAMBLE
from quorate.rpc.keyvalue_server import KeyValueServer
from quorate.rpc.keyvalue_service import Failure, Result

ME = bytes(20)
Done = Callable[[list[tuple[Hash, str | None]]], None]


class OneNode:
    """A node that agrees with itself, a block for each `agree`."""

    def __init__(self) -> None:
        genesis = make_genesis(
            application="keyvalue",
            chain_id=1,
            engine="raft",
            members=[Member(ME, 1)],
            timestamp=1_700_000_000,
        )
        self.ledger: KeyValueLedger = open_keyvalue(None, genesis, ME)
        self.now_ms = 1_700_000_000_000
        self.submitted: list[bytes] = []
        self.server: KeyValueServer | None = None
        self.arrived = asyncio.Event()

    def submit(self, items: list[bytes], done: Done) -> None:
        self.submitted += items
        done(self.ledger.add(items))
        self.arrived.set()

    def read(self, done: Callable[[Height], None]) -> None:
        done(self.ledger.store.final())

    def leads(self) -> bool:
        return True

    async def wait_for(self, count: int) -> None:
        while len(self.submitted) < count:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 10)

    def jump(self, source: "OneNode") -> None:
        """Take over the state of another node, as a member does that was away for long."""
        height = source.ledger.store.durable()
        while (snapshot := source.ledger.describe_state(height, 1 << 14)) is None:
            pass
        self.ledger.list_kept(snapshot)
        for number in range(len(snapshot.chunks)):
            chunk = source.ledger.export_state(snapshot, number)
            assert chunk is not None
            self.ledger.keep_chunk(snapshot, number, chunk)
        decision = source.ledger.decision(height)
        assert decision is not None
        executed = self.ledger.import_state(snapshot, decision[0], decision[1])
        self.now_ms = source.now_ms
        assert self.server is not None
        self.server.on_final(executed)

    def agree(self) -> None:
        parent = self.ledger.store.block(self.ledger.store.final())
        assert parent is not None
        self.now_ms += 1
        payload = self.ledger.build(parent.hash, self.now_ms, 4 << 20)
        executed = self.ledger.execute(parent.hash, [payload], bytes(32))
        # As a node does: those who wait come first.
        if self.server is not None:
            self.server.on_final(executed)
        self.ledger.finalize(executed, bytes(32), b"", [payload])


class Client:
    """One connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *requests: Any) -> None:
        bodies = [msgspec.msgpack.encode(request) for request in requests]
        self.writer.write(b"".join(len(body).to_bytes(4, "big") + body for body in bodies))

    async def receive(self) -> Any:
        size = int.from_bytes(await asyncio.wait_for(self.reader.readexactly(4), 10), "big")
        return msgspec.msgpack.decode(await self.reader.readexactly(size))

    async def is_dropped(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), 10) == b""
        except ConnectionError:
            return True


class Stage:
    def __init__(self) -> None:
        self.node = OneNode()
        self.logged: list[str] = []
        self.clients: list[Client] = []
        self.port = 0

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(PREAMBLE)
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.logged.append(f"{event}: {fields.get('reason')}")

    def make_put(self, sequence: int, client: bytes = b"c" * 16, floor: int | None = None) -> bytes:
        acknowledged = sequence - 1 if floor is None else floor
        action = make_put(b"key%d" % sequence, b"v" * 256)
        return encode(action, client, sequence, acknowledged, self.node.now_ms + 60_000)


@asynccontextmanager
async def make_stage() -> AsyncIterator[Stage]:
    stage = Stage()
    server = KeyValueServer(
        stage.node,
        stage.node.ledger,
        lambda lane, call, done: done(call()),
        asyncio.get_running_loop().call_soon,
        host="127.0.0.1",
        port=0,
        max_connections=100,
        about={},
        log=stage.log,
    )
    stage.node.server = server
    await server.start()
    assert server.listener is not None
    listener = server.listener.sockets[0]
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    stage.port = listener.getsockname()[1]
    try:
        yield stage
    finally:
        for client in stage.clients:
            client.writer.close()
        await server.stop()


def play(scene: Callable[[Stage], Any]) -> None:
    async def run() -> None:
        async with make_stage() as stage:
            await scene(stage)

    asyncio.run(run())


def test_thousands_of_requests_are_answered_in_blocks_whatever_pieces_they_come_in() -> None:
    async def scene(stage: Stage) -> None:
        count = 3000
        client = await stage.connect()
        bodies = [
            msgspec.msgpack.encode(
                (n, 1, stage.make_put(n % 1000 + 1, bytes((n // 1000,)) * 16, floor=0))
            )
            for n in range(count)
        ]
        data = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
        for at in range(0, len(data), 7001):
            client.writer.write(data[at : at + 7001])
        await stage.node.wait_for(count)
        stage.node.agree()
        answers = [await client.receive() for _ in range(count)]
        assert sorted(number for number, _, _ in answers) == list(range(count))
        assert all(status == 0 and outcome == 0 for _, status, (outcome, _, _) in answers)
        assert sorted(revision for _, _, (_, revision, _) in answers) == list(range(1, count + 1))

    play(scene)


def test_operations_reads_watches_and_mistakes_share_one_read() -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        client.send(
            (1, 1, stage.make_put(1)),
            (2, 2, [b"key1"], False),
            (3, 3, b"key", True, 0),
            (4, 9, b""),
            (5, 1, b"short"),
            (6, 1, stage.make_put(1, b"d" * 16)[:43] + b"\x00"),
            (7, 1, stage.make_put(2), True),
        )
        answers = [await client.receive() for _ in range(5)]
        found = {answer[0]: answer[1:] for answer in answers}
        assert found[2] == [0, [0, 0, [None]]]
        assert found[3] == [0, [0]]
        assert found[4][0] == found[5][0] == found[6][0] == 400
        stage.node.agree()
        later = [await client.receive() for _ in range(3)]
        assert {answer[0]: answer[1] for answer in later} == {1: 0, 3: -1, 7: 0}

    play(scene)


def test_one_operation_over_three_ways_is_done_once_and_all_are_told() -> None:
    async def scene(stage: Stage) -> None:
        first, second = await stage.connect(), await stage.connect()
        operation = stage.make_put(1)
        first.send((1, 1, operation), (2, 1, operation))
        second.send((7, 1, operation))
        await stage.node.wait_for(1)
        second.send((8, 2, [], False))
        assert (await second.receive())[0] == 8
        stage.node.agree()
        assert stage.node.submitted == [operation]
        told = [await first.receive(), await first.receive(), await second.receive()]
        assert sorted(answer[0] for answer in told) == [1, 2, 7]
        assert {tuple(answer[2]) for answer in told} == {(0, 1, b"")}
        # It comes again after its answer: told as before, without a block.
        first.send((3, 1, operation))
        assert await first.receive() == [3, 0, [0, 1, b""]]

    play(scene)


def test_who_left_is_not_told_and_the_others_are() -> None:
    async def scene(stage: Stage) -> None:
        gone, stays = await stage.connect(), await stage.connect()
        gone.send((1, 1, stage.make_put(1, b"a" * 16)))
        stays.send((1, 1, stage.make_put(1, b"b" * 16)))
        await stage.node.wait_for(2)
        gone.writer.transport.abort()
        while len(stage.node.server.connections) > 1:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        stage.node.agree()
        assert (await stays.receive())[:2] == [1, 0]

    play(scene)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ((MAX_FRAME_BYTES + 1).to_bytes(4, "big"), "expected at most"),
        (b"\xff\xff\xff\xff", "expected at most"),
        (b"\x00\x00\x00\x01\xc1", "malformed request"),
        (b"\x00\x00\x00\x00", "malformed request"),
        (b"\x00\x00\x00\x03\x93\xff\x01", "malformed request"),
        (b"\x00\x00\x00\x0c\x93\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x01\xc0", "malformed request"),
    ],
)
def test_malformed_frames_end_the_connection(data: bytes, reason: str) -> None:
    async def scene(stage: Stage) -> None:
        client, other = await stage.connect(), await stage.connect()
        client.writer.write(data)
        assert await client.is_dropped()
        assert reason in stage.logged[-1]
        other.send((1, 1, stage.make_put(1)))
        await stage.node.wait_for(1)
        stage.node.agree()
        assert (await other.receive())[:2] == [1, 0]

    play(scene)


def test_no_more_is_read_than_may_be_under_way() -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        count = MAX_IN_FLIGHT + 500
        for number in range(count):
            sender = (number // 1000).to_bytes(16, "big")
            client.send((number, 1, stage.make_put(number % 1000 + 1, sender, floor=0)))
        await stage.node.wait_for(MAX_IN_FLIGHT)
        await asyncio.sleep(0.05)
        assert len(stage.node.submitted) == MAX_IN_FLIGHT
        stage.node.agree()
        await stage.node.wait_for(count)
        stage.node.agree()
        assert sorted([(await client.receive())[0] for _ in range(count)]) == list(range(count))

    play(scene)


def test_beyond_the_bound_of_all_connections_operations_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyvalue_service, "MAX_WAITING", 2)

    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        client.send(*((n, 1, stage.make_put(n, floor=0)) for n in range(1, 4)))
        number, status, message = await client.receive()
        assert (number, status) == (3, 503)
        assert "2 operations wait already" in message
        stage.node.agree()
        assert [(await client.receive())[1] for _ in range(2)] == [0, 0]

    play(scene)


def test_who_reads_no_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyvalue_framed, "MAX_UNREAD_BYTES", 1 << 16)

    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        client.send(
            (0, 1, encode(make_put(b"k", b"v" * 65_000), b"c" * 16, 1, 0, 1_700_000_060_000))
        )
        await stage.node.wait_for(1)
        stage.node.agree()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(1, 400):
            client.send((number, 2, [b"k"], False))
        while not stage.logged:
            await asyncio.sleep(0.01)
        assert "not read in time" in stage.logged[-1]

    play(scene)


def test_who_waits_for_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyvalue_service, "PATIENCE_MS", 0)
    monkeypatch.setattr(keyvalue_service, "SWEEP_S", 0.02)

    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        client.send((1, 1, stage.make_put(1)), (2, 1, encode(NOTHING, b"d" * 16, 1, 0, 1 << 41)))
        assert sorted([(await client.receive())[:2] for _ in range(2)]) == [[1, 504], [2, 504]]
        stage.node.agree()
        client.send((3, 1, stage.make_put(1)))
        assert await client.receive() == [3, 0, [0, 1, b""]]

    play(scene)


# ---- a node that jumps to another height


def make_others(
    *operations: bytes, heights: int = 3, now_ms: int = 0, latest: bool = False
) -> OneNode:
    """Return what the rest of the network came to, with operations in the first or latest block."""
    others = OneNode()
    others.now_ms = now_ms or others.now_ms
    for height in range(heights):
        if height == (heights - 1 if latest else 0):
            assert all(reason is None for _, reason in others.ledger.add(list(operations)))
        others.agree()
    others.ledger.commit()
    return others


def test_who_waits_at_a_node_that_jumps_is_told_what_the_state_says() -> None:
    """Executed elsewhere; too late for ever; acknowledged; and one that still waits."""

    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        executed, waits = stage.make_put(1), stage.make_put(1, b"d" * 16)
        late = encode(make_put(b"k", b"v"), b"e" * 16, 1, 0, stage.node.now_ms + 2)
        client.send((1, 1, executed), (2, 1, waits), (3, 1, late))
        await stage.node.wait_for(3)
        stage.node.jump(make_others(stage.make_put(7, b"f" * 16), executed))
        told = [await client.receive() for _ in range(2)]
        assert sorted(told) == [[1, 0, [0, 2, b""]], [3, 400, "its deadline has passed"]]
        stage.node.agree()
        assert await client.receive() == [2, 0, [0, 3, b""]]
        assert not stage.node.ledger.fates

    play(scene)


def test_a_client_without_numbers_is_told_what_the_state_says_too() -> None:
    async def scene(stage: Stage) -> None:
        assert stage.node.server is not None
        service = stage.node.server.service
        answers: list[Result | Failure] = []
        service.do(make_put(b"k", b"v"), answers.append)
        await stage.node.wait_for(1)
        # These operations have deadlines by the machine's clock.
        stage.node.jump(make_others(*stage.node.submitted, now_ms=time.time_ns() // 1_000_000))
        assert answers == [(0, 1, b"")]

    play(scene)


@pytest.mark.parametrize("heights", [2, 4])
def test_a_watch_that_misses_heights_ends_and_says_so(heights: int) -> None:
    async def scene(stage: Stage) -> None:
        client = await stage.connect()
        stage.node.agree()
        client.send((1, 3, b"key", True, 0))
        assert (await client.receive())[:2] == [1, 0]
        stage.node.jump(make_others(stage.make_put(1), heights=heights, latest=True))
        number, status, message = await client.receive()
        assert (number, status) == (1, 410)
        assert message.startswith("what height 2 changed is not here (")
        client.send((2, 3, b"key", True, 0))
        assert (await client.receive())[:2] == [2, 0]
        stage.node.submit([stage.make_put(2)], lambda _: None)
        stage.node.agree()
        assert (await client.receive())[:2] == [2, -1]

    play(scene)


def test_who_has_no_number_to_ask_with_is_told_what_can_still_happen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyvalue_service, "PATIENCE_MS", 0)
    monkeypatch.setattr(keyvalue_service, "SWEEP_S", 0.02)

    async def scene(stage: Stage) -> None:
        assert stage.node.server is not None
        service, told = stage.node.server.service, asyncio.Event()
        failures: list[Failure] = []

        def on_told(result: Result | Failure | None) -> None:
            assert isinstance(result, Failure)
            failures.append(result)
            told.set()

        service.do(make_put(b"k", b"v"), on_told)
        await asyncio.wait_for(told.wait(), 10)
        stage.node.read = lambda done: done(-1)  # type: ignore[method-assign,assignment]
        told.clear()
        service.read(on_told)
        await asyncio.wait_for(told.wait(), 10)
        assert [failure.status for failure in failures] == [504, 504]
        assert "it may until 60 s after it was sent, and never later" in failures[0].message
        assert "did not agree in time on what is the latest" in failures[1].message

    play(scene)
