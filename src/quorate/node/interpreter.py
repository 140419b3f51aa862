"""The one interpreter of effects: list order, and nothing behind a `Persist` before it is durable.

Group commit. When the disk is free and a `Persist` stands at the head of the queue, every record
that waits anywhere in the queue goes into one `port.append`. Records therefore reach the disk in
order and sometimes before effects that stand in front of them, which is harmless: a crash then
keeps a record of something that was not said yet. The opposite, something said and not kept, cannot
happen. Records that are not urgent wait for the next write, up to `MAX_UNWRITTEN` of them.

Cutting the journal. `Checkpoint(height, records)` replaces all that was persisted before it. Until
the application is durable at `height`, the records persisted after it are kept here as well; the
cut then writes the checkpoint's records, those, and whatever waits, in one `port.cut`.
"""

from collections.abc import Callable
from typing import Any, Final

from quorate.base.types import Address, Hash, Height, Member, Nanoseconds
from quorate.consensus.replica import (
    Accuse,
    Base,
    Blame,
    Broadcast,
    CancelTimer,
    Check,
    Checkpoint,
    Deliver,
    Effect,
    Head,
    Message,
    Persist,
    Readable,
    Recall,
    Record,
    Replica,
    Seal,
    Send,
    SetTimer,
    Timer,
    Want,
)
from quorate.node.guard import GuardedPort
from quorate.node.wire import encode

MAX_CHECKPOINTS: Final = 4
"""Checkpoints that wait for the store; a newer one then replaces the newest."""
MAX_UNWRITTEN: Final = 8
"""Records that nobody waits for and that a crash may lose; the next one is waited for."""
MAX_UNWRITTEN_BYTES: Final = 1 << 20
NEWS = (Check, Deliver)
"""Effects of a message that brought a block which was not known before."""


class Pending:
    """A checkpoint that waits for the store."""

    __slots__ = ("height", "records", "start")

    def __init__(self, height: Height, records: list[bytes], start: int) -> None:
        self.height, self.records = height, records
        self.start = start
        """How many records of `Interpreter.tail` were persisted before it."""


