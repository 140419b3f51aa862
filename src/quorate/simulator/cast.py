"""Who plays what in a run: traitors, twins, spare machines; chosen before anybody starts."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quorate.consensus import ENGINES
from quorate.crypto.hashes import keccak256
from quorate.simulator.actors import ACTORS, Actor, Turncoat, Twin
from quorate.simulator.budget import Budget
from quorate.simulator.machine import Machine
from quorate.simulator.miners import MINERS, Selfish
from quorate.simulator.plan import MS, MemberPlan

if TYPE_CHECKING:
    from quorate.simulator.world import World

__all__ = ["add_machine", "add_twin", "cast", "get_characters", "recast"]

EPOCH_NS = 400 * MS
"""After about this long, each peer may be talking to the other twin."""


def cast(world: "World", budget: Budget) -> None:
    """Choose who lies, and add the machines that the plan does not name."""
    profile, stream = world.plan.profile, world.tape.stream
    if profile.membership:
        spares = stream("cast spares").choose(3)
        if len(world.plan.machines) == len(budget.sets[0]) and world.plan.signatures == "simulated":
            for number in range(spares // 2):
                add_spare(world, number)
    lies = stream("cast traitors").chance(profile.traitors)
    twins = stream("cast twins").chance(profile.twins)
    choose_characters(world, budget, lambda _: lies, twins=twins)


def recast(world: "World", budget: Budget) -> None:
    """Give traitors other characters in the middle of a run, and perhaps let others join them.

    Who has lied goes on lying, since what it said is not to be judged as an honest member's.
    """
    profile, stream = world.plan.profile, world.tape.stream
    lies = stream("cast traitors").chance(profile.traitors)

    def may_change(machine: Machine) -> bool:
        return not isinstance(machine.actor, Twin) and (lies or machine.actor is not None)

    # What a miner did as another one may be hidden in its chain.
    if not ENGINES[world.plan.engine].open:
        choose_characters(world, budget, may_change, twins=False)


def choose_characters(
    world: "World", budget: Budget, may_lie: Callable[[Machine], bool], *, twins: bool
) -> None:
    """Choose the characters of those who may lie."""
    conspiracy = world.tape.stream("cast conspiracy")
    shared: dict[Any, Any] = {}
    # Whether all of them have one character; the cleverest's is worth a try of its own.
    same = conspiracy.choose(4)
    characters, cleverest = get_characters(world)
    favourite = conspiracy.choose(len(characters))
    for place, (first, kind) in enumerate(choose_order(world)):
        machine = world.machines[first]
        if not may_lie(machine):
            continue
        if not machine.member.power or is_last_bootnode(world, machine):
            continue
        if not budget.lie(machine.address, "traitor"):
            continue
        if twins and not place:
            add_twin(world, machine)
            continue
        character = (None, None, characters[favourite], cleverest)[same] or characters[kind]
        machine.actor = character(machine, shared)
        world.count(f"traitor {machine.actor.title}")


def choose_order(world: "World") -> list[tuple[int, int]]:
    """Return machines in random order, each with the number of a character."""
    stream = world.tape.stream("cast order")
    left = list(range(len(world.plan.machines)))
    order = []
    count = len(get_characters(world)[0])
    while left:
        order.append((left.pop(stream.choose(len(left))), stream.choose(count)))
    return order


def is_last_bootnode(world: "World", machine: Machine) -> bool:
    """Whether strangers find only traitors if this one lies too: who knows nobody else is lost."""
    known = [world.machines[i] for i in world.plan.bootnodes if i < len(world.machines)]
    return machine in known and all(m is machine or m.actor is not None for m in known)


def get_characters(world: "World") -> tuple[tuple[type[Actor], ...], type[Actor]]:
    """Return what traitors of the world's engine may be, and the cleverest of them."""
    return (MINERS, Selfish) if world.plan.engine == "pow" else (ACTORS, Turncoat)


def add_machine(world: "World", member: MemberPlan, place: int) -> Machine:
    """Add a machine that the plan does not name, at the place of another one."""
    machine = world.MACHINE(world, len(world.machines), member, world.make_keys(member))
    machine.place = place
    for other in world.machines:
        if other.address != machine.address:
            world.network.join(other, machine)
    world.machines.append(machine)
    world.identities.setdefault(machine.address, machine)
    return machine


def add_spare(world: "World", number: int) -> None:
    """Add a machine that follows, and may become a member."""
    address = keccak256(b"spare %d" % number)[12:]
    add_machine(world, MemberPlan(f"spare-{number + 1}", address, 0), number)
    world.peers.append(address)


def add_twin(world: "World", machine: Machine) -> None:
    """Add a second machine of an identity; peers talk now to the one and now to the other."""
    member = machine.member
    plan = MemberPlan(f"{member.name}-twin", member.address, member.power, member.secret)
    twin = add_machine(world, plan, machine.place)
    machine.actor, twin.actor = Twin(machine), Twin(twin)
    world.count("traitor has a twin")
    Twins(world, machine, twin).choose()


class Twins:
    """Lets each peer talk to one of two twins or to both, and chooses again after a while."""

    def __init__(self, world: "World", one: Machine, other: Machine) -> None:
        self.world, self.pair = world, (one, other)
        self.sides = world.tape.stream(f"twins {one.index}")
        self.lengths = world.tape.stream(f"twins {one.index} length")
        self.blocked: list[Any] = []

    def choose(self) -> None:
        """Begin an epoch."""
        network = self.world.network
        for link in self.blocked:
            network.unblock(link)
        self.blocked = []
        for peer in self.world.machines:
            # Zero: everybody talks to the first one.
            side = self.sides.choose(4)
            if peer in self.pair or side == 3:
                continue
            silent = self.pair[0 if side == 1 else 1]
            for ends in ((peer.index, silent.index), (silent.index, peer.index)):
                self.blocked.append(network.links[ends])
                network.block(network.links[ends], notice=False)
        length = EPOCH_NS // 8 + self.lengths.choose(2 * EPOCH_NS)
        if not self.world.healed:
            self.world.after(length, self.choose)
