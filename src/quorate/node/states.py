"""State sync: taking over the application's state at a height, instead of executing every height.

Who is far behind, or finds nobody who still holds the blocks that it lacks, asks its peers for the
newest snapshot that they offer. The engine judges what vouches for it. Then its chunks are fetched
from all who offer the same one, several at a time; each is compared with its hash when it comes and
kept durably, so that a restart goes on where it was. At last the application checks that the chunks
give the block that was vouched for, and replaces its state at once: a crash leaves the old state or
the new one. While that happens nothing is executed; until then the node goes on as ever, and gives
the download up if it gets as far by itself.

Nothing that was offered is believed before it is built; whoever told something wrong is left out
of the attempts of the next minutes, so that others are heard. `offers.py` is the other side.
"""

from collections.abc import Callable
from typing import Final

from quorate.base.errors import Invalid
from quorate.base.types import MILLISECOND, SECOND, Address, Nanoseconds
from quorate.consensus.replica import StateClaim, Timer
from quorate.crypto.hashes import HEAD_BYTES, keccak256
from quorate.ledger.application import Executed, Snapshot
from quorate.ledger.payload import parse_head
from quorate.node.execution import Outcome, guard
from quorate.node.parts import Parts
from quorate.node.peers import Peer
from quorate.node.wire import Chunk, GetChunk, GetState, State, encode

STATE_TIMER: Final = Timer("node.state")
REST: Final = 5 * SECOND
"""After an attempt that came to nothing, blocks are fetched for so long at least."""
SHUN: Final = 600 * SECOND
"""Whoever told something wrong is not asked for so long."""
MAX_SHUNNED: Final = 256
NONE: Final = State(0, bytes(32), bytes(32), b"", b"", b"", bytes(32), [], [])


