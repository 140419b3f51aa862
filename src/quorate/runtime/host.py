"""The real world of one node: its `Port` over an event loop, threads and a journal.

The journal. A sync of a good disk takes little more time than handing it to a thread and waiting to
be woken, so syncs are made on the loop while recent ones were fast on average and nothing else
waits for its turn, and on a thread otherwise: a leader executes what it proposed meanwhile. Either
way a sync begins in a later turn of the loop, so that what was sent before it is under way, and
`done` comes later, as the port promises.
"""

import asyncio
import time
import traceback
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from quorate.base.types import (
    MILLISECOND,
    Address,
    Hash,
    Height,
    Milliseconds,
    Nanoseconds,
)
from quorate.consensus.replica import Timer
from quorate.node.node import Node
from quorate.node.port import Port
from quorate.runtime.disk import FileDisk
from quorate.runtime.lanes import Lane, Soon
from quorate.runtime.sealing import Sealer
from quorate.runtime.syncing import Syncing

__all__ = ["Host", "HostEvents", "JournalFile"]

T = TypeVar("T")

LANES = ("execute", "commit", "pool", "read")
SHORT_LANES = ("execute", "pool")
"""Lanes whose calls read and write no file, and may be short."""
FAST_SYNC_NS = 1_000_000
"""Syncs that take up to this long on average are made on the loop, if nothing else waits for it."""
SHORT_WRITE_BYTES = 256 << 10
"""What the loop copies for a slow disk; it waits for that disk elsewhere."""
SYNC_WEIGHT = 16
"""How many recent syncs the average is about."""
NEVER: Final = -1
ROUNDING_NS: Final = MILLISECOND // 2
"""How much earlier than asked the loop may call."""
CLOSE_POLL_S = 0.005


class JournalFile(Protocol):
    """The part of a journal that a host drives. `append`, `sync` and `replace` return when all is
    durable.
    """

    def append(self, records: list[bytes], /) -> None: ...
    def write(self, records: list[bytes], /) -> None: ...
    def sync(self) -> None: ...
    def get_unsynced(self) -> str: ...
    def end_sync(self, error: OSError | None, /) -> None: ...
    def replace(self, records: list[bytes], /) -> None: ...


class HostEvents(Protocol):
    """What the node tells the process around it."""

    def committed(self, height: Height) -> None: ...
    def adopted(self, height: Height) -> None: ...
    def admitted(self, hashes: list[Hash]) -> None: ...
    def disconnect(self, peer: Address, reason: str) -> None: ...
    def fail(self, reason: str) -> None:
        """Called once; the process shall end."""
        ...

    def log(self, level: str, event: str, **fields: Any) -> None: ...


class Alarm:
    """A timer of the node and the loop's own that stands for it, which may fall earlier."""

    __slots__ = ("due", "falls", "handle")

    def __init__(self, due: Nanoseconds, handle: asyncio.Handle) -> None:
        self.due = self.falls = due
        """On the monotonic clock, or `NEVER`; and when the loop calls."""
        self.handle = handle


