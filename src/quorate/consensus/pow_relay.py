"""What a proof-of-work replica tells its peers of blocks, asked or not.

Relay. A miner pushes its block to all its peers. Whoever finds a block to be its new tip tells some
of its peers, which fetch it if they have to: those that lately asked for what they were told, and
at times one by chance of the others, who evidently hear of blocks earlier from somebody else (lazy
links, as of Leitao, Pereira, Rodrigues, "Epidemic broadcast trees", 2007). So nobody who depends on
a peer waits, and nobody is left out for long. The tip is told again after some silence.

Answers. Blocks that are final here come out of the store (`Recall`), as decisions. Each peer may
ask so often, and be sent so much, in a second.
"""

from typing import ClassVar

from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.base.types import MILLISECOND, Address, Hash, Height, Nanoseconds
from quorate.consensus.certificate import ENVELOPE_BYTES
from quorate.consensus.pow_difficulty import compute_work
from quorate.consensus.pow_peers import Peer
from quorate.consensus.pow_tree import VALID, Tree, make_genesis_node
from quorate.consensus.pow_types import (
    MAX_BLOCKS,
    MAX_HEADERS,
    Announce,
    Block,
    GetBlocks,
    GetHeaders,
    Headers,
    Missing,
    Place,
    Settings,
)
from quorate.consensus.replica import Blame, Keys, Recall, Replica, Send

