"""The Unix socket of a validator: answers, bounds, and clients that misbehave."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Height
from quorate.node.status import NodeStatus
from quorate.runtime import ipc
from quorate.runtime.ipc_client import IpcClient, ask, ask_status
from quorate.runtime.ipc_server import IpcServer, PoolReader, Verdicts
from runtime.worlds import STATUS, Recorder, drive, until


class FakePool:
    def nonce(self, account: bytes) -> int:
        if account == b"bad":
            raise Invalid("account: 3 bytes, expected 20")
        return len(account)

    def counts(self) -> tuple[int, int, int]:
        return 1, 2, 3

    def content_json(self, account: bytes | None) -> bytes:
        return b"{}" if account is None else account

    def transaction_json(self, hash: bytes) -> bytes | None:
        return b"{}" if hash == b"h" * 32 else None

    def get(self, hash: bytes) -> bytes | None:
        return b"raw" if hash == b"h" * 32 else None


class Answers:
    """Answers at once, except submissions, which wait in `held` when `hold` is set."""

    def __init__(self) -> None:
        self.pool: PoolReader | None = FakePool()
        self.hold = False
        self.held: list[tuple[list[bytes], Callable[[Verdicts], None]]] = []

    def submit(self, items: list[bytes], done: Callable[[Verdicts], None]) -> None:
        if self.hold:
            self.held.append((items, done))
        else:
            done(
                [
                    (item.ljust(32, b"\0"), None if item != b"bad" else "nonce too low")
                    for item in items
                ]
            )

    def get_status(self) -> NodeStatus:
        return STATUS

    def get_durable(self) -> Height:
        return 6

    def get_metrics(self) -> bytes:
        return b"# metrics"

    def read(self, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def run() -> None:
            try:
                result = call()
            except Exception as error:
                result = error
            done(result)

        asyncio.get_running_loop().call_soon(run)


class World:
    def __init__(self, folder: Path, **bounds: int) -> None:
        self.path = folder / "node.sock"
        self.answers, self.recorder = Answers(), Recorder()
        self.bounds = {"max_clients": 3, "max_in_flight": 10, **bounds}
        self.server: IpcServer

    async def __aenter__(self) -> "World":
        self.server = IpcServer(self.path, self.answers, self.recorder.log, **self.bounds)
        await self.server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.server.stop()


def test_every_question_is_answered(tmp_path: Path) -> None:
    async def run() -> None:
        async with World(tmp_path) as world:
            assert world.path.stat().st_mode & 0o777 == 0o600
            client = IpcClient(world.path)
            await client.start()
            await client.wait_connected(60)
            assert await client.submit([b"x", b"bad"]) == [
                (b"x".ljust(32, b"\0"), None),
                (b"bad".ljust(32, b"\0"), "nonce too low"),
            ]
            assert await client.get_status() == STATUS
            assert await client.get_nonce(b"a" * 20) == 20
            assert await client.get_pool_counts() == (1, 2, 3)
            assert await client.get_pool_content(None) == b"{}"
            assert await client.get_pool_content(b"a") == b"a"
            assert await client.get_pool_transaction(b"h" * 32) == (b"{}", b"raw")
            assert await client.get_pool_transaction(b"i" * 32) is None
            assert await client.get_metrics() == b"# metrics"
            with pytest.raises(Invalid, match="3 bytes, expected 20"):
                await client.get_nonce(b"bad")
            world.answers.pool = None
            with pytest.raises(Invalid, match="has no pool"):
                await client.get_pool_counts()
            await client.stop()

    drive(run())


def test_deep_folder_is_no_obstacle(tmp_path: Path) -> None:
    async def run() -> None:
        deep = tmp_path / ("d" * 100)
        deep.mkdir()
        async with World(deep) as world:
            client = IpcClient(world.path)
            await client.start()
            await client.wait_connected(60)
            assert (await client.get_status()).height == 7
            await client.stop()

    drive(run())


def test_subscriber_learns_heights_and_pending_hashes_and_reconnects(tmp_path: Path) -> None:
    async def run() -> None:
        heights: list[int] = []
        pending: list[bytes] = []
        states: list[bool] = []
        async with World(tmp_path) as world:
            client = IpcClient(
                world.path,
                on_committed=heights.append,
                on_pending=pending.extend,
                on_connected=states.append,
            )
            await client.start()
            await until(lambda: heights == [6], "the durable height")
            for height in (7, 8, 9):
                world.server.tell_committed(height)
            world.server.tell_pending([b"h" * 32])
            await until(lambda: heights[-1] == 9 and pending, "events")
            assert heights == [6, 9]
        await until(lambda: states[-1] is False, "the end")
        with pytest.raises(Unavailable, match="not running"):
            await client.get_status()
        async with World(tmp_path):
            await until(lambda: heights == [6, 9, 6], "subscribed again")
            await client.stop()

    drive(run())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff", "frame of 4294967295 bytes"),
        (b"\0\0\0\x05hello", "malformed request"),
        (b"\0\0\0\x02\x92\x63", "malformed request"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame of 1195725856 bytes"),
    ],
)
def test_malformed_and_oversize_requests_end_that_client_alone(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    async def run() -> None:
        async with World(tmp_path) as world:
            client = IpcClient(world.path)
            await client.start()
            await client.wait_connected(60)
            reader, writer = await asyncio.open_unix_connection(world.path)
            writer.write(data)
            assert await reader.read() == b""
            (fields,) = world.recorder.find("ipc client dropped")
            assert fields["reason"].startswith(reason)
            assert (await client.get_status()).height == 7
            await client.stop()
            writer.close()

    drive(run())


def test_requests_in_flight_are_bounded_and_none_is_lost(tmp_path: Path) -> None:
    async def run() -> None:
        async with World(tmp_path, max_in_flight=10) as world:
            world.answers.hold = True
            client = IpcClient(world.path)
            await client.start()
            await client.wait_connected(60)
            asked = [asyncio.ensure_future(client.submit([b"%d" % i])) for i in range(35)]
            await until(lambda: len(world.answers.held) == 10, "ten in flight")
            answered = 0
            while answered < 35:
                await until(lambda n=answered: len(world.answers.held) > n, "the next request")
                assert len(world.answers.held) <= answered + 10
                items, done = world.answers.held[answered]
                done([(items[0], None)])
                answered += 1
            results = await asyncio.gather(*asked)
            assert [verdicts[0][0] for verdicts in results] == [b"%d" % i for i in range(35)]
            await client.stop()

    drive(run())


def test_clients_are_bounded(tmp_path: Path) -> None:
    async def run() -> None:
        async with World(tmp_path, max_clients=2) as world:
            writers = []
            for _ in range(2):
                _, writer = await asyncio.open_unix_connection(world.path)
                writers.append(writer)
            await until(lambda: len(world.server.clients) == 2, "two clients")
            reader, writer = await asyncio.open_unix_connection(world.path)
            assert await reader.read() == b""
            assert world.recorder.find("ipc client refused") == [{"found": 3, "limit": 2}]
            for each in [*writers, writer]:
                each.close()

    drive(run())


def test_subscriber_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    async def run() -> None:
        async with World(tmp_path) as world:
            _, writer = await asyncio.open_unix_connection(world.path)
            body = msgspec.msgpack.encode(ipc.Subscribe(1, True))
            writer.write(len(body).to_bytes(4, "big") + body)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(
                lambda: any(client.wants_pending for client in world.server.clients), "subscribed"
            )
            hashes = [bytes(32)] * 10_000
            told = 0
            while world.server.clients:
                world.server.tell_pending(hashes)
                told += 1
                assert told < 200, "nothing bounds what is unread"
                await asyncio.sleep(0)
            (fields,) = world.recorder.find("ipc client dropped")
            assert "bytes unread, expected at most" in fields["reason"]
            writer.close()

    drive(run())


def test_blocking_question_of_the_command_line(tmp_path: Path) -> None:
    async def run() -> None:
        async with World(tmp_path) as world:
            assert await asyncio.to_thread(ask_status, world.path) == STATUS
            counts = await asyncio.to_thread(
                ask, world.path, ipc.GetPoolCounts(1), tuple[int, int, int]
            )
            assert counts == (1, 2, 3)
        with pytest.raises(Unavailable, match="no validator answers"):
            await asyncio.to_thread(ask_status, world.path)

    drive(run())