class Host(Port):
    """Implements `quorate.node.port.Port`. `attach` the node before anything else is called."""

    def __init__(
        self,
        journal: JournalFile,
        events: HostEvents,
        *,
        disk: FileDisk | None = None,
        mining_threads: int = 1,
        hashes_per_second: int = 0,
    ) -> None:
        """`disk` is the journal's, if it is one of real files."""
        self.loop = asyncio.get_running_loop()
        self.journal, self.events, self.disk = journal, events, disk
        self.node: Node | None = None
        self.failed = ""
        self.on_timer: Callable[[Timer], None] | None = None
        """Told of each timer that is set; for metrics."""
        self.syncs = 0
        self.sync_ns = 0
        """Of all syncs since the start, for metrics."""
        self._timers: dict[Timer, Alarm] = {}
        self._soon = Soon(self.loop)
        self._lanes = {
            name: Lane(
                name,
                self.loop,
                self.on_error,
                after=self.flush,
                soon=self._soon if name in SHORT_LANES else None,
            )
            for name in LANES
        }
        self._journal_lane = Lane("journal", self.loop, self.on_error, after=self.flush)
        self._send: Callable[[Address, bytes], object] | None = None
        self._flush: Callable[[], None] | None = None
        self.sealer = Sealer(
            self.loop, self.on_error, threads=mining_threads, hashes_per_second=hashes_per_second
        )
        self._short_lanes = [self._lanes[name] for name in SHORT_LANES]
        self._syncing: Syncing | None = None
        """Syncs beside the loop, from the first one on."""
        self._then: Callable[[], None] | None = None
        """What follows the sync that is under way there."""
        # Bound once, since that costs as much as a call.
        self._append_bound: Callable[[list[bytes], Callable[[], None]], None] = self._append_here
        self._usual_ns = 0.0
        """How long recent syncs took, a moving average."""
        self._closed = False

    def attach(
        self, node: Node, send: Callable[[Address, bytes], object], flush: Callable[[], None]
    ) -> None:
        """`send(peer, frame)` is how the node speaks; after `flush`, which follows each input and
        each result, what was said meanwhile may leave.
        """
        self.node, self._send, self._flush = node, send, flush

    def flush(self) -> None:
        if self._flush is not None:
            self._flush()

    def call_soon(self, call: Callable[[], None]) -> None:
        """Make a call in a later turn of the loop, before what it leads to here."""
        self._soon.put(make, call, None)

    # ---- the port

    def now(self) -> Nanoseconds:
        return time.monotonic_ns()

    def wall_ms(self) -> Milliseconds:
        return time.time_ns() // 1_000_000

    def send(self, peer: Address, frame: bytes) -> None:
        assert self._send is not None
        self._send(peer, frame)

    def hurry(self) -> None:
        self.flush()

    def set_timer(self, timer: Timer, delay_ns: Nanoseconds) -> None:
        if self.on_timer is not None:
            self.on_timer(timer)
        due = time.monotonic_ns() + max(delay_ns, 0)
        alarm = self._timers.get(timer)
        if alarm is not None:
            if delay_ns > 0 and alarm.falls <= due:
                # Mostly it is put off like this again and again: it is looked at when it falls.
                alarm.due = due
                return
            alarm.handle.cancel()
        self._arm(timer, due, delay_ns)

    def cancel_timer(self, timer: Timer) -> None:
        alarm = self._timers.get(timer)
        if alarm is None:
            return
        if timer.height:
            # No such timer is set again.
            alarm.handle.cancel()
            del self._timers[timer]
        else:
            alarm.due = NEVER

    def _arm(self, timer: Timer, due: Nanoseconds, delay_ns: Nanoseconds) -> None:
        if delay_ns <= 0:
            handle: asyncio.Handle = self.loop.call_soon(self._fall, timer)
        else:
            handle = self.loop.call_later(delay_ns / 1e9, self._fall, timer)
        self._timers[timer] = Alarm(due, handle)

    def _fall(self, timer: Timer) -> None:
        alarm = self._timers.pop(timer)
        if self.node is None or self._closed or alarm.due == NEVER:
            return
        left = alarm.due - time.monotonic_ns()
        if left > ROUNDING_NS:
            self._arm(timer, alarm.due, max(left, MILLISECOND))
            return
        self.node.timeout(timer)
        self.flush()

    def append(self, records: list[bytes], done: Callable[[], None]) -> None:
        self._soon.put(self._append_bound, records, done)

    def cut(self, records: list[bytes], done: Callable[[], None]) -> None:
        # Never on the loop: a cut writes a whole new file, so its time says nothing of a sync's.
        self._journal_lane.put(lambda: self.journal.replace(records), lambda _: done())

    def _put(self, call: Callable[[], None], done: Callable[[], None]) -> None:
        self._journal_lane.put(lambda: measure(call), lambda spent: self._kept(spent, done))

    def _append_here(self, records: list[bytes], done: Callable[[], None]) -> None:
        journal, is_slow = self.journal, self._usual_ns > FAST_SYNC_NS
        began = time.monotonic_ns()
        try:
            if is_slow and sum(map(len, records)) > SHORT_WRITE_BYTES:
                self._put(lambda: journal.append(records), done)
                return
            journal.write(records)
            if (is_slow or self._has_calls()) and self._sync_beside(done):
                return
            if is_slow:
                self._put(journal.sync, done)
                return
            journal.sync()
        except Exception as error:
            self.on_error("journal", error)
        else:
            self._kept(time.monotonic_ns() - began, done)
            self.flush()

    def _has_calls(self) -> bool:
        """Whether calls wait that the loop would make."""
        return any(lane.waiting for lane in self._short_lanes)

    def _sync_beside(self, done: Callable[[], None]) -> bool:
        """Let the loop do what waits while the disk is at work; whether that is possible."""
        if self.disk is None:
            return False
        descriptor = self.disk.find_descriptor(self.journal.get_unsynced())
        if descriptor is None:
            return False
        if self._syncing is None:
            self._syncing = Syncing(self.loop, self._on_synced)
        self._then = done
        self._syncing.begin(descriptor)
        return True

    def _on_synced(self, error: OSError | None, spent: Nanoseconds) -> None:
        done, self._then = self._then, None
        assert done is not None
        assert self.disk is not None
        if error is not None:
            self.disk.give_up(self.journal.get_unsynced())
        try:
            self.journal.end_sync(error)
        except OSError as failure:
            self.on_error("journal", failure)
        else:
            self._kept(spent, done)
            self.flush()

    def _kept(self, spent: Nanoseconds, done: Callable[[], None]) -> None:
        self._count_sync(spent)
        done()

    def _count_sync(self, spent: Nanoseconds) -> None:
        self.syncs += 1
        self.sync_ns += spent
        # One outlier must not move it for long: a disk that pauses once is not a slow disk.
        shown = min(spent, 8 * FAST_SYNC_NS)
        self._usual_ns += (shown - self._usual_ns) / SYNC_WEIGHT

    def seal(self, header: bytes, target: int, done: Callable[[int], None]) -> None:
        self.sealer.seal(header, target, done)

    def stop_sealing(self) -> None:
        self.sealer.stop()

    def work(self, lane: str, call: Callable[[], T], done: Callable[[T], None]) -> None:
        self._lanes[lane].put(call, done)

    def committed(self, height: Height) -> None:
        self.events.committed(height)

    def adopted(self, height: Height) -> None:
        self.events.adopted(height)

    def admitted(self, hashes: list[Hash]) -> None:
        self.events.admitted(hashes)

    def disconnect(self, peer: Address, reason: str) -> None:
        self.events.disconnect(peer, reason)

    def fail(self, reason: str) -> None:
        if not self.failed and not self._closed:
            self.failed = reason
            self.events.fail(reason)

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.events.log(level, event, **fields)

    # ---- the end

    def on_error(self, where: str, error: BaseException) -> None:
        """A call raised: the disk failed, or we have a bug. Neither is to be survived."""
        trace = "".join(traceback.format_exception(error))
        self.events.log("debug", "trace", where=where, trace=trace)
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        self.fail(f"{where}: {kind}{error}")

    def get_backlog(self) -> dict[str, int]:
        """Return how many calls wait in each lane."""
        return {name: lane.waiting for name, lane in self._lanes.items()}

    async def close(self, timeout_s: float) -> bool:
        """End the lanes when they have made the calls that wait; no timer falls from now on.

        Returns whether all ended in time. Their results still reach the loop.
        """
        self._closed = True
        self.sealer.close()
        for alarm in self._timers.values():
            alarm.handle.cancel()
        self._timers.clear()
        deadline = time.monotonic() + timeout_s
        while self._soon.has_calls() and time.monotonic() < deadline:
            # What these lead to, as a slow disk's sync, a closed lane would not take up.
            await asyncio.sleep(0)
        lanes = [*self._lanes.values(), self._journal_lane]
        for lane in lanes:
            lane.close()
        ended = True
        for lane in lanes:
            left_s = max(deadline - time.monotonic(), 0)
            ended &= await asyncio.to_thread(lane.join, left_s)
        if self._syncing is not None:
            while self._syncing.under_way and time.monotonic() < deadline:
                await asyncio.sleep(CLOSE_POLL_S)
            ended &= not self._syncing.under_way
            self._syncing.close()
        return ended


def make(call: Callable[[], None], _: None) -> None:
    """Make a call as `Soon` does, which gives two arguments."""
    call()


def measure(call: Callable[[], None]) -> Nanoseconds:
    """Make a call; return how long it took."""
    began = time.monotonic_ns()
    call()
    return time.monotonic_ns() - began
