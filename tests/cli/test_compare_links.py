"""Relays between validators: what goes through, and what a cut holds."""

import asyncio
from collections.abc import Awaitable, Callable

from quorate.cli.compare_links import Mesh

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer everything with its capitals."""
    while data := await reader.read(1 << 16):
        writer.write(data.upper())
    writer.close()


def play(script: Callable[[Mesh, Streams], Awaitable[None]]) -> None:
    """Run a script over a connection from the first of two places to the second."""

    async def run() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        mesh = Mesh([("127.0.0.1", port)] * 2, [[0, 2_000_000], [1_000_000, 0]])
        await mesh.start()
        streams = await asyncio.open_connection("127.0.0.1", mesh.ports[0, 1])
        try:
            await script(mesh, streams)
        finally:
            streams[1].close()
            await mesh.stop()
            server.close()
        assert not mesh.tasks

    asyncio.run(asyncio.wait_for(run(), 30))


async def hears_nothing(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.readexactly(1), 0.1)
    except TimeoutError:
        return True
    return False


def test_everything_goes_through_in_order() -> None:
    async def script(_mesh: Mesh, streams: Streams) -> None:
        reader, writer = streams
        for number in range(50):
            writer.write(b"abc%03d" % number)
            await asyncio.sleep(0)
        found = await reader.readexactly(300)
        assert found == b"".join(b"ABC%03d" % number for number in range(50))

    play(script)


def test_cut_holds_until_all_cuts_are_mended() -> None:
    async def script(mesh: Mesh, streams: Streams) -> None:
        reader, writer = streams
        mesh.block([(1, 0)])
        mesh.block([(0, 1), (1, 0)])
        writer.write(b"a")
        assert await hears_nothing(reader)
        mesh.mend([(0, 1), (1, 0)])
        assert await hears_nothing(reader)
        mesh.mend([(1, 0)])
        assert await reader.readexactly(1) == b"A"

    play(script)


def test_connection_ends_on_both_sides() -> None:
    async def script(mesh: Mesh, streams: Streams) -> None:
        reader, writer = streams
        writer.write_eof()
        assert await reader.read() == b""

    play(script)


def test_nobody_at_the_other_end_is_told_by_an_end() -> None:
    async def run() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        mesh = Mesh([("127.0.0.1", port)] * 2, [[0, 0], [0, 0]])
        await mesh.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.ports[0, 1])
        assert await reader.read() == b""
        writer.close()
        await mesh.stop()

    asyncio.run(asyncio.wait_for(run(), 30))
