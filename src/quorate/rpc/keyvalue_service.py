"""What the ports of a key-value network have in common: operations, reads and watches of one node.

It lives in the validator's process and on its loop. Operations that arrive in one turn of the loop
go to the node together; a client is answered when the height of its operation is final. Who waits
for which operation is kept in the kernel, which also makes the answers of connections that speak
frames, all of a block at once. Reads that
arrive while the engine is asked share the next question. A watch follows heights as they become
final, and catches up with those before on a lane of its own, by executing them again.

Bounds: operations and reads under way, watches, history that a watch may ask for, events on the way
to a client that does not read.
"""

import os
import time
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Protocol, TypeAlias

from quorate._kernel import KeyValuePort
from quorate.base.errors import Unavailable
from quorate.base.types import Hash, Height
from quorate.ledger.application import Executed
from quorate.ledger.keyvalue import Event, KeyValueLedger
from quorate.ledger.operations import NOTHING, WINDOW, Action, encode, get_identity

__all__ = ["Answered", "Failure", "NodeFace", "Result", "Service", "Sink", "Watch"]

MAX_WAITING = 1 << 16
"""Operations that wait to become final, and as many reads."""
MAX_WATCHES = 10_000
MAX_HISTORY = 100_000
"""Heights that a watch may begin before the last one."""
CATCH_UP_HEIGHTS = 64
"""Of one call on the lane that executes them again."""
PATIENCE_MS = 30_000
"""Until a client is told that nothing is known of its operation."""
SWEEP_S = 1.0
DEADLINE_MS = 60_000
"""Of operations that have no number of their client's."""
KNOWN = "already known"
FULL = "txpool is full"


class Failure(Exception):
    """Why a request has no result: an HTTP status and one line.

    `allowed` are the methods of HTTP that a path has, where it has not the one that was asked for.
    """

    def __init__(self, status: int, message: str, allowed: bytes = b"") -> None:
        super().__init__(message)
        self.status, self.message, self.allowed = status, message, allowed


Result: TypeAlias = tuple[int, int, bytes]
"""(outcome, revision, detail)"""
Done: TypeAlias = Callable[["Result | Failure"], None]
ReadDone: TypeAlias = Callable[["Failure | None"], None]
LOST = Failure(
    504,
    "it is not known in time whether it happened: send it again with the same number, to any node, "
    "and be told what became of it",
)
NUMBERLESS = Failure(
    504,
    f"it is not known in time whether it happened: it may until {DEADLINE_MS // 1000} s after it "
    "was sent, and never later, so read then; with a number (quorate-request) it could be sent "
    "again at once",
)
UNREAD = Failure(
    504,
    "the network did not agree in time on what is the latest: read again, at another node if need "
    "be, or with `stale` what this node knows",
)


class NodeFace(Protocol):
    """The part of a node that is needed here."""

    def submit(
        self, items: list[bytes], done: Callable[[list[tuple[Hash, str | None]]], None], /
    ) -> None: ...
    def read(self, done: Callable[[Height], None], /) -> None: ...
    def leads(self) -> bool: ...


class Work(Protocol):
    def __call__(
        self,
        lane: str,
        call: Callable[[], list[Event] | Failure],
        done: Callable[[list[Event] | Failure], None],
        /,
    ) -> None: ...


class Answered(Protocol):
    """A connection whose answers the kernel makes."""

    def give(self, frames: bytes, count: int) -> None:
        """Take so many answers, which leave with the `turn` that follows."""
        ...

    def reply(self, number: int, result: Result) -> None: ...
    def fail(self, number: int, failure: Failure) -> None: ...


class Sink(Protocol):
    """Who is told of the events of a watch."""

    def tell(self, watch: "Watch", events: list[Event]) -> bool:
        """Send events; False: the client does not read, and the watch ends."""
        ...

    def end(self, watch: "Watch", failure: Failure) -> None: ...


