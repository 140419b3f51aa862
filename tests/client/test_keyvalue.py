"""The key-value client against nodes that refuse, vanish, keep silent or are not there."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from quorate.base.errors import Invalid, Unavailable
from quorate.client import KeyValueClient, Refusal, keyvalue, open_client

EVENT = [b"k", 7, [b"v", 7, 7, 1]]
Answer = Callable[[int, int, list[Any]], list[Any] | None]
"""Called with (number, kind, arguments); None: the connection ends."""


class Node:
    """A node that answers as it is told, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[int, list[Any]]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(len(keyvalue.PREAMBLE))
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                number, kind, *rest = msgspec.msgpack.decode(await reader.readexactly(size))
                self.asked.append((kind, rest))
                frames = self.answer(number, kind, rest)
                if frames is None:
                    break
                for frame in frames:
                    body = msgspec.msgpack.encode(frame)
                    writer.write(len(body).to_bytes(4, "big") + body)
        writer.close()


@contextlib.asynccontextmanager
async def run(answer: Answer) -> AsyncIterator[Node]:
    node = Node(answer)
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    node.port = server.sockets[0].getsockname()[1]
    try:
        yield node
    finally:
        server.close()


async def find_closed_port() -> int:
    async with run(lambda *_: None) as node:
        return node.port


def places(*ports: int) -> list[tuple[str, int]]:
    return [("127.0.0.1", port) for port in ports]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyvalue, "PAUSE_S", 0.001)
    monkeypatch.setattr(keyvalue, "SILENCE_S", 0.05)
    monkeypatch.setattr(keyvalue, "ATTEMPT_S", 2.0)


def tell_one_event(number: int, kind: int, _: list[Any]) -> list[Any] | None:
    return [(number, 0, [3]), (number, -1, [EVENT])] if kind == 3 else [(number, 0, [3, 6, []])]


@pytest.mark.parametrize("key", [b"", b"k" * 1025])
def test_a_key_that_no_node_takes_is_refused_before_it_is_sent(key: bytes) -> None:
    async def check() -> None:
        client = KeyValueClient(places(1))
        for call in (client.get(key), client.prove(key), client.put(key, b"v")):
            with pytest.raises(Invalid, match=rf"key: {len(key)} bytes, expected 1 to 1024"):
                await call
        if key:
            with pytest.raises(Invalid, match="key: 1025 bytes, expected at most 1024"):
                await anext(client.watch(key))

    asyncio.run(check())


def test_text_is_no_key() -> None:
    async def check() -> None:
        client = KeyValueClient(places(1))
        with pytest.raises(TypeError, match="key: found str, expected bytes"):
            await client.get("k")  # type: ignore[arg-type]

    asyncio.run(check())


def test_a_read_that_is_too_large_for_a_frame_is_refused_before_it_is_sent() -> None:
    async def check() -> None:
        async with run(tell_one_event) as node, KeyValueClient(places(node.port)) as client:
            with pytest.raises(Invalid, match="expected at most 262144"):
                await client.get_many([b"k" * 1024] * 1024)
            assert (await client.get_many([]))[1] == 6
            assert len(node.asked) == 1

    asyncio.run(check())


def test_a_watch_passes_over_nodes_that_are_not_there_and_ends_when_nobody_reads() -> None:
    async def check() -> None:
        closed = await find_closed_port()
        async with run(tell_one_event) as node:
            async with KeyValueClient(places(closed, node.port)) as client:
                changes = client.watch(b"k", revision=7)
                change = await anext(changes)
                assert (change.key, change.revision) == (b"k", 7)
                await changes.aclose()  # type: ignore[attr-defined]
                await client.get_many([])
            watch, ended, _ = node.asked
            assert watch == (3, [b"k", False, 7])
            assert ended == (4, [1])

    asyncio.run(check())


def test_a_watch_goes_on_behind_what_it_was_told_when_its_node_is_lost_or_silent() -> None:
    told = []

    def vanish(number: int, kind: int, rest: list[Any]) -> list[Any] | None:
        """Tell an event, then end the connection when asked whether there is anybody."""
        return [(number, 0, [3]), (number, -1, [EVENT])] if kind == 3 else None

    def keep_silent(number: int, kind: int, rest: list[Any]) -> list[Any] | None:
        told.append((kind, rest))
        return [(number, 0, [3])] if kind == 3 else []

    def tell_next(number: int, kind: int, rest: list[Any]) -> list[Any] | None:
        told.append((kind, rest))
        return [(number, 0, [3]), (number, -1, [[b"k", 8, None]])]

    async def check() -> None:
        async with (
            run(vanish) as first,
            run(keep_silent) as second,
            run(tell_next) as third,
            KeyValueClient(places(first.port, second.port, third.port)) as client,
        ):
            changes = client.watch(b"k", revision=1)
            assert (await anext(changes)).revision == 7
            change = await anext(changes)
            assert (change.revision, change.entry) == (8, None)
            await changes.aclose()  # type: ignore[attr-defined]
        assert told[:3] == [(3, [b"k", False, 8]), (2, [[], False]), (3, [b"k", False, 8])]

    asyncio.run(check())


