"""Catalogue S53 again, from the addresses on: how an attacker gets all connections of a node.

The attacker has thousands of addresses in three ranges, waits until its victim starts anew, takes
its slots, and lets it see only the chain of a miner of his own.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from quorate.base.types import Address
from quorate.node.addresses import AddressBook
from quorate.node.contacts import INBOUND, Contact
from quorate.node.discovery import Discovery
from quorate.node.places import Place
from quorate.node.wire import Tip, Transactions
from quorate.simulator.machine import Machine, SimulatedNode
from quorate.simulator.open_network import PORT, OpenNetwork, Puppets
from quorate.simulator.plan import MS
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Play, Stage, make_members
from quorate.simulator.scenarios.work import count_confirmations, get_tree
from quorate.simulator.timing import Synchronous
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World

__all__ = ["Bare", "FlatBook"]

HONEST, VICTIM, MINER = 8, 8, 9
"""How many honest miners there are, and who else."""
RANGES, EACH = 3, 500
CONFIRMATIONS = 6


class FlatBook(AddressBook):
    """One heap of addresses, of which the last one told is the first to be dialled."""

    def choose(
        self, steady_s: int, accepts: Callable[[Place], bool], *, untried: bool = False
    ) -> Place | None:
        places = [e.place for e in self.entries.values() if e.rest_until <= steady_s]
        return next((place for place in reversed(places) if accepts(place)), None)


class Bare(Discovery):
    """Neither anchors nor bootnodes at a start, and who has a slot keeps it."""

    def choose(self, now: int) -> Place | None:
        self.anchors = []
        place = self.book.choose(self.get_steady_s(), self.make_test(spread=True))
        return place or (self.choose_bootnode(now) if now >= self.boot_at else None)

    def make_room(self) -> str | None:
        guests = [c for c in self.contacts.values() if c.kind == INBOUND]
        return "full" if len(guests) >= self.settings.inbound else None


class BareNode(SimulatedNode):
    DISCOVERY: ClassVar[type[Discovery]] = Bare


def lay_bare(world: World) -> None:
    """Take away what an attacker would have to overcome."""
    world.make_node = BareNode
    assert isinstance(world.network, OpenNetwork)
    world.network.make_book = FlatBook


class Attack:
    """Puppets around a victim, which hear of the attacker's own miner alone."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.victim, self.miner = play.machines[VICTIM], play.machines[MINER]
        faces = [
            Place(bytes([200, r, i >> 8, i & 255]), PORT)
            for i in range(EACH)
            for r in range(RANGES)
        ]
        self.puppets = Puppets(play.world, faces, faces)
        self.puppets.on_message = self.pass_on
        self.at = 0

    def press(self, seconds: int) -> None:
        """Come from ever other addresses, forty a second."""
        for _ in range(seconds):
            for _ in range(40):
                self.puppets.come(self.victim, self.puppets.places[self.at % (EACH * RANGES)])
                self.at += 1
            self.play.run(1000)

    def surround(self) -> None:
        """Fill the victim's slots and its file, let it start anew, and be there first; from now on
        the attacker's miner hears of nobody else either.
        """
        self.press(12)
        self.victim.crash()
        self.play.run(1000)
        self.victim.start()
        self.press(10)
        self.play.faults.partition(MINER, notice=False)
        self.puppets.come(self.miner, self.puppets.places[0])

    def pass_on(self, machine: Machine, puppet: Address, message: Any) -> None:
        """What the victim says goes to the miner, what the miner says to the victim, of blocks."""
        if isinstance(message, Tip | Transactions) or machine not in (self.victim, self.miner):
            return
        other = self.miner if machine is self.victim else self.victim
        for who, peer in self.puppets.get_victims():
            if who is other:
                self.puppets.say(who, peer, message)
                return

    def end(self) -> None:
        """All puppets are gone, and one honest node is found again."""
        network = self.puppets.network
        for machine, puppet in self.puppets.get_victims():
            self.puppets.leave(machine, puppet)
        for place in self.puppets.places:
            network.puppets.pop(place, None)
        self.play.run(1000)
        honest = self.play.machines[0]
        network.make(self.victim, honest, network.get_place(honest))


def lay_out(stage: Stage) -> Play:
    """Return a network whose nodes have found each other."""
    play = stage.build(
        engine="pow",
        timing=None,
        machines=make_members(*[1] * HONEST, 0, 3),
        engine_settings={"interval_ms": 500, "final_depth": 200, "announce_ms": 2000},
        discovery_settings={"keep_ms": 5000, "range_limits": stage.mitigated},
        rules=False,
        on_world=None if stage.mitigated else lay_bare,
    )
    play.run(10_000)
    return play


def get_contacts(machine: Machine) -> list[Contact]:
    """Return the connections of a machine."""
    discovery = None if machine.node is None else machine.node.discovery
    return [] if discovery is None else list(discovery.contacts.values())


@scenario(
    "S53b",
    "eclipse-slots",
    "an attacker with few ranges takes every connection of a node that starts anew",
    source="Heilman, Kendler, Zohar, Goldberg: Eclipse attacks on Bitcoin's peer-to-peer network, "
    "USENIX Security 2015",
    mitigation="outgoing connections to different ranges, buckets by range, anchors, eviction",
    timing=Synchronous(delta_ns=50 * MS),
    breaks="who delivered after six confirmations is paid",
)
def eclipse(stage: Stage) -> Outcome:
    """An attacker with fifteen hundred addresses in three ranges comes to a merchant's node again
    and again, until it starts anew. If that node dials what it was told last, and lets whoever came
    first stay, every connection that it makes or accepts is the attacker's. It is shown the chain
    of the attacker's own miner, where a payment gets six confirmations, and delivers. The rest of
    the world has never seen that chain, and has the greater work.

    With each outgoing connection in another range, the attacker holds three of eight at most. The
    merchant sees the greater chain all the time, and the payment on it or nowhere.
    """
    attack = Attack(lay_out(stage))
    play = attack.play
    attack.surround()
    contacts = get_contacts(attack.victim)
    honest = [c for c in contacts if not attack.puppets.is_puppet(c.peer)]
    stage.measure("connections of the attacker", len(contacts) - len(honest))
    stage.measure("honest connections", len(honest))
    payment = play.submit(MINER, b"payment of the attacker.")
    sold = play.run(120_000, lambda: count_confirmations(play, VICTIM, payment) >= CONFIRMATIONS)
    stage.say("the merchant delivers" if sold else "the merchant sees too few confirmations")
    paid = get_tree(play, VICTIM).path[-CONFIRMATIONS]
    attack.end()
    play.run(30_000, lambda: sold and not get_tree(play, VICTIM).is_on_path(paid))
    holds = not sold or get_tree(play, VICTIM).is_on_path(paid)
    play.require("who delivered after six confirmations is paid", holds, "the payment is gone")
    return play.judge(progress=False)
