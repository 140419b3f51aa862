"""Members that take over the state at a height, among members that crash, lie to them or leave."""

from collections.abc import Callable
from typing import Any

import pytest

from quorate.base.types import Hash, Height
from quorate.crypto.hashes import keccak256
from quorate.ledger.application import Snapshot
from quorate.ledger.opaque import OpaqueLedger
from quorate.node.offers import compute_interval
from quorate.node.settings import Settings
from quorate.node.wire import GetChunk, GetState, encode
from quorate.simulator.machine import Machine
from quorate.simulator.plan import MS
from quorate.simulator.run import run
from quorate.simulator.scenarios.crashes import PARTIAL, start
from quorate.simulator.scenarios.stage import Play, Stage
from quorate.simulator.world import World
from simulator.networks import make_plan

FAR = {"state_interval": 4, "state_gap": 4, "state_chunk_bytes": 80, "sync_timeout_ms": 200}


def play_far_behind(
    on_world: Callable[[World], None] | None = None, *, heights: int = 20, **settings: Any
) -> Play:
    """Return a network of three whose last member missed some heights and is back."""
    stage = Stage(True, 1, PARTIAL)
    play = start(stage, 3, on_world=on_world, node_settings={**FAR, **settings})
    play.faults.crash(2)
    for _ in range(heights):
        play.submit(0)
        play.run(60)
    play.faults.start(2)
    return play


def get_counter(play: Play, name: str, index: int = 2) -> int:
    node = play.machines[index].node
    return 0 if node is None else node.counters.get(name, 0)


def use_ledger(kind: type[OpaqueLedger]) -> Callable[[World], None]:
    def install(world: World) -> None:
        world.light_ledger = kind

    return install


def test_a_member_far_behind_takes_over_the_state_and_goes_on() -> None:
    play = play_far_behind()
    assert play.run(5_000, lambda: play.get_height(2) >= play.get_height(0))
    assert get_counter(play, "states_taken") == 1
    assert get_counter(play, "sync_heights") < 8
    late = play.machines[2]
    assert late.store.base.included
    # It can be restarted, be needed for a majority, and refuse what was final before it came.
    play.faults.crash(2)
    play.faults.start(2)
    play.run(1_000)
    play.faults.crash(1)
    item = play.submit(0)
    again = play.submit(2, b"item 1")
    assert play.run(5_000, lambda: play.count_final(2, item) == 1)
    assert late.store.base.included[keccak256(again)] > 0
    assert play.judge().verdict == "true"


class Lies(OpaqueLedger):
    """What the first machine serves is damaged on its way to the network."""

    def export_state(self, snapshot: Snapshot, number: int) -> bytes | None:
        chunk = super().export_state(snapshot, number)
        return chunk and chunk[:-1] + bytes((chunk[-1] ^ 1,))


class Truncates(OpaqueLedger):
    """Chunks end too early, and their hashes say so."""

    def describe_state(self, height: Height, chunk_bytes: int) -> Snapshot | None:
        found = super().describe_state(height, chunk_bytes)
        if found is None or self.described is None:
            return None
        chunks = [*self.described[1][:-1], self.described[1][-1][:-1]]
        found = Snapshot(height, found.block, found.members, [keccak256(c) for c in chunks])
        self.described = (found, chunks)
        return found


class OtherBlock(OpaqueLedger):
    """The state is that of another height than the block that the certificate is about."""

    def describe_state(self, height: Height, chunk_bytes: int) -> Snapshot | None:
        found = super().describe_state(height - 1, chunk_bytes)
        final = self.store.get(height)
        if found is None or final is None or self.described is None:
            return None
        members = [self.members(height + i) for i in range(3)]
        found = Snapshot(height, final.executed.block, members, found.chunks)
        self.described = (found, self.described[1])
        return found


@pytest.mark.parametrize(
    ("kind", "counter"),
    [(Lies, "chunks_refused"), (Truncates, "states_refused"), (OtherBlock, "states_refused")],
)
def test_a_wrong_state_is_refused_and_blocks_are_fetched(
    kind: type[OpaqueLedger], counter: str
) -> None:
    play = play_far_behind(use_ledger(kind))
    assert play.run(20_000, lambda: play.get_height(2) >= play.get_height(0))
    assert get_counter(play, counter) > 0
    assert get_counter(play, "states_taken") == 0
    assert play.machines[2].store.base.before is None
    assert play.judge().verdict == "true"


def test_a_chunk_that_one_spoils_comes_from_another() -> None:
    def install(world: World) -> None:
        liar = world.plan.machines[0].address

        class OneLies(OpaqueLedger):
            def export_state(self, snapshot: Snapshot, number: int) -> bytes | None:
                chunk = super().export_state(snapshot, number)
                return b"other" if chunk and self.proposer == liar else chunk

        world.light_ledger = OneLies

    play = play_far_behind(install)
    assert play.run(5_000, lambda: play.get_height(2) >= play.get_height(0))
    assert get_counter(play, "states_taken") == 1
    assert play.judge().verdict == "true"


