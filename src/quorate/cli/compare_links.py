"""Links between real validators, with the delays of a matrix and cuts: a mesh of TCP relays.

Each validator gets a network file of its own, in which every peer lives at a port of this process.
What it sends there goes on to the peer after the delay of the two places, and back likewise. A cut
holds what is sent until it is mended, as a network does whose packets are repeated until they
arrive; validators notice the silence themselves. TLS passes through untouched.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from quorate.base.types import Nanoseconds

__all__ = ["Mesh"]

CHUNK_BYTES = 1 << 16
MAX_CHUNKS = 1024
"""Under way in one direction of one connection; beyond it the sender is held back."""
HOST = "127.0.0.1"
Place: TypeAlias = tuple[str, int]
Relay: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Mesh:
    """A relay for each ordered pair of validators."""

    def __init__(self, places: Sequence[Place], delays_ns: Sequence[Sequence[Nanoseconds]]) -> None:
        """`places` is where validators listen, `delays_ns` how far each is from each."""
        self.places = list(places)
        self.delays_s = [[delay / 1e9 for delay in row] for row in delays_ns]
        self.extra_s: dict[tuple[int, int], float] = {}
        self.ports: dict[tuple[int, int], int] = {}
        """Where the first of a pair finds the second."""
        self.cuts: dict[tuple[int, int], int] = {}
        """How many cuts lie across a direction."""
        self.open: dict[tuple[int, int], asyncio.Event] = {}
        self.servers: list[asyncio.Server] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        count = len(self.places)
        for one in range(count):
            for other in range(count):
                if one == other:
                    continue
                self.open[one, other] = asyncio.Event()
                self.open[one, other].set()
                server = await asyncio.start_server(self.make_relay(one, other), HOST, 0)
                self.servers.append(server)
                self.ports[one, other] = server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for server in self.servers:
            server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # ---- faults

    def block(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Hold what goes from the first to the second of each pair."""
        for pair in pairs:
            self.cuts[pair] = self.cuts.get(pair, 0) + 1
            self.open[pair].clear()

    def mend(self, pairs: Sequence[tuple[int, int]]) -> None:
        for pair in pairs:
            self.cuts[pair] -= 1
            if not self.cuts[pair]:
                self.open[pair].set()

    def slow(self, pairs: Sequence[tuple[int, int]], extra_ms: int) -> None:
        """Let what goes from the first to the second of each pair take longer; 0: as usual."""
        for pair in pairs:
            self.extra_s[pair] = extra_ms / 1000

    # ---- relays

    def make_relay(self, one: int, other: int) -> Relay:
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self.tasks.add(task)
            # Nobody waits for this task but `stop`, which cancels it.
            with contextlib.suppress(asyncio.CancelledError):
                await self.join(one, other, reader, writer)
            self.tasks.discard(task)

        return relay

    async def join(
        self, one: int, other: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Relay one connection both ways until either side ends it."""
        try:
            there = await asyncio.open_connection(*self.places[other])
        except OSError:
            writer.close()
            return
        ways = [
            asyncio.create_task(self.carry(one, other, reader, there[1])),
            asyncio.create_task(self.carry(other, one, there[0], writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, there[1]):
                end.close()

    async def carry(
        self, one: int, other: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry what one says to the other, each chunk after its delay and none before another."""
        loop, pair = asyncio.get_running_loop(), (one, other)
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_CHUNKS)

        async def write() -> None:
            while True:
                due, data = await queue.get()
                wait = due - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                await self.open[pair].wait()
                writer.write(data)
                await writer.drain()

        writing = asyncio.create_task(write())
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(CHUNK_BYTES):
                    delay = self.delays_s[one][other] + self.extra_s.get(pair, 0.0)
                    await queue.put((loop.time() + delay, data))
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
