"""Time, machines and the queue between them. `quorate.simulator.run` drives it.

One queue ordered by (time, sequence), integer nanoseconds. An event is a call with its arguments;
whatever happens is a call of a machine, a link, a nemesis or a client, so the order of the queue is
the order of the run.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from quorate._kernel import EventQueue
from quorate.base.errors import Invalid
from quorate.base.native import mypyc_attr
from quorate.base.types import Address, Hash, Height, Nanoseconds
from quorate.consensus import ENGINES
from quorate.consensus.keys import SecpKeys
from quorate.consensus.replica import Accuse, Keys
from quorate.ledger.application import Application, Executed
from quorate.ledger.keyvalue import KeyValueLedger
from quorate.ledger.machine import Machine as Own
from quorate.ledger.opaque import OpaqueLedger
from quorate.node.settings import Settings
from quorate.node.wire import (
    NODE_MESSAGES,
    OPEN_MESSAGES,
    get_kinds,
    get_tag,
    make_decoder,
    make_record_decoder,
)
from quorate.simulator.applications import OpaqueStores, make_stores
from quorate.simulator.bugs import Bug, get_bug
from quorate.simulator.detectors.host import Detection
from quorate.simulator.digest import FAULT, FRAME, LINK, Digest
from quorate.simulator.disk import Pace, SimulatedDisk
from quorate.simulator.frames import MAX_RECORDS, Frames
from quorate.simulator.keys import SimulatedKeys
from quorate.simulator.machine import SEGMENT_BYTES, Machine, SimulatedNode
from quorate.simulator.network import Connection, Link, Network
from quorate.simulator.open_network import OpenNetwork
from quorate.simulator.plan import MemberPlan, Plan
from quorate.simulator.tape import Tape
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Finding, Verdict
from quorate.storage.journal import open_journal

if TYPE_CHECKING:
    from quorate.simulator.workload import Clients

__all__ = ["World"]

MAX_FINDINGS: Final = 16
"""Of one run; the first ones say most."""


@mypyc_attr(allow_interpreted_subclasses=True)
class World:
    """Everything of one run. Make it, `start` it, `run` it."""

    MACHINE: ClassVar[type[Machine]] = Machine
    DIRECT: ClassVar[bool] = True
    """Whether frames may come to their nodes without a call of `arrive`."""

    def __init__(self, plan: Plan, tape: Tape, trace: Tracer | None = None) -> None:
        self.plan, self.tape, self.trace = plan, tape, trace
        if trace is not None:
            trace.world = self
        self.timing = None if plan.timing is None else plan.timing.draw(tape.stream("timing"))
        self.now: Nanoseconds = 0
        self.healed = False
        """Whether the time of faults is over."""
        self.healed_at: Nanoseconds = 0
        self.beyond = ""
        """Why safety cannot be judged: what happened is more than any such engine survives."""
        self.excuse: Callable[[Height, Address], bool] | None = None
        """Asked whether two final blocks of a height are nobody's fault; sets `beyond`."""
        self.digest = Digest()
        self.queue = EventQueue(self.digest, plan.max_events)
        self.note = self.queue.note
        """Makes an event part of the digest: kind, machine, another one or a number, contents."""
        self.counters: dict[str, int] = {}
        self.sometimes: dict[str, int] = {}
        self.findings: list[Finding] = []
        self.clients: Clients | None = None
        self.submitted: set[bytes] = set()
        """Items that a client gave to a node; never iterated in an order that matters."""
        # What a bug or a knob may replace, for all machines.
        engine = ENGINES[plan.engine]
        self.make_replica: Callable[..., Any] = engine.replica
        self.light_ledger: type[OpaqueLedger] = OpaqueLedger
        self.own_machine: type[Own] | None = None
        """Instead of the application of a user's own that the plan names."""
        self.make_node: Callable[..., SimulatedNode] = SimulatedNode
        self.open_journal: Callable[..., Any] = open_journal
        self.disk: type[SimulatedDisk] = SimulatedDisk
        self.engine_settings: dict[str, Any] = dict(plan.engine_settings)
        self.node_settings = Settings(**plan.node_settings)
        self.segment_bytes = SEGMENT_BYTES
        # What watches: called with the machine and what it says, writes, or makes final.
        self.on_message: dict[type[Any], list[Callable[[Machine, Any], None]]] = {}
        """By type; a broadcast once, of a traitor what it says in fact."""
        self.on_records: list[Callable[[Machine, list[bytes], bool], None]] = []
        """Before they are written; the last argument: whether they replace the journal."""
        self.on_cut: list[Callable[[Machine], None]] = []
        """Before a journal is replaced."""
        self.on_kept: list[Callable[[Machine, list[bytes]], None]] = []
        """When they are durable."""
        self.on_accuse: list[Callable[[Machine, Accuse], None]] = []
        self.on_committed: list[Callable[[Machine, Height], None]] = []
        """When a node shows a durable height to clients."""
        self.on_judged: list[Callable[[Machine, Hash, bool], None]] = []
        """Before an open engine is told whether a block is acceptable."""
        self.on_sealed: list[Callable[[Machine, bytes, int], None]] = []
        """When a machine has found a nonce for a header, before its node is told."""
        self.on_adopted: list[Callable[[Machine, Height], None]] = []
        """When a node shows clients another branch above the last final height."""
        self.on_end: list[Callable[[], None]] = []
        self.on_start: list[Callable[[Machine, list[bytes]], None]] = []
        """With the records that the journal gave back, before the node starts."""
        self.on_down: list[Callable[[Machine], None]] = []
        """When a process ends, however it does."""
        self.on_started: list[Callable[[Machine], None]] = []
        """When the node has read what it kept, and heard from nobody yet."""
        self.on_installed: list[Callable[[Machine, Executed], None]] = []
        """When a node has taken over the state after a height."""
        self.on_final: list[Callable[[Machine, Executed], None]] = []
        self.messages = Frames(engine.wire)
        self.decode = self.messages.share(make_decoder((*engine.wire, *OPEN_MESSAGES)).decode)
        self.message_kinds = get_kinds((*engine.wire, *NODE_MESSAGES, *OPEN_MESSAGES))
        self.record_kinds = get_kinds(engine.records)
        self.records = Frames(engine.records, MAX_RECORDS)
        self.decode_record = self.records.share(make_record_decoder(engine.records).decode)
        if plan.bug:
            self.put_back(get_bug(plan.bug))
        self.stores = make_stores(plan)
        self.chain: Hash = self.stores.chain
        self.machines = [
            self.MACHINE(self, i, m, self.make_keys(m)) for i, m in enumerate(plan.machines)
        ]
        self.identities = {m.address: m for m in reversed(self.machines)}
        self.peers = [m.address for m in plan.machines]
        self.set_difficulty()
        self.network = (OpenNetwork if engine.open and plan.discovery else Network)(self)
        self.detection = Detection(self) if plan.detector else None
        if trace is not None:
            trace.attach(self)

    def put_back(self, bug: Bug) -> None:
        """Let all machines have a bug. Raises Invalid where there is no place for it."""
        plan = self.plan
        for needed, found in ((bug.engine, plan.engine), (bug.application, plan.application)):
            if needed not in ("", found):
                raise Invalid(f"bug {bug.name!r} is one of {needed}, not of {found}")
        bug.install(self)

    def set_difficulty(self) -> None:
        """Let the first block of a chain of work be as hard as the machines' hash power asks for,
        unless the plan says how hard.
        """
        engine, name = ENGINES[self.plan.engine], "initial_difficulty"
        is_work = name in engine.settings.__struct_fields__
        if not is_work or name in self.plan.engine_settings:
            return
        others = {k: v for k, v in self.engine_settings.items() if k != name}
        settings = engine.settings(**others)
        rate = sum(machine.rig.rate for machine in self.machines)
        difficulty = max(rate * settings.interval_ms // 1000, settings.min_difficulty)
        self.engine_settings = {**others, name: difficulty}

    # ---- parts

    def make_keys(self, member: MemberPlan) -> Keys:
        if self.plan.signatures == "real":
            return SecpKeys(member.secret)
        return SimulatedKeys(member.address)

    def choose_replica(self, machine: Machine) -> Callable[..., Any]:
        """Return what makes the replica of a machine."""
        return machine.make_replica or self.make_replica

    def make_disk(self, machine: Machine) -> SimulatedDisk:
        stream = self.tape.stream
        return self.disk(
            stream(f"disk {machine.index} tear"),
            stream(f"disk {machine.index} errors"),
            machine.on_disk_fault,
            pace=Pace(sync_ns=self.plan.sync_ns, stall_permille=self.plan.profile.stall_permille),
        )

    def make_store(self, machine: Machine) -> Any:
        return self.stores.make()

    def make_application(self, machine: Machine) -> Application:
        if isinstance(self.stores, OpaqueStores):
            return self.light_ledger(machine.store, machine.address)
        found = self.stores.open(machine.store, machine.address)
        if self.own_machine is not None and isinstance(found, KeyValueLedger):
            found.machine = self.own_machine()
        return found

    # ---- time

    def after(self, delay_ns: Nanoseconds, call: Callable[..., None], *args: Any) -> None:
        """Make a call after a delay."""
        self.queue.after(delay_ns, call, args)

    def run(self, until_ns: Nanoseconds, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass until then, or until `done`; return whether it became so.

        Ends early when there is something to report, or when the run has had all its events.
        """
        on_next = None if self.trace is None else self.trace.on_next
        if self.queue.run(self, until_ns, self.findings, on_next, done):
            return True
        if not self.findings and not self.is_exhausted():
            self.now = self.queue.now = until_ns
        return False

    def arrive(self, link: Link, generation: int, frame: bytes, number: int) -> None:
        """A frame comes to the end of its link, where the queue does not give it to the node."""
        machine = link.target
        node = machine.node
        if node is None or link.connection.generation != generation:
            if self.trace is not None:
                self.trace.on_missed(link, frame, number)
            return
        if machine.paused:
            machine.backlog.append((self.arrive, (link, generation, frame, number)))
            return
        source = link.source
        self.note(FRAME, source.index, machine.index, frame)
        if self.trace is not None:
            self.trace.on_receive(link, frame, number)
        node.received(source.address, frame)

    # ---- what happened

    def note_connection(self, connection: Connection, up: bool) -> None:
        one, other = connection.ends
        self.note(LINK, one.index, other.index, b"up" if up else b"down")
        if self.trace is not None:
            self.trace.on_connection(one.index, other.index, up)

    def count(self, name: str, n: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + n

    def expect(self, *names: str) -> None:
        """Name what `witness` may tell, so that what never happens in a thousand runs is told."""
        for name in names:
            self.sometimes.setdefault(name, 0)

    def witness(self, name: str) -> None:
        """Something happened that shows that the run was not vacuous."""
        self.sometimes[name] = self.sometimes.get(name, 0) + 1

    def fault(self, kind: str, machine: int, other: int = -1, text: str = "") -> None:
        """A fault was injected: count it, and make it part of digest and trace."""
        self.count(f"fault {kind}")
        self.note(FAULT, machine, other, kind.encode())
        if self.trace is not None:
            self.trace.on_fault(kind, machine, other, text)

    def find(
        self,
        property: str,
        message: str,
        machine: Machine | None = None,
        verdict: Verdict = "false",
    ) -> None:
        """A property does not hold, or cannot be judged."""
        if len(self.findings) < MAX_FINDINGS:
            index = None if machine is None else machine.index
            finding = Finding(property, message, self.now, self.digest.events, index, verdict)
            self.findings.append(finding)
            if self.trace is not None:
                self.trace.on_finding(finding)

    def is_exhausted(self) -> bool:
        """Whether the run has had all its events."""
        return self.digest.events >= self.plan.max_events

    def has_failed(self) -> bool:
        """Whether a property was found not to hold."""
        return any(finding.verdict == "false" for finding in self.findings)

    def observe(self, machine: Machine, frame: bytes) -> None:
        """A node says something new: let those see it who watch."""
        hooks = self.on_message.get(self.message_kinds[get_tag(frame)])
        if hooks:
            message = self.decode(frame)
            for hook in hooks:
                hook(machine, message)

    def on_failed(self, machine: Machine) -> None:
        """A node stopped itself."""
        self.note(FAULT, machine.index, 0, machine.failed.encode())
        if self.trace is not None:
            self.trace.on_fail(machine, "stops itself", machine.failed)
        self.count("nodes failed")
        if not machine.excused and machine.is_honest:
            self.find("no node stops itself", machine.failed, machine)

    def on_refused(self, machine: Machine) -> None:
        """A node does not start on what its disk gives back."""
        self.note(FAULT, machine.index, 1, machine.refused.encode())
        if self.trace is not None:
            self.trace.on_fail(machine, "refuses to start", machine.refused)
        self.count("nodes refused to start")
        if not machine.excused and machine.is_honest:
            self.find("every node can start again", machine.refused, machine)

    def get_machine(self, address: Address) -> Machine:
        """Return the first machine of an identity."""
        return self.identities[address]
