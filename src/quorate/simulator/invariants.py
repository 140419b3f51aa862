"""What must hold at every step, whatever the faults: watched on the wire, in journals, in output.

Each watcher judges by arithmetic of its own, never by the engine's.
"""

from typing import TYPE_CHECKING, Any

from quorate.base.types import Address, Hash, Height
from quorate.ledger.application import Executed

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["Agreement", "watch"]


class Agreement:
    """No two honest machines make different blocks final at one height, nor one machine twice."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.blocks: dict[Height, Hash] = {}
        world.on_final.append(self.on_final)

    def on_final(self, machine: "Machine", executed: Executed) -> None:
        if machine.actor is not None:
            return
        known = self.blocks.setdefault(executed.height, executed.block)
        if known != executed.block:
            self.world.find(
                "agreement",
                f"height {executed.height}: {machine.name} has block 0x{executed.block.hex()}, "
                f"another has 0x{known.hex()}",
                machine,
            )


class OneVote:
    """A voter says one thing in a round, for each kind of vote, across all its lives."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.said: dict[tuple[Address, int, int, int], Hash] = {}
        world.on_send.append(self.on_send)

    def on_send(self, machine: "Machine", message: Any, frame: bytes) -> None:
        if type(message).__name__ != "Vote" or message.voter != machine.address:
            return
        if machine.actor is not None:
            return
        key = (message.voter, message.kind, message.height, message.round)
        known = self.said.setdefault(key, message.value)
        if known != message.value:
            self.world.find(
                "one vote",
                f"{machine.name} says 0x{message.value.hex()} in round {message.round} of height "
                f"{message.height}, and said 0x{known.hex()} before (kind {message.kind})",
                machine,
            )


def watch(world: "World") -> None:
    """Let all invariants watch a world."""
    Agreement(world)
    if world.plan.engine == "tendermint":
        OneVote(world)
