"""Catalogue S50 to S54, S59, S60: how chains of work are attacked, and what holds against it."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from quorate.base.types import Address, Hash, Height, Milliseconds, Nanoseconds
from quorate.consensus.pow import Pow
from quorate.consensus.pow_peers import Peer
from quorate.consensus.pow_tree import Tree
from quorate.consensus.pow_types import Announce, Block, Headers, Missing
from quorate.crypto.hashes import HEAD_BYTES
from quorate.ledger.opaque import OpaqueLedger
from quorate.ledger.payload import compose, parse_head
from quorate.simulator.bugs import replace_replica
from quorate.simulator.bugs.pow import BansHeaders, BelievesMiners, NoFutureBound
from quorate.simulator.double_spend import compute_exact, compute_nakamoto
from quorate.simulator.miners import BodySwapper, InvalidMiner, Miner, SelfishPow
from quorate.simulator.plan import MS
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Play, Stage, make_members
from quorate.simulator.timing import Synchronous
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World

QUICK: dict[str, Any] = {
    "interval_ms": 500,
    "final_depth": 200,
    "announce_ms": 2000,
    "refresh_ms": 100,
}
"""Nothing becomes final here: the scenarios are about what is only deep."""
SYNCHRONOUS = Synchronous(delta_ns=50 * MS)
LONG_MS = 600_000
RACES = 16


def build(stage: Stage, *powers: int, **plan: Any) -> Play:
    """Return a network of miners with these shares of the hash power, without discovery."""
    settings = {**QUICK, **plan.pop("engine_settings", {})}
    machines = make_members(*powers)
    plan.setdefault("discovery", False)
    return stage.build(
        engine="pow", machines=machines, timing=None, engine_settings=settings, **plan
    )


def get_tree(play: Play, index: int) -> Tree:
    """Return the blocks that a machine knows."""
    node = play.machines[index].node
    assert node is not None
    assert isinstance(node.replica, Pow)
    return node.replica.tree


def count_confirmations(play: Play, index: int, item: bytes) -> int:
    """Return how many blocks of a machine's chain confirm an item, 0 if none holds it."""
    path = get_tree(play, index).path
    depths = [n for n, block in enumerate(reversed(path)) if item in (block.payload or b"")]
    return depths[0] + 1 if depths else 0


def spend_twice(stage: Stage, confirmations: int, patience: int = 15) -> tuple[Play, bool]:
    """Let an attacker with a quarter of the hash power pay, mine in secret without the payment, and
    publish if it gets ahead; return whether the block that the merchant delivered for is abandoned.

    The light application knows no conflict: the payment itself comes back to the pool, which a
    conflicting one would prevent.
    """
    play = build(stage, 3, 3, 2)
    play.run(60_000, lambda: get_tree(play, 0).head.height >= 2)
    cut = play.faults.partition(2, notice=False)
    payment = play.submit(0, b"payment of the attacker.")
    play.run(LONG_MS, lambda: count_confirmations(play, 0, payment) >= confirmations)
    merchant, secret = get_tree(play, 0), get_tree(play, 2)
    paid = merchant.path[-confirmations]
    last = merchant.head.height + patience
    play.run(
        LONG_MS,
        lambda: secret.head.work > merchant.head.work or merchant.head.height > last,
    )
    play.faults.mend(cut)
    play.run(6_000)
    return play, not merchant.is_on_path(paid)


