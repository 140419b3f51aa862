"""Catalogue S59: what waits for a block is attacked, with a light application that knows prices.

An item spends a coin: `coin fee` and padding, divided by spaces. Its price is the fee over its
bytes, and blocks take the best prices first. These rules stand here and nowhere else, since the
pool of the Ethereum ledger has neither weakness: it makes room for who pays more, and a replacement
is judged by its price. Making room has its price too: what one pool let go of, others still hold.
"""

from collections.abc import Callable
from typing import Any

from quorate.base.types import Hash, Milliseconds
from quorate.crypto.hashes import keccak256
from quorate.ledger.opaque import OpaqueLedger
from quorate.node.wire import Transactions
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.run import ignore
from quorate.simulator.scenarios.registry import scenario
from quorate.simulator.scenarios.stage import Play, Stage, make_members
from quorate.simulator.scenarios.work import count_confirmations
from quorate.simulator.timing import PartiallySynchronous, Synchronous
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World

__all__ = ["Coins", "make_item"]

SYNCHRONOUS = Synchronous(delta_ns=50 * MS)
LOSSY = PartiallySynchronous(delta_ns=50 * MS, gst_ns=100 * SECOND)
MAX_ITEMS = 100
"""In a pool."""
MAX_PAYLOAD_BYTES = 1000
USUAL_BYTES = 100
LARGE_BYTES = 800


def make_item(coin: str, fee: int, size: int = USUAL_BYTES) -> bytes:
    """Return an item that spends a coin."""
    return b"%s %d " % (coin.encode(), fee) + b"x" * (size - len(coin) - len(str(fee)) - 2)


def get_fee(item: bytes) -> int:
    return int(item.split(b" ")[1])


def get_price(item: bytes) -> float:
    return get_fee(item) / len(item)


class Coins(OpaqueLedger):
    """Best prices first; a full pool makes room for better ones; replacements are small."""

    __slots__ = ()

    evicts = True
    """Without it, who comes late finds the pool full."""
    most_bytes = 2 * USUAL_BYTES
    """Of an item that may be replaced."""

    def add_one(self, item: bytes) -> tuple[Hash, str | None]:
        identity = keccak256(item)
        if identity in self.pool or self.is_included(identity, self.adopted):
            return identity, "already known"
        if len(item) > self.most_bytes:
            return identity, f"item of {len(item)} bytes, expected {self.most_bytes} at most"
        coin = item.split(b" ")[0] + b" "
        rival = next((i for i, each in self.pool.items() if each.startswith(coin)), None)
        if rival is not None and get_fee(item) <= get_fee(self.pool[rival]):
            # BIP 125, rule 3: a replacement pays more than what it replaces in all.
            return identity, "replacement underpriced"
        if rival is None and len(self.pool) >= MAX_ITEMS:
            if not self.evicts:
                return identity, "txpool is full"
            rival = min(self.pool, key=lambda i: get_price(self.pool[i]))
            if get_price(self.pool[rival]) >= get_price(item):
                return identity, "txpool is full"
        if rival is not None:
            self.pool_bytes -= len(self.pool.pop(rival))
        return super().add_one(item)

    def build(self, parent: Hash, now_ms: Milliseconds, max_bytes: int) -> bytes:
        best = sorted(self.pool.items(), key=lambda pair: -get_price(pair[1]))
        self.pool = dict(best)
        return super().build(parent, now_ms, max_bytes)


class Crammed(Coins):
    """First come, first served."""

    __slots__ = ()
    evicts = False


class Pinned(Coins):
    """What may be replaced may be of any size."""

    __slots__ = ()
    most_bytes = MAX_PAYLOAD_BYTES


def build(stage: Stage, without: type[Coins]) -> Play:
    """Return three miners and somebody who only follows, with small blocks and pools."""

    def on_world(world: World) -> None:
        world.light_ledger = Coins if stage.mitigated else without

    settings: dict[str, Any] = {"interval_ms": 500, "final_depth": 200, "refresh_ms": 100}
    play = stage.build(
        engine="pow",
        machines=make_members(1, 1, 1, 0),
        timing=None,
        discovery=False,
        engine_settings=settings,
        node_settings={"max_payload_bytes": MAX_PAYLOAD_BYTES},
        on_world=on_world,
    )
    play.run(3_000)
    return play


def make_test(play: Play, item: bytes) -> Callable[[], bool]:
    """Return a test of whether an item is in the chain, as the first machine sees it."""
    return lambda: count_confirmations(play, 0, item) > 0