class Watch:
    """One client's interest in a key, or in all that begin with something."""

    __slots__ = ("busy", "height", "key", "number", "prefix", "revision", "sink")

    def __init__(self, sink: Sink, number: int, key: bytes, prefix: bool, revision: int) -> None:
        self.sink, self.number = sink, number
        self.key, self.prefix = key, prefix
        self.revision = revision
        """The first that is wanted."""
        self.height: Height = 0
        """The last height that was looked at."""
        self.busy = False

    def choose(self, events: list[Event]) -> list[Event]:
        """Return the events that are wanted."""
        key, first = self.key, self.revision
        if self.prefix:
            return [e for e in events if e[1] >= first and e[0].startswith(key)]
        return [e for e in events if e[0] == key and e[1] >= first]


class Session:
    """Numbers of operations whose clients have none of their own."""

    __slots__ = ("client", "last", "open")

    def __init__(self) -> None:
        self.client = os.urandom(16)
        self.last = 0
        self.open: dict[int, None] = {}
        """Numbers without an answer, in order."""

    def is_full(self) -> bool:
        first = next(iter(self.open), self.last + 1)
        return self.last - first >= WINDOW - 2

    def encode(self, action: Action, now_ms: int) -> bytes:
        self.last += 1
        self.open[self.last] = None
        acknowledged = next(iter(self.open)) - 1
        return encode(action, self.client, self.last, acknowledged, now_ms + DEADLINE_MS)


