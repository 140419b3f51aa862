"""Members that lie, each in its own way, around an otherwise correct node."""

from typing import TYPE_CHECKING, Any

from quorate.base.types import Address
from quorate.node.wire import encode

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine

__all__ = ["Actor", "Silent"]


class Actor:
    """Stands between a traitor's node and its links; says the truth until a subclass twists it."""

    def __init__(self, machine: "Machine") -> None:
        self.machine, self.world = machine, machine.world
        self.choices = machine.world.tape.stream(f"traitor {machine.index}")

    def send(self, peer: Address, frame: bytes) -> None:
        """Take a frame that the node sends to a peer."""
        message = self.world.decode(frame)
        for twisted in self.twist(peer, message):
            data = frame if twisted is message else encode(twisted)
            for hook in self.world.on_message.get(type(twisted), ()):
                hook(self.machine, twisted)
            for link in self.machine.routes.get(peer, ()):
                link.carry(data)

    def twist(self, to: Address, message: Any) -> list[Any]:
        """Return what is sent instead."""
        return [message]


class Silent(Actor):
    """Hears everything and says nothing."""

    def twist(self, to: Address, message: Any) -> list[Any]:
        return []
