"""Transactions: from clients and peers into the pool, and on to peers.

Admission is batched: while the pool judges one batch, everything that arrives gathers for the next.
What it admits is told to peers at most every `gossip_ms`, in one frame for all. The node that got a
transaction from a client tells every member itself; only when it does not reach all of them does it
ask its peers to relay. Duplicates are dropped before the pool sees them.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from quorate.base.types import MILLISECOND, Address, Hash, Height, Nanoseconds
from quorate.consensus.replica import Timer
from quorate.crypto.hashes import keccak256
from quorate.ledger.application import Application
from quorate.ledger.payload import get_largest_item
from quorate.node.execution import Outcome, guard
from quorate.node.parts import Parts
from quorate.node.peers import Peer
from quorate.node.wire import MAX_ITEMS, Transactions, encode

GOSSIP_TIMER: Final = Timer("node.gossip")
AGAIN_TIMER: Final = Timer("node.gossip.again")
MAX_BATCH: Final = 4096
"""Items in one call of the pool, so that the first of a flood need not wait for the last."""
MAX_DOUBLINGS: Final = 5
"""Of the pause before what waits is told again."""
MAX_AGAIN: Final = 64
MAX_AGAIN_BYTES: Final = 16 << 10
"""Of items that are told again at a time while heights come: over thin links, agreement shares the
way with them."""
FULL: Final = "txpool is full"
KNOWN: Final = "already known"

Results: TypeAlias = list[tuple[Hash, str | None]]
Admission: TypeAlias = tuple[Results, bool, bool]
"""Results, whether the pool has work, whether it holds anything."""


class Seen:
    """The recent items, in two generations: when the young one is full, or has had its time, it
    becomes the old one.

    A pool may let go of an item that others still hold: it makes room for who pays more, or an
    account is short of funds for a while. Its memory ends so that it comes to the pool again.
    """

    __slots__ = ("bytes", "max_bytes", "max_items", "old", "since", "span_ns", "young")

    def __init__(self, max_items: int, max_bytes: int, span_ns: Nanoseconds) -> None:
        self.max_items, self.max_bytes = max_items // 2, max_bytes // 2
        self.span_ns = span_ns
        self.since: Nanoseconds = 0
        """When the young generation began."""
        self.young: dict[bytes, None] = {}
        self.old: dict[bytes, None] = {}
        self.bytes = 0
        """Of the young generation."""

    def add(self, items: list[bytes], now: Nanoseconds) -> list[bytes]:
        """Remember items; return those that were not seen before, once each."""
        if not self.max_items:
            return list(dict.fromkeys(items))
        age = now - self.since
        if age >= self.span_ns:
            self.turn(now)
            if age >= 2 * self.span_ns:
                self.old = {}
        young, old = self.young, self.old
        fresh = []
        for item in items:
            if item not in young and item not in old:
                young[item] = None
                self.bytes += len(item)
                fresh.append(item)
        if len(young) > self.max_items or self.bytes > self.max_bytes:
            self.turn(now)
        return fresh

    def turn(self, now: Nanoseconds) -> None:
        """Begin a generation."""
        self.old, self.young, self.bytes, self.since = self.young, {}, 0, now

    def forget(self, item: bytes) -> None:
        """What was refused now may be admitted later."""
        if item in self.young:
            del self.young[item]
            self.bytes -= len(item)
        self.old.pop(item, None)


def admit(application: Application, raws: list[bytes], most: int) -> Results:
    """Let the pool judge items, but for those that no payload of this node could ever hold."""
    if max(map(len, raws), default=0) <= most:
        return application.add(raws)
    judged = iter(application.add([raw for raw in raws if len(raw) <= most]))
    return [
        next(judged)
        if len(raw) <= most
        else (keccak256(raw), f"oversized data: transaction size {len(raw)}, limit {most}")
        for raw in raws
    ]


class Batch:
    """Items that arrived together."""

    __slots__ = ("done", "items", "relay", "source")

    def __init__(
        self,
        items: list[bytes],
        source: Address | None,
        relay: bool,
        done: Callable[[Results], None] | None,
    ) -> None:
        self.items, self.source, self.relay, self.done = items, source, relay, done


class Gossip:
    """The flow of transactions through one node."""

    __slots__ = (
        "again_height",
        "again_set",
        "again_times",
        "application",
        "arrived",
        "arrived_bytes",
        "counters",
        "execution",
        "is_complete",
        "judging",
        "on_fresh",
        "outgoing",
        "page",
        "page_told",
        "peers",
        "port",
        "seen",
        "settings",
        "timer_set",
        "told_at",
        "waited",
    )

    def __init__(self, parts: Parts, is_complete: Callable[[], bool]) -> None:
        self.port, self.settings, self.counters = parts.port, parts.settings, parts.counters
        self.application, self.peers = parts.application, parts.peers
        self.execution, settings = parts.execution, parts.settings
        self.is_complete = is_complete
        """Whether this node is connected to every other member."""
        self.on_fresh: Callable[[Address], None] | None = None
        """Where membership is open: told who brought what was then admitted."""
        self.seen = Seen(
            settings.seen_transactions, settings.seen_bytes, settings.seen_ms * MILLISECOND
        )
        self.arrived: list[Batch] = []
        self.arrived_bytes = 0
        """Of what waits for the pool and what it judges just now."""
        self.judging = False
        self.outgoing: dict[Address | None, list[bytes]] = {}
        """Admitted items to tell, by the peer that they came from (None: a client)."""
        self.told_at: Nanoseconds = 0
        self.timer_set = False
        self.again_set = False
        self.again_height: Height = 0
        self.again_times = 0
        """How often everything was told again since the last new height."""
        self.page = 0
        """Which part of the pool is looked at when the again timer falls."""
        self.page_told = 0
        """Items that were told again since it is this part."""
        self.waited: dict[bytes, None] = {}
        """What waited there when the timer fell last: who was told longest ago, or never, first."""

    # ---- in

    def submit(self, items: list[bytes], done: Callable[[Results], None]) -> None:
        """Items from a client; `done` gets the identity and the refusal, if any, of each."""
        size = sum(map(len, items))
        if self.arrived_bytes + size > self.settings.admission_bytes:
            self.count("transactions_refused", len(items))
            done([(keccak256(item), FULL) for item in items])
            return
        if self.seen.max_items:
            self.seen.add(items, self.port.now())
        self.arrive(Batch(items, None, True, done), size)

    def on_transactions(self, peer: Peer, m: Transactions) -> None:
        if not peer.items.take(len(m.raws), self.port.now()):
            self.peers.strike(peer, "transactions")
            return
        fresh = self.seen.add(m.raws, self.port.now())
        self.count("transactions_received", len(m.raws))
        self.count("transactions_repeated", len(m.raws) - len(fresh))
        if not fresh:
            return
        size = sum(map(len, fresh))
        if self.arrived_bytes + size > self.settings.admission_bytes:
            self.count("dropped_admission", len(fresh))
            for item in fresh:
                self.seen.forget(item)
            return
        self.arrive(Batch(fresh, peer.address, m.relay, None), size)

    def arrive(self, batch: Batch, size: int) -> None:
        self.arrived.append(batch)
        self.arrived_bytes += size
        self.judge()

    def judge(self) -> None:
        """Give the pool what has gathered, unless it is at work."""
        if self.judging or not self.arrived:
            return
        self.judging = True
        count = items = 0
        for batch in self.arrived:
            if count and items + len(batch.items) > MAX_BATCH:
                break
            count, items = count + 1, items + len(batch.items)
        batches, self.arrived = self.arrived[:count], self.arrived[count:]
        raws = batches[0].items if count == 1 else [raw for b in batches for raw in b.items]
        application, most = self.application, self.settings.max_payload_bytes

        def add() -> Admission:
            results = admit(application, raws, get_largest_item(most))
            return results, application.has_work(most), application.counts() > (0, 0, 0)

        self.port.work(
            "pool",
            guard("cannot admit transactions", add),
            lambda outcome: self.on_judged(batches, raws, outcome),
        )

    def on_judged(
        self, batches: list[Batch], raws: list[bytes], outcome: Outcome[Admission]
    ) -> None:
        self.judging = False
        self.arrived_bytes -= sum(map(len, raws))
        if outcome.value is None:
            self.execution.fail(outcome.error or "")
            return
        results, ready, has_items = outcome.value
        admitted = [identity for identity, error in results if error is None]
        self.count("transactions_admitted", len(admitted))
        at = 0
        for batch in batches:
            part = results[at : at + len(batch.items)]
            at += len(batch.items)
            self.after(batch, part)
        if admitted:
            self.port.admitted(admitted)
            self.tell_soon()
        self.execution.on_work(ready, has_items)
        self.watch()
        self.judge()

    def after(self, batch: Batch, results: Results) -> None:
        """Answer the client, and queue what was admitted for peers."""
        told: list[bytes] = []
        for at, (_, error) in enumerate(results):
            if error is None:
                told.append(batch.items[at])
            elif error != KNOWN:
                self.seen.forget(batch.items[at])
        if told and batch.relay and not self.is_destination():
            self.outgoing.setdefault(batch.source, []).extend(told)
        if batch.done is not None:
            batch.done(results)
        elif told and self.on_fresh is not None and batch.source is not None:
            self.on_fresh(batch.source)

    # ---- out

    def tell_soon(self) -> None:
        """Tell peers now, or when `gossip_ms` have passed since the last time."""
        if self.timer_set or not self.outgoing:
            return
        wait = self.told_at + self.settings.gossip_ms * MILLISECOND - self.port.now()
        if wait <= 0:
            self.tell()
        else:
            self.timer_set = True
            self.port.set_timer(GOSSIP_TIMER, wait)

    def on_timer(self) -> None:
        self.timer_set = False
        self.tell()

    def tell(self) -> None:
        outgoing, self.outgoing = self.outgoing, {}
        self.told_at = self.port.now()
        everybody = self.get_targets()
        for source, items in outgoing.items():
            self.send([p for p in everybody if p != source], items)

    def get_targets(self) -> list[Address]:
        """Return who is told of new items."""
        leader = self.execution.interpreter.leader
        if not self.settings.forward or leader is None:
            return list(self.peers.connected)
        return [leader] if leader in self.peers.connected else []

    def is_destination(self) -> bool:
        """Whether items need go no further than here."""
        interpreter = self.execution.interpreter
        return self.settings.forward and interpreter.leader == interpreter.me

    def on_leader(self) -> None:
        """Somebody else proposes: what waits here has to get there."""
        if self.settings.forward and self.execution.interpreter.leader is not None:
            self.read_waiting(self.tell_leader)

    def tell_leader(self, items: list[bytes]) -> None:
        self.seen.add(items, self.port.now())
        self.send(self.get_targets(), items)

    def send(self, to: list[Address], items: list[bytes]) -> None:
        """Send items in frames of bounded size, each encoded once."""
        if not to:
            return
        relay = not self.is_complete()
        for part in split(items, self.settings.gossip_batch_bytes):
            frame = encode(Transactions(part, relay))
            for peer in to:
                self.port.send(peer, frame)
            self.count("transactions_told", len(part) * len(to))

    def welcome(self, peer: Peer) -> None:
        """Tell a new peer what waits."""

        def tell(items: list[bytes]) -> None:
            self.seen.add(items, self.port.now())
            self.send([peer.address] if peer.greeted else [], items)

        self.read_waiting(tell)

    def read_waiting(self, use: Callable[[list[bytes]], None], page: int = 0) -> None:
        """Do something with what waits in the pool, if anything may; it is read in parts."""
        if not self.execution.has_items:
            return
        application, limit = self.application, self.settings.welcome_transactions

        def read() -> list[bytes]:
            return application.waiting((page + 1) * limit)[page * limit :]

        def on_read(outcome: Outcome[list[bytes]]) -> None:
            if outcome.value is None:
                self.execution.fail(outcome.error or "")
            else:
                use(outcome.value)

        self.port.work("pool", guard("cannot read the pool", read), on_read)

    # ---- again, since links lose, and pools let go

    def watch(self) -> None:
        """See to it that what waits for long is told again."""
        if self.again_set or not self.execution.has_items:
            return
        self.again_set = True
        if self.again_height != self.execution.latest.height:
            self.again_height = self.execution.latest.height
            self.again_times = 0
        # Each time later: over thin links the agreement on a new height may wait behind it.
        pause_ms = self.settings.gossip_again_ms << self.again_times
        self.port.set_timer(AGAIN_TIMER, pause_ms * MILLISECOND)

    def on_again_timer(self) -> None:
        self.again_set = False
        execution = self.execution
        idle = self.again_height == execution.latest.height
        if idle:
            self.again_times = min(self.again_times + 1, MAX_DOUBLINGS)
        if execution.has_items and (execution.ready or execution.settling):
            self.read_waiting(lambda items: self.tell_again(items, idle), self.page)
        else:
            self.waited = {}
        self.watch()

    def tell_again(self, items: list[bytes], idle: bool) -> None:
        """Tell everything if no height came; otherwise a few that have waited for long, in turn.

        Heights that come without an item do not show that somebody else has it: only members
        propose, and this node may be none.
        """
        still = dict.fromkeys(items)
        is_new_page = not self.waited
        waited = {item: None for item in self.waited if item in still}
        if idle:
            again = items
        else:
            again = split(list(waited)[:MAX_AGAIN], MAX_AGAIN_BYTES)[0] if waited else []
        told = dict.fromkeys(again)
        self.waited = {item: None for item in waited | still if item not in told} | told
        if again:
            self.count("gossip_again")
            self.seen.add(again, self.port.now())
            self.send(self.get_targets(), again)
        self.page_told += len(again)
        if self.page_told >= len(items) or not (waited or is_new_page):
            self.turn_page(len(items))

    def turn_page(self, count: int) -> None:
        """All of this part was told, or none of it waits for long: look at the next one."""
        self.page_told = 0
        page = self.page + 1 if count == self.settings.welcome_transactions else 0
        if page != self.page:
            self.page, self.waited = page, {}

    def count(self, name: str, n: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + n


def split(items: list[bytes], max_bytes: int) -> list[list[bytes]]:
    """Cut a list into parts of at most `max_bytes` (or one item) and `MAX_ITEMS` each."""
    if len(items) <= MAX_ITEMS and sum(map(len, items)) <= max_bytes:
        return [items] if items else []
    parts: list[list[bytes]] = [[]]
    size = 0
    for item in items:
        if parts[-1] and (size + len(item) > max_bytes or len(parts[-1]) == MAX_ITEMS):
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += len(item)
    return parts