class Interpreter:
    """Feeds inputs to a replica and carries out its effects.

    `send` and `broadcast` take encoded frames for other members; `want`, `check`, `deliver`,
    `head`, `accuse`, `recall`, `blame` and `readable` are told of those effects when their turn
    comes.
    """

    __slots__ = (
        "accuse",
        "alarm",
        "appending",
        "broadcast",
        "carry",
        "durable",
        "echo",
        "flushing",
        "frame",
        "leader",
        "looped",
        "me",
        "on_kept",
        "on_leader",
        "on_news",
        "open",
        "pending",
        "port",
        "records",
        "replica",
        "said",
        "send",
        "stopped",
        "synced",
        "tail",
        "unwritten",
        "unwritten_bytes",
        "waiting",
        "written",
    )

    def __init__(
        self,
        replica: Replica,
        port: GuardedPort,
        *,
        send: Callable[[Address, bytes], None],
        broadcast: Callable[[bytes], None],
        want: Callable[[Want], None],
        check: Callable[[Check], None],
        deliver: Callable[[Deliver], None],
        head: Callable[[Head], None],
        accuse: Callable[[Accuse], None],
        recall: Callable[[Recall], None],
        blame: Callable[[Blame], None],
        readable: Callable[[Readable], None],
    ) -> None:
        self.replica, self.port, self.me, self.echo = replica, port, replica.me, replica.ECHO
        self.send, self.broadcast = send, broadcast
        self.open = replica.OPEN
        self.alarm = ""
        self.on_news: Callable[[Address], None] | None = None
        """Where membership is open: told who sent what led to a new block."""
        # Lists, since they are short: most of the time they hold a handful.
        self.waiting: list[Effect] = []
        self.looped: list[Message] = []
        """What the replica sent to itself."""
        self.records: list[bytes] = []
        """The encoded records of the `Persist` effects in `waiting`, in order, but for those that
        are written.
        """
        self.written: list[bytes] = []
        """The records of the last group commit."""
        self.synced = 0
        """How many of those are durable, and still wait for their turn."""
        # Bound once, since that costs as much as a call.
        self.on_kept: Callable[[], None] = self.on_synced
        self.appending = False
        self.flushing = False
        self.stopped = False
        self.durable: Height = 0
        """Of the application."""
        self.pending: list[Pending] = []
        self.said: Message | None = None
        self.frame = b""
        """What was sent last, and its encoding."""
        self.leader: Address | None = None
        """Who proposes alone, as last told to `on_leader`."""
        self.on_leader: Callable[[], None] | None = None
        """Told when somebody else proposes from now on."""
        self.tail: list[bytes] = []
        """Records carried out since the oldest pending checkpoint."""
        self.unwritten_bytes = 0
        self.unwritten: list[bytes] = []
        """Records that were not urgent, carried out since the last write; they stand before those
        of `records`.
        """
        self.carry: dict[type[Any], Callable[[Any], None]] = {
            Want: want,
            Check: check,
            Deliver: deliver,
            Head: head,
            Checkpoint: self.on_checkpoint,
            Accuse: accuse,
            Seal: self.on_seal,
            Recall: recall,
            Blame: blame,
            Readable: readable,
        }

    # ---- inputs; each is run to completion, then its effects are carried out

    def start(self, base: Base, journal: list[Record]) -> None:
        self.durable = base.height
        self.replica.start(self.tell_time(), base, journal)
        self.flush()

    def receive(self, now: Nanoseconds, sender: Address, message: Message) -> None:
        replica = self.replica
        if self.open:
            replica.wall_ms = self.port.wall_ms()
        replica.receive(now, sender, message)
        # Most messages lead to nothing, and what waited before them still waits.
        if replica.out:
            if self.on_news is not None and any(type(e) in NEWS for e in replica.out):
                self.on_news(sender)
            self.flush()

    def timeout(self, timer: Timer) -> None:
        self.replica.timeout(self.tell_time(), timer)
        self.flush()

    def submit(self, height: Height, payload: bytes) -> None:
        self.replica.submit(self.tell_time(), height, payload)
        self.flush()

    def checked(self, height: Height, payload: bytes, valid: bool, envelope: Hash = b"") -> None:
        self.replica.checked(self.tell_time(), height, payload, valid, envelope)
        self.flush()

    def applied(self, height: Height, members: list[Member]) -> None:
        self.replica.applied(self.tell_time(), height, members)
        self.flush()

    def sealed(self, header: bytes, nonce: int) -> None:
        self.replica.sealed(self.tell_time(), header, nonce)
        self.flush()

    def met(self, peer: Address) -> None:
        self.replica.met(self.tell_time(), peer)
        self.flush()

    def parted(self, peer: Address) -> None:
        self.replica.parted(self.tell_time(), peer)
        self.flush()

    def tell_time(self) -> Nanoseconds:
        """Return the time of an input, after telling an open engine what the wall clock says."""
        if self.open:
            self.replica.wall_ms = self.port.wall_ms()
        return self.port.now()

    def read(self, number: int) -> None:
        replica = self.replica
        replica.read(self.port.now(), number)
        # Most reads wait for one that is under way.
        if replica.out:
            self.flush()

    def hand_over(self, to: Address | None) -> str:
        reason = self.replica.hand_over(self.tell_time(), to)
        self.flush()
        return reason

    def offer(self, sender: Address, message: Message, height: Height) -> bool:
        """`receive`, and return whether the replica delivers `height` because of it."""
        self.collect()
        self.replica.receive(self.tell_time(), sender, message)
        delivers = any(type(e) is Deliver and e.height == height for e in self.replica.out)
        self.flush()
        return delivers

    def install(self, base: Base) -> None:
        """The application has jumped to this height, durably."""
        self.durable = base.height
        self.replica.install(self.tell_time(), base)
        self.flush()

    def on_durable(self, height: Height) -> None:
        """The application is durable at this height: the journal may be cut."""
        self.durable = height
        if self.pending:
            self.flush()

    def stop(self) -> None:
        """Carry out nothing any more."""
        self.stopped = True
        self.waiting.clear()
        self.looped.clear()
        if self.open:
            self.port.stop_sealing()

    # ---- effects

    def collect(self) -> None:
        """Take the replica's effects into the queue."""
        waiting, records = self.waiting, self.records
        for effect in self.replica.take():
            if type(effect) is Persist:
                records.append(encode(effect.record))
            waiting.append(effect)

    def flush(self) -> None:
        """Carry out what can be carried out, and give the replica what it sent to itself.

        An effect may lead to another input at once; that input's own call returns here.
        """
        if self.flushing:
            return
        self.flushing = True
        waiting, carry, replica = self.waiting, self.carry, self.replica
        done = 0
        try:
            while not self.stopped:
                if replica.out:
                    self.collect()
                if done < len(waiting):
                    effect = waiting[done]
                    # The most frequent ones by hand.
                    if type(effect) is Persist:
                        if self.pass_persist(effect):
                            done += 1
                            continue
                    else:
                        done += 1
                        if type(effect) is Broadcast:
                            self.on_broadcast(effect)
                        elif type(effect) is SetTimer:
                            self.port.set_timer(effect.timer, effect.delay_ns)
                        elif type(effect) is CancelTimer:
                            self.port.cancel_timer(effect.timer)
                        elif type(effect) is Send:
                            self.on_send(effect)
                        else:
                            carry[type(effect)](effect)
                        continue
                if not self.looped:
                    break
                replica.receive(self.tell_time(), self.me, self.looped.pop(0))
            if self.pending and not self.appending and not self.stopped:
                self.cut()
            if self.open:
                self.watch_alarm()
        finally:
            if done == len(waiting):
                waiting.clear()
            else:
                del waiting[:done]
            self.flushing = False
        if replica.leader != self.leader:
            self.leader = replica.leader
            if self.on_leader is not None:
                self.on_leader()

    def watch_alarm(self) -> None:
        """Tell people loudly, once, what the engine found that they have to look at."""
        alarm = self.replica.get_alarm()
        if alarm != self.alarm:
            self.alarm = alarm
            if alarm:
                self.port.log("error", alarm)

    def pass_persist(self, effect: Persist) -> bool:
        """Let the record at the head of the queue pass if it is durable or not urgent, or see to it
        that it becomes durable; whether it passes.
        """
        if self.synced:
            record = self.written[-self.synced]
            self.synced -= 1
        elif self.is_urgent(effect):
            self.append()
            return False
        else:
            record = self.records.pop(0)
            self.unwritten.append(record)
            self.unwritten_bytes += len(record)
        if self.pending:
            self.tail.append(record)
        return True

    def is_urgent(self, effect: Persist) -> bool:
        """Whether the record at the head of the queue has to be written first."""
        if effect.urgent or self.appending:
            return True
        size = self.unwritten_bytes + len(self.records[0])
        return len(self.unwritten) >= MAX_UNWRITTEN or size > MAX_UNWRITTEN_BYTES

    def append(self) -> None:
        """Start the group commit of everything that waits, unless one is under way."""
        if self.appending or (self.pending and self.cut()):
            return
        self.appending = True
        self.written, self.records = self.records, []
        batch = self.written
        if self.unwritten:
            batch, self.unwritten = [*self.unwritten, *batch], []
            self.unwritten_bytes = 0
        self.port.append(batch, self.on_kept)

    def write_rest(self) -> None:
        """Write what waits for a later record: there may be none."""
        if self.unwritten:
            self.append()

    def cut(self) -> bool:
        """Start to cut the journal at the newest checkpoint that the store has reached, if any."""
        ready = [i for i, pending in enumerate(self.pending) if pending.height <= self.durable]
        if not ready:
            return False
        pending = self.pending[ready[-1]]
        start = pending.start
        self.tail = self.tail[start:]
        self.pending = self.pending[ready[-1] + 1 :]
        for later in self.pending:
            later.start -= start
        self.appending = True
        # What is not written yet stands in the checkpoint, or came after it.
        kept = [*pending.records, *self.tail, *self.records]
        self.unwritten, self.unwritten_bytes = [], 0
        self.written, self.records = self.records, []
        if not self.pending:
            self.tail = []
        self.port.cut(kept, self.on_kept)
        return True

    def on_synced(self) -> None:
        self.appending = False
        self.synced = len(self.written)
        self.flush()

    def on_send(self, effect: Send) -> None:
        if effect.to == self.me:
            self.looped.append(effect.message)
            return
        if effect.message is not self.said:
            # Often the same goes to several, one after another.
            self.said, self.frame = effect.message, encode(effect.message)
        self.send(effect.to, self.frame)

    def on_broadcast(self, effect: Broadcast) -> None:
        self.broadcast(encode(effect.message))
        if self.echo:
            self.looped.append(effect.message)

    def on_seal(self, effect: Seal) -> None:
        header = effect.header
        if header:
            self.port.seal(header, effect.target, lambda nonce: self.sealed(header, nonce))
        else:
            self.port.stop_sealing()

    def on_checkpoint(self, effect: Checkpoint) -> None:
        pending = Pending(effect.height, [encode(r) for r in effect.records], len(self.tail))
        if len(self.pending) == MAX_CHECKPOINTS:
            self.pending.pop()
        self.pending.append(pending)
