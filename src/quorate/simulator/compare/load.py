"""Clients of a comparison: they ask on time, whatever the answers do, and note when those come.

A client sits beside one member: the way to it takes no time, the way to another one as long as
messages between the two members do. It submits an item when it is due, and waits until a node that
it asked shows the item as final, which means durable there. A refused connection it notices at
once, silence after its patience; then it asks the next member as well. It gives up nothing. Answers
of liars do not count. Where blocks may be taken back, it also notes when its item is first in a
block that the member shows, and when that block is called safe.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quorate.base.types import Hash, Height, Nanoseconds
from quorate.node.gossip import KNOWN
from quorate.simulator.compare.measures import Operation
from quorate.simulator.compare.workload import Item
from quorate.simulator.digest import CLIENT
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.workload import Index

if TYPE_CHECKING:
    from quorate.simulator.compare.metered import MeteredWorld
    from quorate.simulator.machine import Machine

__all__ = ["PATIENCE_NS", "Load", "Request"]

PATIENCE_NS: Nanoseconds = 2 * SECOND
PAUSE_NS: Nanoseconds = 50 * MS
"""Before a client that was refused asks again."""


class Request:
    """An item and what its client knows of it."""

    __slots__ = ("due_ns", "final_ns", "first_ns", "home", "item", "machine", "safe_ns", "sent")

    def __init__(self, item: Item, home: int, due_ns: Nanoseconds) -> None:
        self.item, self.home, self.due_ns = item, home, due_ns
        self.machine = home
        """Whom it asked last."""
        self.sent = 0
        self.final_ns: Nanoseconds | None = None
        """Of the world, as the others; until the client knew it."""
        self.first_ns: Nanoseconds | None = None
        self.safe_ns: Nanoseconds | None = None

    def get_operation(self, start_ns: Nanoseconds) -> Operation:
        """Return what is measured, by a clock that begins at `start_ns`."""
        due = self.due_ns

        def since(time: Nanoseconds | None) -> Nanoseconds | None:
            return None if time is None else time - due

        return Operation(
            due - start_ns,
            since(self.final_ns),
            since(self.first_ns),
            since(self.safe_ns),
            self.sent,
        )


class Load:
    """All clients of one world."""

    def __init__(
        self, world: "MeteredWorld", clients: int, patience_ns: Nanoseconds = PATIENCE_NS
    ) -> None:
        self.world, self.clients, self.patience_ns = world, clients, patience_ns
        self.members = [m.index for m in world.machines if m.member.power]
        self.requests: list[Request] = []
        self.waiting: list[dict[bytes, Request]] = [{} for _ in world.machines]
        """What clients listen for at each machine."""
        self.open = 0
        """Requests without an answer."""
        self.index = Index(world)
        self.shown: list[Height] = [0] * len(world.machines)
        self.refused = 0
        world.on_committed.append(self.on_committed)
        world.on_adopted.append(self.on_adopted)

    def plan(self, items: Sequence[Item], due_ns: Sequence[Nanoseconds]) -> None:
        """Submit items when they are due (nanoseconds of the world)."""
        for item, due in zip(items, due_ns, strict=True):
            home = self.members[item.account % self.clients % len(self.members)]
            request = Request(item, home, due)
            self.requests.append(request)
            self.open += 1
            self.world.after(due - self.world.now, self.ask, request, home)

    def get_way(self, one: int, other: int) -> Nanoseconds:
        """Return how long a message takes between a client beside one member and another one."""
        return 0 if one == other else self.world.network.links[one, other].base_ns

    def ask(self, request: Request, target: int) -> None:
        """Send an item on its way to a member."""
        request.sent += 1
        request.machine = target
        self.world.after(self.patience_ns, self.on_silence, request, request.sent)
        way = self.get_way(request.home, target)
        if way:
            self.world.after(way, self.submit, request, target)
        else:
            self.submit(request, target)

    def submit(self, request: Request, target: int) -> None:
        """A member gets an item."""
        if request.final_ns is not None:
            return
        world, machine = self.world, self.world.machines[target]
        world.note(CLIENT, target, request.sent, request.item.identity)
        known = self.index.heights.get(request.item.identity)
        if known is not None and known <= self.shown[target] and machine.is_honest:
            self.answer(request, target)
            return
        sent = request.sent

        def on_judged(results: list[tuple[Hash, str | None]]) -> None:
            refusal = results[0][1]
            if refusal is not None and refusal != KNOWN and request.final_ns is None:
                self.refused += 1
                if request.sent == sent:
                    world.after(PAUSE_NS, self.ask_next, request, sent)

        if machine.submit([request.item.raw], on_judged):
            self.waiting[target][request.item.identity] = request
        elif machine.node is None:
            # Nobody listens there, which a client is told after one more way.
            pause = self.get_way(request.home, target) or PAUSE_NS
            world.after(pause, self.ask_next, request, sent)

    def on_silence(self, request: Request, sent: int) -> None:
        # What is in a block becomes final if the block does, and waits again by itself if not.
        if request.first_ns is None:
            self.ask_next(request, sent)

    def ask_next(self, request: Request, sent: int) -> None:
        """Ask the next member, unless something has happened since."""
        if request.final_ns is not None or request.sent != sent:
            return
        place = self.members.index(request.machine)
        self.ask(request, self.members[(place + 1) % len(self.members)])

    def on_committed(self, machine: "Machine", height: Height) -> None:
        """A member shows a height."""
        index = machine.index
        if not machine.is_honest:
            return
        self.index.extend(machine, height)
        waiting = self.waiting[index]
        for at in range(self.shown[index] + 1, height + 1):
            for identity in self.index.blocks[at]:
                request = waiting.pop(identity, None)
                if request is not None:
                    self.answer(request, index)
        self.shown[index] = max(height, self.shown[index])

    def on_adopted(self, machine: "Machine", height: Height) -> None:
        """A member shows another tip."""
        if not machine.is_honest:
            return
        tips, waiting, now = self.world.tips, self.waiting[machine.index], self.world.now
        fresh, safe = tips.tell(machine.index)
        for blocks, name in ((fresh, "first_ns"), (safe, "safe_ns")):
            for block in blocks:
                for identity in tips.list_items(block):
                    request = waiting.get(identity)
                    if request is not None and getattr(request, name) is None:
                        way = self.get_way(request.home, machine.index)
                        setattr(request, name, now + way)

    def answer(self, request: Request, target: int) -> None:
        """A member tells a client that its item is final."""
        known = self.world.now + self.get_way(request.home, target)
        if request.final_ns is None:
            self.open -= 1
        elif request.final_ns <= known:
            return
        request.final_ns = known

    def is_done(self) -> bool:
        """Whether everything that was planned is answered."""
        return not self.open

    def find_lost(self) -> int:
        """Return how many answered items are not in the final chain of who has most of it."""
        world = self.world
        honest = [m for m in world.machines if m.is_honest]
        if not honest:
            return 0
        best = max(honest, key=lambda m: world.stores.get_height(m.store))
        index = Index(world)
        index.extend(best, world.stores.get_height(best.store))
        return sum(
            r.final_ns is not None and r.item.identity not in index.heights for r in self.requests
        )
