"""The links of a network that anybody may join: nodes find, dial and refuse each other themselves.

Every machine has an address. A dial takes two ways there and back (TCP, then TLS), each as long as
a frame's; what answers is a machine, a puppet, or nobody. Nothing is connected or tried again by
itself, since that is what nodes decide (`quorate.node.discovery`). What a node knows of addresses
is kept across its crashes as it was written last.

Puppets are an attacker's many faces: addresses without a machine, each with an identity of its own.
They speak the peers' protocol, tell only addresses that the attacker wants known, and hand
everything else to whoever plays the attacker.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from quorate.base.errors import Corrupt
from quorate.base.rng import Rng
from quorate.base.types import Address, Nanoseconds
from quorate.consensus.replica import Message
from quorate.crypto.hashes import keccak256
from quorate.node.addresses import AddressBook
from quorate.node.contacts import Bootnode, Meeting, Open, OpenSettings
from quorate.node.peer_file import decode_kept
from quorate.node.places import Place, parse_host
from quorate.node.wire import MAX_PLACES, GetPeers, Hello, Here, PeerList, Told, encode
from quorate.simulator.digest import FRAME, LINK
from quorate.simulator.network import Connection, Network
from quorate.simulator.plan import MS, SECOND

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["PORT", "OpenNetwork", "Puppets", "make_host"]

PORT = 30303
EPHEMERAL = 40_000
"""The port that connections come from."""
UNANSWERED_NS = 5 * SECOND
"""After this long nobody answers any more."""
NOBODY = (1 << 63) - 1
"""Stands for a puppet in the digest."""


def make_host(index: int) -> bytes:
    """Return the address of a machine, in a range of its own."""
    return bytes([20 + index // 250, 1 + index % 250, 0, 1])


class Gate:
    """What a node asks of this network beyond links that are up; `contacts.Doors`."""

    def __init__(self, network: "OpenNetwork", machine: "Machine") -> None:
        self.network, self.machine = network, machine

    def dial(self, place: Place, key: bytes) -> None:
        self.network.dial(self.machine, place, key)

    def keep_peers(self, data: bytes) -> None:
        self.machine.kept_peers = data


class OpenNetwork(Network):
    """Links as anywhere, connections as nodes make them."""

    def __init__(self, world: "World") -> None:
        self.places: dict[Place, Machine] = {}
        self.puppets: dict[Place, Puppets] = {}
        self.listeners: dict[tuple[int, Address], Puppets] = {}
        """Who hears what a machine says to a puppet."""
        self.admitted: dict[Connection, tuple[Machine, bytes, int]] = {}
        """Who let a connection in, from where, in which of his lives."""
        self.make_book: Callable[[bytes, Rng], AddressBook] = AddressBook
        """What a bug or a scenario may replace."""
        plan = world.plan
        for machine in world.machines:
            if machine.index < len(plan.hosts):
                machine.host = parse_host(plan.hosts[machine.index])
            self.place(machine)
        super().__init__(world)
        known = [world.machines[i] for i in plan.bootnodes if i < len(world.machines)]
        self.bootnodes = [Bootnode(self.get_place(machine)) for machine in known]

    def place(self, machine: "Machine") -> None:
        """Give a machine its address."""
        machine.host = machine.host or make_host(machine.index)
        self.places[self.get_place(machine)] = machine

    def get_place(self, machine: "Machine") -> Place:
        return Place(machine.host, PORT)

    def join(self, one: "Machine", other: "Machine") -> None:
        super().join(one, other)
        self.place(one)
        self.place(other)

    def make_open(self, machine: "Machine") -> Open:
        """Return what a node that starts is told of the network."""
        world = self.world
        draw = world.tape.stream(f"discovery {machine.index}").choose(1 << 53)
        seed = keccak256(b"%d %d" % (machine.index, draw))
        kept = None
        if machine.kept_peers:
            try:
                kept = decode_kept(machine.kept_peers, world.chain)
            except Corrupt:
                world.count("address files damaged")
        own = self.get_place(machine)
        return Open(
            Gate(self, machine),
            OpenSettings(**world.plan.discovery_settings),
            machine.address,
            seed,
            Rng(int.from_bytes(seed[:8], "big")),
            [boot for boot in self.bootnodes if boot.place != own],
            Here(b"", PORT),
            kept,
            self.make_book,
        )

    # ---- connections are what nodes want

    def meet(self, machine: "Machine") -> None:
        """A machine that starts dials for itself."""

    def connect(self, connection: Connection) -> None:
        """Nothing connects by itself."""

    def dial(self, machine: "Machine", place: Place, key: bytes) -> None:
        """A node wants a connection to whoever listens at a place."""
        target = self.places.get(place)
        link = None if target is None else self.links.get((machine.index, target.index))
        way = self.world.plan.base_delay_ns if link is None else link.base_ns
        jitter = self.world.tape.stream(f"dial {machine.index}").choose(self.rates.jitter_ns)
        delay = 4 * way + jitter
        if link is not None and any(one.blocked for one in link.connection.links):
            delay = UNANSWERED_NS
        machine.later(delay, self.answer, machine, place, key)

    def answer(self, machine: "Machine", place: Place, key: bytes) -> None:
        """A dial has taken as long as it takes."""
        puppets = self.puppets.get(place)
        if puppets is not None:
            puppets.answer(machine, place)
            return
        target = self.places.get(place)
        node = None if target is None else target.node
        if target is None or node is None or target.failed:
            self.refuse(machine, place, "connection refused")
        elif target is machine:
            self.refuse(machine, place, "it is ourselves", target.address)
        elif key and key != target.address:
            self.refuse(machine, place, "another identity answers", target.address)
        else:
            self.make(machine, target, place)

    def make(self, machine: "Machine", target: "Machine", place: Place) -> None:
        """Make the connection of two machines if it may be."""
        ends = (min(machine.index, target.index), max(machine.index, target.index))
        connection = self.connections.get(ends)
        if connection is None or not connection.is_open():
            self.refuse(machine, place, "no answer")
            return
        if connection.up:
            self.refuse(machine, place, "connected already", target.address)
            return
        problem = "nobody is there" if target.node is None else target.node.admit(machine.host)
        if problem:
            self.world.count("connections refused")
            self.refuse(machine, place, problem)
            return
        connection.turn(True)
        self.admitted[connection] = (target, machine.host, target.life)
        self.world.note_connection(connection, True)
        tell(machine, "connected", target.address, Meeting(target.host, place.port, place))
        tell(target, "connected", machine.address, Meeting(machine.host, EPHEMERAL, None))

    def refuse(
        self, machine: "Machine", place: Place, reason: str, found: Address | None = None
    ) -> None:
        if machine.node is not None:
            machine.node.undialled(place, reason, found)

    def disconnect(self, connection: Connection) -> None:
        """Break a connection; nodes try again if they want to."""
        if not connection.up:
            return
        connection.turn(False)
        target, host, life = self.admitted.pop(connection)
        if target.node is not None and target.life == life:
            target.node.release(host)
        one, other = connection.ends
        self.world.note_connection(connection, False)
        tell(one, "disconnected", other.address)
        tell(other, "disconnected", one.address)

    def disconnect_by(self, machine: "Machine", peer: Address) -> None:
        for puppets in dict.fromkeys(self.puppets.values()):
            puppets.leave(machine, peer)
        super().disconnect_by(machine, peer)

    def carry_elsewhere(self, machine: "Machine", peer: Address, frame: bytes) -> None:
        puppets = self.listeners.get((machine.index, peer))
        if puppets is not None:
            self.world.after(puppets.delay_ns, puppets.hear, machine, peer, frame)

    def part(self, machine: "Machine") -> None:
        super().part(machine)
        for puppets in dict.fromkeys(self.puppets.values()):
            puppets.lose(machine)


class Puppets:
    """Faces of one attacker at `places`; `told` are the addresses that they tell.

    `on_message(machine, puppet, message)` gets what a machine says to a puppet, beside what belongs
    to finding peers; `say` answers. `height` is what they pretend to have; None: what they hear.
    """

    def __init__(
        self, world: "World", places: list[Place], told: list[Place], *, delay_ns: Nanoseconds = MS
    ) -> None:
        network = world.network
        if not isinstance(network, OpenNetwork):
            raise AssertionError("puppets need a network that anybody may join")
        self.world, self.network = world, network
        self.places, self.told, self.delay_ns = places, told, delay_ns
        self.height: int | None = None
        self.on_message: Callable[[Machine, Address, Any], None] | None = None
        self.sessions: dict[tuple[int, Address], tuple[Place, bool]] = {}
        """By machine and puppet: where the puppet is, and whether it was let in."""
        self.at = 0
        for place in places:
            network.puppets[place] = self

    def get_identity(self, place: Place) -> Address:
        return keccak256(b"puppet" + str(place).encode())[12:]

    def is_puppet(self, peer: Address) -> bool:
        """Whether a peer of some machine is one of these."""
        return any(peer == identity for _, identity in self.sessions)

    # ---- connections

    def answer(self, machine: "Machine", place: Place) -> None:
        """A machine has dialled a puppet."""
        self.open(machine, place, Meeting(place.host, place.port, place), came=False)

    def come(self, machine: "Machine", place: Place) -> str | None:
        """A puppet dials a machine; why it is not let in, if it is not."""
        node = machine.node
        if node is None:
            return "nobody is there"
        if (machine.index, self.get_identity(place)) in self.sessions:
            return "connected already"
        problem = node.admit(place.host)
        if problem is None:
            self.open(machine, place, Meeting(place.host, EPHEMERAL, None), came=True)
        return problem

    def open(self, machine: "Machine", place: Place, meeting: Meeting, *, came: bool) -> None:
        peer = self.get_identity(place)
        if (machine.index, peer) in self.sessions:
            self.network.refuse(machine, place, "connected already", peer)
            return
        self.sessions[machine.index, peer] = (place, came)
        self.network.listeners[machine.index, peer] = self
        self.world.note(LINK, machine.index, NOBODY, b"up " + peer)
        tell(machine, "connected", peer, meeting)

    def leave(self, machine: "Machine", peer: Address) -> None:
        """End the session of a puppet with a machine, if there is one."""
        session = self.sessions.pop((machine.index, peer), None)
        if session is None:
            return
        del self.network.listeners[machine.index, peer]
        place, came = session
        node = machine.node
        if came and node is not None:
            node.release(place.host)
        self.world.note(LINK, machine.index, NOBODY, b"down " + peer)
        tell(machine, "disconnected", peer)

    def lose(self, machine: "Machine") -> None:
        """A machine is gone, and with it all sessions."""
        for index, peer in list(self.sessions):
            if index == machine.index:
                del self.sessions[index, peer]
                del self.network.listeners[index, peer]

    def get_victims(self) -> list[tuple["Machine", Address]]:
        """Return the machines that puppets are connected to, with each puppet."""
        return [(self.world.machines[index], peer) for index, peer in self.sessions]

    # ---- messages

    def say(self, machine: "Machine", peer: Address, message: msgspec.Struct) -> None:
        """Let a puppet say something to a machine."""
        self.world.after(self.delay_ns, self.arrive, machine, peer, encode(message))

    def arrive(self, machine: "Machine", peer: Address, frame: bytes) -> None:
        if (machine.index, peer) not in self.sessions or machine.node is None:
            return
        if machine.paused:
            machine.backlog.append((self.arrive, (machine, peer, frame)))
            return
        self.world.note(FRAME, NOBODY, machine.index, frame)
        machine.node.received(peer, frame)

    def hear(self, machine: "Machine", peer: Address, frame: bytes) -> None:
        """A puppet hears what a machine says to it."""
        if (machine.index, peer) not in self.sessions:
            return
        message = self.world.decode(frame)
        if isinstance(message, Hello):
            height = message.height if self.height is None else self.height
            answer = msgspec.structs.replace(message, height=height, heard=True)
            self.say(machine, peer, answer)
            self.say(machine, peer, Here(b"", PORT))
        elif isinstance(message, GetPeers):
            self.say(machine, peer, PeerList(self.make_list()))
        elif self.on_message is not None and not isinstance(message, Here | PeerList):
            self.on_message(machine, peer, message)

    def make_list(self) -> list[Told]:
        """Return the next addresses to tell."""
        count = min(MAX_PLACES, len(self.told))
        chosen = [self.told[(self.at + i) % len(self.told)] for i in range(count)]
        self.at += count
        return [Told(place, 0) for place in chosen]

    def forward(self, message: Message) -> None:
        """Say something to every machine that puppets are connected to, by every puppet."""
        for machine, peer in self.get_victims():
            self.say(machine, peer, message)


def tell(machine: "Machine", method: str, *arguments: Any) -> None:
    """Tell a node something in an event of its own."""
    machine.later(0, call, machine, method, arguments)


def call(machine: "Machine", method: str, arguments: tuple[Any, ...]) -> None:
    if machine.node is not None:
        getattr(machine.node, method)(*arguments)
