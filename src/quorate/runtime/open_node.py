"""What a node of an open network needs of its machine: sockets to dial by, and a file of addresses.

The file is written beside the loop, the newest contents last. One that cannot be read is told, set
aside, and replaced by a new one: what is lost is a cache, and the bans.
"""

import asyncio
import os
from pathlib import Path

from quorate.base.errors import Corrupt
from quorate.base.rng import Rng
from quorate.base.types import Address, Hash
from quorate.node.contacts import Open, OpenSettings
from quorate.node.discovery import Discovery
from quorate.node.peer_file import Kept, decode_kept
from quorate.node.places import Place, parse_place
from quorate.node.wire import Here
from quorate.runtime.config import BootnodePlace, Network, ValidatorConfig, parse_bootnode
from quorate.runtime.logs import EventLog
from quorate.runtime.open_transport import OpenTransport, resolve
from quorate.runtime.tls import write_private

__all__ = ["PEER_FILE", "Doorway", "find_bootnodes", "load_kept"]

PEER_FILE = "peers"
RESOLVE_AGAIN_S = 30.0


class Doorway:
    """Implements `node.contacts.Doors`; `transport` is set before the node starts."""

    def __init__(self, path: Path, log: EventLog) -> None:
        self.path, self.log = path, log
        self.transport: OpenTransport | None = None
        self._next: bytes | None = None
        self._task: asyncio.Task[None] | None = None

    def make_open(
        self, network: Network, validator: ValidatorConfig, me: Address, genesis: Hash
    ) -> Open:
        """Return what the node is told. Raises Invalid."""
        chosen = network.discovery
        here = Here(b"", validator.port)
        if chosen.advertise:
            place = parse_place(chosen.advertise)
            here = Here(place.host, place.port)
        return Open(
            self,
            OpenSettings(
                outbound=chosen.outbound,
                inbound=chosen.inbound,
                inbound_per_range=chosen.inbound_per_range,
                range_limits=chosen.range_limits,
                feeler_ms=chosen.feeler_ms,
                ban_s=60 * chosen.ban_minutes,
            ),
            me,
            os.urandom(32),
            Rng(int.from_bytes(os.urandom(8), "big")),
            [],
            here,
            load_kept(self.path, genesis, self.log),
        )

    # ---- what discovery asks for

    def dial(self, place: Place, key: bytes) -> None:
        assert self.transport is not None
        self.transport.dial(place, key)

    def keep_peers(self, data: bytes) -> None:
        self._next = data
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._next is not None:
            data, self._next = self._next, None
            try:
                await asyncio.to_thread(write_private, self.path, data)
            except OSError as error:
                self.log("warning", "addresses not kept", file=str(self.path), reason=str(error))
        self._task = None

    async def close(self) -> None:
        """Return when everything is written."""
        if self._task is not None:
            await self._task


def load_kept(path: Path, genesis: Hash, log: EventLog) -> Kept | None:
    """Return what a file of addresses holds; one that is damaged is told and set aside."""
    try:
        return decode_kept(path.read_bytes(), genesis)
    except FileNotFoundError:
        return None
    except Corrupt as error:
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        log(
            "warning",
            "addresses of peers set aside, begin anew from the bootnodes",
            file=str(path),
            kept_as=str(aside),
            reason=str(error),
        )
        return None


async def find_bootnodes(
    network: Network, discovery: Discovery, me: Address, log: EventLog
) -> None:
    """Tell discovery where the bootnodes are, as soon as their names can be looked up."""
    wanted = [parse_bootnode(text) for text in network.bootnodes]
    while wanted:
        missing: list[BootnodePlace] = []
        for boot in wanted:
            found = await resolve(boot, log)
            if found:
                discovery.add_bootnodes([place for place in found if place.key != me])
            else:
                missing.append(boot)
        wanted = missing
        if wanted:
            await asyncio.sleep(RESOLVE_AGAIN_S)
