"""Reads that an engine promises to be linearizable, and the judge of that.

A read through `node.read` names a height whose state a client would be shown. States of a ledger
are prefixes of one final order, so a read is linearizable exactly if it is at no lower height than
anything that anybody was told before the read was asked for: an item that was answered as final, or
an earlier read. (Herlihy and Wing, TOPLAS 1990; the order of the items themselves is judged
elsewhere.)

Whether a node is honest is known in the end, so that is when it is judged.
"""

from typing import TYPE_CHECKING, Final

from quorate.base.types import Height
from quorate.simulator.digest import CLIENT

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["LINEARIZABLE", "LinearReads"]

LINEARIZABLE: Final = "linearizable reads"
"""The property."""
READS: Final = 2
"""Beside each request of a client."""
ASKED: Final = -1
"""In the place of a height: the read begins."""


class LinearReads:
    """Asks nodes to read, notes what everybody was told, and judges it."""

    __slots__ = ("events", "number", "who", "world")

    def __init__(self, world: "World") -> None:
        self.world = world
        self.number = 0
        self.who = world.tape.stream("clients linear")
        self.events: list[tuple[int, int, Height]] = []
        """In order of time: which read (0: an item), by which machine, at which height."""
        world.on_end.append(self.judge)

    def read_anywhere(self) -> None:
        """Ask some nodes for a height to read at."""
        machines = self.world.machines
        for _ in range(READS):
            self.read(machines[self.who.choose(len(machines))])

    def read(self, machine: "Machine") -> None:
        """Ask a node for a height to read at."""
        node = machine.node
        if node is None or machine.paused:
            return
        self.number += 1
        number, world = self.number, self.world
        world.note(CLIENT, machine.index, number, b"linear read")
        self.events.append((number, machine.index, ASKED))

        def done(height: Height) -> None:
            if height < 0:
                world.witness("read refused")
                return
            world.witness("linearizable read")
            self.events.append((number, machine.index, height))

        node.read(done)

    def on_answer(self, machine: "Machine", height: Height) -> None:
        """A client was told that something is final at a height."""
        self.events.append((0, machine.index, height))

    def judge(self) -> None:
        """Find a read that missed what somebody had been told before it was asked for."""
        world, floors, floor = self.world, {0: 0}, 0
        for number, index, height in self.events:
            machine = world.machines[index]
            if height == ASKED:
                floors[number] = floor
            elif machine.is_honest:
                if number and height < floors[number]:
                    text = f"reads at height {height}, and {floors[number]} was told before"
                    world.find(LINEARIZABLE, text, machine)
                    return
                floor = max(floor, height)
