"""How much a node does for each peer that asks."""

from node.lone import make_lone
from node.world import World, make_address
from quorate.consensus.replica import Recall
from quorate.node.settings import Settings
from quorate.node.wire import GetDecisions, encode


def test_serving_is_bounded_for_each_peer() -> None:
    world = World(make_lone, settings=Settings(block_time_ms=20, peer_strikes=20))
    world.start(0, 1)
    world.run(1000)
    node = world.get_node(0)
    before = node.get_counters().get("sync_served", 0)
    for _ in range(50):
        node.received(make_address(1), encode(GetDecisions(1, 64)))
    world.run(100)
    counters = node.get_counters()
    assert counters["sync_served"] == before + 2
    assert counters["dropped_requests"] == 20
    assert "frames over its bounds" in world.get_machine(0).refused[0]


def test_what_an_engine_asks_for_in_many_pieces_waits_its_turn_and_is_no_offence() -> None:
    """Whoever follows a long chain of work asks for up to 32 blocks of a peer, one by one if they
    come one by one; a slow machine that takes that for an attack bans every newcomer.
    """
    # The asker's engine is none that asks, and takes such answers for malformed frames.
    world = World(make_lone, settings=Settings(block_time_ms=20, peer_malformed=1000))
    world.start(0, 1)
    world.run(2000)
    node, asker = world.get_node(0), make_address(1)
    before = node.get_counters().get("sync_served", 0)
    for height in range(1, 41):
        node.on_recall(Recall(asker, height, 1, bodies=True))
    counters = node.get_counters()
    assert counters["sync_served"] - before == 8
    peer = node.peers.connected[asker]
    assert world.run(2_000, lambda: not peer.serving)
    counters = node.get_counters()
    assert counters["sync_served"] - before == 40
    assert "dropped_requests" not in counters
    # A flood is still one.
    for _ in range(100):
        node.on_recall(Recall(asker, 1, 1, bodies=True))
    assert node.get_counters()["dropped_requests"] == 100 - 64 - 8
    # What waits for somebody that goes away is forgotten.
    node.disconnected(asker)
    assert world.run(2_000, lambda: not peer.serving)
    assert not peer.waiting
