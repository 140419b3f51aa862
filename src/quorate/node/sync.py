"""Block sync: closing a gap of heights by asking, and answering those who ask.

A node learns from `Hello`, `Tip` and what the engine's messages show that peers are ahead. A short
gap is left to the engine's own messages for a moment, if the engine finished the last height by
itself; any other is closed by asking peers for ranges of decisions, several requests at a time.
Nothing of an answer is trusted: each decision goes through the engine, which verifies its
certificate, in order. A peer that does not answer in time, or whose answer is refused, is left
alone for a while and the range is asked of another; what it answers late is taken all the same.
A peer that has pruned a height says so, and is not asked for it again; where no connected peer
keeps what comes next, that is told, for only a snapshot can help then.
"""

from typing import Final

from quorate.base.types import MILLISECOND, SECOND, Address, Height, Nanoseconds
from quorate.consensus.replica import Decision, Recalled, Timer
from quorate.node.execution import Outcome, guard
from quorate.node.parts import Parts
from quorate.node.peers import Peer
from quorate.node.states import StateSync
from quorate.node.wire import Decisions, GetDecisions, Pruned, encode

SYNC_TIMER: Final = Timer("node.sync")
SHUN: Final = 5 * SECOND
"""How long a peer that failed us is not asked."""
MAX_SHUNNED: Final = 1024
"""Where anybody may join, those who come and go are without number."""
MAX_LATE: Final = 64
"""Requests that were given up and whose answers are still taken."""
MAX_TIMEOUT: Final = 60 * SECOND
"""Where the patience with answers stops growing."""
ENGINE_REQUESTS = 4
"""So many times as many requests may an engine have under way that finds what it misses itself."""
MAX_WAITING: Final = 64
"""Requests of one peer's engine that wait for others of it to be answered: more than an honest one
has under way, however its requests fall apart and however slow this machine is.
"""
WINDOW: Final = 1024
"""Heights ahead of the verified one that are asked for."""


class Request:
    """Heights that were asked of a peer: `first` up to and without `end`."""

    __slots__ = ("asked_at", "deadline", "end", "first", "peer")

    def __init__(
        self,
        peer: Address,
        first: Height,
        end: Height,
        asked_at: Nanoseconds,
        deadline: Nanoseconds,
    ) -> None:
        self.peer, self.first, self.end = peer, first, end
        self.asked_at, self.deadline = asked_at, deadline


