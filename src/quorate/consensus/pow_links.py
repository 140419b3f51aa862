"""What a proof-of-work replica makes of what its peers tell it, and how it fetches what is missing.

Fetching. Headers first: whoever tells of more work than we know of is asked for headers after the
newest that we share (a locator, as in Bitcoin), and each header's work is verified. Then bodies are
fetched along the heaviest headers, from several peers at a time, each request with a deadline. A
peer that does not answer is left alone for a while, longer each time. Blocks that are final at the
peer come as decisions.

Nothing that a peer tells is believed: a claim of work counts until its headers do not show it.
Every table here is bounded, per peer and in total.
"""

from abc import abstractmethod

from quorate.base.errors import Invalid
from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.base.types import MILLISECOND, Address, Hash, Height, Nanoseconds
from quorate.consensus.pow_difficulty import compute_work
from quorate.consensus.pow_headers import Header, decode_certificate, decode_header
from quorate.consensus.pow_peers import Orphan, Orphans, Peer
from quorate.consensus.pow_relay import Relay
from quorate.consensus.pow_tree import INVALID, VALID, Node
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
from quorate.consensus.replica import (
    Keys,
    Recalled,
    Send,
    SetTimer,
    Timer,
)
from quorate.crypto.hashes import HEAD_BYTES, hash_payload, keccak256, read_timestamp

MAX_ASKING = 2
"""Peers that are asked for headers at a time."""
MAX_FLYING = 32
"""Blocks that one peer is asked for at a time."""
MIN_WORTH_SHARE = 16
"""An orphan has at least the work of a block at the tip over this."""
WINDOW = 256
"""Blocks over the linked ones whose bodies are fetched."""
MAX_DOUBLINGS = 4
MAX_CLAIMS = 3
"""Requests in a row that a peer may leave without an answer before its claim is forgotten."""
FETCH_TIMER = Timer("fetch")