MAX_PEERS = 256
"""Peers that are remembered; those that were silent for longest make room."""
MAX_REPLY_BYTES = 4 << 20
ANSWER_NS: Nanoseconds = 5 * MILLISECOND
"""A peer may ask once in so long on average,"""
ANSWERS_AT_ONCE = 200
"""and so many times at once."""
ANSWER_BYTE_NS: Nanoseconds = 30
"""What is sent counts as well: this for each byte makes 33 MB a second."""
MAX_UNHEEDED = 2
"""Tips in a row that are told at once to a peer that asks for none of them."""
LAZY_NS: Nanoseconds = 2000 * MILLISECOND
"""Of blocks that came straight from their miners, who pushed them to others as well, one of those
that do not ask is told once in so long.
"""
BEHIND_BLOCKS = 8
"""Who knows of so much more work than the own tip has is catching up."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Relay(Replica):
    """The part of the engine that peers hear."""

    __slots__ = ("lazy_due", "peers", "settings", "tree")

    TREE: ClassVar[type[Tree]] = Tree
    """What keeps blocks and chooses among them."""

    def __init__(self, keys: Keys, chain: Hash, rng: Rng, settings: Settings) -> None:
        super().__init__(keys, chain, rng)
        self.settings = settings
        self.tree = self.TREE(settings, make_genesis_node(chain, settings))
        self.peers: dict[Address, Peer] = {}
        self.lazy_due: Nanoseconds = 0
        """When a peer that does not ask may be told of a tip again."""

    # ---- telling

    def get_peer(self, now: Nanoseconds, who: Address) -> Peer:
        peer = self.peers.get(who)
        if peer is None:
            if len(self.peers) >= MAX_PEERS:
                oldest = min(self.peers, key=lambda each: self.peers[each].heard_at)
                self.parted(now, oldest)
                del self.peers[oldest]
            peer = self.peers[who] = Peer()
        peer.heard_at = now
        return peer

    def make_announcement(self) -> Announce | None:
        """The tip, if there is a block yet."""
        head = self.tree.head
        if head.header is None:
            return None
        return Announce(head.header.raw, head.work.to_bytes(32, "big"), self.tree.root.height)

    def tell(self, who: Address) -> None:
        announcement = self.make_announcement()
        if announcement is not None:
            self.peers[who].seen = self.tree.head.hash
            self.out.append(Send(who, announcement))

    def relay(self, now: Nanoseconds) -> None:
        """Tell some of the peers that have not shown that they know the tip: the more have shown it
        beside the first, the fewer, but one (counters, as of Demers and others, 1987). Those that
        did not heed us lately have their turn whoever else asks for attention: one of them at once,
        if the block came by another way than from its miner, since we may be a bridge then.
        """
        most = self.settings.relay_peers
        announcement = self.make_announcement()
        if announcement is None or not most:
            return
        head = self.tree.head
        hash = head.hash
        is_direct = head.header is not None and head.from_whom == head.header.proposer
        eager: list[Address] = []
        lazy: list[Address] = []
        shown = 0
        for who, peer in self.peers.items():
            if not peer.is_here:
                continue
            if peer.seen == hash:
                shown += 1
            elif peer.unheeded < MAX_UNHEEDED:
                eager.append(who)
            else:
                lazy.append(who)
        count = max(most - max(shown - 1, 0), 1)
        chosen: list[Address] = []
        if lazy and (self.lazy_due <= now or not is_direct):
            self.lazy_due = now + LAZY_NS
            chosen.append(lazy[self.rng.below(len(lazy))])
        for _ in range(min(count, len(eager))):
            chosen += [eager.pop(self.rng.below(len(eager)))]
        for who in chosen:
            peer = self.peers[who]
            peer.seen = hash
            peer.unheeded += 1
            self.out.append(Send(who, announcement))

    # ---- answering

    def is_too_much(self, now: Nanoseconds, sender: Address) -> bool:
        """Whether a peer asks more than it may; answers are longer than questions."""
        peer = self.get_peer(now, sender)
        peer.served_until = max(peer.served_until, now) + ANSWER_NS
        if peer.served_until <= now + ANSWERS_AT_ONCE * ANSWER_NS:
            return False
        peer.served_until -= ANSWER_NS
        self.drop("too_many_questions")
        return True

    def charge(self, sender: Address, size: int) -> None:
        """Count what a peer was sent against what it may ask next."""
        self.peers[sender].served_until += size * ANSWER_BYTE_NS

    def on_get_headers(self, now: Nanoseconds, sender: Address, m: GetHeaders) -> None:
        if self.is_too_much(now, sender):
            return
        self.peers[sender].unheeded = 0
        tree = self.tree
        fork = tree.find_fork(m.locator)
        if fork is None:
            older = [height for height, _ in m.locator if height < tree.root.height]
            if older:
                self.out.append(Recall(sender, older[0] + 1, MAX_HEADERS, bodies=False))
                return
            fork = tree.root
        first = fork.height - tree.root.height
        nodes = tree.path[first : first + MAX_HEADERS]
        raws = [node.header.raw for node in nodes if node.header is not None]
        self.charge(sender, len(raws) * ENVELOPE_BYTES)
        self.out.append(Send(sender, Headers(raws)))

    def on_get_blocks(self, now: Nanoseconds, sender: Address, m: GetBlocks) -> None:
        if self.is_too_much(now, sender):
            return
        self.peers[sender].unheeded = 0
        final: list[Height] = []
        missing: list[Place] = []
        size = 0
        for height, hash in m.places:
            node = self.tree.blocks.get(hash)
            if height <= self.tree.root.height and height < min([*final, height]) + MAX_BLOCKS:
                final.append(height)
            elif (
                node is None
                or node.payload is None
                or node.verdict != VALID
                or (size > MAX_REPLY_BYTES)
            ):
                missing.append((height, hash))
            else:
                assert node.header is not None
                size += len(node.payload)
                self.out.append(Send(sender, Block(node.header.raw, node.payload)))
        if final:
            # One run of heights: whoever asks for more of them asks in order.
            first = min(final)
            self.out.append(Recall(sender, first, max(final) - first + 1, bodies=True))
        self.charge(sender, size)
        if missing:
            self.out.append(Send(sender, Missing(missing)))

    # ---- judging peers, and oneself

    def blame(self, who: Address, reason: str) -> None:
        if who and who != self.me:
            self.out.append(Blame(who, reason))

    def is_behind(self) -> bool:
        """Whether headers are here, their work verified, of a chain that is heavier by several
        blocks than the own tip.
        """
        tree = self.tree
        if tree.best is tree.head:
            return False
        ahead = tree.best.work - tree.head.work
        return ahead > BEHIND_BLOCKS * compute_work(tree.head.next_target)

    def is_learning(self) -> bool:
        """Whether more may soon be known of chains than is now: nothing becomes final meanwhile.

        Claims alone do not count, since they cost nothing.
        """
        return any(peer.is_showing and peer.remaining for peer in self.peers.values())

    def get_target(self) -> Height | None:
        return self.tree.best.height if self.is_behind() else None
