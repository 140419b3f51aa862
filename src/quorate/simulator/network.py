"""Links between machines: connections that break, frames that are lost, late, doubled, in disorder.

A connection joins two machines as TCP with TLS does: both ends learn that it is there and that it
broke, and what was under way on a broken one never arrives. Within a connection this network is
meaner than TCP: frames are lost one by one and overtake each other, unless the profile says that
they do not.

A timing model, if the plan has one, overrules all of this: what it does not allow to be lost or
late comes at the last moment that it allows, and connections break only while frames may be lost.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from quorate._kernel import Line, LinkRates
from quorate.base.native import mypyc_attr
from quorate.base.types import Address, Nanoseconds
from quorate.node.contacts import Open
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.timing import Lossy, PartiallySynchronous

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["Connection", "Link", "Network"]

RECONNECT_NS: Final = SECOND
"""After a connection broke, it is tried again."""
NO_LIMIT: Final = 1 << 62
LOST: Final = -1
CORRUPTED: Final = -2
DOUBLED: Final = 1
"""What a line says of a frame; 2: it looks at no rates, since more than those decides."""
NOTICE_NS: Final = 5 * SECOND
"""After this long without a frame through a cut, a connection breaks."""


class Connection:
    """The connection of two machines, and how often it was made."""

    __slots__ = ("ends", "generation", "links", "up")

    def __init__(self, one: "Machine", other: "Machine") -> None:
        self.ends = (one, other)
        self.links: tuple[Link, ...] = ()
        self.up = False
        self.generation = 0

    def turn(self, up: bool) -> None:
        """The connection is made, or breaks."""
        self.up = up
        self.generation += 1
        for link in self.links:
            link.line.turn(up, self.generation)

    def is_open(self) -> bool:
        """Whether nothing keeps the ends from meeting."""
        one, other = self.ends
        return one.node is not None and other.node is not None and not self.is_cut()

    def is_cut(self) -> bool:
        """Whether a cut lies across it that lets frames be lost."""
        there, back = self.links
        return bool((there.blocked and there.may_lose()) or (back.blocked and back.may_lose()))


class Link:
    """One direction of a connection."""

    __slots__ = (
        "connection",
        "corrupted",
        "delayed",
        "doubled",
        "line",
        "lost",
        "lost_in_a_row",
        "source",
        "tailed",
        "target",
        "timing",
        "world",
    )

    def __init__(
        self,
        world: "World",
        connection: Connection,
        source: "Machine",
        target: "Machine",
        rates: LinkRates,
    ) -> None:
        self.world, self.connection = world, connection
        self.source, self.target = source, target
        plan = world.plan
        self.timing = world.timing
        self.lost_in_a_row = 0
        row = plan.delays_ns[source.place] if plan.delays_ns else []
        base_ns = row[target.place] if row else plan.base_delay_ns
        name = f"link {source.index}>{target.index}"
        stream = world.tape.stream
        self.lost, self.doubled = stream(f"{name} loss"), stream(f"{name} double")
        self.delayed, self.tailed = stream(f"{name} delay"), stream(f"{name} tail")
        self.corrupted = stream(f"{name} corrupt")
        is_told = world.trace is not None
        draws = None
        if self.timing is None and not is_told:
            streams = [self.lost, self.corrupted, self.doubled, self.delayed, self.tailed]
            draws = world.tape.join(streams)
        self.line = Line(
            world.queue,
            rates,
            draws,
            world.arrive,
            self,
            source.address,
            source.index,
            target.seat,
            world.DIRECT and not is_told,
            base_ns,
        )
        """What becomes of most frames, and what decides it."""

    @property
    def base_ns(self) -> Nanoseconds:
        return self.line.base_ns

    @property
    def blocked(self) -> int:
        """How many cuts lie across it."""
        return self.line.blocked

    @property
    def factor(self) -> int:
        """How much slower than usual."""
        return self.line.factor

    @property
    def penalty_ns(self) -> Nanoseconds:
        """What a scheduler adds to every frame."""
        return self.line.penalty_ns

    @penalty_ns.setter
    def penalty_ns(self, penalty_ns: Nanoseconds) -> None:
        self.line.penalty_ns = penalty_ns

    def carry(self, frame: bytes) -> None:
        """Take a frame; it arrives, or does not."""
        outcome = self.line.carry(frame)
        if outcome:
            self.attend(frame, outcome)

    def attend(self, frame: bytes, outcome: int) -> None:
        """See to a frame with which the line is not done."""
        network = self.world.network
        if outcome == LOST:
            network.lose(self, frame)
        elif outcome == CORRUPTED:
            self.corrupt(network)
        elif outcome == DOUBLED:
            self.world.count("duplicated")
        else:
            self.carry_with_care(frame, network)

    def carry_with_care(self, frame: bytes, network: "Network") -> None:
        """Take a frame where more than rates decides what becomes of it, choice by choice."""
        world, rates = self.world, network.rates
        if (
            self.blocked
            or len(frame) > network.limit_bytes
            or self.lost.chance(rates.loss)
            or (network.unheard is not None and network.unheard(self, frame))
        ):
            if self.may_lose():
                self.lost_in_a_row += 1
                network.lose(self, frame)
            else:
                assert self.timing is not None
                self.push(frame, self.timing.compute_deadline(world.now))
            return
        self.lost_in_a_row = 0
        if self.corrupted.chance(rates.corrupt) and self.may_lose():
            self.corrupt(network)
            return
        self.schedule(frame, self.draw_delay(rates))
        if self.doubled.chance(rates.duplicate):
            self.double(frame, network)

    def corrupt(self, network: "Network") -> None:
        """A frame is not what was sent, which ends the connection."""
        self.world.fault("corrupt", self.source.index, self.target.index)
        network.disconnect(self.connection)

    def double(self, frame: bytes, network: "Network") -> None:
        """Let a frame that was taken arrive once more."""
        self.world.count("duplicated")
        if self.world.trace is not None:
            self.world.trace.on_double()
        self.schedule(frame, self.draw_delay(network.rates))

    def draw_delay(self, rates: LinkRates) -> Nanoseconds:
        """Return how late a frame is at the link's usual speed."""
        delay = self.base_ns + self.delayed.choose(rates.jitter_ns)
        return delay * rates.tail_factor if self.tailed.chance(rates.tail) else delay

    def may_lose(self) -> bool:
        """Whether the timing model lets a frame that is sent now be lost."""
        timing = self.timing
        return timing is None or timing.may_lose(self.world.now, self.lost_in_a_row)

    def schedule(self, frame: bytes, delay: Nanoseconds) -> None:
        """Let a frame arrive that is so late at the link's usual speed."""
        at = self.line.arrival(len(frame), delay)
        if self.timing is not None:
            at = min(at, self.timing.compute_deadline(self.world.now))
        self.push(frame, at)

    def push(self, frame: bytes, at: Nanoseconds) -> None:
        """Let a frame arrive at a time."""
        number = self.line.push(frame, at)
        if self.world.trace is not None:
            self.world.trace.on_send(self, frame, number)


