"""A machine: the port of one node, with its disk, store, clock and lanes, through all its lives."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from quorate._kernel import Seat
from quorate.base.errors import Corrupt, Unavailable
from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height, Milliseconds, Nanoseconds
from quorate.consensus import ENGINES
from quorate.consensus.replica import Accuse, Check, Keys, Timer
from quorate.ledger.application import Application, Executed
from quorate.node.branches import Branches
from quorate.node.execution import Outcome
from quorate.node.node import Node
from quorate.node.port import Port
from quorate.node.settings import Settings
from quorate.simulator.clock import Clock
from quorate.simulator.digest import DISK, FAULT, FINAL, TIMER, WORK
from quorate.simulator.disk import EFFECTS, PowerCut, Shape
from quorate.simulator.durability import Promises
from quorate.simulator.plan import MemberPlan
from quorate.simulator.sealing import Rig
from quorate.storage.contents import Recovered
from quorate.storage.journal import Journal

if TYPE_CHECKING:
    from quorate.simulator.actors import Actor
    from quorate.simulator.network import Link
    from quorate.simulator.world import World

__all__ = ["Machine", "SimulatedNode"]

T = TypeVar("T")

SEGMENT_BYTES: Final = 1 << 14


class SimulatedBranches(Branches):
    """Tells who watches of each verdict."""

    def answer(self, effect: Check, valid: bool) -> None:
        machine = self.port.port
        assert isinstance(machine, Machine)
        for hook in machine.world.on_judged:
            hook(machine, effect.envelope, valid)
        super().answer(effect, valid)


@mypyc_attr(allow_interpreted_subclasses=True)
class SimulatedNode(Node):
    """A node that tells its machine of each final height."""

    BRANCHES: ClassVar[type[Branches]] = SimulatedBranches

    def on_final(self, executed: Executed) -> None:
        super().on_final(executed)
        machine = self.port.port
        assert isinstance(machine, Machine)
        machine.on_final(executed)

    def on_installed(self, executed: Executed) -> None:
        # First, since the node may go on from there at once.
        machine = self.port.port
        assert isinstance(machine, Machine)
        machine.on_installed(executed)
        super().on_installed(executed)

    def on_accuse(self, effect: Accuse) -> None:
        super().on_accuse(effect)
        machine = self.port.port
        assert isinstance(machine, Machine)
        for hook in machine.world.on_accuse:
            hook(machine, effect)


@mypyc_attr(allow_interpreted_subclasses=True)
class Machine(Port):
    """Implements `quorate.node.port.Port`; survives the crashes of its node."""

    def __init__(self, world: "World", index: int, member: MemberPlan, keys: Keys) -> None:
        self.world, self.index, self.member, self.keys = world, index, member, keys
        self.address: Address = keys.address
        self.name = member.name
        self.place = index
        """Whose delays it has, of the plan's machines; a twin has its twin's."""
        self.routes: dict[Address, list[Link]] = {}
        """Where frames for a peer go: to more than one machine if it has twins."""
        self.host = b""
        """Its address, where membership is open."""
        self.kept_peers = b""
        """What its node wrote of the addresses that it knows."""
        self.disk = world.make_disk(self)
        self.stored: Height = 0
        """The height up to which the store is really on the disk."""
        self.promises = Promises()
        """What its journal owes."""
        self.store = world.make_store(self)
        self.node: Node | None = None
        self.journal: Journal | None = None
        self.actor: Actor | None = None
        """Twists what a traitor says."""
        self.life = 0
        """Grows with every start and crash; what belongs to an older life never happens."""
        self.paused = False
        self.seat = Seat(world.queue, index, self.fall, self.hold)
        """What the queue has to know of both, and where frames go."""
        # Bound once, since that costs as much as a call.
        self.on_written, self.on_worked = self.on_sync, self.on_work
        self.clock = Clock()
        self.timers: dict[Timer, tuple[int, Nanoseconds]] = {}
        """The number in the queue of each timer that runs, and when it falls by our own clock."""
        self.lanes: dict[str, Nanoseconds] = {}
        self.rig = Rig(self)
        self.backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """What came while it was paused."""
        self.slowness = 1
        """How much longer than usual disk and calls take."""
        self.failed = ""
        """Why the node stopped itself; it may be started again."""
        self.refused = ""
        """Why the node does not start any more: it needs people."""
        self.tainted = False
        """Whether its disk lost what it had acknowledged."""
        self.excused = False
        """Whether a fault that was injected explains that it stopped."""
        self.make_replica: Callable[..., Any] | None = None
        """Its own engine, where it differs from the world's."""
        self.settings: Settings | None = None
        """Its own, where they differ from the world's."""
        self.syncs = 0
        self.crash_at_sync = 0
        """Crash in the middle of this sync of the journal; 0: never."""
        self.crash_when_struck = False
        """Crash in the middle of the next sync after its disk has failed or lied."""
        self.restart_ns: Nanoseconds | None = None
        """How long after such a crash it starts again; None: not by itself."""
        self.said: bytes = b""
        """The last frame, so that a broadcast is looked at once."""
        self.software = "1"
        self.durable: Height = 0

    def __repr__(self) -> str:
        return f"Machine({self.index} {self.name})"

    # ---- life

    def begin_life(self) -> None:
        """Nothing of the life before goes on."""
        self.life += 1
        self.seat.life = self.life
        self.timers, self.lanes, self.backlog = {}, {}, []
        self.set_paused(False)

    @property
    def is_honest(self) -> bool:
        """Whether what it does can be held against the node: neither its software lies nor its
        disk.
        """
        return self.actor is None and not self.tainted

    def start(self) -> None:
        """Start the node from what the disk and the store hold."""
        if self.node is not None or self.refused:
            return
        world = self.world
        self.begin_life()
        self.failed, self.excused = "", False
        world.note(FAULT, self.index, self.life, b"start")
        if self.actor is not None:
            self.actor.before_start()
        recovered = self.open_journal()
        if recovered is None:
            return
        application = world.make_application(self)
        engine = ENGINES[world.plan.engine]
        rng = Rng(world.tape.stream(f"engine {self.index}").choose(1 << 53))
        replica = world.choose_replica(self)(
            self.keys, application.genesis, rng, engine.settings(**world.engine_settings)
        )
        self.node = node = world.make_node(
            self,
            replica,
            application,
            self.settings or world.node_settings,
            engine=world.plan.engine,
            peers=world.peers,
            software=self.software,
            open=world.network.make_open(self),
        )
        if engine.wire == type(replica).WIRE:
            node.decode = world.messages.share(node.decode)
        if engine.records == type(replica).RECORDS:
            node.decode_record = world.decode_record
        self.seat.receive = node.received
        for hook in world.on_start:
            hook(self, recovered.records)
        node.start(recovered.records)
        for started in world.on_started:
            started(self)
        if self.node is not None:
            world.network.meet(self)

    def open_journal(self) -> Recovered | None:
        """Open the journal and judge what it gives back; None if it does not open."""
        world = self.world
        recovered: Recovered
        try:
            self.disk.open()
            self.journal, recovered = world.open_journal(
                self.disk, self.address, segment_bytes=world.segment_bytes
            )
        except Corrupt as error:
            self.refused = str(error)
            problem = self.promises.judge_refusal(self.refused)
            self.excused = not problem
            if problem and self.actor is None:
                world.find("durability", f"{self.name}: {problem}", self)
            world.on_refused(self)
            return None
        except (OSError, Unavailable) as error:
            self.fail(f"journal: {error}")
            return None
        except PowerCut:
            self.lose_power()
            return None
        problem = self.promises.judge(recovered.records)
        if problem and self.actor is None:
            world.find("durability", f"{self.name}: {problem}", self)
        return recovered

    def lose_power(self, shape: Shape | None = None) -> None:
        """The machine stops in the middle of an operation of its disk."""
        self.world.fault("crash", self.index, text="in the middle of a write")
        self.end()
        self.lose_cache(shape)
        if self.restart_ns is not None:
            self.world.after(self.restart_ns, self.start)

    def crash(self) -> None:
        """Lose everything but what the disk and the store keep."""
        if self.node is None and not self.failed:
            return
        self.end()
        self.lose_cache(None)

    def lose_cache(self, shape: Shape | None) -> None:
        """Journal and store are left as their disk really has them."""
        self.disk.crash(shape)
        stores = self.world.stores
        if stores.get_height(self.store) > self.stored:
            stores.forget(self.store, self.stored)

    def end(self) -> None:
        """The process is gone."""
        if self.world.trace is not None:
            self.world.trace.on_end(self)
        self.life += 1
        self.seat.life = self.life
        for hook in self.world.on_down:
            hook(self)
        if self.node is not None:
            self.node.stop()
        self.rig.stop()
        self.node = self.journal = self.seat.receive = None
        self.timers, self.lanes, self.backlog = {}, {}, []
        self.set_paused(False)
        self.crash_at_sync = self.disk.power_until = 0
        self.world.network.part(self)

    def call(self, method: str, peer: Address) -> None:
        """Tell the node of a peer in an event of its own."""
        self.later(0, self.on_peer, method, peer)

    def on_peer(self, method: str, peer: Address) -> None:
        if self.node is not None:
            getattr(self.node, method)(peer)

    def submit(
        self, items: list[bytes], done: Callable[[list[tuple[Hash, str | None]]], None]
    ) -> bool:
        """Give a client's items to the node; whether it runs."""
        if self.node is None or self.paused:
            return False
        if self.world.trace is not None:
            done = self.world.trace.on_submit(self, items, done)
        self.world.submitted.update(items)
        self.node.submit(items, done)
        return True

    @property
    def application(self) -> Application:
        assert self.node is not None
        return self.node.application

    # ---- events

    def later(self, delay_ns: Nanoseconds, call: Callable[..., None], *args: Any) -> None:
        """Make a call after a delay, if this life lasts so long."""
        self.seat.later(delay_ns, call, args)

    def hold(self, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Keep for later what comes while the machine is paused."""
        self.backlog.append((call, args))

    def set_paused(self, paused: bool) -> None:
        self.paused = self.seat.paused = paused

    def resume(self) -> None:
        self.set_paused(False)
        backlog, self.backlog = self.backlog, []
        for call, args in backlog:
            self.later(0, call, *args)

    # ---- the port

    def now(self) -> Nanoseconds:
        clock = self.clock
        if clock.drift_ppm:
            return clock.now(self.world.now)
        return self.world.now + clock.ahead_ns

    def wall_ms(self) -> Milliseconds:
        return self.clock.wall_ms(self.world.now)

    def send(self, peer: Address, frame: bytes) -> None:
        if self.actor is not None:
            if self.world.trace is not None:
                self.world.trace.speak(self, peer, frame)
            else:
                self.actor.send(peer, frame)
            return
        if frame is not self.said:
            self.said = frame
            self.world.observe(self, frame)
        links = self.routes.get(peer)
        if links is None:
            self.world.network.carry_elsewhere(self, peer, frame)
            return
        for link in links:
            link.carry(frame)

    def set_timer(self, timer: Timer, delay_ns: Nanoseconds) -> None:
        world, clock = self.world, self.clock
        deadline = self.now() + delay_ns
        waits = clock.compute_delay(world.now, delay_ns) if clock.drift_ppm else delay_ns
        self.timers[timer] = (self.seat.set_timer(waits, timer), deadline)
        if world.trace is not None:
            world.trace.on_timer_set(self, timer, delay_ns)

    def fall(self, timer: Timer, number: int) -> None:
        armed = self.timers.get(timer)
        if armed is None or armed[0] != number:
            return
        if self.paused:
            self.backlog.append((self.fall, (timer, number)))
            return
        del self.timers[timer]
        node = self.node
        if node is not None:
            world = self.world
            world.note(TIMER, self.index, timer.height, timer.kind.encode())
            if world.trace is not None:
                world.trace.on_timer(self, timer, number)
            node.timeout(timer)

    def cancel_timer(self, timer: Timer) -> None:
        self.timers.pop(timer, None)

    def set_drift(self, ppm: int) -> None:
        """Let the monotonic clock run faster or slower from now on, and the timers with it."""
        now = self.clock.now(self.world.now)
        self.clock.set_drift(self.world.now, ppm)
        for timer, (_, deadline) in list(self.timers.items()):
            self.set_timer(timer, deadline - now)
        if self.world.detection is not None:
            self.world.detection.on_drift(self)

    def append(self, records: list[bytes], done: Callable[[], None]) -> None:
        assert self.journal is not None
        for hook in self.world.on_records:
            hook(self, records, False)
        self.promises.on_append(records)
        try:
            self.journal.write(records)
        except (OSError, Unavailable) as error:
            self.fail(f"journal: {error}")
            return
        except PowerCut:
            self.lose_power()
            return
        delay = self.disk.latency_ns("sync", count_bytes(records)) * self.slowness
        self.later(delay, self.on_written, records, done)

    def on_sync(self, records: list[bytes], done: Callable[[], None]) -> None:
        self.syncs += 1
        if self.syncs == self.crash_at_sync:
            self.lose_power()
            return
        assert self.journal is not None
        try:
            self.journal.sync()
        except (OSError, Unavailable) as error:
            self.fail(f"journal: {error}")
            return
        except PowerCut:
            self.lose_power()
            return
        self.on_kept(records, done)

    def cut(self, records: list[bytes], done: Callable[[], None]) -> None:
        for hook in self.world.on_records:
            hook(self, records, True)
        for watcher in self.world.on_cut:
            watcher(self)
        delay = self.disk.latency_ns("cut", count_bytes(records)) * self.slowness
        self.later(delay, self.on_cut, records, done)

    def on_cut(self, records: list[bytes], done: Callable[[], None]) -> None:
        self.syncs += 1
        if self.syncs == self.crash_at_sync:
            # A cut is several operations: it may be any of them.
            self.disk.cut_power()
        assert self.journal is not None
        self.promises.on_cut(records)
        try:
            self.journal.replace(records)
        except (OSError, Unavailable) as error:
            self.fail(f"journal: {error}")
            return
        except PowerCut:
            self.lose_power()
            return
        self.on_kept(records, done)

    def on_disk_fault(self, kind: str, detail: str) -> None:
        """The disk did something that it should not have done."""
        self.world.fault(kind, self.index, text=detail)
        self.promises.on_fault(kind)
        effect = EFFECTS[kind]
        if effect != "harmless":
            self.excused = True
            if self.crash_when_struck:
                self.crash_when_struck = False
                self.crash_at_sync = self.syncs + 1
        if effect == "loses":
            self.tainted = True

    def on_kept(self, records: list[bytes], done: Callable[[], None]) -> None:
        world = self.world
        self.promises.on_kept()
        last = records[-1] if records else b""
        world.note(DISK, self.index, len(records), last)
        for hook in world.on_kept:
            hook(self, records)
        if world.trace is not None:
            world.trace.on_kept(self, records)
        done()

    def seal(self, header: bytes, target: int, done: Callable[[int], None]) -> None:
        self.rig.seal(header, target, done)

    def stop_sealing(self) -> None:
        self.rig.stop()

    def work(self, lane: str, call: Callable[[], T], done: Callable[[T], None]) -> None:
        world = self.world
        start = max(self.lanes.get(lane, 0), world.now)
        # The store is durable when a commit returns, and lies on the same disk as the journal.
        took = self.disk.latency_ns("commit", 0) if lane == "commit" else world.plan.work_ns
        end = self.lanes[lane] = start + took * self.slowness
        self.later(end - world.now, self.on_worked, lane, call, done)

    def on_work(self, lane: str, call: Callable[[], T], done: Callable[[T], None]) -> None:
        self.world.note(WORK, self.index, 0, lane.encode())
        if self.world.trace is not None:
            self.world.trace.on_work(self, lane)
        if lane == "commit":
            self.on_commit(call, done)
        else:
            done(call())

    def on_commit(self, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """The store writes what is final, over the same disk."""
        try:
            is_kept = self.disk.commit("store")
        except OSError as error:
            done(Outcome(None, f"cannot write the store: {error}"))
            return
        outcome = call()
        if is_kept:
            self.stored = self.world.stores.get_height(self.store)
        done(outcome)

    def committed(self, height: Height) -> None:
        self.durable = height
        for hook in self.world.on_committed:
            hook(self, height)

    def adopted(self, height: Height) -> None:
        for hook in self.world.on_adopted:
            hook(self, height)

    def admitted(self, hashes: list[Hash]) -> None:
        pass

    def disconnect(self, peer: Address, reason: str) -> None:
        self.world.count("peers dropped")
        self.world.network.disconnect_by(self, peer)

    def fail(self, reason: str) -> None:
        """The node stops itself: what the disk holds stays as it is."""
        self.failed = reason
        self.world.on_failed(self)
        self.later(0, self.end)

    def log(self, level: str, event: str, **fields: Any) -> None:
        if self.world.trace is not None:
            self.world.trace.on_log(self, level, event, fields)

    # ---- what the node tells

    def on_installed(self, executed: Executed) -> None:
        """It has taken over the state after a height."""
        world = self.world
        world.note(FINAL, self.index, executed.height, b"state" + executed.block)
        world.witness("state taken over")
        for hook in world.on_installed:
            hook(self, executed)

    def on_final(self, executed: Executed) -> None:
        world = self.world
        world.note(FINAL, self.index, executed.height, executed.block)
        if world.trace is not None:
            world.trace.on_final(self, executed)
        for hook in world.on_final:
            hook(self, executed)


def count_bytes(records: list[bytes]) -> int:
    size = 0
    for record in records:
        size += len(record)
    return size
