"""Nodes that forget: what they keep, what they tell those who ask, and how others get in."""

import pytest

from kernel.chain import KEYS, transaction
from kernel.test_history import carry
from node.test_ethereum_world import STRANGER, EthereumWorld
from node.world import make_address
from quorate.ledger.ethereum import decode_sets, encode_sets
from quorate.node.settings import Settings
from quorate.node.wire import GetDecisions, Pruned, encode

SMALL = Settings(block_time_ms=50, state_history=8, block_history=10, prune_every=1)


def run_to(world: EthereumWorld, height: int, *indices: int) -> None:
    ledgers = [world.ledgers[make_address(i)] for i in indices]
    assert world.run(60_000, lambda: min(ledger.durable() for ledger in ledgers) >= height)


def test_old_states_and_blocks_go_while_the_network_works() -> None:
    world = EthereumWorld(settings=SMALL)
    world.start()
    for nonce in range(40):
        world.submit(nonce % 4, transaction(KEYS[0], nonce, STRANGER, 1))
        world.run(70)
    run_to(world, 30, 0, 1, 2, 3)
    world.run(1000)
    world.check_same_chain()
    for ledger in world.ledgers.values():
        states, blocks, headers = ledger.view().history()
        last = ledger.durable()
        assert last - 12 <= states <= last - 8
        assert last - 14 <= blocks <= last - 10
        assert headers == 0
    assert world.get_balances() == [40] * 4


@pytest.mark.parametrize("seed", range(3))
def test_nodes_that_forget_come_back_after_crashes(seed: int) -> None:
    world = EthereumWorld(seed=seed, loss_permille=20, settings=SMALL)
    world.start()
    for nonce in range(15):
        world.submit(0, transaction(KEYS[0], nonce, STRANGER, 1))
        victim = 1 + nonce % 3
        world.run(120)
        world.crash(make_address(victim))
        world.run(100)
        world.start(victim)
    assert world.run(60_000, lambda: world.get_balances() == [15] * 4)
    assert world.check_same_chain() > 10


def test_a_newcomer_that_nobody_can_help_says_so_and_asks_no_longer() -> None:
    world = EthereumWorld(settings=SMALL)
    world.start(0, 1, 2)
    world.run(100)
    run_to(world, 30, 0, 1, 2)
    world.start(3)
    world.run(10_000)
    node = world.get_node(3)
    asked = node.counters["sync_requests"]
    world.run(10_000)
    assert node.execution.final.height == 0
    assert "no connected peer keeps height 1" in node.get_status().why_stalled
    assert node.counters["sync_pruned"] >= 3
    assert node.counters["sync_requests"] == asked, "nobody is asked again and again"
    # A state from a snapshot lets it in.
    source, target = world.ledgers[make_address(0)], world.ledgers[make_address(3)]
    height = source.durable() - 2
    members = node.application.members(1)
    world.crash(make_address(3))
    note = encode_sets({height - i: members for i in range(3)})
    assert decode_sets(note)[height] == members
    carry(source, height, target, note=note)
    world.start(3)
    run_to(world, height + 20, 0, 1, 2, 3)
    first = target.view().history()[2]
    assert first > 0
    for at in range(first, height + 20):
        assert target.view().block_hash(at) == source.view().block_hash(at)


def test_those_who_kept_the_blocks_are_asked_instead() -> None:
    world = EthereumWorld(settings=SMALL)
    world.settings = Settings(block_time_ms=50)
    world.start(0)
    world.settings = SMALL
    world.start(1, 2)
    world.run(100)
    run_to(world, 40, 0, 1, 2)
    world.start(3)
    run_to(world, 45, 3)
    counters = world.get_node(3).counters
    assert counters.get("sync_pruned", 0) <= 2
    assert world.check_same_chain() >= 40


def test_a_false_or_unasked_refusal_counts_against_the_peer() -> None:
    world = EthereumWorld(settings=Settings(block_time_ms=50, peer_strikes=1000))
    world.start()
    world.run(500)
    node, peer = world.get_node(0), make_address(1)
    node.received(peer, encode(Pruned(5, 9)))
    assert node.peers.connected[peer].strikes == 1
    assert not node.sync.bases
    node.received(peer, encode(GetDecisions(1, 1)))
    world.run(500)
    assert node.counters["sync_served"] >= 1
