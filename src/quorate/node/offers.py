"""The state as others take it over (`states.py`): what is offered, and for how long it is kept.

Snapshots are offered at multiples of a height that members have in common, so that a download does
not race with what is new, and below the last height, whose certificate vouches for the block. One
is described when somebody asks: in bounded steps, since to hash a large state takes minutes; who
asked is answered when that is done, and whoever could not wait asks again.

While somebody downloads, the state is not pruned, and neither are the blocks after it, which are
needed next. Meanwhile others are offered the same, so that however many download, a network that
makes a thousand heights a minute holds back one of them.
"""

from typing import Final

from quorate.base.errors import Unavailable
from quorate.base.types import MILLISECOND, SECOND, Address, Height, Nanoseconds
from quorate.crypto.hashes import HEAD_BYTES, hash_body
from quorate.ledger.application import Snapshot
from quorate.node.execution import Outcome, guard
from quorate.node.parts import Parts
from quorate.node.peers import Allowance, Peer
from quorate.node.settings import Settings
from quorate.node.states import NONE
from quorate.node.wire import MAX_CHUNK_BYTES, MAX_CHUNKS, Chunk, GetChunk, GetState, State, encode

__all__ = ["Offers", "compute_interval"]

KEPT: Final = 2
"""Snapshots that are offered; a newer one replaces the oldest."""
IN_USE: Final = 60 * SECOND
"""A snapshot of which a chunk was asked for so lately is being downloaded."""
LIFE: Final = 3600 * SECOND
"""Nobody is told to begin with an older one."""
LONGEST: Final = 24 * LIFE
"""No download lasts longer: whoever goes on asking does not hold back pruning for ever."""
ANSWERS: Final = 2
"""A peer is told of an offer so often in a second."""
MAX_WAITING: Final = 1024


class Offer:
    """A snapshot that can be downloaded."""

    __slots__ = ("asked_at", "frame", "made_at", "message", "snapshot", "told_at")

    def __init__(self, message: State, snapshot: Snapshot, now: Nanoseconds) -> None:
        self.message, self.snapshot = message, snapshot
        self.frame = encode(message)
        self.made_at = self.asked_at = now
        self.told_at: Nanoseconds | None = None
        """When a chunk was asked for last."""

    def is_in_use(self, now: Nanoseconds) -> bool:
        return (
            self.told_at is not None and now - self.told_at < IN_USE and now - self.made_at < LIFE
        )