def test_a_crash_while_chunks_come_loses_none_of_them() -> None:
    play = play_far_behind(sync_requests=1)
    assert play.run(5_000, lambda: get_counter(play, "chunks_fetched") >= 3)
    kept = len(play.machines[2].store.kept)
    assert play.machines[2].store.base.before is None
    play.faults.crash(2)
    play.faults.start(2)
    assert play.run(5_000, lambda: get_counter(play, "states_taken") == 1)
    assert get_counter(play, "chunks_found") == kept > 0
    assert play.judge().verdict == "true"


@pytest.mark.parametrize("sync", [1, 2])
def test_a_crash_between_store_and_journal_leaves_the_new_state(sync: int) -> None:
    play = play_far_behind()
    late = play.machines[2]

    def on_installed(machine: Machine, _: Any) -> None:
        # The record of it, or the cut of the journal, does not come about.
        machine.crash_at_sync = machine.syncs + sync
        machine.restart_ns = 500 * MS

    play.world.on_installed.append(on_installed)
    assert play.run(20_000, lambda: late.life > 4 and late.node is not None)
    assert late.store.base.before is not None
    play.submit(0)
    assert play.run(20_000, lambda: play.get_height(2) > late.store.final[0].executed.height)
    assert play.judge().verdict == "true"


class Slow(OpaqueLedger):
    """To describe a state takes many steps."""

    steps = 0

    def describe_state(self, height: Height, chunk_bytes: int) -> Snapshot | None:
        type(self).steps += 1
        return super().describe_state(height, chunk_bytes) if self.steps % 400 == 0 else None


def test_a_state_that_takes_long_to_describe_is_waited_for_and_pinned() -> None:
    Slow.steps = 0
    play = play_far_behind(use_ledger(Slow))
    nodes = [machine.node for machine in play.machines[:2]]
    assert play.run(5_000, lambda: any(node and node.offers.making for node in nodes))
    for node in nodes:
        assert node is not None
        if node.offers.making:
            assert node.offers.get_pinned() == node.offers.making
    # Blocks are fetched meanwhile, and who asked and gave up is not blamed for the late answer.
    assert play.run(20_000, lambda: play.get_height(2) >= play.get_height(0))
    play.run(10_000)
    assert get_counter(play, "dropped_unasked_state") == 0
    assert all(node and not node.offers.making for node in nodes)
    assert play.judge().verdict == "true"


def test_a_peer_that_asks_again_and_again_is_told_a_few_times() -> None:
    play = play_far_behind()
    assert play.run(5_000, lambda: get_counter(play, "states_taken") == 1)
    node, peer = play.machines[0].node, play.machines[2].address
    assert node is not None
    assert node.offers.offers
    told: list[bytes] = []
    node.port.send = lambda _, frame: told.append(frame)
    for _ in range(50):
        node.received(peer, encode(GetState(0)))
    for number in (0, 1, 10**4):
        node.received(peer, encode(GetChunk(8, bytes(32), number)))
    assert sum(len(frame) > 200 for frame in told) <= 4
    assert node.counters["dropped_state_requests"] >= 46
    answers = [node.decode(frame) for frame in told[-3:]]
    assert [(m.height, m.data) for m in answers] == [(8, b"")] * 3


def test_engines_that_take_over_no_state_describe_none() -> None:
    play = Stage(True, 1, PARTIAL).build(4, node_settings={"state_interval": 1})
    for _ in range(4):
        play.submit(0)
        play.run(500)
    node, peer = play.machines[0].node, play.machines[1].address
    assert node is not None
    assert play.get_height(0) > 2
    node.received(peer, encode(GetState(0)))
    assert (node.offers.making, node.offers.offers) == (0, {})


@pytest.mark.parametrize(
    ("interval", "states", "blocks", "expected"),
    [
        (1024, 90_000, 0, 1024),
        (1024, 0, 0, 1024),
        (1024, 64, 0, 32),
        (1024, 90_000, 100, 32),
        (1024, 8, 8, 4),
        (1024, 1, 0, 1),
        (4, 64, 64, 4),
        (0, 64, 0, 0),
    ],
)
def test_what_is_offered_is_not_about_to_be_pruned(
    interval: int, states: int, blocks: int, expected: int
) -> None:
    settings = Settings(state_interval=interval, state_history=states, block_history=blocks)
    assert compute_interval(settings) == expected


class Forgets(OpaqueLedger):
    """Nobody holds blocks of old heights any more."""

    def decision(self, height: Height) -> tuple[Hash, bytes, list[bytes]] | None:
        return None if height < 10 and self.last.height > 12 else super().decision(height)


@pytest.mark.parametrize("gap", [0, 1000])
def test_who_finds_no_blocks_takes_over_the_state(gap: int) -> None:
    play = play_far_behind(use_ledger(Forgets), state_gap=gap)
    assert play.run(20_000, lambda: play.get_height(2) >= play.get_height(0))
    assert get_counter(play, "states_taken") == 1


def test_default_runs_take_over_states_and_break_nothing() -> None:
    taken = 0
    for seed in range(12):
        outcome = run(make_plan(seed, "default", count=3, engine="raft", duration_ms=4000))
        assert (outcome.verdict, outcome.findings) == ("true", [])
        taken += outcome.sometimes["state taken over"]
    assert taken > 0
