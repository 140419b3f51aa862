"""Which states of the network a run went through: a measure of how much its faults found to do.

A state is what one sees of all members at once, without names, heights and values: how far each
lies behind, its round and step, whether it is locked, paused or down. It is looked at whenever a
member has written something down, since that is when its promises change.
"""

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["StateCoverage"]

MAX_LAG = 3
MAX_ROUND = 4


class StateCoverage:
    """Collects the states of one world, as 32-bit numbers that are equal on every machine."""

    __slots__ = ("seen", "states", "world")

    def __init__(self, world: "World") -> None:
        self.world = world
        self.states: set[int] = set()
        """Never iterated without sorting."""
        self.seen: set[tuple[Any, ...]] = set()
        world.on_kept.append(self.on_kept)

    def on_kept(self, machine: "Machine", records: list[bytes]) -> None:
        views: list[tuple[int, int, str, bool, bool]] = []
        best = 0
        for other in self.world.machines:
            node = other.node
            if node is None:
                continue
            # Engines name these alike; one that has no rounds or locks shows none.
            replica: Any = node.replica
            height: int = getattr(replica, "height", 0)
            best = max(best, height)
            views.append(
                (
                    height,
                    min(getattr(replica, "round", 0), MAX_ROUND),
                    getattr(replica, "step", ""),
                    getattr(replica, "locked_round", -1) >= 0,
                    other.paused,
                )
            )
        state = tuple(sorted((min(best - view[0], MAX_LAG), *view[1:]) for view in views))
        if state not in self.seen:
            self.seen.add(state)
            # Who is missing is down.
            self.states.add(zlib.crc32(repr(state).encode()))