class Sync:
    """The sync of one node, both sides of it."""

    __slots__ = (
        "active",
        "application",
        "asked",
        "bases",
        "buffer",
        "buffer_bytes",
        "counters",
        "execution",
        "feeding",
        "interpreter",
        "late",
        "parts",
        "peers",
        "port",
        "settings",
        "shunned",
        "started_at",
        "states",
        "suspect",
        "timeout_ns",
        "verified",
    )

    def __init__(self, parts: Parts) -> None:
        self.parts, settings = parts, parts.settings
        self.port, self.settings, self.counters = parts.port, settings, parts.counters
        self.application, self.peers = parts.application, parts.peers
        self.execution, self.interpreter = parts.execution, parts.interpreter
        self.active = False
        self.started_at: Height = 0
        self.timeout_ns = settings.sync_timeout_ms * MILLISECOND
        """How long an answer may take; longer after each that did not come."""
        self.suspect: tuple[Height, Nanoseconds] | None = None
        """The own height when a gap was first seen, and when to act if it has not grown by then."""
        self.verified: Height = parts.execution.delivered
        """The last height whose decision the engine accepted from here."""
        self.asked: dict[Height, Request] = {}
        self.late: dict[tuple[Address, Height], Request] = {}
        """Requests that were given up and may be answered yet."""
        self.buffer: dict[Height, tuple[Address, Decision]] = {}
        self.buffer_bytes = 0
        self.shunned: dict[Address, Nanoseconds] = {}
        """Until when peers are not asked."""
        self.bases: dict[Address, Height] = {}
        """Of peers that have pruned: the first height that they keep."""
        self.feeding = False
        self.states: StateSync
        """Set by the node before anything is called."""

    # ---- asking

    def get_next(self) -> Height:
        """The first height that is still unknown here."""
        return max(self.verified, self.execution.delivered) + 1

    def get_target(self) -> Height | None:
        """The height that is being caught up with, if any."""
        if self.interpreter.replica.OPEN:
            return self.interpreter.replica.get_target()
        return self.peers.get_best_height() if self.active else None

    def is_busy(self) -> bool:
        """Whether a gap is being closed or watched."""
        return self.active or self.suspect is not None or bool(self.buffer)

    def update(self) -> None:
        """Something changed: peers' heights, the own height, or time."""
        if self.interpreter.replica.OPEN:
            # Heights say nothing where work counts: such an engine finds what it misses itself.
            return
        if self.buffer:
            self.feed()
        best = self.peers.get_best_height()
        following = self.get_next()
        if self.states.is_active():
            self.states.widen()
            return
        if best < following:
            if self.active or self.suspect is not None:
                self.finish()
        elif self.active:
            self.ask()
        else:
            self.consider(best, following)

    def on_shown(self, height: Height) -> None:
        """A peer showed by a message of the engine that it has finished a height above our own.

        It is often one ahead, and says so by that. But an engine that was just given heights from
        here has not heard what was said of the one that was under way meanwhile.
        """
        following = self.get_next()
        if height > following or (height == following and self.verified == height - 1):
            self.update()

    def consider(self, best: Height, following: Height) -> None:
        """Decide whether a gap is there to stay."""
        now = self.port.now()
        gap = self.settings.state_gap
        if gap and best - following + 1 >= gap and self.states.begin():
            self.suspect = None
            return
        if best - following < self.settings.sync_range and self.verified < following - 1:
            if self.suspect is None or self.suspect[0] != following:
                patience = self.settings.sync_patience_ms * MILLISECOND
                self.suspect = (following, now + patience)
                self.port.set_timer(SYNC_TIMER, patience)
                return
            if now < self.suspect[1]:
                return
        self.active, self.suspect = True, None
        self.started_at = following
        self.count("syncs")
        self.port.log("info", "catching up", height=following - 1, target=best)
        self.ask()

    def finish(self) -> None:
        self.suspect = None
        if not self.active:
            return
        self.drop_all()
        height = self.get_next() - 1
        self.port.log("info", "caught up", height=height, heights=height - self.started_at + 1)

    def drop_all(self) -> None:
        """Ask for nothing more, and forget what is here."""
        self.active = False
        self.asked.clear()
        self.buffer.clear()
        self.buffer_bytes = 0
        self.port.cancel_timer(SYNC_TIMER)

    def ask(self) -> None:
        """Send requests as far as the bounds allow."""
        settings, now = self.settings, self.port.now()
        while len(self.asked) < settings.sync_requests:
            first = self.find_missing()
            # What comes next is asked for even so: without it a buffer of later heights never
            # empties.
            if self.buffer_bytes >= settings.sync_buffer_bytes and first > self.get_next():
                break
            peer = self.choose_peer(first, now)
            if peer is None or first > self.get_next() + WINDOW:
                break
            end = min(first + settings.sync_range, peer.height + 1)
            later = [h for h in self.buffer if first < h < end]
            later += [h for h in self.asked if first < h < end]
            end = min(later, default=end)
            self.asked[first] = Request(peer.address, first, end, now, now + self.timeout_ns)
            self.port.send(peer.address, encode(GetDecisions(first, end - first)))
            self.count("sync_requests")
        soonest = min((r.deadline for r in self.asked.values()), default=now + SECOND)
        self.port.set_timer(SYNC_TIMER, max(soonest - now, MILLISECOND))

    def find_missing(self) -> Height:
        """The lowest height that is neither here nor asked for."""
        height = self.get_next()
        while True:
            if height in self.buffer:
                height += 1
                continue
            ends = [r.end for r in self.asked.values() if r.first <= height < r.end]
            if not ends:
                return height
            height = max(ends)

    def choose_peer(self, height: Height, now: Nanoseconds) -> Peer | None:
        """The least busy connected peer that has the height and has not failed lately."""
        busy: dict[Address, int] = {}
        for request in self.asked.values():
            busy[request.peer] = busy.get(request.peer, 0) + 1
        best: Peer | None = None
        for peer in self.peers.connected.values():
            if peer.height < height or self.shunned.get(peer.address, 0) > now:
                continue
            if self.bases.get(peer.address, 0) > height:
                continue
            load = busy.get(peer.address, 0)
            if load >= self.settings.serve_requests:
                continue
            if best is None or load < busy.get(best.address, 0):
                best = peer
        return best

    def get_lack(self) -> Height | None:
        """The height that comes next, if every connected peer that has got so far has pruned it."""
        height = self.get_next()
        ahead = [p.address for p in self.peers.connected.values() if p.height >= height]
        pruned = bool(ahead) and all(self.bases.get(peer, 0) > height for peer in ahead)
        return height if self.active and pruned else None

    def on_pruned(self, peer: Peer, m: Pruned) -> None:
        """A peer does not keep what it was asked for: others may."""
        request = self.asked.get(m.first)
        if request is not None and request.peer == peer.address:
            del self.asked[m.first]
        elif self.late.pop((peer.address, m.first), None) is None:
            self.peers.strike(peer, "unasked_decisions")
            return
        if m.base <= m.first:
            self.shun(peer.address, "says that it keeps what it does not give")
            return
        self.bases.pop(peer.address, None)
        self.bases[peer.address] = m.base
        if len(self.bases) > MAX_SHUNNED:
            del self.bases[next(iter(self.bases))]
        self.count("sync_pruned")
        if m.first == self.get_next() and self.states.begin():
            # Nobody may have the blocks any more; what is under way would come to nothing.
            self.drop_all()
            return
        lack = self.get_lack()
        if lack is not None:
            self.port.log("warning", "no connected peer keeps the next height", height=lack)
        self.update()

    def on_decisions(self, peer: Peer, m: Decisions) -> None:
        request = self.asked.get(m.first)
        if request is not None and request.peer == peer.address:
            del self.asked[m.first]
        else:
            # What comes late is as good: over a thin link it may be all that ever comes.
            request = self.late.pop((peer.address, m.first), None)
            full = self.buffer_bytes >= self.settings.sync_buffer_bytes
            if request is not None and full and m.first > self.get_next():
                return
        if request is None:
            self.peers.strike(peer, "unasked_decisions")
            return
        took_ns = self.port.now() - request.asked_at
        least_ns = self.settings.sync_timeout_ms * MILLISECOND
        self.timeout_ns = max(least_ns, min(self.timeout_ns, 4 * took_ns))
        count = len(m.decisions)
        if count > request.end - request.first or any(
            d.height != m.first + i for i, d in enumerate(m.decisions)
        ):
            self.shun(peer.address, "answered other heights than asked")
        elif not count:
            peer.height = min(peer.height, m.first - 1)
            self.shun(peer.address, "does not have what it told")
            if m.first == self.get_next() and self.states.begin():
                # Nobody may have the blocks any more; what is under way would come to nothing.
                self.drop_all()
        for decision in m.decisions:
            self.keep(peer.address, decision, request)
        self.update()

    def keep(self, peer: Address, decision: Decision, request: Request) -> None:
        height = decision.height
        if request.first <= height < request.end and height not in self.buffer:
            self.buffer[height] = (peer, decision)
            self.buffer_bytes += compute_size(decision)

    def feed(self) -> None:
        """Give the engine the decisions that it can take."""
        if self.feeding or not self.buffer:
            return
        self.feeding = True
        try:
            while self.feed_one():
                pass
        finally:
            self.feeding = False

    def feed_one(self) -> bool:
        """Offer the next decision, if it is here and the engine is there; whether it was taken."""
        height = self.get_next()
        for old in [h for h in self.buffer if h < height]:
            self.forget(old)
        if height not in self.buffer:
            return False
        # An engine waits at a height for its members or for the store; it would drop the decision.
        # It knows the members of two heights above the one that it was last told of.
        if height > self.execution.applied + 2:
            return False
        if self.interpreter.replica.get_situation(self.port.now()).height != height:
            return False
        peer, decision = self.forget(height)
        if self.interpreter.offer(peer, decision, height):
            self.verified = height
            self.count("sync_heights")
            return True
        self.shun(peer, f"its decision of height {height} is not valid")
        for other in [h for h, (source, _) in self.buffer.items() if source == peer]:
            self.forget(other)
        return False

    def forget(self, height: Height) -> tuple[Address, Decision]:
        peer, decision = self.buffer.pop(height)
        self.buffer_bytes -= compute_size(decision)
        return peer, decision

    def shun(self, peer: Address, reason: str) -> None:
        self.shunned.pop(peer, None)
        self.shunned[peer] = self.port.now() + SHUN
        if len(self.shunned) > MAX_SHUNNED:
            del self.shunned[next(iter(self.shunned))]
        self.count("sync_failures")
        self.port.log("warning", "sync failed", peer=f"0x{peer.hex()}", reason=reason)
        for first in [r.first for r in self.asked.values() if r.peer == peer]:
            del self.asked[first]

    def on_timer(self) -> None:
        now = self.port.now()
        late = [r for r in self.asked.values() if r.deadline <= now]
        if late:
            # Over a link that is thin or long no answer would ever be in time.
            self.timeout_ns = min(2 * self.timeout_ns, max(MAX_TIMEOUT, self.timeout_ns))
        for request in late:
            if request.first in self.asked:
                self.late.update(
                    {(r.peer, r.first): r for r in self.asked.values() if r.peer == request.peer}
                )
                while len(self.late) > MAX_LATE:
                    del self.late[next(iter(self.late))]
                self.shun(request.peer, f"no answer for height {request.first}")
        self.update()

    # ---- answering

    def on_get_decisions(self, peer: Peer, m: GetDecisions) -> None:
        self.serve(peer, m.first, m.count, bodies=True, recalled=False)

    def serve(self, peer: Peer, first: Height, count: int, *, bodies: bool, recalled: bool) -> None:
        """Read decisions and send them, to the sync of a peer or to its engine."""
        # An engine asks for headers and for several runs of blocks at a time.
        limit = self.settings.serve_requests * (ENGINE_REQUESTS if recalled else 1)
        if recalled and peer.serving >= limit and len(peer.waiting) < MAX_WAITING:
            peer.waiting.append((first, count, bodies))
            self.count("sync_waited")
            return
        if not self.parts.admit(peer, limit):
            return
        self.count("sync_served")
        application, limit = self.application, self.settings.sync_reply_bytes

        def read() -> tuple[list[Decision], Height]:
            decisions: list[Decision] = []
            size = 0
            for height in range(first, first + count):
                found = application.decision(height)
                if found is None or size >= limit:
                    break
                _, certificate, payloads = found
                decision = Decision(height, payloads if bodies else [], certificate)
                decisions.append(decision)
                size += compute_size(decision)
            return decisions, 0 if decisions else application.first_held()

        self.port.work(
            "read",
            guard("cannot read decisions", read),
            lambda outcome: self.on_read(peer, first, outcome, recalled),
        )

    def on_read(
        self,
        peer: Peer,
        first: Height,
        outcome: Outcome[tuple[list[Decision], Height]],
        recalled: bool,
    ) -> None:
        peer.serving -= 1
        if outcome.value is None:
            self.execution.fail(outcome.error or "")
            return
        decisions, base = outcome.value
        if not peer.greeted:
            peer.waiting.clear()
            return
        if recalled:
            self.port.send(peer.address, encode(Recalled(decisions)))
            if peer.waiting:
                at, count, bodies = peer.waiting.pop(0)
                self.serve(peer, at, count, bodies=bodies, recalled=True)
        elif base > first:
            self.port.send(peer.address, encode(Pruned(first, base)))
        else:
            self.port.send(peer.address, encode(Decisions(first, decisions)))

    def count(self, name: str, n: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + n


def compute_size(decision: Decision) -> int:
    return sum(map(len, decision.payloads)) + len(decision.certificate)
