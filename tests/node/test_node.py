"""Whole nodes in the small world: agreement, catching up, crashes, refusals, bounds, silence."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from node.lone import make_lone
from node.world import MS, World, make_address
from quorate.base.rng import Rng
from quorate.base.types import Hash, Member
from quorate.consensus.raft import Raft
from quorate.consensus.replica import Decision, Keys, Replica
from quorate.consensus.tendermint import Tendermint
from quorate.ledger.opaque import OpaqueStore, make_genesis, make_member_change
from quorate.node.settings import Settings
from quorate.node.wire import VERSION, Decisions, GetDecisions, Hello, Tip, Transactions, encode

ROOT = Path(__file__).resolve().parents[2]


def make_tendermint(keys: Keys, chain: Hash) -> Replica:
    return Tendermint(keys, chain, Rng(int.from_bytes(keys.address[:8], "big")))


ENGINES = pytest.mark.parametrize("engine", [make_lone, make_tendermint])


def count_items(world: World, index: int) -> int:
    return sum(final.executed.items for final in world.get_machine(index).store.final)


def have_items(world: World, count: int) -> bool:
    return all(
        count_items(world, i) >= count
        for i in range(len(world.machines))
        if world.get_machine(i).node is not None
    )


def is_settled(world: World) -> bool:
    """Every store holds the same heights, the last of them empty."""
    stores = [m.store.final for m in world.machines.values()]
    return len({len(s) for s in stores}) == 1 and stores[0][-1].executed.items == 0


# ---- agreement


@ENGINES
def test_items_become_final_everywhere_and_the_network_falls_silent(engine: object) -> None:
    world = World(engine)
    world.start()
    world.run(2000)
    assert world.get_heights() == [0, 0, 0, 0]
    for i in range(20):
        world.submit(i % 4, b"item %d" % i)
        world.run(13)
    assert world.run(10_000, lambda: have_items(world, 20))
    world.run(20_000)
    world.check_agreement()
    assert is_settled(world)
    # One empty block certifies the last state, and then nobody says anything any more.
    frames, heights = world.frames, world.get_heights()
    assert not world.run(60_000, lambda: world.frames > frames)
    assert world.get_heights() == heights
    assert not world.queue


@ENGINES
def test_exactly_one_empty_block_follows(engine: object) -> None:
    world = World(engine)
    world.start()
    world.run(100)
    world.submit(1, b"one")
    world.run(20_000)
    counts = [final.executed.items for final in world.get_machine(0).store.final]
    assert counts == [0, 1, 0]


@ENGINES
def test_fixed_block_time_makes_blocks_without_work(engine: object) -> None:
    world = World(engine, settings=Settings(block_time_ms=500))
    world.start()
    world.run(10_250)
    assert all(19 <= height <= 21 for height in world.get_heights())
    times = [final.executed.timestamp_ms for final in world.get_machine(0).store.final][1:]
    assert all(490 <= later - earlier <= 600 for earlier, later in pairwise(times))


@ENGINES
def test_heartbeat_makes_an_empty_block_after_silence(engine: object) -> None:
    world = World(engine, settings=Settings(heartbeat_ms=2000))
    world.start()
    world.run(9000)
    assert all(3 <= height <= 4 for height in world.get_heights())


@pytest.mark.parametrize("seed", range(6))
def test_tendermint_agrees_over_links_that_lose(seed: int) -> None:
    world = World(make_tendermint, seed=seed, loss_permille=100, delay_ms=40)
    world.start()
    for i in range(20):
        world.submit(i % 4, b"item %d" % i)
        world.run(150)
    assert world.run(120_000, lambda: have_items(world, 20))
    assert world.run(60_000, lambda: is_settled(world))
    world.check_agreement()


def test_member_change_holds_two_heights_later() -> None:
    world = World(make_tendermint, count=5, members=4)
    world.start()
    world.run(100)
    world.submit(0, make_member_change(make_address(4), 1))
    world.run(10_000)
    ledger = world.get_node(0).application
    assert [len(ledger.members(height)) for height in (1, 2, 3)] == [4, 4, 5]
    assert Member(make_address(4), 1) in world.get_node(0).get_status().validators
    # It was refused as a stranger before; now it is let in, catches up and takes part.
    assert "neither a member" in world.get_machine(0).refused[0]
    world.heal()
    world.run(5000)
    world.submit(4, b"next")
    assert world.run(10_000, lambda: have_items(world, 2))
    world.check_agreement()


# ---- catching up


@ENGINES
def test_node_that_was_away_for_long_catches_up(engine: object) -> None:
    # Links of this world are no streams: the first request may overtake the greeting, and is lost.
    settings = Settings(block_time_ms=20, sync_range=16, sync_timeout_ms=300)
    world = World(engine, settings=settings)
    world.start(0, 1, 2)
    world.run(10_000)
    assert min(world.get_heights()[:3]) > 150
    behind = world.get_machine(3)
    world.start(3)
    assert world.run(10_000, lambda: world.get_heights()[3] >= min(world.get_heights()[:3]) > 150)
    world.run(200)
    world.check_agreement()
    counters = world.get_node(3).get_counters()
    assert counters["sync_heights"] > 100
    assert counters["sync_requests"] < 60
    assert ("info", "catching up") in [(level, event) for level, event, _ in behind.logs]


def test_node_catches_up_over_links_that_are_slower_than_its_patience() -> None:
    # Found by the simulator: default faults with 80 ms of delay, seed 23.
    settings = Settings(block_time_ms=1000, sync_timeout_ms=50, sync_range=4, peer_strikes=5)
    world = World(make_lone, count=2, settings=settings, delay_ms=600)
    world.start(0)
    world.run(20_000)
    height = world.get_heights()[0]
    assert height > 10
    world.start(1)
    assert world.run(60_000, lambda: world.get_heights()[1] >= height)
    assert "dropped_unasked_decisions" not in world.get_node(1).get_counters()
    world.check_agreement()


def test_node_behind_by_one_height_learns_it_from_a_silent_network() -> None:
    world = World(make_lone)
    world.start()
    world.run(100)
    world.partition(3)
    world.submit(0, b"one")
    world.run(5000)
    assert world.get_heights() == [2, 2, 2, 0]
    world.heal()
    world.run(5000)
    assert world.get_heights() == [2, 2, 2, 2]


def test_lying_peer_is_shunned_and_another_is_asked() -> None:
    world = World(make_lone, settings=Settings(block_time_ms=20))
    world.start(0, 1)
    world.run(3000)
    height = world.get_heights()[0]
    # Node 2 claims heights that it does not have, and sends decisions that nobody made.
    liar = world.get_machine(2)
    world.start(3)
    me, victim = make_address(2), make_address(3)
    world.links[me, victim] = world.links[victim, me] = None
    node = world.get_node(3)
    node.connected(me)
    hello = Hello(VERSION, node.application.genesis, "test", "liar", height + 50, True)
    node.received(me, encode(hello))
    sent: list[bytes] = []
    liar.node = None
    world.run(20)
    for first in list(node.sync.asked):
        request = node.sync.asked[first]
        if request.peer == me:
            lies = [Decision(h, [b"x" * 100], b"no") for h in range(first, request.end)]
            sent.append(encode(Decisions(first, lies)))
    assert sent
    for frame in sent:
        node.received(me, frame)
    assert world.run(20_000, lambda: world.get_heights()[3] > height)
    assert node.get_counters()["sync_failures"] >= 1
    assert world.get_machine(3).failed == ""


def test_full_buffer_of_later_heights_does_not_keep_the_next_one_from_being_asked_for() -> None:
    settings = Settings(block_time_ms=20, sync_range=4, sync_buffer_bytes=1)
    world = World(make_lone, settings=settings)
    world.start(0, 1)
    world.run(3000)
    height = world.get_heights()[0]
    world.start(2)
    node = world.get_node(2)
    assert world.run(1000, lambda: len(node.sync.asked) > 1)
    # The answer with the first heights is lost; later ones come and fill the buffer.
    first = min(node.sync.asked)
    node.sync.asked[first].peer = make_address(3)
    assert world.run(20_000, lambda: world.get_heights()[2] > height)


# ---- crashes


@ENGINES
@pytest.mark.parametrize("victim", [0, 2])
def test_crash_at_any_write_of_the_journal_loses_no_agreement(engine: object, victim: int) -> None:
    crashes = 0
    for sync in range(1, 40):
        world = World(engine, seed=sync, settings=Settings(block_time_ms=100))
        machine = world.get_machine(victim)
        machine.crash_at_sync = sync
        world.start()
        for i in range(8):
            if world.get_machine(1).node is not None:
                world.submit(1, b"item %d" % i)
            world.run(200)
            if machine.node is None:
                crashes += 1
                world.start(victim)
        machine.crash_at_sync = 0
        assert world.run(60_000, lambda world=world: have_items(world, 8))
        world.check_agreement()
        if machine.syncs < sync:
            break
    assert crashes > 5


@ENGINES
def test_restart_with_a_store_that_lags_executes_again(engine: object) -> None:
    world = World(engine, settings=Settings(block_time_ms=50))
    world.start()
    world.run(500)
    machine = world.get_machine(0)
    # From here on nothing reaches the store: it is written on a lane that never ends.
    machine.lanes["commit"] = 10**15
    world.run(300)
    lag = world.get_node(0).execution.final.height - len(machine.store.final) + 1
    assert lag > 2
    world.crash(machine.address)
    world.partition(0)
    world.start(0)
    world.run(100)
    # Alone, from the journal only.
    assert len(machine.store.final) - 1 >= 5
    assert world.get_node(0).execution.final.height >= len(machine.store.final) - 1
    world.heal()
    assert world.run(10_000, lambda: min(world.get_heights()) > 30)
    world.check_agreement()


@ENGINES
def test_heights_that_share_a_write_of_the_store_survive_without_it(engine: object) -> None:
    world = World(engine, settings=Settings(block_time_ms=20, commit_ms=200, commit_heights=8))
    world.start()
    world.run(3000)
    machine = world.get_machine(0)
    heights = world.get_heights()
    assert heights[0] > 50
    assert heights[0] // 10 <= machine.commits <= heights[0] // 4
    # Together they lose power, with heights that only journals hold.
    behind = [len(m.store.final) - 1 for m in world.machines.values()]
    assert any(stored < height for stored, height in zip(behind, heights, strict=True))
    for victim in world.machines.values():
        world.crash(victim.address)
    for i in range(4):
        world.start(i)
    assert world.run(2000, lambda: min(world.get_heights()) >= max(heights))
    world.check_agreement()


def test_last_height_reaches_the_store_though_none_follows() -> None:
    world = World(make_lone, settings=Settings(commit_ms=200))
    world.start()
    world.submit(0, b"item")
    world.run(100)
    execution = world.get_node(0).execution
    assert execution.final.height == 1
    assert execution.durable == 0
    world.run(300)
    assert execution.durable == execution.final.height


@pytest.mark.parametrize("bound", [{"max_uncommitted": 5}, {"max_uncommitted_bytes": 350}])
def test_store_that_is_stuck_holds_agreement_back(bound: dict[str, int]) -> None:
    world = World(make_lone, count=1, settings=Settings(block_time_ms=10, **bound))
    world.start()
    world.run(100)
    machine = world.get_machine(0)
    durable = len(machine.store.final) - 1
    machine.lanes["commit"] = world.now + 1000 * MS
    world.run(800)
    assert world.get_heights()[0] <= durable + 5 + 3
    assert "the store is" in world.get_node(0).get_status().why_stalled
    assert world.run(3000, lambda: world.get_heights()[0] > durable + 50)


def test_journal_is_cut_after_checkpoints() -> None:
    world = World(make_lone, settings=Settings(block_time_ms=10))
    world.start()
    world.run(5000)
    machine = world.get_machine(0)
    assert world.get_heights()[0] > 200
    assert len(machine.disk.names()) <= 2
    assert sum(len(machine.disk.read(n)) for n in machine.disk.names()) < 40_000
    world.crash(machine.address)
    height = len(machine.store.final)
    world.start(0)
    assert world.run(2000, lambda: world.get_heights()[0] > height + 10)
    world.check_agreement()


def test_d6_store_older_than_the_journal_stops_the_node() -> None:
    world = World(make_tendermint, settings=Settings(block_time_ms=20))
    world.start()
    world.run(20_000)
    machine = world.get_machine(0)
    assert ".base" in machine.disk.names()[0]
    world.crash(machine.address)
    machine.store = OpaqueStore(machine.store.final[0].executed)
    world.start(0)
    assert machine.failed.startswith("journal: a record of height ")
    assert machine.failed.endswith("the store ends at height 0 and is older than the journal")
    heights = world.get_heights()
    world.run(2000)
    assert min(world.get_heights()[1:]) > max(heights)


def test_divergence_stops_the_node_and_names_both_blocks() -> None:
    world = World(make_lone, settings=Settings(block_time_ms=50))
    world.start()
    world.run(500)
    victim = world.get_node(3)
    fake = b"\xee" * 32

    class Differs:
        def __getattr__(self, name: str) -> object:
            return getattr(application, name)

        def execute(self, *arguments: object) -> object:
            result = application.execute(*arguments)
            application.branches[fake] = application.branches[result.block]
            return msgspec.structs.replace(result, block=fake)

    application = victim.execution.application
    victim.execution.application = Differs()
    world.run(2000)
    failed = world.get_machine(3).failed
    assert failed.startswith("diverged at block ")
    assert f"here it is 0x{fake.hex()}, but the network decided height" in failed
    assert "stopped: diverged" in victim.get_status().why_stalled
    assert world.run(1000, lambda: world.get_heights()[0] > 30)


# ---- peers


def test_peers_with_another_genesis_are_refused_by_name() -> None:
    world = World(make_lone)
    other = make_genesis(b"another", [Member(make_address(i), 1) for i in range(4)])
    world.get_machine(3).store = OpaqueStore(other)
    world.start()
    world.run(1000)
    ours = world.get_machine(0).store.final[0].executed.block
    said = [(i, reason) for i in range(4) for reason in world.get_machine(i).refused]
    assert len(said) >= 3
    for i, reason in said:
        theirs, own = (ours, other.block) if i == 3 else (other.block, ours)
        assert reason == (
            f"its genesis block is 0x{theirs.hex()}, ours is 0x{own.hex()}: "
            "the genesis files differ"
        )
    assert make_address(3) not in world.get_node(0).peers.connected
    world.submit(0, b"one")
    world.run(2000)
    assert world.get_heights() == [2, 2, 2, 0]


def test_stranger_is_refused() -> None:
    world = World(make_lone)
    world.start()
    world.run(100)
    world.get_node(0).connected(b"\x99" * 20)
    assert "neither a member nor a configured peer" in world.get_machine(0).refused[0]
    assert b"\x99" * 20 not in world.get_node(0).peers.known


def test_malformed_frames_are_counted_and_then_the_peer_goes() -> None:
    world = World(make_lone)
    world.start()
    world.run(100)
    node, peer = world.get_node(0), make_address(1)
    frames = [b"", b"\xc1", b"\x93\xff\x01\x02", b"\xdd\xff\xff\xff\xff", encode(Tip(5, 5))[:-1]]
    for i, frame in enumerate(frames):
        assert (peer in node.peers.connected) == (i < 5)
        node.received(peer, frame)
    assert node.get_counters()["dropped_malformed"] == 5
    assert "5 malformed frames, the last one" in world.get_machine(0).refused[0]
    assert peer not in node.peers.connected


def test_random_frames_never_stop_a_node() -> None:
    world = World(make_tendermint, settings=Settings(peer_malformed=1 << 30))
    world.start()
    world.run(100)
    node, peer, rng = world.get_node(0), make_address(1), Rng(7)
    samples = [
        encode(Transactions([b"a" * 50] * 3, True)),
        encode(Tip(3, 3)),
        encode(GetDecisions(1, 3)),
        encode(Decisions(1, [Decision(1, [b"p"], b"c")])),
        encode(Decision(1, [b"p" * 80], b"c" * 80)),
    ]
    for i in range(3000):
        frame = bytearray(samples[i % len(samples)])
        for _ in range(1 + rng.below(3)):
            frame[rng.below(len(frame))] = rng.below(256)
        node.received(peer, bytes(frame[: 1 + rng.below(len(frame))]))
        if i % 50 == 0:
            world.run(5)
    world.run(1000)
    assert world.get_machine(0).failed == ""


def test_flood_of_transactions_is_bounded_and_ends_the_link() -> None:
    world = World(make_lone, settings=Settings(peer_transactions_per_second=100, peer_strikes=10))
    world.start()
    world.run(100)
    node, peer = world.get_node(0), make_address(1)
    for i in range(30):
        node.received(peer, encode(Transactions([b"%d/%d" % (i, j) for j in range(50)], False)))
    world.run(1000)
    counters = node.get_counters()
    assert counters["transactions_received"] == 200
    assert counters["dropped_transactions"] == 10
    assert "10 frames over its bounds, the last one: transactions" in world.get_machine(0).refused


# ---- transactions


def test_duplicates_are_dropped_before_the_pool() -> None:
    world = World(make_lone, settings=Settings(block_time_ms=100_000))
    world.start()
    world.run(100)
    node, peer = world.get_node(3), make_address(1)
    for _ in range(10):
        node.received(peer, encode(Transactions([b"same", b"same", b"other"], False)))
    world.run(10)
    counters = node.get_counters()
    assert counters["transactions_repeated"] == 28
    assert counters["transactions_admitted"] == 2


def test_transaction_reaches_members_that_its_node_does_not() -> None:
    world = World(make_lone, settings=Settings(block_time_ms=100_000))
    a, b = make_address(0), make_address(1)
    world.cut_off = {(a, b): None, (b, a): None}
    world.start()
    world.run(100)
    world.submit(1, b"one")
    world.run(100)
    assert [world.get_node(i).application.counts()[0] for i in range(4)] == [1, 1, 1, 1]


def test_new_peer_is_told_what_waits() -> None:
    world = World(make_lone, settings=Settings(block_time_ms=100_000))
    world.start(0, 1)
    world.run(100)
    world.submit(1, b"one", b"two")
    world.run(100)
    world.start(2)
    world.run(100)
    assert world.get_node(2).application.counts()[0] == 2


def test_followers_transaction_that_was_lost_is_told_again_though_heights_come() -> None:
    settings = Settings(block_time_ms=300, gossip_again_ms=1000)
    world = World(make_lone, count=3, members=2, settings=settings)
    world.start()
    for member in (0, 1):
        world.get_node(member).configured[make_address(2)] = None
        world.link(make_address(2), make_address(member))
    world.run(100)
    world.loss_permille = 1000
    world.submit(2, b"one")
    world.run(50)
    world.loss_permille = 0
    assert world.run(10_000, lambda: count_items(world, 0) == 1)


def test_client_gets_a_verdict_for_each_item_in_order() -> None:
    world = World(make_lone)
    world.start()
    first = world.submit(0, b"a", b"", b"a")
    second = world.submit(0, b"b")
    world.run(10)
    assert [error for _, error in first] == [
        None,
        "item of 0 bytes, expected 1 to 131072",
        "already known",
    ]
    assert [error for _, error in second] == [None]
    assert len(world.get_machine(0).admitted_hashes) == 2


@ENGINES
def test_item_that_fits_no_payload_is_refused_and_costs_no_block(engine: object) -> None:
    world = World(engine, settings=Settings(max_payload_bytes=200))
    world.start()
    answers = world.submit(0, b"x" * 122, b"y" * 123)
    world.run(10_000)
    assert [error for _, error in answers] == [
        None,
        "oversized data: transaction size 123, limit 122",
    ]
    counts = [final.executed.items for final in world.get_machine(0).store.final]
    assert counts == [0, 1, 0]


@ENGINES
def test_pool_whose_items_fit_no_payload_any_more_asks_for_no_blocks(engine: object) -> None:
    """As after a restart with a smaller bound: what others may take is no work of this node."""
    world = World(engine, settings=Settings(max_payload_bytes=200))
    world.start()
    for number in range(len(world.machines)):
        node = world.get_machine(number).node
        assert node is not None
        node.application.add([b"x" * 150])
    world.run(100)
    world.submit(1, b"one")
    world.run(20_000)
    counts = [final.executed.items for final in world.get_machine(0).store.final]
    assert counts == [0, 1, 0]


def test_full_admission_queue_refuses_clients_at_once() -> None:
    world = World(make_lone, settings=Settings(admission_bytes=100))
    world.start()
    assert world.submit(0, b"x" * 90) == []
    assert [error for _, error in world.submit(0, b"y" * 90)] == ["txpool is full"]


# ---- words


def test_a_leader_that_shows_that_it_is_there_has_nothing_to_agree_on() -> None:
    world = World(lambda keys, chain: Raft(keys, chain, Rng(keys.address[0])))
    world.start()
    assert world.run(5000, lambda: any(world.get_node(i).leads() for i in range(4)))
    world.run(500)
    for index in range(4):
        text = world.get_node(index).get_status().why_stalled
        kind = "heartbeat" if world.get_node(index).leads() else "election"
        assert text.startswith(f"idle: nothing to agree on; next timeout: {kind} in ")


def test_status_says_what_is_waited_for() -> None:
    world = World(make_tendermint)
    world.start()
    world.run(500)
    assert world.get_node(0).get_status().why_stalled == "idle: nothing to agree on"
    world.submit(0, b"one")
    world.run(5000)
    for index in (2, 3):
        world.crash(make_address(index))
    world.run(10_000)
    world.submit(0, b"two")
    world.run(1500)
    status = world.get_node(0).get_status()
    assert status.height == 2
    assert status.why_stalled.startswith("height 3 round ")
    for index in (2, 3):
        assert f"0x{make_address(index).hex()} (validator {index}, " in status.why_stalled
    assert "disconnected 11 s ago" in status.why_stalled
    assert "next timeout: " in status.why_stalled
    world.start(2)
    assert world.run(60_000, lambda: world.get_heights()[0] == 4)


# ---- determinism

REPLAY = """
from node.test_node import make_tendermint
from node.world import World
world = World(make_tendermint, seed=11, loss_permille=50, delay_ms=30)
world.start()
for i in range(10):
    world.submit(i % 4, b"item %d" % i)
    world.run(100)
world.crash(world.get_machine(2).address)
world.run(1000)
world.start(2)
world.run(20000)
print(world.digest.hexdigest(), world.get_heights(), world.frames)
"""


def test_same_seed_gives_the_same_run_under_any_hash_seed() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", REPLAY],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}/src:{ROOT}/tests"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "2")
    ]
    assert outputs[0].strip()
    assert len(set(outputs)) == 1