@mypyc_attr(allow_interpreted_subclasses=True)
class Links(Relay):
    """The part of the engine that hears peers and asks them; `Pow` judges, chooses and mines."""

    __slots__ = ("fetch_due", "fetched_at", "flying", "orphans", "refused")

    def __init__(self, keys: Keys, chain: Hash, rng: Rng, settings: Settings) -> None:
        super().__init__(keys, chain, rng, settings)
        self.flying: dict[Hash, Address] = {}
        """Who was asked for each block that is on its way."""
        self.orphans = Orphans()
        self.fetch_due: Nanoseconds = 0
        self.fetched_at: Nanoseconds = 0
        """When it was last looked whom to ask for what."""
        self.refused: tuple[int, Height] | None = None
        """A heavier chain that forks below the last final block: the work that was told of it, and
        where.
        """

    # ---- peers come and go

    def met(self, now: Nanoseconds, peer: Address) -> None:
        known = self.get_peer(now, peer)
        known.is_here, known.unheeded = True, 0
        self.tell(peer)

    def parted(self, now: Nanoseconds, peer: Address) -> None:
        known = self.peers.get(peer)
        if known is None:
            return
        known.is_here, known.claim, known.asked_until = False, 0, 0
        for hash in known.flying:
            self.flying.pop(hash, None)
        known.flying = {}
        self.fetch(now)

    # ---- hearing of blocks

    def on_announce(self, now: Nanoseconds, sender: Address, m: Announce) -> None:
        peer = self.get_peer(now, sender)
        head = self.tree.head
        if head.header is not None and m.header == head.header.raw:
            # What most peers tell most of the time.
            peer.final, peer.seen, peer.claim = m.final, head.hash, head.work
            return
        header = self.decode(sender, m.header)
        if header is None:
            return
        peer.final, peer.seen = m.final, header.hash
        node = self.tree.blocks.get(header.hash)
        if node is None and header.parent in self.tree.blocks:
            node = self.accept_header(sender, header)
            if node is None:
                return
        claim = int.from_bytes(m.work, "big")
        peer.claim = claim if node is None else node.work
        if node is not None and node.verdict == INVALID:
            self.drop("invalid_block")
            peer.claim = 0
        elif (node is None or node.verdict != VALID) and not self.is_too_much(now, sender):
            # What leads to questions is heard as often as questions are answered.
            self.proceed(now)

    def on_block(self, now: Nanoseconds, sender: Address, m: Block) -> None:
        peer = self.get_peer(now, sender)
        header = self.decode(sender, m.header)
        if header is None:
            return
        landed = self.land(sender, peer, header.hash)
        peer.seen, peer.has_sent = header.hash, True
        node = self.tree.blocks.get(header.hash)
        if node is None and header.parent not in self.tree.blocks:
            self.keep_orphan(now, sender, peer, header, m.payload)
            return
        if node is None:
            node = self.accept_header(sender, header)
        if node is not None:
            peer.claim = max(peer.claim, node.work)
            if node.payload is not None and not landed:
                self.drop("known_block")
                return
            self.accept_body(sender, node, m.payload)
        self.proceed(now)

    def on_recalled(self, now: Nanoseconds, sender: Address, m: Recalled) -> None:
        """Headers or whole blocks out of a peer's store."""
        peer = self.get_peer(now, sender)
        if not peer.remaining and not peer.flying:
            self.drop("unasked")
            return
        bodies = {}
        raws = []
        for decision in m.decisions:
            try:
                header = decode_certificate(decision.certificate).header
            except Invalid:
                self.blame(sender, "a malformed certificate")
                return
            raws.append(header.raw)
            if decision.payloads:
                bodies[header.hash] = decision.payloads[0]
        if bodies:
            for hash, payload in bodies.items():
                self.land(sender, peer, hash)
                node = self.tree.blocks.get(hash)
                if node is not None:
                    self.accept_body(sender, node, payload)
            # The answer ends where it grew too long: what was asked for with it, and lies beyond,
            # is asked for again. Other requests to the same peer are still under way.
            last, end = m.decisions[-1].height, m.decisions[0].height + MAX_BLOCKS
            for hash in [h for h in peer.flying if last < self.get_height(h) < end]:
                self.land(sender, peer, hash)
        elif peer.remaining:
            is_news = self.take_headers(now, sender, peer, raws)
            peer.is_showing = is_news
            if not raws:
                self.leave(now, peer)
        self.proceed(now)

    def decode(self, sender: Address, raw: bytes) -> Header | None:
        try:
            return decode_header(raw)
        except Invalid:
            self.blame(sender, "a malformed header")
            return None

    def accept_header(self, sender: Address, header: Header) -> Node | None:
        """Take a header whose parent is known into the tree, if nothing is wrong with it."""
        tree = self.tree
        parent = tree.blocks[header.parent]
        problem = tree.judge(header, parent)
        if not problem and not self.keys.verify_seal(
            header.get_sealed(), header.nonce, header.target
        ):
            problem = "a header without its work"
        if problem:
            self.drop("invalid_header")
            self.blame(sender, problem)
            return None
        if self.is_early(header):
            self.drop("early_block")
            return None
        if tree.is_full():
            self.drop("tree_full")
            return None
        node = tree.add(header, parent)
        self.adopt_orphans(node)
        return node

    def accept_body(self, sender: Address, node: Node, payload: bytes) -> None:
        """Take the body of a block in the tree."""
        header = node.header
        assert header is not None
        if node.payload is not None or node.verdict == INVALID or node is self.tree.root:
            self.drop("known_block")
            return
        if len(payload) < HEAD_BYTES or hash_payload(payload) != header.payload_hash:
            self.blame(sender, "a payload that is not the header's")
            return
        if read_timestamp(payload) != header.timestamp_ms or payload[12:32] != header.proposer:
            # The header commits to it, so whoever made the header made this.
            self.blame(sender, "a header that differs from its payload")
            self.tree.condemn(node)
            return
        node.payload, node.from_whom = payload, sender
        self.tree.link(node)

    @abstractmethod
    def advance(self, now: Nanoseconds) -> None:
        """Something may have been linked: have it judged, and follow it."""

    # ---- orphans

    def keep_orphan(
        self, now: Nanoseconds, sender: Address, peer: Peer, header: Header, payload: bytes
    ) -> None:
        """Keep a block until its parent is here, and ask for what lies between."""
        if header.height <= self.tree.root.height or header.hash in self.orphans.by_hash:
            self.drop("old_block")
            return
        if not self.has_worth(header, self.tree.best):
            self.drop("cheap_orphan")
            return
        self.orphans.add(Orphan(header, payload, sender))
        if not peer.remaining and peer.quiet_until <= now:
            self.ask_headers(now, sender, peer)

    def adopt_orphans(self, parent: Node) -> None:
        """A header was added: take the blocks that waited for it, and for one another."""
        tree = self.tree
        waiting = [parent]
        while waiting and self.orphans.by_hash:
            parent = waiting.pop()
            # Those of blocks below the last final one never find theirs.
            low, hash = tree.root.height, parent.hash
            found = self.orphans.take(lambda h: h.parent == hash or h.height <= low)  # noqa: B023
            for orphan in found:
                header = orphan.header
                if header.parent != hash or header.hash in tree.blocks:
                    continue
                if tree.judge(header, parent) or self.is_early(header) or tree.is_full():
                    continue
                waiting.append(tree.add(header, parent))
                self.accept_body(orphan.sender, waiting[-1], orphan.payload)

    def is_early(self, header: Header) -> bool:
        """Whether a block comes from the future. Our clock may be the one that is wrong, so nothing
        is held against it: it is told again while it is a tip.
        """
        return header.timestamp_ms > self.wall_ms + self.settings.future_ms

    # ---- headers

    def on_headers(self, now: Nanoseconds, sender: Address, m: Headers) -> None:
        peer = self.get_peer(now, sender)
        if not peer.remaining or len(m.headers) > peer.remaining:
            self.drop("unasked")
            return
        count = len(m.headers)
        is_news = self.take_headers(now, sender, peer, m.headers)
        peer.is_showing = is_news and count == MAX_HEADERS
        if count < MAX_HEADERS:
            # It told of more, or of less. Perhaps its tip has moved since; it will tell again.
            known = self.tree.blocks.get(keccak256(m.headers[-1])) if m.headers else None
            shown = self.tree.best.work if known is None else known.work
            peer.claim = min(peer.claim, shown)
        self.proceed(now)

    def take_headers(
        self, now: Nanoseconds, sender: Address, peer: Peer, raws: list[bytes]
    ) -> bool:
        """Take the answer to a request; whether it brought anything new and nothing wrong."""
        self.on_answered(peer)
        is_news = False
        for raw in raws:
            header = self.decode(sender, raw)
            if header is None:
                return False
            if header.hash in self.tree.blocks:
                continue
            if header.parent not in self.tree.blocks:
                self.on_unconnected(now, sender, peer, header)
                return False
            if self.accept_header(sender, header) is None:
                peer.claim = min(peer.claim, self.tree.best.work)
                return False
            is_news = True
        return is_news

    def on_answered(self, peer: Peer) -> None:
        """A request for headers is answered; `fetch` sends the next one if more is to come."""
        peer.remaining, peer.asked_until, peer.failures = 0, 0, 0

    def proceed(self, now: Nanoseconds) -> None:
        """The tree has grown: have blocks judged, and ask for what is missing now."""
        self.advance(now)
        self.fetch(now)

    def on_unconnected(self, now: Nanoseconds, sender: Address, peer: Peer, header: Header) -> None:
        """What a peer tells does not follow anything here: look further back, or refuse it."""
        root = self.tree.root
        if header.height > root.height + 1:
            self.ask_headers(now, sender, peer, below=header.height - 1)
            return
        if peer.claim > self.tree.head.work and self.has_worth(header, root):
            work, first = self.refused or (0, header.height)
            self.refused = (max(work, peer.claim), min(first, header.height))
        self.drop("fork_below_final")
        self.leave(now, peer)

    def has_worth(self, header: Header, place: Node) -> bool:
        """Whether there is work behind a header that cannot be judged, about as much as blocks
        over `place` take: otherwise telling it cost nothing.
        """
        floor = compute_work(place.next_target) // MIN_WORTH_SHARE
        return header.work >= floor and self.keys.verify_seal(
            header.get_sealed(), header.nonce, header.target
        )

    def look_at_refused(self) -> None:
        """A refused chain is people's business until the own tip is heavier by as much as makes a
        block final: two branches that are about equal would raise and end the alarm all the time.
        """
        if self.refused is not None:
            head = self.tree.head
            lead = self.settings.final_depth * compute_work(head.next_target)
            if head.work >= self.refused[0] + lead:
                self.refused = None

    def ask_headers(
        self, now: Nanoseconds, who: Address, peer: Peer, below: Height | None = None
    ) -> None:
        peer.remaining = MAX_HEADERS
        peer.asked_until = now + self.compute_patience(peer)
        self.out.append(Send(who, GetHeaders(self.tree.get_locator(below))))
        self.wake(now, peer.asked_until)

    # ---- bodies

    def fetch(self, now: Nanoseconds) -> None:
        """Ask for what is missing, as far as the bounds allow."""
        self.fetched_at = now
        asking = 0
        able: list[tuple[Address, Peer]] = []
        best = self.tree.best.work
        for who, peer in self.peers.items():
            if peer.remaining:
                asking += 1
            elif peer.claim > best and peer.quiet_until <= now:
                if able and peer.failures < able[0][1].failures:
                    # Who never answers does not keep those waiting who do.
                    able = []
                if not able or peer.failures == able[0][1].failures:
                    able.append((who, peer))
        if able and asking < MAX_ASKING:
            who, peer = able[self.rng.below(len(able))]
            self.ask_headers(now, who, peer)
        if best <= self.tree.goal.work:
            return
        requests: dict[Address, list[Place]] = {}
        chosen: Address | None = None
        after: Height = 0
        for node in self.list_missing():
            # What is final is asked of one peer in runs: a store is read, and answers, by runs.
            if not (
                chosen is not None
                and node.height == after <= self.peers[chosen].final
                and len(requests[chosen]) % MAX_BLOCKS
                and self.may_ask(now, self.peers[chosen], node)
            ):
                chosen = self.choose_peer(now, node)
            if chosen is None:
                continue
            after = node.height + 1
            self.flying[node.hash] = chosen
            deadline = now + self.compute_patience(self.peers[chosen])
            self.peers[chosen].flying[node.hash] = deadline
            self.wake(now, deadline)
            requests.setdefault(chosen, []).append((node.height, node.hash))
        for who, places in requests.items():
            for i in range(0, len(places), MAX_BLOCKS):
                self.out.append(Send(who, GetBlocks(places[i : i + MAX_BLOCKS])))

    def list_missing(self) -> list[Node]:
        """Blocks whose bodies are to be fetched, lowest first: along the heaviest headers, and on
        the way to the tips that peers tell of, should nobody have those bodies.
        """
        tree = self.tree
        if tree.best.work <= tree.goal.work:
            return []
        path, low = tree.best_path, self.find_unlinked()
        missing = {n.hash: n for n in path[low : low + WINDOW] if n.payload is None}
        for peer in self.peers.values():
            node = tree.blocks.get(peer.seen)
            if node is None or node is tree.best or node.work <= tree.goal.work:
                continue
            for _ in range(WINDOW):
                if node is None or node.is_linked or node.verdict == INVALID:
                    break
                if node.payload is None:
                    missing[node.hash] = node
                node = node.parent
        found = [node for node in missing.values() if node.hash not in self.flying]
        return sorted(found, key=lambda node: node.height)

    def find_unlinked(self) -> int:
        """Return how many blocks along the heaviest headers are linked: those share a beginning."""
        path = self.tree.best_path
        low, high = 0, len(path)
        while low < high:
            middle = (low + high) // 2
            if path[middle].is_linked:
                low = middle + 1
            else:
                high = middle
        return low

    def expects_blocks(self) -> bool:
        """Whether blocks of a chain that is heavier by far are here and judged, or may come from
        somebody who is here.

        Nothing is mined meanwhile. Headers alone hold up nobody: whoever shows them may keep the
        blocks to itself, or have gone.
        """
        if not self.is_behind():
            return False
        tree, at = self.tree, self.find_unlinked()
        if tree.goal is not tree.head or at == len(tree.best_path):
            return True
        node = tree.best_path[at]
        return any(self.may_have(self.fetched_at, peer, node) for peer in self.peers.values())

    def may_have(self, now: Nanoseconds, peer: Peer, node: Node) -> bool:
        """Whether a peer says that it has a block, and has not failed to answer again and again."""
        if not peer.is_here or peer.failures >= MAX_CLAIMS or peer.lacks.get(node.hash, 0) > now:
            return False
        return peer.seen == node.hash or peer.claim >= node.work

    def choose_peer(self, now: Nanoseconds, node: Node) -> Address | None:
        """The least busy peer that should have a block."""
        best: Address | None = None
        for who, peer in self.peers.items():
            if self.may_ask(now, peer, node) and (
                best is None or len(peer.flying) < len(self.peers[best].flying)
            ):
                best = who
        return best

    def may_ask(self, now: Nanoseconds, peer: Peer, node: Node) -> bool:
        """Whether a peer may be asked for a block: it should have it, and is not asked too much."""
        if not peer.is_here or peer.quiet_until > now or peer.lacks.get(node.hash, 0) > now:
            return False
        if len(peer.flying) >= max(MAX_FLYING >> peer.failures, 1):
            return False
        return peer.seen == node.hash or peer.claim >= node.work

    def on_missing(self, now: Nanoseconds, sender: Address, m: Missing) -> None:
        peer = self.get_peer(now, sender)
        # Who has just sent some of what was asked for has not sent the rest for its size.
        until = now if peer.has_sent else now + self.compute_patience(peer)
        peer.has_sent = False
        for _, hash in m.places:
            if hash in peer.flying:
                self.land(sender, peer, hash)
                peer.lacks[hash] = until
                self.wake(now, until)
        while len(peer.lacks) > WINDOW:
            del peer.lacks[next(iter(peer.lacks))]
        self.fetch(now)

    def get_height(self, hash: Hash) -> Height:
        node = self.tree.blocks.get(hash)
        return 0 if node is None else node.height

    def land(self, sender: Address, peer: Peer, hash: Hash) -> bool:
        """A block that a peer was asked for came, or will not; whether it was asked for."""
        if self.flying.get(hash) == sender:
            del self.flying[hash]
        if peer.flying.pop(hash, None) is None:
            return False
        peer.failures = 0
        return True

    # ---- time

    def wake(self, now: Nanoseconds, deadline: Nanoseconds) -> None:
        """Look at the requests again at a deadline, unless that happens earlier anyway."""
        if not self.fetch_due or deadline < self.fetch_due:
            self.fetch_due = deadline
            self.out.append(SetTimer(FETCH_TIMER, max(deadline - now, MILLISECOND)))

    def on_fetch_timer(self, now: Nanoseconds) -> None:
        """Give up what is late, and ask others."""
        self.fetch_due = 0
        for who, peer in self.peers.items():
            late = [hash for hash, deadline in peer.flying.items() if deadline <= now]
            is_late = bool(peer.remaining) and peer.asked_until <= now
            if not late and not is_late:
                continue
            for hash in late:
                del peer.flying[hash]
                if self.flying.get(hash) == who:
                    del self.flying[hash]
            if is_late:
                peer.remaining, peer.is_showing = 0, False
            self.drop("late_answer")
            self.leave(now, peer)
        for peer in self.peers.values():
            # Somebody left alone may be asked again then.
            if peer.quiet_until > now and peer.claim > self.tree.goal.work:
                self.wake(now, peer.quiet_until)
            for deadline in [*peer.flying.values(), peer.asked_until if peer.remaining else 0]:
                if deadline:
                    self.wake(now, deadline)
        self.fetch(now)

    def compute_patience(self, peer: Peer) -> Nanoseconds:
        """How long an answer may take: over a thin or long link none would ever be in time."""
        return self.settings.request_ms * MILLISECOND << min(peer.failures, MAX_DOUBLINGS)

    def leave(self, now: Nanoseconds, peer: Peer) -> None:
        """Ask a peer nothing for a while, longer each time."""
        peer.failures += 1
        pause = self.settings.request_ms * MILLISECOND << min(peer.failures, MAX_DOUBLINGS)
        peer.quiet_until = now + pause
        if peer.failures >= MAX_CLAIMS:
            peer.claim = min(peer.claim, self.tree.head.work)
        self.wake(now, peer.quiet_until)
