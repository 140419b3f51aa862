"""Proof of work: whoever finds the nonce makes the block, and all follow the heaviest chain.

Sources. Satoshi Nakamoto, "Bitcoin: A Peer-to-Peer Electronic Cash System", 2008 (sections by
number below). Garay, Kiayias, Leonardos, "The Bitcoin Backbone Protocol: Analysis and
Applications", EUROCRYPT 2015, for what is guaranteed: common prefix (honest tips differ in a
bounded number of blocks, save with a probability that falls exponentially in it), chain quality (a
share of the blocks is honest) and chain growth. Bitcoin Core for rules that the paper leaves open.

Model. Membership is open: identities cost nothing, hash power does. Synchrony: messages come in a
time that is short against the interval between blocks. Faults: Byzantine, with less than half of
the hash power (a third, where miners are selfish: Eyal, Sirer, 2014). Links may lose, repeat, delay
and reorder; what is lost is asked for again. Agreement is probabilistic: an attacker with a share
of the hash power replaces a block with the probability that `pow_difficulty` computes.

The rules.
* Block validity: a header follows a known one, is later than it, has the target that the chain
  prescribes and a seal that meets it (section 4); its payload is acceptable to the application.
* Chain selection: the chain with the most work (section 5), not the longest, since work is what an
  attacker has to spend; of equal ones the first seen. Only valid blocks count: a replica mines on,
  and calls tip, only what its application has executed (no SPV mining).
* Difficulty follows `interval_ms` (see `pow_difficulty`).
* Finality is local: a block `final_depth` below the tip is delivered, and a heavier branch that
  forks below it is refused, reported, and left to people.

Deviations. Timestamps are strictly later than the parent's, which is stronger than Bitcoin's median
of eleven; no block is final in Bitcoin. The header is the envelope of all engines (`pow_headers`).

Invariants. Every block of the path to the tip is valid. The work of the tip never falls. What was
delivered is on the path of every later tip. A block that was mined is durable before it is told.

Cost. A block is sent once to each peer of its miner; elsewhere it is told to `relay_peers` peers at
most and now and then to one of those that seldom ask.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from quorate.base.errors import Corrupt, Invalid
from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.base.types import MILLISECOND, Hash, Height, Member, Nanoseconds
from quorate.consensus.pow_headers import decode_certificate, decode_header, make_header, put_nonce
from quorate.consensus.pow_links import FETCH_TIMER, Links
from quorate.consensus.pow_situation import collect_facts, describe_alarm, describe_situation
from quorate.consensus.pow_tree import (
    VALID,
    Node,
    make_final_node,
    make_genesis_node,
)
from quorate.consensus.pow_types import (
    Announce,
    Block,
    GetBlocks,
    GetHeaders,
    Headers,
    Kept,
    Missing,
    Settings,
)
from quorate.consensus.replica import (
    NOTHING,
    Base,
    Broadcast,
    Check,
    Checkpoint,
    Deliver,
    Head,
    Keys,
    Message,
    Persist,
    Recalled,
    Record,
    Seal,
    SetTimer,
    Situation,
    Timer,
    Want,
)
from quorate.crypto.hashes import HEAD_BYTES, hash_payload, read_timestamp

MAX_AHEAD = 64
"""Heights that may be delivered and not yet applied."""
MAX_TEMPLATES = 4
"""Blocks that were being mined and may still come back sealed."""
HEADS_APART = 16
"""While catching up, the tip is told to the application once in so many blocks."""
STALE_NS: Nanoseconds = 10_000_000_000
"""A template is replaced after this long even if nothing else changes, for the sake of its time."""
CLOCK_NS: Nanoseconds = 1_000_000_000
"""How often the clock is looked at while a block has to wait for it."""
PATIENCE_NS: Nanoseconds = 5_000_000_000
"""After a start nothing becomes final for this long: peers have to be heard first."""
TEMPLATE_TIMER = Timer("template")
ANNOUNCE_TIMER = Timer("announce")
JUDGE_TIMER = Timer("judge")


class Template:
    """A block that is being mined."""

    __slots__ = ("header", "made_at", "parent", "payload")

    def __init__(self, header: bytes, payload: bytes, parent: Node, made_at: Nanoseconds) -> None:
        self.header, self.payload, self.parent, self.made_at = header, payload, parent, made_at


@mypyc_attr(allow_interpreted_subclasses=True)
class Pow(Links):
    """One node: a miner, or somebody who only follows."""

    __slots__ = (
        "announced_at",
        "applied_height",
        "checking",
        "final_bytes",
        "final_heights",
        "found",
        "is_forced",
        "is_sealing",
        "kept",
        "reorganizations",
        "started_at",
        "template_due",
        "templates",
        "wanted",
    )

    WIRE: ClassVar[tuple[type[Message], ...]] = (
        Recalled,
        Announce,
        GetHeaders,
        Headers,
        GetBlocks,
        Block,
        Missing,
    )
    RECORDS: ClassVar[tuple[type[Record], ...]] = (Kept,)
    TIMEOUTS: ClassVar[dict[str, Callable[[Any, Nanoseconds], None]]]
    ECHO: ClassVar[bool] = False
    OPEN: ClassVar[bool] = True

    def __init__(self, keys: Keys, chain: Hash, rng: Rng, settings: Settings) -> None:
        super().__init__(keys, chain, rng, settings)
        self.checking: Node | None = None
        """The block that the application judges."""
        self.kept: Node | None = None
        """After a start, the tip of the journal until it has been judged: readers have seen it, so
        it is the tip once more before another branch may take its place and give back what it held.
        """
        self.wanted: Node | None = None
        """Over which block a template was asked for."""
        self.is_forced = False
        """Whether that is needed even if nothing waits."""
        self.templates: list[Template] = []
        """The newest last."""
        self.template_due: Nanoseconds = 0
        """When its timer falls; 0: it does not run."""
        self.is_sealing = False
        self.applied_height: Height = 0
        self.started_at: Nanoseconds = 0
        self.announced_at: Nanoseconds = 0
        self.final_heights = self.final_bytes = 0
        """Since the last checkpoint."""
        self.found = 0
        """Blocks mined here since the start."""
        self.reorganizations: dict[int, int] = {}
        """How often the tip moved sideways, by the number of blocks that were abandoned (the last
        counts all deeper ones).
        """

    # ---- start

    def start(self, now: Nanoseconds, base: Base, journal: Iterable[Record]) -> None:
        self.started_at = self.announced_at = now
        self.applied_height = base.height
        root = make_genesis_node(self.chain, self.settings)
        if base.height:
            try:
                root = make_final_node(decode_certificate(base.certificate), self.settings)
            except Invalid as error:
                raise Corrupt(f"height {base.height}: {error}") from None
        self.tree = self.TREE(self.settings, root)
        for record in journal:
            if isinstance(record, Kept):
                self.restore(record)
        self.kept = self.tree.goal
        self.out.append(SetTimer(ANNOUNCE_TIMER, self.settings.announce_ms * MILLISECOND))
        self.advance(now)

    def restore(self, record: Kept) -> None:
        """Take a block of the journal into the tree; those below the root are no longer needed."""
        header = decode_header(record.header)
        parent = self.tree.blocks.get(header.parent)
        if parent is None or header.hash in self.tree.blocks or self.tree.judge(header, parent):
            return
        if self.is_early(header):
            # It was taken by a clock that was ahead; when its time has come it is fetched again.
            return
        node = self.tree.add(header, parent)
        node.payload, node.is_kept = record.payload, True
        self.tree.link(node)

    # ---- judging blocks

    def advance(self, now: Nanoseconds) -> None:
        """Have the next block judged on the way to the heaviest linked one; with none left, the
        tip is where it should be.
        """
        if self.checking is not None:
            return
        if self.kept is not None and self.kept.hash not in self.tree.blocks:
            self.kept = None
        node = self.tree.find_unjudged(self.kept)
        if node is None and self.kept is not None:
            self.kept = None
            node = self.tree.find_unjudged(None)
        if node is not None:
            self.ask_check(node)
        elif self.tree.goal.work > self.tree.head.work:
            # All the way was judged earlier, as a part of another branch.
            self.set_head(now, self.tree.goal)
        else:
            self.mine(now)

    def ask_check(self, node: Node) -> None:
        assert node.payload is not None
        assert node.parent is not None
        self.checking = node
        self.out.append(Check(node.height, node.payload, node.parent.hash, node.hash))

    def checked(
        self, now: Nanoseconds, height: Height, payload: bytes, valid: bool, envelope: Hash = b""
    ) -> None:
        node = self.checking
        if node is None or node.height != height or envelope not in (b"", node.hash):
            return
        if payload != node.payload:
            return
        if not valid and node.timestamp_ms > self.wall_ms:
            self.put_off(now, node)
            return
        self.checking = None
        if node.hash in self.tree.blocks:
            if valid:
                self.on_valid(now, node)
            else:
                self.drop("invalid_block")
                self.blame(node.from_whom, "an invalid block")
                self.tree.condemn(node)
        self.advance(now)
        self.fetch(now)

    def put_off(self, now: Nanoseconds, node: Node) -> None:
        """A block is refused, perhaps only since our clock was ahead when it came."""
        assert node.header is not None
        if not self.is_early(node.header):
            self.wait_for_clock(node)
            return
        # Nobody waits for what is from the future: when its time has come it is told again.
        self.drop("early_block")
        self.checking = None
        self.tree.forget(node)
        self.advance(now)
        self.fetch(now)

    def wait_for_clock(self, node: Node) -> None:
        """Look again when the time of a block has come, or soon: clocks are also set forward."""
        wait_ns = min((node.timestamp_ms - self.wall_ms) * MILLISECOND, CLOCK_NS)
        self.out.append(SetTimer(JUDGE_TIMER, wait_ns))

    def on_judge_timer(self, now: Nanoseconds) -> None:
        node = self.checking
        if node is not None and node.timestamp_ms > self.wall_ms:
            self.put_off(now, node)
        elif node is not None:
            self.ask_check(node)

    def on_valid(self, now: Nanoseconds, node: Node) -> None:
        node.verdict = VALID
        assert node.header is not None
        assert node.payload is not None
        if not node.is_kept:
            node.is_kept = True
            # Write before you speak: a miner that forgot its block would mine beside it. Blocks of
            # others can be had again.
            is_own = node.from_whom == self.me
            self.out.append(Persist(Kept(node.header.raw, node.payload), urgent=is_own))
        if node.from_whom == self.me:
            self.out.append(Broadcast(Block(node.header.raw, node.payload)))
            for peer in self.peers.values():
                peer.seen = node.hash
        tree = self.tree
        if node.work > tree.head.work and (
            tree.find_unjudged(self.kept) is None or node.height >= tree.head.height + HEADS_APART
        ):
            self.set_head(now, node)

    # ---- the tip and finality

    def set_head(self, now: Nanoseconds, node: Node) -> None:
        """The tip moves to a valid block that is heavier (section 5)."""
        assert node.payload is not None
        assert node.parent is not None
        abandoned = self.tree.set_head(node)
        if abandoned:
            depth = min(abandoned, 10)
            self.reorganizations[depth] = self.reorganizations.get(depth, 0) + 1
        self.look_at_refused()
        self.out.append(Head(node.height, node.payload, node.hash, node.parent.hash))
        self.deliver(now)
        if not self.expects_blocks():
            self.announced_at = now
            self.relay(now)
        self.mine(now)

    def deliver(self, now: Nanoseconds) -> None:
        """What lies deep enough is final, as far as the application follows."""
        tree, settings = self.tree, self.settings
        if len(tree.path) <= settings.final_depth:
            return
        if now - self.started_at < PATIENCE_NS or self.is_learning():
            return
        while (
            len(tree.path) > settings.final_depth
            and tree.root.height < self.applied_height + MAX_AHEAD
        ):
            node = tree.path[0]
            if self.is_behind() and tree.best_path[0] is not node:
                # A chain that is heavier by far, whose bodies are still to come, goes another way.
                break
            assert node.payload is not None
            payload = node.payload
            tree.finalize()
            self.out.append(Deliver(node.height, [payload], node.hash, node.make_certificate()))
            self.final_heights += 1
            self.final_bytes += len(payload)
        if (
            self.final_heights >= settings.checkpoint_heights
            or self.final_bytes >= settings.checkpoint_bytes
        ):
            self.checkpoint()

    def checkpoint(self) -> None:
        """From the last final block on, a restart needs the blocks over it."""
        self.final_heights = self.final_bytes = 0
        records: list[Record] = [
            Kept(node.header.raw, node.payload)
            for node in self.tree.iterate_linked()
            if node.header is not None and node.payload is not None
        ]
        self.out.append(Checkpoint(self.tree.root.height, records))

    def applied(self, now: Nanoseconds, height: Height, members: list[Member]) -> None:
        self.applied_height = height
        self.deliver(now)

    # ---- mining

    def fetch(self, now: Nanoseconds) -> None:
        super().fetch(now)
        if self.is_behind():
            # Who had the blocks that were waited for may have gone.
            self.mine(now)

    def mine(self, now: Nanoseconds) -> None:
        """Ask for a template over the tip, unless one is asked for or mined already."""
        if not self.settings.mine or self.checking is not None or self.expects_blocks():
            self.rest()
            return
        head = self.tree.head
        if (self.wanted is head and self.is_forced) or self.get_template() is not None:
            return
        self.ask_template(head, force=True)

    def get_template(self) -> Template | None:
        """Return what is mined over the tip."""
        last = self.templates[-1] if self.templates else None
        return last if last is not None and last.parent is self.tree.head else None

    def ask_template(self, head: Node, *, force: bool) -> None:
        """Ask for a block to mine, or to hear when there is something that the last one lacks."""
        self.wanted, self.is_forced = head, force
        self.out.append(Want(head.height + 1, head.hash, build=True, force=force))

    def rest(self) -> None:
        """Search no more for now: while blocks are judged, the old tip may still win."""
        if self.is_sealing and self.expects_blocks():
            self.is_sealing = False
            self.templates = []
            self.out.append(Seal(self.tree.head.height + 1, b"", 0))

    def submit(self, now: Nanoseconds, height: Height, payload: bytes) -> None:
        head = self.tree.head
        if payload == NOTHING or self.wanted is not head or height != head.height + 1:
            return
        self.wanted = None
        if self.settings.refresh_ms and self.is_forced:
            self.ask_template(head, force=False)
            self.look_again(now, STALE_NS)
        else:
            self.refresh_soon(now)
        if len(payload) < HEAD_BYTES or read_timestamp(payload) <= head.timestamp_ms:
            self.drop("template")
            self.refresh_soon(now)
            return
        last = self.get_template() if self.is_sealing else None
        if (
            last is not None
            and last.payload[HEAD_BYTES:] == payload[HEAD_BYTES:]
            and now - last.made_at < STALE_NS
        ):
            return
        header = make_header(
            height=height,
            proposer=payload[12:32],
            parent=head.hash,
            timestamp_ms=read_timestamp(payload),
            target=head.next_target,
            payload_hash=hash_payload(payload),
        )
        self.templates.append(Template(header, payload, head, now))
        del self.templates[:-MAX_TEMPLATES]
        self.is_sealing = True
        self.out.append(Seal(height, header, head.next_target))

    def refresh_soon(self, now: Nanoseconds) -> None:
        if self.settings.refresh_ms:
            self.look_again(now, self.settings.refresh_ms * MILLISECOND)

    def look_again(self, now: Nanoseconds, delay_ns: Nanoseconds) -> None:
        """Look at the template after a delay, or earlier if that is to happen anyway."""
        if not self.template_due or now + delay_ns < self.template_due:
            self.template_due = now + delay_ns
            self.out.append(SetTimer(TEMPLATE_TIMER, delay_ns))

    def on_template_timer(self, now: Nanoseconds) -> None:
        """Take up what has come to the pool since, if anything; or the time of the template is too
        old.
        """
        self.template_due = 0
        head, template = self.tree.head, self.get_template()
        if (
            not self.settings.mine
            or self.expects_blocks()
            or (self.wanted is head and self.is_forced)
        ):
            return
        left_ns = 0
        if template is not None and self.is_sealing:
            left_ns = template.made_at + STALE_NS - now
        if left_ns > 0:
            self.look_again(now, left_ns)
        self.ask_template(head, force=left_ns <= 0)

    def sealed(self, now: Nanoseconds, header: bytes, nonce: int) -> None:
        found = [template for template in self.templates if template.header == header]
        if not found:
            return
        template, tree = found[0], self.tree
        if template is self.templates[-1]:
            self.is_sealing = False
        raw = put_nonce(header, nonce)
        decoded = decode_header(raw)
        if not self.keys.verify_seal(header, nonce, decoded.target):
            self.drop("seal")
            self.refresh_soon(now)
            return
        parent = template.parent
        if parent.hash not in tree.blocks or decoded.hash in tree.blocks or tree.is_full():
            self.refresh_soon(now)
            return
        self.found += 1
        node = tree.add(decoded, parent)
        node.payload, node.from_whom = template.payload, self.me
        tree.link(node)
        self.advance(now)

    def get_shown(self, message: Message) -> Height:
        """An announcement shows the last final height."""
        return message.final if isinstance(message, Announce) else -1

    # ---- time

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        self.TIMEOUTS[timer.kind](self, now)

    def on_announce_timer(self, now: Nanoseconds) -> None:
        """Tell the tip again if there was no newer one for long."""
        silence = self.settings.announce_ms * MILLISECOND
        if now - self.announced_at >= silence:
            self.announced_at = now
            announcement = self.make_announcement()
            if announcement is not None:
                self.out.append(Broadcast(announcement))
        self.out.append(SetTimer(ANNOUNCE_TIMER, self.announced_at + silence - now))
        self.deliver(now)

    # ---- for people

    def get_safe_depth(self) -> int:
        return self.settings.safe_depth

    def get_situation(self, now: Nanoseconds) -> Situation:
        return describe_situation(self)

    def get_facts(self) -> dict[str, int]:
        return collect_facts(self)

    def get_alarm(self) -> str:
        return describe_alarm(self)


# Tables of functions stand behind their class: inside of it, a compiler may not have made them yet.
Pow.HANDLERS = {
    Recalled: Pow.on_recalled,
    Announce: Pow.on_announce,
    GetHeaders: Pow.on_get_headers,
    Headers: Pow.on_headers,
    GetBlocks: Pow.on_get_blocks,
    Block: Pow.on_block,
    Missing: Pow.on_missing,
}
Pow.TIMEOUTS = {
    FETCH_TIMER.kind: Pow.on_fetch_timer,
    TEMPLATE_TIMER.kind: Pow.on_template_timer,
    ANNOUNCE_TIMER.kind: Pow.on_announce_timer,
    JUDGE_TIMER.kind: Pow.on_judge_timer,
}