class Service:
    """Requests of all clients of one node. All calls come from the loop."""

    def __init__(
        self,
        node: NodeFace,
        ledger: KeyValueLedger,
        loop: AbstractEventLoop,
        work: Work,
        call_soon: Callable[[Callable[[], None]], None],
    ) -> None:
        """`call_soon` makes a call in a later turn of the loop, `work` one on a lane."""
        self.node, self.ledger, self.loop, self.work = node, ledger, loop, work
        self.call_soon = call_soon
        self.arrived: list[bytes] = []
        self.waiting = KeyValuePort(MAX_WAITING)
        """Who waits for which operation: a number on a connection, or of `dones`."""
        self.connections: dict[int, Answered] = {}
        """Those that speak frames, by their number, which is none of an earlier one."""
        self.dones: dict[int, Done] = {}
        self.number = 0
        """The last one of a connection or a `Done`."""
        self.sessions: list[Session] = [Session()]
        self.reads: list[ReadDone] = []
        self.reading = 0
        """Reads that the engine is asked about just now."""
        self.watches: dict[Watch, None] = {}
        self.height: Height = ledger.store.final()
        self.scheduled = False
        # Bound once, since that costs as much as a call.
        self.flush_bound: Callable[[], None] = self.flush
        self.sweeper: TimerHandle | None = None
        self.on_turn: list[Callable[[], None]] = []
        """Called after answers of a block were given, to send them."""

    def start(self) -> None:
        self.sweeper = self.loop.call_later(SWEEP_S, self.sweep)

    def stop(self) -> None:
        if self.sweeper is not None:
            self.sweeper.cancel()

    # ---- operations

    def do(self, action: Action, done: Done) -> None:
        """Carry out an action of a client that does not number its operations."""
        session = self.sessions[-1]
        if session.is_full():
            # An operation that nobody answers must not hold up all others.
            self.sessions = [s for s in self.sessions if s.open]
            session = next((s for s in self.sessions if not s.is_full()), Session())
            self.sessions = [s for s in self.sessions if s is not session] + [session]
        operation = session.encode(action, time.time_ns() // 1_000_000)
        number, open = session.last, session.open

        def settle(result: Result | Failure) -> None:
            open.pop(number, None)
            done(NUMBERLESS if result is LOST else result)

        self.submit(operation, settle)

    def submit(self, operation: bytes, done: Done) -> None:
        """Carry out an operation as its client sent it, perhaps not for the first time."""
        number = self.number + 1
        try:
            is_new = self.waiting.put(operation, 0, number, self.compute_due_ms())
        except Unavailable as error:
            done(Failure(503, str(error)))
            return
        self.number = number
        self.dones[number] = done
        if is_new:
            self.arrived.append(operation)
            self.schedule()

    def compute_due_ms(self) -> int:
        return int(self.loop.time() * 1000) + PATIENCE_MS

    # ---- connections that speak frames

    def connect(self, connection: Answered) -> int:
        """Return the number by which a connection gives bytes to `take`."""
        self.number += 1
        self.connections[self.number] = connection
        return self.number

    def disconnect(self, number: int) -> None:
        self.connections.pop(number, None)

    def take(self, connection: int, data: bytes, room: int) -> tuple[int, int, list[bytes], int]:
        """Read at most `room` requests, and carry out those that are plain operations.

        Returns how many bytes and how many requests that were, the bodies of all other requests,
        and the size of a frame that is too long, or 0.
        """
        due_ms = self.compute_due_ms()
        size, count, operations, others, found = self.waiting.take(connection, data, room, due_ms)
        if operations:
            self.arrived += operations
            self.schedule()
        return size, count, others, found

    # ---- from there to the node, and back

    def schedule(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.call_soon(self.flush_bound)

    def flush(self) -> None:
        """Give the node what arrived in this turn of the loop."""
        self.scheduled = False
        arrived, self.arrived = self.arrived, []
        if arrived:
            self.node.submit(arrived, lambda verdicts: self.on_admitted(arrived, verdicts))
        if self.reads and not self.reading:
            self.ask()

    def on_admitted(self, operations: list[bytes], verdicts: list[tuple[Hash, str | None]]) -> None:
        told = False
        for operation, (_, reason) in zip(operations, verdicts, strict=True):
            if reason is None:
                continue
            told |= self.refuse(get_identity(operation), reason)
        if told:
            self.turn()

    def refuse(self, identity: bytes, reason: str) -> bool:
        """Answer an operation that was not taken up; whether there was something to say."""
        if reason == KNOWN:
            result = self.ledger.store.result(identity[:16], int.from_bytes(identity[16:], "big"))
            if result is None:
                # It waits in the pool, and is answered when it is final; or its client has had
                # the answer and said so.
                return False
            return self.tell_all(self.waiting.remove(identity), result)
        failure = Failure(503 if reason == FULL else 400, reason)
        return self.tell_all(self.waiting.remove(identity), failure)

    def tell_all(self, askers: list[tuple[int, int]], result: Result | Failure) -> bool:
        """Answer everybody who asked for an operation; whether there was anybody."""
        for connection, number in askers:
            if not connection:
                self.dones.pop(number)(result)
                continue
            client = self.connections.get(connection)
            if client is None:
                continue
            if isinstance(result, Failure):
                client.fail(number, result)
            else:
                client.reply(number, result)
        return bool(askers)

    def on_final(self, executed: Executed) -> None:
        """A height was decided and executed, or came as part of a whole state: answer operations.

        The ledger may not call it final yet, since those who wait come first.
        """
        self.height = executed.height
        if self.ledger.fates:
            self.tell_fates()
        if executed.items and len(self.waiting):
            frames, results = self.waiting.answer(self.ledger.get_block(executed.block))
            for connection, data, count in frames:
                client = self.connections.get(connection)
                if client is not None:
                    client.give(data, count)
            for number, outcome, revision, detail in results:
                self.dones.pop(number)((outcome, revision, detail))
        if executed.skipped or self.watches:
            self.call_soon(lambda: self.follow_up(executed))
        self.turn()

    def follow_up(self, executed: Executed) -> None:
        """The ledger holds the height by now: answer what it left out, and tell of changes."""
        for identity, reason in executed.skipped:
            self.refuse(identity, reason)
        for watch in list(self.watches):
            self.follow(watch)
        self.turn()

    def tell_fates(self) -> None:
        """Answer what was executed, or came too late, in heights that this node never saw."""
        fates, self.ledger.fates = self.ledger.fates, []
        for identity, fate in fates:
            if isinstance(fate, str):
                self.refuse(identity, fate)
            else:
                self.tell_all(self.waiting.remove(identity), fate)

    def turn(self) -> None:
        for call in self.on_turn:
            call()

    def sweep(self) -> None:
        """Tell those who have waited for too long."""
        self.sweeper = self.loop.call_later(SWEEP_S, self.sweep)
        if self.tell_all(self.waiting.late(int(self.loop.time() * 1000)), LOST):
            self.turn()

    # ---- reads

    def read(self, done: ReadDone) -> None:
        """Call `done` when the latest block holds all that was acknowledged before this call."""
        if len(self.reads) >= MAX_WAITING:
            done(Failure(503, f"{MAX_WAITING} reads wait already; try again later"))
            return
        self.reads.append(done)
        if not self.reading:
            self.schedule()

    def ask(self) -> None:
        reads, self.reads = self.reads, []
        self.reading = len(reads)

        def on_readable(height: Height) -> None:
            if height < 0:
                # This engine, or this node just now, cannot tell: something that is agreed on
                # after the question can, once the ledger holds it.
                self.do(NOTHING, lambda result: self.call_soon(lambda: self.on_read(reads, result)))
            else:
                self.on_read(reads, None)

        self.node.read(on_readable)

    def on_read(self, reads: list[ReadDone], result: Result | Failure | None) -> None:
        failure = result if isinstance(result, Failure) else None
        if failure is NUMBERLESS:
            failure = UNREAD
        for done in reads:
            done(failure)
        self.reading = 0
        if self.reads:
            self.schedule()
        self.turn()

    # ---- watches

    def watch(self, watch: Watch) -> None:
        """Begin to tell of changes. Raises Failure."""
        if len(self.watches) >= MAX_WATCHES:
            raise Failure(503, f"{MAX_WATCHES} watches are open already")
        watch.height = self.height
        if watch.revision:
            if watch.revision <= self.ledger.read([])[1]:
                try:
                    watch.height = self.ledger.find_height(watch.revision) - 1
                except Unavailable as error:
                    raise Failure(410, str(error)) from None
            if self.height - watch.height > MAX_HISTORY:
                oldest = self.ledger.get_block(self.height - MAX_HISTORY).revision + 1
                raise Failure(410, f"revision {watch.revision} is too old, the first is {oldest}")
        self.watches[watch] = None
        self.follow(watch)

    def forget(self, watch: Watch) -> None:
        self.watches.pop(watch, None)

    def follow(self, watch: Watch) -> None:
        """Tell a watch of the next heights, at once where they are at hand."""
        if watch.busy or watch.height >= self.height:
            return
        first = watch.height + 1
        if first == self.height:
            try:
                events = self.ledger.get_events(first)
            except Unavailable as error:
                self.end(watch, make_gap(first, error))
            else:
                self.tell(watch, first, events)
            return
        watch.busy = True
        last = min(self.height, watch.height + CATCH_UP_HEIGHTS)

        def collect() -> list[Event] | Failure:
            try:
                get = self.ledger.get_events
                return [e for at in range(first, last + 1) for e in watch.choose(get(at))]
            except Unavailable as error:
                return make_gap(first, error)

        def on_collected(found: list[Event] | Failure) -> None:
            watch.busy = False
            if watch not in self.watches:
                return
            if isinstance(found, Failure):
                self.end(watch, found)
                return
            self.tell(watch, last, found)
            if watch in self.watches:
                self.follow(watch)
            self.turn()

        self.work("read", collect, on_collected)

    def tell(self, watch: Watch, height: Height, events: list[Event]) -> None:
        watch.height = height
        chosen = watch.choose(events)
        if chosen and not watch.sink.tell(watch, chosen):
            self.end(watch, Failure(429, "events were not read in time"))

    def end(self, watch: Watch, failure: Failure) -> None:
        self.forget(watch)
        watch.sink.end(watch, failure)


def make_gap(height: Height, error: Unavailable) -> Failure:
    """Return what a watch is told whose next height this node does not have, as after a jump."""
    text = f"what height {height} changed is not here ({error}): read, and watch from there on"
    return Failure(410, text)