@mypyc_attr(allow_interpreted_subclasses=True)
class Network:
    """All connections, and the rates of what happens on them."""

    def __init__(self, world: "World") -> None:
        self.world = world
        plan = world.plan
        profile = plan.profile
        self.rates = rates = LinkRates()
        rates.jitter_ns = max(plan.jitter_ns, 1)
        self.timing = world.timing
        self.usual_loss = self.timing.loss_permille if isinstance(self.timing, Lossy) else 0
        """What healing does not end."""
        rates.loss = max(profile.loss_permille, self.usual_loss)
        rates.duplicate = profile.duplicate_permille
        rates.tail, rates.tail_factor = profile.tail_permille, profile.tail_factor
        rates.corrupt = profile.corrupt_permille
        rates.reorder, rates.bandwidth = profile.reorder, profile.bandwidth_bytes_per_ms
        self.limit_bytes = NO_LIMIT
        """Larger frames vanish, as on a path whose MTU nobody tells."""
        self.unheard: Callable[[Link, bytes], bool] | None = None
        """A script's say in which frames are lost."""
        self.connections: dict[tuple[int, int], Connection] = {}
        self.links: dict[tuple[int, int], Link] = {}
        for one in world.machines:
            for other in world.machines[one.index + 1 :]:
                if one.address != other.address:
                    self.join(one, other)
        if isinstance(self.timing, PartiallySynchronous):
            world.after(self.timing.gst_ns, self.stabilise)

    def join(self, one: "Machine", other: "Machine") -> None:
        """Lay the links between two machines."""
        connection = Connection(one, other)
        self.connections[one.index, other.index] = connection
        there = Link(self.world, connection, one, other, self.rates)
        back = Link(self.world, connection, other, one, self.rates)
        connection.links = (there, back)
        self.links[one.index, other.index], self.links[other.index, one.index] = there, back
        one.routes.setdefault(other.address, []).append(there)
        other.routes.setdefault(one.address, []).append(back)

    def get_connections(self, machine: "Machine") -> list[Connection]:
        return [c for c in self.connections.values() if machine in c.ends]

    # ---- connections

    def make_open(self, machine: "Machine") -> Open | None:
        """Return what a node is told of a network that anybody may join; None: this is none."""
        return None

    def meet(self, machine: "Machine") -> None:
        """A machine has started: it looks for everybody."""
        for connection in self.get_connections(machine):
            self.world.after(MS, self.connect, connection)

    def part(self, machine: "Machine") -> None:
        """A machine is gone: its connections break."""
        for connection in self.get_connections(machine):
            self.disconnect(connection)

    def connect(self, connection: Connection) -> None:
        """Make a connection if nothing is in the way."""
        if connection.up or not connection.is_open():
            return
        connection.turn(True)
        one, other = connection.ends
        self.world.note_connection(connection, True)
        for end, peer in ((one, other), (other, one)):
            end.call("connected", peer.address)

    def disconnect(self, connection: Connection) -> None:
        """Break a connection; it is tried again later."""
        if not connection.up:
            return
        connection.turn(False)
        one, other = connection.ends
        self.world.note_connection(connection, False)
        for end, peer in ((one, other), (other, one)):
            end.call("disconnected", peer.address)
            if any(link.connection.up for link in end.routes[peer.address]):
                # Its twin is still there.
                end.call("connected", peer.address)
        self.world.after(RECONNECT_NS, self.connect, connection)

    def carry_elsewhere(self, machine: "Machine", peer: Address, frame: bytes) -> None:
        """Take a frame for a peer to whom no link leads."""

    # ---- cuts

    def block(self, link: Link, *, notice: bool = True) -> None:
        """Lay a cut across a link; with `notice` its connection breaks after a while."""
        link.line.blocked += 1
        if self.world.trace is not None:
            self.world.trace.on_cut(link)
        if notice:
            self.world.after(NOTICE_NS, self.break_blocked, link.connection)

    def unblock(self, link: Link) -> None:
        if link.blocked:
            link.line.blocked -= 1
            if self.world.trace is not None:
                self.world.trace.on_mended(link)
            self.world.after(MS, self.connect, link.connection)

    def break_blocked(self, connection: Connection) -> None:
        if connection.is_cut():
            self.disconnect(connection)

    def heal(self) -> None:
        """No more faults on links: nothing is cut, lost, doubled or slow.

        What belongs to the timing model stays.
        """
        rates = self.rates
        rates.loss = self.usual_loss
        rates.duplicate = rates.tail = rates.corrupt = 0
        rates.bandwidth = self.world.plan.profile.bandwidth_bytes_per_ms
        self.limit_frames(NO_LIMIT)
        self.hear(None)
        for link in self.links.values():
            line = link.line
            line.blocked = line.penalty_ns = 0
            line.factor = 1
            if self.world.trace is not None:
                self.world.trace.on_mended(link)
        self.stabilise()

    def limit_frames(self, limit_bytes: int) -> None:
        """Let larger frames vanish from now on."""
        self.limit_bytes = limit_bytes
        self.rates.picky = limit_bytes < NO_LIMIT or self.unheard is not None

    def hear(self, unheard: Callable[["Link", bytes], bool] | None) -> None:
        """Let somebody have a say in which frames are lost, or nobody any more."""
        self.unheard = unheard
        self.rates.picky = self.limit_bytes < NO_LIMIT or unheard is not None

    def stabilise(self) -> None:
        """Nothing is in the way of connections any more."""
        for connection in self.connections.values():
            self.world.after(MS, self.connect, connection)

    def select(self, chosen: Callable[["Machine", "Machine"], bool]) -> list[Link]:
        """Return the links from and to machines that are chosen."""
        return [link for link in self.links.values() if chosen(link.source, link.target)]

    def lose(self, link: Link, frame: bytes) -> None:
        self.world.count("lost")
        if self.world.trace is not None:
            self.world.trace.on_lost(link, frame)

    def disconnect_by(self, machine: "Machine", peer: Address) -> None:
        """A node drops its connection to a peer."""
        for link in machine.routes.get(peer, ()):
            self.disconnect(link.connection)
