"""The events of one run, kept one by one for people, with what caused each."""

from typing import TYPE_CHECKING, Any

from quorate.consensus.replica import Timer
from quorate.ledger.application import Executed
from quorate.simulator.trace import Event

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.network import Link
    from quorate.simulator.world import World

__all__ = ["Tracer"]

MAX_TRACED = 5_000_000
"""Events that are kept; later ones are only counted."""
MAX_TEXT = 300


class Tracer:
    """Give it to a run; afterwards `events` holds what happened, in order.

    Every event carries its Lamport time: one more than the greatest of those that led to it.
    """

    __slots__ = ("cut", "events", "inside", "lamport", "origins", "world")

    world: "World"

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.cut = 0
        """Events that were not kept."""
        self.lamport: dict[int, int] = {}
        """Of each machine."""
        self.origins: dict[int, int] = {}
        """What led to an event in the queue: its number there -> the number of the event."""
        self.inside = -1
        """The event whose consequences happen now."""

    def add(
        self, kind: str, machine: int, other: int = -1, *, cause: int | None = None, **fields: Any
    ) -> int:
        """Keep an event; return its number, or -1 when there are too many."""
        if len(self.events) >= MAX_TRACED:
            self.cut += 1
            return -1
        if cause is None:
            cause = self.inside
        lamport = self.lamport.get(machine, 0)
        if cause >= 0:
            lamport = max(lamport, self.events[cause].lamport)
        lamport += 1
        if machine >= 0:
            self.lamport[machine] = lamport
        number = len(self.events)
        self.events.append(
            Event(
                number=number,
                step=self.world.digest.events,
                time_ns=self.world.now,
                kind=kind,
                machine=machine,
                other=other,
                cause=cause,
                lamport=lamport,
                **fields,
            )
        )
        return number

    # ---- what the world tells

    def on_send(self, link: "Link", frame: bytes, number: int) -> None:
        """A frame leaves; `number` is that of its arrival in the queue."""
        self.origins[number] = self.add(
            "send", link.source.index, link.target.index, **self.describe(frame)
        )

    def on_lost(self, link: "Link", frame: bytes) -> None:
        self.add("lost", link.source.index, link.target.index, **self.describe(frame))

    def on_receive(self, link: "Link", frame: bytes, number: int) -> None:
        self.inside = self.add(
            "receive",
            link.target.index,
            link.source.index,
            cause=self.origins.pop(number, -1),
            **self.describe(frame),
        )

    def on_set_timer(self, number: int) -> None:
        self.origins[number] = self.inside

    def on_timer(self, machine: "Machine", timer: Timer, number: int) -> None:
        self.inside = self.add(
            "timer",
            machine.index,
            cause=self.origins.pop(number, -1),
            name=timer.kind,
            height=timer.height,
            round=timer.round,
        )

    def on_kept(self, machine: "Machine", records: list[bytes]) -> None:
        names = [type(self.world.decode_record(record)).__name__ for record in records]
        self.inside = self.add("durable", machine.index, name=", ".join(names)[:MAX_TEXT])

    def on_final(self, machine: "Machine", executed: Executed) -> None:
        self.add(
            "final",
            machine.index,
            height=executed.height,
            name=f"block {executed.height}",
            text=f"0x{executed.block.hex()}, {executed.items} items",
        )

    def on_log(self, machine: "Machine", level: str, event: str, fields: dict[str, Any]) -> None:
        if level != "debug":
            text = " ".join(f"{name}={value}" for name, value in fields.items())
            self.add("note", machine.index, name=event, text=text[:MAX_TEXT])

    def describe(self, frame: bytes) -> dict[str, Any]:
        """Return the name, height, round and text of a frame."""
        message = self.world.decode(frame)
        parts = []
        for name in message.__struct_fields__:
            value = getattr(message, name)
            parts.append(f"{name}={format_value(value)}")
        return {
            "name": type(message).__name__,
            "height": getattr(message, "height", -1),
            "round": getattr(message, "round", -1),
            "text": " ".join(parts)[:MAX_TEXT],
        }


def format_value(value: Any) -> str:
    """Return a field's value, long bytes by their beginning and length."""
    if isinstance(value, bytes):
        if len(value) <= 4:
            return f"0x{value.hex()}"
        return f"0x{value[:4].hex()}..({len(value)})"
    if isinstance(value, list):
        return f"[{len(value)}]"
    return str(value)
