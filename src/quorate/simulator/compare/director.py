"""Carries a script of faults out on a world, and keeps whom each of them struck."""

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from quorate.base.types import Nanoseconds
from quorate.simulator.compare.script import Fault, Script, choose_members
from quorate.simulator.compare.traitors import LIARS
from quorate.simulator.faults import Faults
from quorate.simulator.nemesis import find_role
from quorate.simulator.plan import MS
from quorate.simulator.tape import Choices

if TYPE_CHECKING:
    from quorate.simulator.network import Link
    from quorate.simulator.world import World

__all__ = ["Director", "Struck"]

DRAWS = 1 << 16


class Struck(Struct):
    """A fault that was carried out."""

    fault: Fault
    members: list[int]
    """Whom it struck, the leader first if it is among them."""


class Director:
    """One script on one world; its clock begins at `start_ns`."""

    def __init__(
        self,
        world: "World",
        faults: Faults,
        script: Script,
        start_ns: Nanoseconds,
        choices: Choices,
        character: int = 0,
    ) -> None:
        self.world, self.faults, self.character = world, faults, character
        self.members = [m.index for m in world.machines if m.member.power]
        self.struck: list[Struck] = []
        for fault in script.faults:
            # Drawn now, so that a member that is drawn is the same one for every engine.
            drawn = choices.choose(DRAWS)
            world.after(start_ns + fault.at_ms * MS - world.now, self.begin, fault, drawn)

    def find_leader(self) -> int:
        """Return who leads; the first member where nobody does."""
        found = find_role(self.world, 1)
        return found if found in self.members else self.members[0]

    def choose_members(self, fault: Fault, drawn: int) -> list[int]:
        """Return whom a fault strikes."""
        leader = self.find_leader()
        return choose_members(fault, self.members, leader, self.find_next(leader), drawn)

    def find_next(self, leader: int) -> int:
        """Return who leads next, as far as anybody can know."""
        found = find_role(self.world, 2)
        if found is None or found == leader or found not in self.members:
            return self.members[(self.members.index(leader) + 1) % len(self.members)]
        return found

    def begin(self, fault: Fault, drawn: int) -> None:
        if self.world.healed:
            return
        members = self.choose_members(fault, drawn)
        self.struck.append(Struck(fault, members))
        length = fault.for_ms * MS
        undo = self.act(fault, members, length)
        for call, *arguments in undo:
            self.world.after(length, self.end, call, arguments)

    def end(self, call: Any, arguments: list[Any]) -> None:
        if not self.world.healed:
            call(*arguments)

    def act(self, fault: Fault, members: list[int], length: Nanoseconds) -> list[tuple[Any, ...]]:
        """Let a fault begin; return the calls that end it."""
        faults, kind, amount = self.faults, fault.kind, fault.get_amount()
        if kind == "crash":
            for index in members:
                faults.crash(index)
            return [(faults.start, index) for index in members]
        if kind == "pause":
            for index in members:
                faults.pause(index, length)
            return []
        if kind == "isolate":
            return [(faults.mend, faults.partition(index)) for index in members]
        if kind == "partition":
            return [(faults.mend, faults.partition(*members))]
        if kind == "mute":
            return [(faults.mend, faults.silence(index)) for index in members]
        if kind == "slow-machine":
            for index in members:
                faults.slow(index, amount)
            return [(faults.slow, index, 1) for index in members]
        if kind == "slow-links":
            return self.slow_links(members, amount * MS)
        if kind == "lose":
            return self.lose(amount)
        self.lie(members)
        return []

    def slow_links(self, members: list[int], penalty_ns: Nanoseconds) -> list[tuple[Any, ...]]:
        chosen = set(members)
        links = self.world.network.select(lambda a, b: a.index in chosen or b.index in chosen)
        self.world.fault("slow links", members[0], text=f"{penalty_ns // MS} ms more")
        for link in links:
            link.penalty_ns = penalty_ns
        return [(quicken, links)]

    def lose(self, permille: int) -> list[tuple[Any, ...]]:
        rates = self.world.network.rates
        before, rates.loss = rates.loss, max(permille, rates.loss)
        self.world.fault("loss", -1, text=f"{permille} of 1000")
        return [(setattr, rates, "loss", before)]

    def lie(self, members: list[int]) -> None:
        """Make members lie from now on, all in one conspiracy."""
        characters = LIARS.get(self.world.plan.engine, ())
        shared: dict[Any, Any] = {}
        for index in members:
            machine = self.world.machines[index]
            if machine.actor is None and characters:
                self.world.fault("traitor", index)
                machine.actor = characters[self.character % len(characters)](machine, shared)


def quicken(links: "list[Link]") -> None:
    """Let frames take the usual time again."""
    for link in links:
        link.penalty_ns = 0
