"""Who is told of a new tip: those who ask for what they are told, and a few of the others."""

from collections import Counter

import pytest

from consensus.pow_world import ALICE, MINER, MS, Made, Single, World, block
from quorate.base.types import Address
from quorate.consensus.pow_relay import LAZY_NS, MAX_UNHEEDED
from quorate.consensus.pow_types import Announce, GetBlocks, GetHeaders
from quorate.consensus.replica import Message, Send

PEERS = [bytes([0x20 + i]) * 20 for i in range(12)]


def meet(one: Single, peers: list[Address]) -> None:
    for peer in peers:
        one.replica.met(one.now, peer)
    one.replica.take()


def tell(
    one: Single, parent: Made | None, *, after_ns: int = LAZY_NS, sender: Address = ALICE
) -> tuple[Made, list[Address]]:
    """Let a block come after a while; return it, and who is told of it."""
    one.now += after_ns
    one.replica.wall_ms += after_ns // MS
    made = one.extend(parent)
    effects = one.hear(sender, block(made))
    told = [e.to for e in effects if isinstance(e, Send) and isinstance(e.message, Announce)]
    assert len(told) == len(set(told))
    return made, told


def wear_out(one: Single, sender: Address = ALICE) -> Made:
    """Tell all peers of tips until none of them is expected to ask."""
    made = None
    for _ in range(MAX_UNHEEDED * len(PEERS)):
        made, told = tell(one, made, sender=sender)
        if len(told) == 1:
            return made
    raise AssertionError("peers that never ask are told all the same")


def test_peers_that_never_ask_are_told_one_at_a_time_and_none_is_left_out() -> None:
    one = Single(mine=False, relay_peers=4)
    meet(one, PEERS)
    _, told = tell(one, None)
    assert len(told) == 4
    made = wear_out(one)
    counts: Counter[Address] = Counter()
    for _ in range(20 * len(PEERS)):
        made, told = tell(one, made)
        assert len(told) == 1
        counts.update(told)
    assert set(counts) == set(PEERS)
    assert max(counts.values()) < 3 * 20


@pytest.mark.parametrize("kind", ["headers", "blocks"])
def test_who_asks_is_told_of_every_tip_from_then_on(kind: str) -> None:
    one = Single(mine=False)
    meet(one, PEERS)
    made = wear_out(one)
    for _ in range(3 * MAX_UNHEEDED):
        places = [(made.height, made.hash)]
        question: Message = GetHeaders(places) if kind == "headers" else GetBlocks(places)
        one.hear(PEERS[5], question)
        made, told = tell(one, made)
        assert PEERS[5] in told
    for _ in range(MAX_UNHEEDED):
        made, told = tell(one, made)
    assert len(told) == 1


@pytest.mark.parametrize(("sender", "expected"), [(MINER, 10), (ALICE, 50)])
def test_of_fast_blocks_those_who_never_ask_are_told_now_and_then(
    sender: Address, expected: int
) -> None:
    """Unless the block came round by somebody who is not its miner: others may lack it then."""
    one = Single(mine=False)
    meet(one, PEERS)
    made, count = wear_out(one, sender), 0
    for _ in range(50):
        made, told = tell(one, made, after_ns=LAZY_NS // 5, sender=sender)
        assert len(told) <= 1
        count += len(told)
    assert count == expected


def test_many_who_ask_do_not_keep_the_others_from_being_told() -> None:
    one = Single(mine=False)
    meet(one, PEERS)
    made = wear_out(one)
    counts: Counter[Address] = Counter()
    for _ in range(100):
        for peer in PEERS[2:]:
            one.hear(peer, GetBlocks([(made.height, made.hash)]))
        made, told = tell(one, made)
        assert len(told) <= one.settings.relay_peers + 1
        counts.update(told)
    assert counts[PEERS[0]] + counts[PEERS[1]] >= 100


def test_a_peer_that_comes_back_is_told_at_once_again() -> None:
    one = Single(mine=False, relay_peers=len(PEERS))
    meet(one, PEERS)
    made = wear_out(one)
    one.replica.parted(one.now, PEERS[3])
    meet(one, [PEERS[3]])
    made, told = tell(one, made)
    assert PEERS[3] in told


def test_without_relay_nobody_is_told() -> None:
    one = Single(mine=False, relay_peers=0)
    meet(one, PEERS)
    assert tell(one, None)[1] == []


@pytest.mark.parametrize("loss", [0, 50])
def test_who_hangs_by_one_peer_hears_of_every_block(loss: int) -> None:
    """Six that are all linked, and one whose only link is to one of them."""
    world = World([1 << 17] * 6 + [0], seed=3, loss=loss)
    for i in range(6):
        for j in range(i):
            world.connect(i, j)
    world.connect(5, 6)
    world.run(600)
    high = world.machines[0].replica.tree.head.height
    assert high > 60
    assert world.machines[6].replica.tree.head.height >= high - 3