@scenario(
    "S59b",
    "mempool-flood",
    "cheap transactions without end leave no place in the pool",
    source="Bitcoin, July 2015: the flood that brought eviction by fee rate (Bitcoin Core 0.12)",
    mitigation="a full pool gives up what pays least for who pays more",
    timing=SYNCHRONOUS,
    breaks="who pays more is served",
)
def mempool_flood(stage: Stage) -> Outcome:
    """Somebody gives all miners far more transactions than blocks can hold, at the lowest price.
    A payment at five times that price comes later. If pools serve who came first, they are full
    whenever it is offered, for as long as the flood lasts.
    """
    play = build(stage, Crammed)
    for step in range(400):
        flood = [make_item(f"flood-{step}-{i}", 100) for i in range(10)]
        for index in range(3):
            play.at(3_001 + 15 * step, play.machines[index].submit, flood, ignore)
    payment = make_item("payment", 500)
    for index in range(3):
        play.at(5_000 + 300 * index, play.submit, index, payment)
    served = play.run(6_000, make_test(play, payment))
    stage.measure("payment_is_mined_ms", play.now_ms - 5_000 if served else -1)
    play.require("who pays more is served", served, "the payment found no place in any pool")
    return play.judge(progress=False)


@scenario(
    "S59c",
    "fee-pinning",
    "a large transaction at a low price cannot be replaced by a small one at a high price",
    source="BIP 125, rule 3; pinning of payment channels: Riard, 2020; BIP 431 bounds the size",
    mitigation="what may be replaced is small, so that outbidding it costs little",
    timing=SYNCHRONOUS,
    breaks="the claim is in time",
)
def fee_pinning(stage: Stage) -> Outcome:
    """Two parties share a coin, and the honest one has to claim it before a deadline. Blocks are
    full of others' payments at price five. The attacker spends the coin first, at price two with as
    many bytes as a block takes: too cheap to be mined soon, and in all too dear to be replaced by a
    claim at price ten, since a replacement has to pay more than all that it replaces.
    """
    play = build(stage, Pinned)
    for step in range(100):
        usual = [make_item(f"usual-{step}-{i}", 5 * USUAL_BYTES) for i in range(3)]
        play.at(3_001 + 100 * step, play.machines[3].submit, usual, ignore)
    play.run(1_000)
    size = USUAL_BYTES if stage.mitigated else LARGE_BYTES
    play.submit(3, make_item("shared", 2 * LARGE_BYTES, LARGE_BYTES))
    play.submit(3, make_item("shared", 2 * size, size))
    play.run(500)
    claim = make_item("shared", 10 * USUAL_BYTES)
    play.submit(0, claim)
    claimed = play.run(6_000, make_test(play, claim))
    play.require("the claim is in time", claimed, "the claim was not mined within six seconds")
    return play.judge(progress=False)


@scenario(
    "S59e",
    "forgetful-leader",
    "what the leader's pool let go of is taken for what it has seen already",
    source="Bitcoin Core empties its filter of refused transactions at each new tip, against this",
    mitigation="what was seen is remembered for a while, and what waits is told again",
    timing=LOSSY,
    breaks="who pays little is served when there is room",
)
def forgetful_leader(stage: Stage) -> Outcome:
    """Three members of a Raft network, of which the leader alone makes blocks. A payment at a low
    price waits in all pools. A flood at better prices, of which links lose what the others are
    told, pushes it out of the leader's. When the flood is over, the followers tell the leader of
    the payment again and again. Where its filter of what it has seen has no end, it never looks.
    """
    seen_ms = 10_000 if stage.mitigated else 86_400_000
    settings = {"max_payload_bytes": MAX_PAYLOAD_BYTES, "block_time_ms": 400, "seen_ms": seen_ms}

    def on_world(world: World) -> None:
        world.light_ledger = Coins

    play = stage.build(3, engine="raft", node_settings=settings, on_world=on_world)
    play.run(3_000)
    node = play.machines[0].node
    assert node is not None
    leader = play.world.get_machine(node.replica.get_situation(0).leader or b"").index
    follower = (leader + 1) % 3
    payment = make_item("payment", 100)
    flood = [make_item(f"flood-{i}", 500) for i in range(2 * MAX_ITEMS)]
    play.lose(lambda source, _, m: isinstance(m, Transactions) and source == leader)
    play.machines[leader].submit(flood[: MAX_ITEMS // 2], ignore)
    play.submit(follower, payment)
    play.run(200)
    play.machines[leader].submit(flood[MAX_ITEMS // 2 :], ignore)
    play.run(8_000)
    waits = [payment in m.node.application.waiting(MAX_ITEMS) for m in play.machines if m.node]
    stage.say(f"the payment waits at {sum(waits)} of 3, at the leader: {waits[leader]}")
    served = play.run(60_000, lambda: play.count_final(leader, payment) == 1)
    stage.measure("payment_is_final_ms", play.now_ms if served else -1)
    found = "the payment waited for a minute after the flood"
    play.require("who pays little is served when there is room", served, found)
    return play.judge(progress=False)
