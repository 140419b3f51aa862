"""The events of one run, kept one by one for people, with what caused each.

Whatever happens in the queue was put there by the event during which its number was given out, so
the causes of timers, disk answers and calls need no bookkeeping of their own. A trace draws nothing
from the tape and notes nothing in the digest: a traced run is the same run.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError

from quorate.base.types import Address, Hash, Nanoseconds
from quorate.consensus.replica import Accuse, Timer
from quorate.ledger.application import Executed
from quorate.simulator.contents import Contents, describe, describe_records, format_bytes
from quorate.simulator.history import History, Operation
from quorate.simulator.plan import MS
from quorate.simulator.trace import Event

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.network import Link
    from quorate.simulator.verdict import Finding
    from quorate.simulator.world import World

__all__ = ["Tracer"]

MAX_TRACED = 5_000_000
"""Events that are kept; later ones are only counted."""
MAX_TEXT = 1000
MAX_KNOWN = 4096
"""Frames whose contents are remembered, since each goes to several machines."""
ENDS = {
    "resume": "pause",
    "restart": "crash",
    "slow": "slow",
    "round script ends": "round script",
}
"""Faults that end others on the same machine."""
ON_LINKS = frozenset(
    {
        "partition",
        "one-way cut",
        "mend",
        "heal",
        "corrupt",
        "swizzle cut",
        "swizzle mend",
        "priorities",
        "round script",
        "round script ends",
        "frame limit",
    }
)
"""Faults that are done to links and not to a machine."""

Answer = Callable[[list[tuple[Hash, str | None]]], None]


class Tracer:
    """Give it to a run; afterwards `events` holds what happened, in order."""

    __slots__ = (
        "cut",
        "cuts",
        "doubled",
        "events",
        "history",
        "inside",
        "known",
        "lamport",
        "mending",
        "named",
        "names",
        "open",
        "origins",
        "present",
        "said",
        "states",
        "truth",
        "world",
    )

    world: "World"

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.history: History | None = None
        """What the clients of the run saw."""
        self.cut = 0
        """Events that were not kept."""
        self.lamport: dict[int, int] = {}
        """Of each machine."""
        self.origins: list[int] = [-1]
        """By number in the queue: the event that put it there."""
        self.inside = -1
        """The event whose consequences happen now."""
        self.names: dict[Address, str] = {}
        self.named: dict[Any, str] = {}
        """The names by addresses as they are written in a log."""
        self.known: dict[bytes, Contents] = {}
        self.states: dict[int, tuple[int, int, str]] = {}
        """Height, round and step of each machine's engine."""
        self.open: dict[tuple[str, int], int] = {}
        """Faults that last: their kind and machine -> the event that began them."""
        self.cuts: dict[tuple[int, int], list[int]] = {}
        """The cuts that lie across each link."""
        self.mending: list[tuple[tuple[int, int], int]] = []
        """Links that were mended just now, and how many cuts are left across each."""
        self.present: set[int] = set()
        """Machines that have started."""
        self.truth: bytes | None = None
        """What a traitor's node told it to send, while it decides what to say."""
        self.said = 0
        """How many events tell what it said instead."""
        self.doubled = False

    def attach(self, world: "World") -> None:
        """Watch a world whose machines are there."""
        self.names = {m.address: m.name for m in reversed(world.machines)}
        self.named = {f"0x{address.hex()}": name for address, name in self.names.items()}
        world.on_records.append(self.on_records)
        world.on_start.append(self.on_start)
        world.on_accuse.append(self.on_accuse)

    def get_operations(self) -> list[Operation]:
        """Return what clients asked and were told."""
        return [] if self.history is None else self.history.get_operations()

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
        wall = 0
        if machine >= 0:
            self.lamport[machine] = lamport
            wall = self.world.machines[machine].clock.wall_ns(self.world.now)
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
                wall_ns=wall,
                **fields,
            )
        )
        return number

    def begin(self, event: int) -> None:
        """What happens from now on happens because of this event."""
        self.settle()
        self.inside = event

    def settle(self) -> None:
        """Whatever was put into the queue until now was put there by the present event."""
        new = self.world.queue.number + 1 - len(self.origins)
        if new > 0:
            self.origins += [self.inside] * new

    def on_next(self, number: int) -> None:
        """The call with this number in the queue is next; the one before it is done."""
        if self.mending:
            self.mend()
        if self.inside >= 0 and self.events[self.inside].machine >= 0:
            self.look_at(self.events[self.inside].machine)
        self.begin(self.origins[number] if number < len(self.origins) else self.inside)

    def look_at(self, machine: int) -> None:
        """Note where a machine's engine stands, if it has moved."""
        node = self.world.machines[machine].node
        if node is None:
            return
        situation = node.replica.get_situation(node.port.now())
        state = situation.height, situation.round, situation.step
        if self.states.get(machine) == state:
            return
        self.states[machine] = state
        leader = "" if situation.leader is None else self.names.get(situation.leader, "")
        self.add(
            "state",
            machine,
            height=situation.height,
            round=situation.round,
            name=situation.step,
            text=f"leader {leader}" if leader else "",
        )

    # ---- links

    def on_send(self, link: "Link", frame: bytes, number: int) -> None:
        """A frame leaves; `number` is that of its arrival in the queue."""
        self.settle()
        kind = "double" if self.doubled else "send"
        self.doubled = False
        sent = self.add_frame(kind, link, frame)
        if sent >= 0:
            self.origins[number] = sent

    def on_double(self) -> None:
        """The next frame is a copy that the network makes."""
        self.doubled = True

    def on_lost(self, link: "Link", frame: bytes) -> None:
        self.add_frame("lost", link, frame)

    def add_frame(self, kind: str, link: "Link", frame: bytes) -> int:
        false = self.truth is not None and frame != self.truth
        self.said += 1
        return self.add(
            kind, link.source.index, link.target.index, false=false, **self.describe(frame)
        )

    def on_missed(self, link: "Link", frame: bytes, number: int) -> None:
        """A frame comes to the end of its link, and nobody is there."""
        why = "the machine is down" if link.target.node is None else "the connection broke"
        fields = {**self.describe(frame), "text": why}
        ends = {"source": link.source.index, "cause": self.origins[number]}
        self.add("missed", -1, link.target.index, **ends, **fields)

    def on_receive(self, link: "Link", frame: bytes, number: int) -> None:
        cause = self.origins[number]
        false = cause >= 0 and self.events[cause].false
        fields = self.describe(frame)
        target, source = link.target.index, link.source.index
        self.begin(self.add("receive", target, source, cause=cause, false=false, **fields))

    def speak(self, machine: "Machine", peer: Address, frame: bytes) -> None:
        """Let a traitor say what it likes instead of a frame, and note what that is."""
        assert machine.actor is not None
        self.truth, self.said = frame, 0
        machine.actor.send(peer, frame)
        self.truth = None
        if not self.said:
            other = self.world.get_machine(peer).index
            self.add("withheld", machine.index, other, false=True, **self.describe(frame))

    def on_connection(self, one: int, other: int, up: bool) -> None:
        kind = "connected" if up else "disconnected"
        self.begin(self.add(kind, -1, other, source=one))

    def on_cut(self, link: "Link") -> None:
        ends = link.source.index, link.target.index
        self.cuts.setdefault(ends, []).append(self.add("cut", -1, ends[1], source=ends[0]))

    def on_mended(self, link: "Link") -> None:
        """One cut, or with none left every cut, is taken away from a link."""
        ends = link.source.index, link.target.index
        if self.cuts.get(ends):
            self.mending.append((ends, link.blocked))

    def mend(self) -> None:
        """Tell which cuts were taken away just now.

        Where several lie across a link, it is the one that began with all the others that end now.
        """
        mending, self.mending = self.mending, []
        together: dict[int, set[tuple[int, int]]] = {}
        for ends, cuts in self.cuts.items():
            for cut in cuts:
                together.setdefault(self.get_parent(cut), set()).add(ends)
        mended = {ends for ends, _ in mending}
        parent = next((p for p in sorted(together) if together[p] == mended), None)
        for ends, left in mending:
            cuts = self.cuts[ends]
            cuts.sort(key=lambda cut: self.get_parent(cut) != parent)
            while len(cuts) > left:
                self.add("mended", -1, ends[1], source=ends[0], begin=cuts.pop(0))
            cuts.sort()

    def get_parent(self, cut: int) -> int:
        """Return the event that cut this link and others, or the cut itself."""
        cause = self.events[cut].cause if cut >= 0 else -1
        return cause if cause >= 0 else cut

    # ---- machines

    def on_timer_set(self, machine: "Machine", timer: Timer, delay_ns: Nanoseconds) -> None:
        """A timer is in the queue, with the last number that was given out."""
        number = self.add("arm", machine.index, **name_timer(timer), text=format_ms(delay_ns))
        self.settle()
        if number >= 0:
            self.origins[self.world.queue.number] = number

    def on_timer(self, machine: "Machine", timer: Timer, number: int) -> None:
        cause = self.origins[number]
        self.begin(self.add("timer", machine.index, cause=cause, **name_timer(timer)))

    def on_records(self, machine: "Machine", records: list[bytes], replace: bool) -> None:
        fields = self.describe_records(records)
        if replace:
            fields["text"] = f"the journal begins anew: {fields['text']}"[:MAX_TEXT]
        self.begin(self.add("persist", machine.index, **fields))

    def on_kept(self, machine: "Machine", records: list[bytes]) -> None:
        self.begin(self.add("durable", machine.index, **self.describe_records(records)))

    def on_work(self, machine: "Machine", lane: str) -> None:
        self.begin(self.add("work", machine.index, name=lane))

    def on_start(self, machine: "Machine", records: list[bytes]) -> None:
        """A node is about to start from these records."""
        if machine.index not in self.present:
            self.present.add(machine.index)
            self.introduce(machine)
        fields = self.describe_records(records)
        held = f"{len(records)} records: {fields['text']}" if records else "an empty journal"
        fields.update(name=f"life {machine.life // 2 + 1}", text=f"reads {held}"[:MAX_TEXT])
        begin = self.open.pop(("down", machine.index), -1)
        # Somebody starts it; only when it starts again do we know why.
        cause = self.inside if begin >= 0 else -1
        self.begin(self.add("start", machine.index, begin=begin, cause=cause, **fields))

    def introduce(self, machine: "Machine") -> None:
        """Say of a machine what the plan does not: that it is there at all, or lies."""
        first = self.world.get_machine(machine.address)
        named = f"0x{machine.address.hex()}"
        self.names.setdefault(machine.address, machine.name)
        self.named.setdefault(named, machine.name)
        if machine.index >= len(self.world.plan.machines):
            text = "follower" if first is machine else f"twin of {first.name}"
            self.add("join", machine.index, cause=-1, name=machine.name, text=text)
        if machine.actor is not None:
            self.add("fault", machine.index, cause=-1, name="traitor", text=machine.actor.title)

    def on_end(self, machine: "Machine") -> None:
        """A process is gone."""
        self.states.pop(machine.index, None)
        self.open.pop(("pause", machine.index), None)
        self.open["down", machine.index] = self.add("down", machine.index)

    def on_fail(self, machine: "Machine", name: str, reason: str) -> None:
        self.add("fail", machine.index, name=name, text=reason[:MAX_TEXT])

    def on_submit(self, machine: "Machine", items: list[bytes], done: Answer) -> Answer:
        """A client gives items to a node; return what takes the answer."""
        text = ", ".join(format_bytes(item) for item in items[:8])
        number = self.add("submit", machine.index, cause=-1, name=count_items(items), text=text)
        self.begin(number)

        def answer(verdicts: list[tuple[Hash, str | None]]) -> None:
            refused = [why for _, why in verdicts if why is not None]
            name = f"{len(verdicts) - len(refused)} of {len(verdicts)} admitted"
            text = "; ".join(refused)[:MAX_TEXT]
            self.add("answer", machine.index, begin=number, name=name, text=text)
            done(verdicts)

        return answer

    def on_final(self, machine: "Machine", executed: Executed) -> None:
        self.add(
            "final",
            machine.index,
            height=executed.height,
            name=f"block {executed.height}",
            text=f"0x{executed.block.hex()}, {executed.items} items",
        )

    def on_accuse(self, machine: "Machine", effect: Accuse) -> None:
        who = self.names.get(effect.who) or format_bytes(effect.who)
        size = len(effect.evidence)
        self.add("accuse", machine.index, name=who, size_bytes=size)

    def on_log(self, machine: "Machine", level: str, event: str, fields: dict[str, Any]) -> None:
        if level != "debug":
            named = {name: self.named.get(value, value) for name, value in fields.items()}
            text = " ".join(f"{name}={value}" for name, value in named.items())
            self.add("note", machine.index, name=event, text=text[:MAX_TEXT])

    # ---- faults and findings

    def on_fault(self, kind: str, machine: int, other: int, text: str) -> None:
        """A fault was injected, or ends."""
        if self.mending:
            self.mend()
        source = -1
        if kind in ON_LINKS:
            source, machine = (machine if other >= 0 else -1), -1
        begin = self.open.pop((ENDS[kind], machine), -1) if kind in ENDS else -1
        # Whoever does it knows nothing of the nodes: only its own beginning can have led to it.
        fields: dict[str, Any] = {
            "source": source,
            "cause": begin,
            "begin": begin,
            "name": kind,
        }
        number = self.add("fault", machine, other, text=text[:MAX_TEXT], **fields)
        if kind not in ENDS or kind == ENDS[kind]:
            self.open[kind, machine] = number
        # What is done to links follows from the fault, and nothing else does.
        self.begin(number)

    def on_finding(self, finding: "Finding") -> None:
        machine = -1 if finding.machine is None else finding.machine
        self.add("finding", machine, name=finding.property, text=finding.message[:MAX_TEXT])

    # ---- words

    def describe(self, frame: bytes) -> dict[str, Any]:
        """Return the name, height, round and text of a frame."""
        contents = self.known.get(frame)
        if contents is None:
            try:
                contents = describe(self.world.decode(frame), self.names, len(frame))
            except MsgspecError as error:
                contents = Contents("garbage", str(error)[:MAX_TEXT], size_bytes=len(frame))
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            self.known[frame] = contents
        return {name: getattr(contents, name) for name in contents.__struct_fields__}

    def describe_records(self, records: list[bytes]) -> dict[str, Any]:
        decoded = [self.world.decode_record(record) for record in records]
        contents = describe_records(decoded, self.names)
        fields = {name: getattr(contents, name) for name in contents.__struct_fields__}
        fields["size_bytes"] = sum(map(len, records))
        return fields


def name_timer(timer: Timer) -> dict[str, Any]:
    if not timer.height:
        return {"name": timer.kind}
    return {"name": timer.kind, "height": timer.height, "round": timer.round}


def count_items(items: list[bytes]) -> str:
    return "1 item" if len(items) == 1 else f"{len(items)} items"


def format_ms(delay_ns: Nanoseconds) -> str:
    return f"falls in {delay_ns // MS}.{delay_ns // 1000 % 1000:03d} ms"