class StateSync:
    """The state sync of one node, both sides of it.

    `on_installed` is called when the application has jumped; `on_over` when an attempt is over.
    """

    __slots__ = (
        "application",
        "asked",
        "counters",
        "execution",
        "heard",
        "interpreter",
        "late",
        "missing",
        "offer",
        "on_installed",
        "on_over",
        "peers",
        "phase",
        "port",
        "requests",
        "rests_until",
        "settings",
        "shunned",
        "snapshot",
        "sources",
        "timeout_ns",
        "writing",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        on_installed: Callable[[Executed], None],
        on_over: Callable[[], None],
    ) -> None:
        self.port, self.settings, self.counters = parts.port, parts.settings, parts.counters
        self.application, self.peers = parts.application, parts.peers
        self.execution, self.interpreter = parts.execution, parts.interpreter
        self.on_installed, self.on_over = on_installed, on_over
        self.phase = ""
        """"asking", "fetching", "installing", or nothing."""
        self.rests_until: Nanoseconds = 0
        self.timeout_ns: Nanoseconds = 0
        """How long an answer may take; longer after each that did not come."""
        self.asked: dict[Address, None] = {}
        """Peers whose offer is awaited."""
        self.heard: dict[Address, None] = {}
        """All that were asked in this attempt."""
        self.offer = NONE
        self.snapshot: Snapshot | None = None
        self.sources: dict[Address, None] = {}
        """Who offered it."""
        self.missing: list[int] = []
        """Chunks that nobody was asked for yet, the last one next."""
        self.requests: dict[int, tuple[Address, Nanoseconds]] = {}
        """Chunks under way: who was asked, and until when."""
        self.writing = 0
        """Chunks that are being kept."""
        self.late: dict[Address, None] = {}
        """Peers whose answer did not come in time and may come yet."""
        self.shunned: dict[Address, Nanoseconds] = {}
        """Peers that told something wrong, and until when they are not asked."""

    # ---- asking

    def is_active(self) -> bool:
        return bool(self.phase)

    def begin(self) -> bool:
        """Ask who offers a snapshot, if that may help; whether anybody was asked."""
        now = self.port.now()
        if self.phase or now < self.rests_until or not self.interpreter.replica.TAKES_STATE:
            return bool(self.phase)
        height = self.execution.final.height
        if self.peers.get_best_height() <= height:
            return False
        self.phase = "asking"
        self.timeout_ns = self.settings.sync_timeout_ms * MILLISECOND
        self.widen()
        self.count("state_searches")
        self.port.set_timer(STATE_TIMER, self.timeout_ns)
        return True

    def widen(self) -> None:
        """Ask those too who came, or got ahead, since the attempt began."""
        height, now = self.execution.final.height, self.port.now()
        for peer in self.peers.connected.values():
            is_shunned = self.shunned.get(peer.address, 0) > now
            if peer.height > height and peer.address not in self.heard and not is_shunned:
                self.heard[peer.address] = self.asked[peer.address] = None
                self.port.send(peer.address, encode(GetState(height)))

    def stop(self, reason: str) -> None:
        """Leave it at that for a while; chunks that are kept may serve another attempt."""
        self.port.log("info", "no state taken over", reason=reason)
        self.count("state_stops")
        self.reset()
        self.rests_until = self.port.now() + REST
        self.on_over()

    def reset(self) -> None:
        self.phase = ""
        self.offer, self.snapshot = NONE, None
        self.late.update(self.asked)
        while len(self.late) > MAX_SHUNNED:
            del self.late[next(iter(self.late))]
        self.asked, self.heard = {}, {}
        self.sources, self.requests, self.missing = {}, {}, []
        self.port.cancel_timer(STATE_TIMER)

    def on_state(self, peer: Peer, m: State) -> None:
        """A peer says what it offers."""
        if peer.address not in self.asked:
            if peer.address in self.late:
                # To describe a large state takes its time: who asks again hears it at once.
                del self.late[peer.address]
            else:
                self.peers.strike(peer, "unasked_state")
            return
        del self.asked[peer.address]
        if m.height > self.execution.delivered:
            fault = self.find_fault(peer.address, m)
            if fault:
                self.count("states_refused")
                self.port.log(
                    "warning", "snapshot refused", peer=f"0x{peer.address.hex()}", reason=fault
                )
            elif self.phase == "asking":
                self.choose(peer, m)
            elif self.snapshot == make_snapshot(m):
                self.sources[peer.address] = None
                self.ask()
        if self.phase == "asking" and not self.asked:
            self.stop("nobody offers one that helps")

    def find_fault(self, peer: Address, m: State) -> str:
        """Say why an offer cannot be taken, or ""."""
        if len(m.head) != HEAD_BYTES or len(m.members) != 3 or not m.chunks:
            return "it lacks a part"
        try:
            block = parse_head(m.head)[0]
        except Invalid as error:
            return str(error)
        if block != m.block:
            return f"block 0x{m.block.hex()}, and the next payload follows 0x{block.hex()}"
        payload = keccak256(m.head + m.body)
        claim = StateClaim(
            peer, m.height, m.envelope, m.certificate, m.next_certificate, payload, m.members
        )
        return self.interpreter.replica.find_state_fault(claim)

    def choose(self, peer: Peer, m: State) -> None:
        """Begin with a snapshot, or go on with it."""
        self.phase, self.offer = "fetching", m
        self.snapshot = snapshot = make_snapshot(m)
        self.sources = {peer.address: None}
        self.writing += 1
        application = self.application
        self.port.log("info", "taking over a state", height=m.height, chunks=len(m.chunks))
        self.port.work(
            "commit",
            guard("cannot read kept chunks", lambda: application.list_kept(snapshot)),
            lambda outcome: self.on_kept(snapshot, outcome),
        )

    def on_kept(self, snapshot: Snapshot, outcome: Outcome[list[int]]) -> None:
        self.writing -= 1
        if outcome.value is None:
            self.execution.fail(outcome.error or "")
        elif snapshot is self.snapshot:
            kept = dict.fromkeys(outcome.value)
            self.missing = [n for n in reversed(range(len(snapshot.chunks))) if n not in kept]
            if kept:
                self.count("chunks_found", len(kept))
            self.ask()

    def ask(self) -> None:
        """Send requests as far as bounds allow; install when nothing is missing."""
        if self.phase != "fetching" or self.is_overtaken():
            return
        now, offer = self.port.now(), self.offer
        while self.missing and len(self.requests) + self.writing < self.settings.sync_requests:
            peer = self.choose_source()
            if peer is None:
                break
            number = self.missing.pop()
            self.requests[number] = (peer, now + self.timeout_ns)
            self.port.send(peer, encode(GetChunk(offer.height, offer.block, number)))
        if not (self.missing or self.requests or self.writing):
            self.phase = "installing"
            self.execution.hold()
            self.install()
        elif self.missing and not self.requests and not self.writing:
            if self.asked:
                # Others may offer the same.
                self.port.set_timer(STATE_TIMER, self.timeout_ns)
            else:
                self.stop("nobody is left who serves it")
        elif self.requests:
            soonest = min(deadline for _, deadline in self.requests.values())
            self.port.set_timer(STATE_TIMER, max(soonest - now, MILLISECOND))

    def is_overtaken(self) -> bool:
        """Whether this node has come as far by itself; then the download is over."""
        if self.execution.delivered < self.offer.height:
            return False
        self.stop("no longer behind")
        return True

    def choose_source(self) -> Address | None:
        """The least busy connected peer that offers the snapshot."""
        busy = dict.fromkeys(self.sources, 0)
        for peer, _ in self.requests.values():
            busy[peer] = busy.get(peer, 0) + 1
        free = [
            peer
            for peer in self.sources
            if peer in self.peers.connected and busy[peer] < self.settings.serve_requests
        ]
        return min(free, key=lambda peer: (busy[peer], peer), default=None)

    def on_chunk(self, peer: Peer, m: Chunk) -> None:
        snapshot = self.snapshot
        request = self.requests.get(m.number)
        if (
            snapshot is None
            or request is None
            or request[0] != peer.address
            or m.height != snapshot.height
        ):
            # Perhaps it comes late, and another peer has been asked.
            self.count("chunks_unasked")
            return
        del self.requests[m.number]
        if keccak256(m.data) != snapshot.chunks[m.number]:
            self.missing.append(m.number)
            self.count("chunks_refused")
            if m.data:
                self.shun(peer.address, "a wrong chunk")
            else:
                self.leave(peer.address, "does not have it any more")
            self.ask()
            return
        self.count("chunks_fetched")
        self.writing += 1
        application, number, data = self.application, m.number, m.data

        def keep() -> bool:
            application.keep_chunk(snapshot, number, data)
            return True

        self.port.work("commit", guard("cannot keep a chunk", keep), self.on_written)
        self.ask()

    def on_written(self, outcome: Outcome[bool]) -> None:
        self.writing -= 1
        if outcome.value is None:
            self.execution.fail(outcome.error or "")
        else:
            self.ask()

    def leave(self, peer: Address, reason: str) -> None:
        """Ask a peer for nothing more of this snapshot."""
        self.sources.pop(peer, None)
        again = [number for number, (source, _) in self.requests.items() if source == peer]
        for number in again:
            del self.requests[number]
        self.missing += again
        self.port.log("warning", "state sync failed", peer=f"0x{peer.hex()}", reason=reason)

    def shun(self, peer: Address, reason: str) -> None:
        """Ask a peer for nothing more for a while: what it told was wrong."""
        self.shunned.pop(peer, None)
        self.shunned[peer] = self.port.now() + SHUN
        if len(self.shunned) > MAX_SHUNNED:
            del self.shunned[next(iter(self.shunned))]
        self.leave(peer, reason)

    def on_timer(self) -> None:
        now = self.port.now()
        if self.phase == "asking":
            self.stop("no answer")
        elif self.phase == "fetching":
            late = [peer for peer, deadline in self.requests.values() if deadline <= now]
            if late:
                self.timeout_ns *= 2
            elif not self.requests:
                self.asked = {}
            for peer in dict.fromkeys(late):
                if len(self.sources) > 1:
                    self.leave(peer, "no answer")
                else:
                    # Links lose: the only one that serves is asked again, some times.
                    self.ask_again(peer, now)
            self.ask()
        elif self.phase == "installing":
            self.install()

    def ask_again(self, peer: Address, now: Nanoseconds) -> None:
        if self.timeout_ns > 64 * self.settings.sync_timeout_ms * MILLISECOND:
            self.leave(peer, "no answer")
            return
        late = [n for n, (_, deadline) in self.requests.items() if deadline <= now]
        for number in late:
            del self.requests[number]
        self.missing += late

    # ---- installing

    def install(self) -> None:
        """Replace the state as soon as nothing is being executed or written."""
        if not self.execution.is_idle():
            self.port.set_timer(STATE_TIMER, MILLISECOND)
            return
        if self.execution.delivered >= self.offer.height:
            self.execution.resume()
            self.stop("no longer behind")
            return
        application, offer, snapshot = self.application, self.offer, self.snapshot
        assert snapshot is not None

        def replace() -> tuple[Executed | None, str]:
            try:
                return application.import_state(snapshot, offer.envelope, offer.certificate), ""
            except Invalid as error:
                return None, str(error)

        self.port.work("commit", guard("cannot take over a state", replace), self.on_replaced)

    def on_replaced(self, outcome: Outcome[tuple[Executed | None, str]]) -> None:
        if outcome.value is None:
            self.execution.fail(outcome.error or "")
            return
        executed, refusal = outcome.value
        if executed is None:
            self.count("states_refused")
            self.execution.resume()
            for peer in list(self.sources):
                # All of them told the same.
                self.shun(peer, refusal)
            self.stop(refusal)
            return
        self.count("states_taken")
        self.port.log("info", "state taken over", height=executed.height)
        self.reset()
        self.on_installed(executed)
        self.on_over()

    def count(self, name: str, n: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + n


def make_snapshot(m: State) -> Snapshot:
    """Return what an offer says of the state."""
    return Snapshot(m.height, m.block, m.members, m.chunks)
