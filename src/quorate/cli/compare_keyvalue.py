"""Clients of a comparison on real processes, for keys and values: frames on kept connections.

Each operation is sent when it is due, and answered when its height is final; sent again, perhaps to
another member, it has the same number and happens once.
"""

import asyncio
import contextlib

from quorate.base.types import Nanoseconds
from quorate.cli.compare_client import TIMEOUT_S, Clients
from quorate.client.keyvalue import Connection, Lost
from quorate.ledger.operations import DONE
from quorate.simulator.compare.load import PAUSE_NS, Request

__all__ = ["KeyValueClients"]

OPERATION = 1
"""The kind of a framed request that changes something."""


class KeyValueClients(Clients):
    """All clients of one network; those of one member share a connection."""

    def start(self) -> None:
        self.connections: list[Connection | None] = [None] * len(self.places)
        self.making = [asyncio.Lock() for _ in self.places]

    async def connect(self, target: int) -> Connection:
        """Return the connection to a member. Raises OSError, TimeoutError."""
        async with self.making[target]:
            known = self.connections[target]
            if known is not None and known.transport is not None:
                return known
            making = self.loop.create_connection(Connection, *self.places[target])
            _, made = await asyncio.wait_for(making, TIMEOUT_S)
            self.connections[target] = made
            return made

    async def submit(self, request: Request, target: int, sent: int) -> None:
        way: Nanoseconds = self.ways_ns[request.home][target]
        await asyncio.sleep(way / 1e9)
        outcome = -1
        # Who does not answer in time is given up by `ask_next`; what comes later still counts.
        with contextlib.suppress(OSError, TimeoutError, Lost):
            _, future = (await self.connect(target)).request(OPERATION, request.item.raw)
            status, result = await future
            outcome = result[0] if status == 0 else status
        if outcome == DONE:
            self.answer(request, self.now() + way)
        elif request.final_ns is None:
            self.refused += 1
            self.loop.call_later(PAUSE_NS / 1e9, self.ask_next, request, sent)

    async def stop(self) -> None:
        await super().stop()
        for connection in self.connections:
            if connection is not None and connection.transport is not None:
                connection.transport.close()