class Offers:
    """The snapshots that one node serves."""

    __slots__ = (
        "allowances",
        "application",
        "counters",
        "execution",
        "failed",
        "interpreter",
        "interval",
        "making",
        "offers",
        "parts",
        "port",
        "settings",
        "waiting",
    )

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.port, self.settings, self.counters = parts.port, parts.settings, parts.counters
        self.application, self.execution = parts.application, parts.execution
        self.interpreter = parts.interpreter
        self.interval = compute_interval(parts.settings)
        self.allowances: dict[Address, Allowance] = {}
        self.offers: dict[Height, Offer] = {}
        self.making: Height = 0
        """What is being described; 0: nothing."""
        self.waiting: dict[Address, tuple[Peer, Height]] = {}
        """Who is told when that is done, and above which height."""
        self.failed: Height = 0
        """What could not be described; it is not tried again."""

    # ---- what is offered

    def on_get_state(self, peer: Peer, m: GetState) -> None:
        if not self.interval or not self.interpreter.replica.TAKES_STATE:
            self.port.send(peer.address, encode(NONE))
            return
        newest = (self.execution.durable - 1) // self.interval * self.interval
        offer = self.find(newest, m.above)
        if offer is not None:
            self.tell(peer, offer)
        elif newest <= max(m.above, self.failed):
            self.port.send(peer.address, encode(NONE))
        elif peer.address in self.waiting or len(self.waiting) < MAX_WAITING:
            self.waiting[peer.address] = (peer, m.above)
            if not self.making:
                self.making = newest
                self.describe()

    def tell(self, peer: Peer, offer: Offer) -> None:
        """Tell a peer of an offer, which may be large, while the question is small."""
        now = offer.asked_at = self.port.now()
        allowance = self.allowances.pop(peer.address, None) or Allowance(ANSWERS)
        self.allowances[peer.address] = allowance
        if len(self.allowances) > MAX_WAITING:
            del self.allowances[next(iter(self.allowances))]
        if allowance.take(1, now):
            self.port.send(peer.address, offer.frame)
        else:
            self.parts.peers.strike(peer, "state_requests")

    def find(self, newest: Height, above: Height) -> Offer | None:
        """The offer for somebody who is at a height, if there is one already."""
        now = self.port.now()
        self.forget_old(now)
        found = self.offers.get(newest)
        if found is None:
            used = [h for h, o in self.offers.items() if h > above and o.is_in_use(now)]
            found = self.offers[max(used)] if used else None
        return found if found is not None and found.message.height > above else None

    def forget_old(self, now: Nanoseconds) -> None:
        kept = self.settings.state_kept_ms * MILLISECOND
        for height, offer in list(self.offers.items()):
            if now - offer.asked_at >= kept or now - offer.made_at >= LONGEST:
                del self.offers[height]

    def forget(self) -> None:
        """The states that were offered are gone."""
        self.offers.clear()

    def get_pinned(self) -> Height | None:
        """The first height of which others may yet need the state, or the blocks after it."""
        self.forget_old(self.port.now())
        heights = [*self.offers, self.making] if self.making else [*self.offers]
        return min(heights, default=None)

    def describe(self) -> None:
        """Take the next step towards a snapshot, on the lane of reads: others come in between."""
        height = self.making
        self.port.work(
            "read",
            guard("cannot describe the state", lambda: self.take_step(height)),
            self.on_step,
        )

    def take_step(self, height: Height) -> tuple[State, Snapshot | None]:
        """Return a finished offer; `NONE` while it is not. Slow."""
        application = self.application
        lower, upper = application.decision(height), application.decision(height + 1)
        if lower is None or upper is None or len(upper[2]) != 1:
            raise Unavailable("the blocks that vouch for it are not held")
        snapshot = application.describe_state(height, self.settings.state_chunk_bytes)
        if snapshot is None:
            return NONE, None
        if len(snapshot.chunks) > MAX_CHUNKS:
            raise Unavailable(
                f"{len(snapshot.chunks)} chunks, expected at most {MAX_CHUNKS}: "
                "the state is too large to be told"
            )
        payload = upper[2][0]
        head, body = payload[:HEAD_BYTES], hash_body(payload[HEAD_BYTES:])
        return (
            State(
                height,
                snapshot.block,
                lower[0],
                lower[1],
                upper[1],
                head,
                body,
                snapshot.members,
                snapshot.chunks,
            ),
            snapshot,
        )

    def on_step(self, outcome: Outcome[tuple[State, Snapshot | None]]) -> None:
        if outcome.value is None:
            # Others execute their way here, or ask again when there is a newer height.
            self.port.log("warning", "no state offered", reason=outcome.error)
            self.failed, self.making = self.making, 0
            self.answer(None)
            return
        message, snapshot = outcome.value
        if snapshot is None:
            self.describe()
            return
        self.making = 0
        offer = self.offers[message.height] = Offer(message, snapshot, self.port.now())
        while len(self.offers) > KEPT:
            del self.offers[min(self.offers)]
        self.answer(offer)

    def answer(self, offer: Offer | None) -> None:
        """Tell those who wait."""
        waiting, self.waiting = self.waiting, {}
        for peer, above in waiting.values():
            if not peer.greeted:
                continue
            if offer is not None and offer.message.height > above:
                self.tell(peer, offer)
            else:
                self.port.send(peer.address, encode(NONE))

    # ---- chunks

    def on_get_chunk(self, peer: Peer, m: GetChunk) -> None:
        offer = self.offers.get(m.height)
        if (
            offer is None
            or offer.message.block != m.block
            or m.number >= len(offer.snapshot.chunks)
        ):
            self.port.send(peer.address, encode(Chunk(m.height, m.number, b"")))
            return
        if not self.parts.admit(peer, self.settings.serve_requests):
            return
        offer.told_at = offer.asked_at = self.port.now()
        application, snapshot = self.application, offer.snapshot

        def read() -> bytes:
            chunk = application.export_state(snapshot, m.number)
            return chunk if chunk is not None and len(chunk) <= MAX_CHUNK_BYTES else b""

        self.port.work(
            "read",
            guard("cannot read the state", read),
            lambda outcome: self.on_read(peer, m, outcome),
        )

    def on_read(self, peer: Peer, m: GetChunk, outcome: Outcome[bytes]) -> None:
        peer.serving -= 1
        if outcome.value is None:
            self.execution.fail(outcome.error or "")
            return
        if not outcome.value:
            self.offers.pop(m.height, None)
        if peer.greeted:
            self.count("chunks_served")
            self.port.send(peer.address, encode(Chunk(m.height, m.number, outcome.value)))

    def count(self, name: str, n: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + n


def compute_interval(settings: Settings) -> Height:
    """Return the multiples of which heights are offered: such that one is always held whose state
    and whose blocks are not about to be pruned. A power of two, so that members that keep
    differently have heights in common.
    """
    interval = settings.state_interval
    for kept in (settings.state_history, settings.block_history):
        if kept and interval > kept // 2:
            interval = 1 << max((kept // 2).bit_length() - 1, 0)
    return interval