def test_a_watch_that_nobody_serves_says_why() -> None:
    def refuse(number: int, kind: int, rest: list[Any]) -> list[Any] | None:
        return [(number, 503, "256 watches of this connection are open already")]

    async def check() -> None:
        async with run(refuse) as node, KeyValueClient(places(node.port), timeout_s=0.1) as client:
            with pytest.raises(Unavailable, match="256 watches of this connection"):
                await anext(client.watch(b"k"))
        gone = run(lambda number, *_: [(number, 410, "too old")])
        async with gone as node, KeyValueClient(places(node.port)) as client:
            with pytest.raises(Refusal, match="too old"):
                await anext(client.watch(b"k", revision=1))

    asyncio.run(check())


def test_a_watch_goes_to_another_node_when_one_has_no_room_for_it() -> None:
    def refuse(number: int, kind: int, rest: list[Any]) -> list[Any] | None:
        """As a node does it: the answer comes before what is found out."""
        return [(number, 0, [3]), (number, 503, "10000 watches are open already")]

    async def check() -> None:
        async with run(refuse) as full, run(tell_one_event) as node:
            async with KeyValueClient(places(full.port, node.port)) as client:
                assert (await anext(client.watch(b"k", revision=7))).revision == 7
            async with KeyValueClient(places(full.port), timeout_s=0.1) as client:
                with pytest.raises(Unavailable, match="10000 watches are open already"):
                    await anext(client.watch(b"k", revision=7))

    asyncio.run(check())


def test_a_client_without_a_loop_ends_its_watch() -> None:
    async def check() -> None:
        async with run(tell_one_event) as node:

            def look() -> None:
                with open_client(("127.0.0.1", node.port)) as client:
                    for change in client.watch(b"k", revision=7):
                        assert change.revision == 7
                        break

            await asyncio.to_thread(look)
            assert (4, [1]) in node.asked

    asyncio.run(check())


def keep_quiet(number: int, kind: int, _: list[Any]) -> list[Any] | None:
    """Answer reads and nothing else."""
    return [(number, 0, [3, 6, []])] if kind == 2 else [(number, 0, [3])] if kind == 3 else []


def test_a_client_that_is_closed_ends_what_is_under_way_and_connects_no_more() -> None:
    async def check() -> None:
        async with run(keep_quiet) as node:
            client = KeyValueClient(places(node.port))
            waiting = [
                asyncio.ensure_future(anext(client.watch(b"k", revision=7))),
                asyncio.ensure_future(client.put(b"k", b"v")),
            ]
            while len(node.asked) < 2:
                await asyncio.sleep(0)
            await client.close()
            for found in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(found, Unavailable)
                assert "the client is closed" in str(found)
            with pytest.raises(Unavailable, match="the client is closed"):
                await client.get(b"k")
            assert [kind for kind, _ in node.asked] == [3, 1]

    asyncio.run(check())


def test_a_thread_that_waits_is_woken_when_another_closes_the_client() -> None:
    async def check() -> None:
        async with run(keep_quiet) as node:
            client = open_client(("127.0.0.1", node.port))
            changes = client.watch(b"k", revision=7)
            waiting = [
                asyncio.create_task(asyncio.to_thread(next, changes)),
                asyncio.create_task(asyncio.to_thread(client.put, b"k", b"v")),
            ]
            while len(node.asked) < 2:
                await asyncio.sleep(0)
            await asyncio.to_thread(client.close)
            for found in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(found, Unavailable)
            client.close()
            with pytest.raises(Unavailable, match="the client is closed"):
                client.get(b"k")

    asyncio.run(check())


def test_a_watch_may_be_left_after_its_client(recwarn: pytest.WarningsRecorder) -> None:
    async def check() -> None:
        async with run(tell_one_event) as node:

            def look() -> None:
                with open_client(("127.0.0.1", node.port)) as client:
                    changes = client.watch(b"k", revision=7)
                    assert next(changes).revision == 7
                changes.close()  # type: ignore[attr-defined]

            await asyncio.to_thread(look)

    asyncio.run(check())
    assert not recwarn.list


def test_a_client_of_no_node_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with pytest.raises(Invalid, match="found no address"):
        open_client()
    assert set(threading.enumerate()) <= before