@scenario(
    "S50",
    "double-spend",
    "a payment is taken back after it was confirmed",
    source="Nakamoto 2008, section 11; Rosenfeld 2014",
    mitigation="18 confirmations before the merchant delivers, instead of one",
    timing=SYNCHRONOUS,
    breaks="payments stay",
)
def double_spend(stage: Stage) -> Outcome:
    """A quarter of the hash power pays a merchant and mines in secret on a branch without the
    payment. When the merchant has delivered, it publishes its branch if that is heavier, and gives
    up when it is far behind. Sixteen such races, by whole nodes; the formulas stand beside.
    """
    confirmations = 18 if stage.mitigated else 1
    taken = 0
    for race in range(RACES):
        stage.seed += 1000 * bool(race)
        play, lost = spend_twice(stage, confirmations)
        if play.world.findings:
            # A rule of the engine was broken, whatever became of the payment.
            return play.judge(progress=False)
        taken += lost
    stage.measure("confirmations", confirmations)
    stage.measure("payments_taken_back_per_mille", 1000 * taken // RACES)
    for name, formula in (("exact", compute_exact), ("nakamoto", compute_nakamoto)):
        stage.measure(f"{name}_per_mille", round(1000 * formula(0.25, confirmations)))
    play.require("payments stay", not taken, f"{taken} of {RACES} payments are taken back")
    return play.judge(progress=False)


@scenario(
    "S51",
    "majority-reorg",
    "more than half of the hash power rewrites the chain",
    source="Nakamoto 2008, section 11: q above p; Ethereum Classic, August 2020",
    mitigation="final depth: what lies so deep is not given up for a heavier branch",
    timing=SYNCHRONOUS,
    breaks="payments stay",
)
def majority_reorg(stage: Stage) -> Outcome:
    """Sixty percent of the hash power mine in secret for twenty confirmations of a payment, and
    publish when their chain is heavier by a tenth. With a final depth of eight the others keep
    theirs, and say that a heavier one was refused: two chains, for people to look at.
    """
    depth = {"final_depth": 8} if stage.mitigated else {}
    play = build(stage, 2, 2, 6, engine_settings=depth)
    play.run(60_000, lambda: get_tree(play, 0).head.height >= 10)
    cut = play.faults.partition(2, notice=False)
    merchant, secret = get_tree(play, 0), get_tree(play, 2)
    paid = merchant.head.height + 1
    play.run(
        LONG_MS,
        lambda: (
            merchant.head.height >= paid + 20 and 10 * secret.head.work > 11 * merchant.head.work
        ),
    )
    theirs = {block.hash for block in secret.path if block.height >= paid}
    play.faults.mend(cut)
    play.run(5_000)
    node = play.machines[0].node
    stage.say(f"the merchant's node: {node.replica.get_alarm() if node else ''}")
    held = theirs.isdisjoint(block.hash for block in merchant.path)
    play.require("payments stay", held, f"height {paid} and 20 after it are abandoned")
    return play.judge(progress=False)


@scenario(
    "S52",
    "selfish-mining",
    "blocks that are kept back waste the work of others",
    source="Eyal, Sirer, FC 2014: worth it from (1 - g) / (3 - 2 g) of the power on",
    mitigation="less than a third of the hash power in one hand",
    timing=SYNCHRONOUS,
    breaks="fair share",
)
def selfish_mining(stage: Stage) -> Outcome:
    """A miner keeps its blocks back and publishes them when others catch up, so that theirs are
    abandoned. Its share of the chain is compared with its share of the hash power. News of others
    is as fast as its own, so hardly anybody mines on its block in a race (g is nearly zero).
    """
    power = 4 if stage.mitigated else 12
    blocks, deep = 250, {"final_depth": 1000}
    play = build(stage, 4, 4, 4, 4, power, on_world=make_selfish, engine_settings=deep)
    play.run(LONG_MS, lambda: get_tree(play, 0).head.height >= blocks)
    selfish = play.machines[4].address
    path = get_tree(play, 0).path[: blocks - 10]
    mined = sum(node.header is not None and node.header.proposer == selfish for node in path)
    alpha = power / (16 + power)
    stage.measure("hash_power_per_mille", round(1000 * alpha))
    stage.measure("blocks_of_the_chain_per_mille", 1000 * mined // len(path))
    stage.measure("formula_per_mille", round(1000 * compute_selfish_revenue(alpha, 0.0)))
    most = alpha + 2 * (alpha * (1 - alpha) / len(path)) ** 0.5
    text = f"{mined} of {len(path)} blocks are its own, its power is {alpha:.0%}"
    play.require("fair share", mined <= most * len(path), text)
    return play.judge(progress=False)


def make_selfish(world: World) -> None:
    """Let the last machine mine selfishly."""
    machine = world.machines[-1]
    machine.make_replica, machine.actor = SelfishPow, Miner(machine)


def compute_selfish_revenue(alpha: float, gamma: float) -> float:
    """Return the share of the chain that a selfish miner gets (Eyal, Sirer 2014, equation 8)."""
    gain = alpha * (1 - alpha) ** 2 * (4 * alpha + gamma * (1 - 2 * alpha)) - alpha**3
    return gain / (1 - alpha * (1 + (2 - alpha) * alpha))


@scenario(
    "S53",
    "eclipse",
    "a merchant hears the attacker alone",
    source="Heilman, Kendler, Zohar, Goldberg, USENIX Security 2015",
    mitigation="one connection to somebody else, as slots by address range give",
    timing=SYNCHRONOUS,
    breaks="payments stay",
)
def eclipse(stage: Stage) -> Outcome:
    """All connections of a merchant are the attacker's, who has a seventh of the hash power. Its
    blocks are the only ones that the merchant hears of, so three confirmations mean nothing: the
    others never heard of the payment, and their chain is the heavier one.
    """
    play = build(stage, 3, 3, 1, 0)
    play.run(60_000, lambda: get_tree(play, 0).head.height >= 2)
    apart = [{0, 2}, {1, 2}, {1, 3}] if stage.mitigated else [{0, 2}, {1, 2}, {1, 3}, {0, 3}]
    links = play.world.network.select(lambda a, b: {a.index, b.index} in apart)
    cut = play.faults.cut(links, "eclipse", (3,), False)
    payment = play.submit(3, b"payment of the attacker.")
    play.run(LONG_MS, lambda: count_confirmations(play, 3, payment) >= 3)
    merchant = get_tree(play, 3)
    paid = merchant.path[-3]
    play.faults.mend(cut)
    play.run(6_000)
    held = merchant.is_on_path(paid)
    play.require("payments stay", held, f"height {paid.height} is abandoned by the merchant")
    return play.judge(progress=False)


class TimeWarp(NoFutureBound):
    """Dates each of its blocks as late as counts, whatever the clock says."""

    def submit(self, now: Nanoseconds, height: Height, payload: bytes) -> None:
        block, _, proposer = parse_head(payload)
        late_ms = self.tree.head.timestamp_ms + 8 * self.settings.interval_ms
        late = compose(block, late_ms, proposer, payload[HEAD_BYTES:])
        super().submit(now, height, late)


class LooseLedger(OpaqueLedger):
    """Takes any time that is later than the parent's."""

    def check(self, parent: Hash, payload: bytes, now_ms: Milliseconds) -> str | None:
        return super().check(parent, payload, now_ms + LONG_MS * LONG_MS)


@scenario(
    "S54",
    "time-warp",
    "blocks of the future make work cheap",
    source="Bitcoin's time warp; Eyal and others on difficulty and timestamps, catalogue N2",
    mitigation="blocks ahead of the own clock have to wait, in the engine and in the ledger",
    timing=SYNCHRONOUS,
    breaks="interval",
)
def time_warp(stage: Stage) -> Outcome:
    """Two fifths of the hash power date their blocks as late as the rule counts. Each lowers the
    difficulty, and honest blocks, dated right after them, raise it by less. After a minute far
    more blocks were found than the interval allows, unless nobody takes them before their time.
    """

    def on_world(world: World) -> None:
        world.machines[-1].actor = Miner(world.machines[-1])
        world.machines[-1].make_replica = TimeWarp
        if not stage.mitigated:
            world.light_ledger = LooseLedger
            replace_replica(NoFutureBound)(world)

    play = build(stage, 3, 3, 4, rules=False, on_world=on_world)
    tree, expected = get_tree(play, 0), 60_000 // QUICK["interval_ms"]
    play.run(60_000, lambda: tree.head.height > 3 * expected)
    stage.measure("seconds", play.now_ms // 1000)
    stage.measure("blocks", tree.head.height)
    stage.measure("expected_in_a_minute", expected)
    text = f"{tree.head.height} blocks in {play.now_ms // 1000} s, expected {expected} a minute"
    play.require("interval", tree.head.height <= 1.5 * expected, text)
    return play.judge(progress=False)


@scenario(
    "S59",
    "invalid-relay",
    "a miner does the work for blocks that the ledger refuses",
    source="Bitcoin, July 2015: half of the power built on blocks it had not validated (BIP 66)",
    mitigation="no block is mined on, told or called tip before the application accepts it",
    timing=SYNCHRONOUS,
    breaks="valid tip",
)
def invalid_relay(stage: Stage) -> Outcome:
    """One of four miners seals payloads that are not acceptable. Whoever takes work for validity
    follows it.
    """
    play = build(stage, 1, 1, 1, 1, on_world=make_cheat(stage, InvalidMiner, BelievesMiners))
    play.run(30_000)
    stage.measure("blocks", get_tree(play, 0).head.height)
    return play.judge(progress=False)


class Boaster(Miner):
    """Tells of more work than anybody has, and shows none of it."""

    def twist(self, to: Address, m: Any) -> list[Any]:
        if isinstance(m, Announce):
            return [replace(m, work=bytes([0x7F]) + bytes(31))]
        return [] if isinstance(m, Headers | Block | Missing) else [m]


class Gullible(Pow):
    """Asks nobody but who tells of the most work, however long the answer takes."""

    def ask_headers(
        self, now: Nanoseconds, who: Address, peer: Peer, below: Height | None = None
    ) -> None:
        if peer.claim >= max(each.claim for each in self.peers.values()):
            super().ask_headers(now, who, peer, below)

    def leave(self, now: Nanoseconds, peer: Peer) -> None:
        self.wake(now, now + self.settings.request_ms * MS)


@scenario(
    "S59d",
    "lying-sync",
    "who catches up asks somebody that boasts of work and answers nothing",
    source="Catalogue S59; Bitcoin Core's timeouts for headers (0.15) and stalled blocks (0.10)",
    mitigation="deadlines, and a claim of work counts until it is not shown",
    timing=SYNCHRONOUS,
    breaks="the newcomer follows",
)
def lying_sync(stage: Stage) -> Outcome:
    """A node comes back after a minute. The first of four peers that it meets tells of more work
    than anybody can have done, and never shows a header. Who trusts the greatest claim waits for it
    for ever.
    """

    def on_world(world: World) -> None:
        world.machines[3].actor = Boaster(world.machines[3])
        if not stage.mitigated:
            world.machines[4].make_replica = Gullible

    play = build(stage, 1, 1, 1, 0, 0, on_world=on_world)
    play.machines[4].crash()
    play.run(60_000)
    links = play.world.network.select(
        lambda a, b: 4 in (a.index, b.index) and 3 not in (a.index, b.index)
    )
    cut = play.faults.cut(links, "not met yet", (4,), False)
    play.machines[4].start()
    play.run(1_000)
    play.faults.mend(cut)
    others, newcomer = get_tree(play, 0), get_tree(play, 4)
    stage.measure("blocks_missed", others.head.height)
    play.run(30_000)
    apart = others.head.height - newcomer.head.height
    play.require("the newcomer follows", apart <= 3, f"it is {apart} blocks behind")
    return play.judge(progress=False)


@scenario(
    "S60",
    "body-poisoning",
    "a valid header comes with a body that is not its own",
    source="CVE-2012-2459: the hash of the block did not tell two bodies apart",
    mitigation="the payload's hash covers the body; another body is dropped, the header stays",
    timing=SYNCHRONOUS,
    breaks="banned block",
)
def body_poisoning(stage: Stage) -> Outcome:
    """One of four miners sends its headers with other bodies first. Whoever remembers the header
    as invalid cannot follow the chain any more, which all others extend.
    """
    play = build(stage, 1, 1, 1, 1, on_world=make_cheat(stage, BodySwapper, BansHeaders))
    play.run(20_000)
    stage.measure("blocks", get_tree(play, 0).head.height)
    return play.judge(progress=False)


def make_cheat(stage: Stage, actor: type[Miner], without: type[Pow]) -> Callable[[World], None]:
    """Return what lets the last machine cheat, and puts the engine without the mitigation in."""

    def on_world(world: World) -> None:
        world.machines[-1].actor = actor(world.machines[-1])
        if not stage.mitigated:
            replace_replica(without)(world)

    return on_world
