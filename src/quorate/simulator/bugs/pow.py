"""Known bugs of proof of work and of what it orders (catalogue N1-N6), as ours could have them.

N3 is put back into the light application, and N5 into one that pays (`simulator.payments`): sums of
the Ethereum ledger are the kernel's, which has no switch for bugs.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from quorate.base.types import Address, Hash, Height, Milliseconds, Nanoseconds
from quorate.consensus.pow import Pow, Template
from quorate.consensus.pow_difficulty import compute_target, compute_work
from quorate.consensus.pow_headers import Header, make_header
from quorate.consensus.pow_tree import Node, Tree
from quorate.consensus.replica import Broadcast, Effect, Replica, Seal
from quorate.crypto.hashes import HEAD_BYTES, hash_payload, keccak256, read_timestamp
from quorate.ledger.application import Executed
from quorate.ledger.machine import Machine
from quorate.ledger.opaque import OpaqueLedger, get_items
from quorate.ledger.payload import compose, parse_head
from quorate.simulator.bugs import Bug, register, replace_replica
from quorate.simulator.keyvalue import OWN_RULE
from quorate.simulator.payments import MAX_AMOUNT, PAYMENTS, Payments

if TYPE_CHECKING:
    from quorate.simulator.world import World


class TreeByHeight(Tree):
    """N1: every block counts alike, so the longest chain wins and not the one with most work."""

    def add(self, header: Header, parent: Node) -> Node:
        node = super().add(header, parent)
        node.work = parent.work + compute_work(compute_target(self.settings.initial_difficulty))
        return node


class ByHeight(Pow):
    TREE = TreeByHeight


class TreeOfLastSeen(Tree):
    """N1: of two branches that are equally heavy the one that came last wins."""

    def link(self, node: Node) -> None:
        if node.work == self.head.work and node is not self.head:
            node.work += 1
        super().link(node)


class LastSeen(Pow):
    TREE = TreeOfLastSeen


class TreeWithLongWindow(Tree):
    """N2: the time of one block more or less than the window's is compared with the window."""

    def compute_next(self, parent: Node, target: int, timestamp_ms: Milliseconds) -> int:
        if not parent.height:
            return target
        window, interval_ms = self.settings.window, self.settings.interval_ms
        elapsed_ms = min(timestamp_ms - parent.timestamp_ms, 8 * interval_ms)
        following = target * ((window - 1) * interval_ms + elapsed_ms)
        return min(following // ((window - 1) * interval_ms), self.settings.easiest)


class LongWindow(Pow):
    TREE = TreeWithLongWindow


class TreeOfAnyTime(Tree):
    """N2: nothing is asked of a block's time."""

    def judge(self, header: Header, parent: Node) -> str:
        problem = super().judge(header, parent)
        return "" if problem == "a header that is not later than its parent" else problem


class AnyTime(Pow):
    TREE = TreeOfAnyTime

    def submit(self, now: Nanoseconds, height: Height, payload: bytes) -> None:
        head = self.tree.head
        time_ms, head.timestamp_ms = head.timestamp_ms, -1
        try:
            super().submit(now, height, payload)
        finally:
            head.timestamp_ms = time_ms


class AnyTimeLedger(OpaqueLedger):
    """A ledger that takes times as they come."""

    def build(self, parent: Hash, now_ms: Milliseconds, max_bytes: int) -> bytes:
        payload = super().build(parent, now_ms, max_bytes)
        return compose(parent, now_ms, self.proposer, payload[HEAD_BYTES:])

    def check(self, parent: Hash, payload: bytes, now_ms: Milliseconds) -> str | None:
        block, _, proposer = parse_head(payload)
        latest = self.get_executed(parent).timestamp_ms + 1
        moved = compose(block, latest, proposer, payload[HEAD_BYTES:])
        return super().check(parent, moved, latest)


class NoFutureBound(Pow):
    """N2: a block may come from any future."""

    def accept_header(self, sender: Address, header: Header) -> Node | None:
        before, self.wall_ms = self.wall_ms, header.timestamp_ms
        try:
            return super().accept_header(sender, header)
        finally:
            self.wall_ms = before


class TwiceLedger(OpaqueLedger):
    """N3: what a block holds twice takes effect twice: only older blocks are looked at."""

    def execute(self, parent: Hash, payloads: list[bytes], parent_envelope: Hash) -> Executed:
        executed = super().execute(parent, payloads, parent_envelope)
        items = [keccak256(item) for item in get_items(payloads)]
        fresh = [item for item in items if not self.is_included(item, parent)]
        branch = self.branches[executed.block]
        twice = Executed(
            executed.height,
            executed.block,
            executed.timestamp_ms,
            len(fresh),
            executed.members,
            executed.skipped,
        )
        self.branches[executed.block] = type(branch)(twice, branch.parent, branch.fresh)
        return twice


class OverflowingPayments(Payments):
    """N5: outputs are added up in 64 bits, and what does not fit is lost before they are compared
    with the funds.
    """

    def add_up(self, amounts: Sequence[int]) -> int:
        return sum(amounts) & MAX_AMOUNT


class BansHeaders(Pow):
    """N4: a body that is not the header's makes the header invalid, for good."""

    def accept_body(self, sender: Address, node: Node, payload: bytes) -> None:
        header, is_new = node.header, node.payload is None and node is not self.tree.root
        is_other = len(payload) < HEAD_BYTES or hash_payload(payload) != getattr(
            header, "payload_hash", b""
        )
        if header is not None and is_new and is_other:
            self.tree.condemn(node)
            return
        super().accept_body(sender, node, payload)


class BelievesMiners(Pow):
    """N6: whoever did the work has surely validated: a block is adopted whatever the application
    says of it.
    """

    def checked(
        self, now: Nanoseconds, height: Height, payload: bytes, valid: bool, envelope: Hash = b""
    ) -> None:
        super().checked(now, height, payload, True, envelope)


class MinesOnHeaders(Pow):
    """N6: the next block is mined on the heaviest header before its body was validated (SPV
    mining, July 2015).
    """

    def submit(self, now: Nanoseconds, height: Height, payload: bytes) -> None:
        best = self.tree.best
        if best is self.tree.head or len(payload) < HEAD_BYTES:
            super().submit(now, height, payload)
            return
        self.wanted = None
        header = make_header(
            height=best.height + 1,
            proposer=self.me,
            parent=best.hash,
            timestamp_ms=max(read_timestamp(payload), best.timestamp_ms + 1),
            target=best.next_target,
            payload_hash=hash_payload(payload),
        )
        self.templates.append(Template(header, payload, best, now))
        self.out.append(Seal(best.height + 1, header, best.next_target))


class TellsEarly(Pow):
    """A miner tells of its block before the block is durable."""

    def take(self) -> list[Effect]:
        effects = super().take()
        said = [e for e in effects if type(e) is Broadcast]
        return [*said, *[e for e in effects if type(e) is not Broadcast]]


class Hasty(Pow):
    """A block is final one block earlier than agreed."""

    def deliver(self, now: Nanoseconds) -> None:
        patient = self.settings
        self.settings = replace(patient, final_depth=patient.final_depth - 1)
        super().deliver(now)
        self.settings = patient


def use_ledger(
    ledger: type[OpaqueLedger], replica: type[Replica] | None = None
) -> Callable[["World"], None]:
    """Return what makes the light application of a world this one, and perhaps its engine."""

    def install(world: "World") -> None:
        world.light_ledger = ledger
        if replica is not None:
            world.make_replica = replica

    return install


def use_own(kind: type[Machine]) -> Callable[["World"], None]:
    """Return what makes the application of a user's own in a world this one."""

    def install(world: "World") -> None:
        world.own_machine = kind

    return install


BITCOIN = "Nakamoto 2008, section 5"
_BUGS: tuple[tuple[str, str, str, str, Callable[["World"], None]], ...] = (
    (
        "n1-longest-chain",
        "the chain of most blocks wins, not the one of most work",
        BITCOIN,
        "heaviest chain",
        replace_replica(ByHeight),
    ),
    (
        "n1-last-seen",
        "of equally heavy branches the last one seen wins",
        f"{BITCOIN}; Eyal, Sirer 2014",
        "heaviest chain",
        replace_replica(LastSeen),
    ),
    (
        "n2-window",
        "the retarget window is off by one",
        "Bitcoin's retarget period, 2016 blocks by the time of 2015",
        "header",
        replace_replica(LongWindow),
    ),
    (
        "n2-time-goes-back",
        "a block's time is compared with no earlier one",
        "Bitcoin: median time past",
        "header",
        use_ledger(AnyTimeLedger, AnyTime),
    ),
    (
        "n2-any-future",
        "a block's time may be ahead of the clock by any amount",
        "Bitcoin: two hours",
        "time",
        replace_replica(NoFutureBound),
    ),
    (
        "n3-twice-in-a-block",
        "what one block holds twice takes effect twice",
        "CVE-2018-17144",
        "final exactly once",
        use_ledger(TwiceLedger),
    ),
    (
        "n4-banned-block",
        "a body that is not the header's bans the valid block",
        "CVE-2012-2459",
        "banned block",
        replace_replica(BansHeaders),
    ),
    (
        "n6-believes-miners",
        "a block is adopted although the application refuses it",
        "Bitcoin, July 2015 (BIP 66)",
        "valid tip",
        replace_replica(BelievesMiners),
    ),
    (
        "n6-header-mining",
        "mining goes on over a header whose body was not validated",
        "Bitcoin, July 2015 (BIP 66)",
        "mined on",
        replace_replica(MinesOnHeaders),
    ),
    (
        "pow-tells-early",
        "a miner tells of its block before that is durable",
        "contract of an engine, rule 2",
        "write first",
        replace_replica(TellsEarly),
    ),
    (
        "pow-hasty",
        "a block is final one block too early",
        "setting final_depth",
        "final depth",
        replace_replica(Hasty),
    ),
)
register(
    *(
        Bug(name, title, source, breaks, install, "pow")
        for name, title, source, breaks, install in _BUGS
    ),
    Bug(
        "n5-overflow",
        "outputs are added up in 64 bits, without a look at what does not fit",
        "CVE-2010-5139",
        OWN_RULE,
        use_own(OverflowingPayments),
        "pow",
        application=PAYMENTS,
    ),
)
