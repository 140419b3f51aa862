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

    __slots__ = ("seen", "states", "steps", "world")

    def __init__(self, world: "World") -> None:
        self.world = world
        self.states: set[int] = set()
        """Never iterated without sorting."""
        self.seen: set[tuple[int, ...]] = set()
        """What was described already, each machine as one number, the least first."""
        self.steps: dict[str, int] = {}
        """What numbers stand for the names of steps."""
        world.on_kept.append(self.on_kept)

    def on_kept(self, machine: "Machine", records: list[bytes]) -> None:
        heights: list[int] = []
        views: list[int] = []
        steps = self.steps
        best = 0
        for other in self.world.machines:
            node = other.node
            if node is None:
                continue
            # Engines name these alike; one that has no rounds or locks shows none.
            replica: Any = node.replica
            height: int = getattr(replica, "height", 0)
            best = max(best, height)
            heights.append(height)
            step: str = getattr(replica, "step", "")
            view = steps.setdefault(step, len(steps)) * (MAX_ROUND + 1)
            view += min(getattr(replica, "round", 0), MAX_ROUND)
            is_locked: bool = getattr(replica, "locked_round", -1) >= 0
            views.append(view * 4 + is_locked * 2 + other.paused)
        for i, height in enumerate(heights):
            views[i] = views[i] * (MAX_LAG + 1) + min(best - height, MAX_LAG)
        views.sort()
        state = tuple(views)
        if state not in self.seen:
            self.seen.add(state)
            # Who is missing is down.
            self.states.add(zlib.crc32(repr(tuple(self.describe(views))).encode()))

    def describe(self, views: list[int]) -> list[tuple[int, int, str, bool, bool]]:
        """Return for each machine: how far behind, round, step, locked, paused; sorted."""
        names = list(self.steps)
        found = []
        for number in views:
            view, lag = divmod(number, MAX_LAG + 1)
            place, round = divmod(view // 4, MAX_ROUND + 1)
            found.append((lag, round, names[place], view & 2 != 0, view & 1 != 0))
        return sorted(found)
