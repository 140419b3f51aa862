"""Linearizable reads of a node: numbers, heights, the application that lags, time that runs out."""

from typing import cast

from node.world import MS, World
from quorate.base.rng import Rng
from quorate.base.types import Hash
from quorate.consensus.raft import Raft
from quorate.consensus.replica import Keys, Readable, Replica
from quorate.node.interpreter import Interpreter
from quorate.node.settings import Settings


def make_raft(keys: Keys, chain: Hash) -> Replica:
    return Raft(keys, chain, Rng(int.from_bytes(keys.address[:8], "big")))


class Silent:
    """An engine that never answers."""

    def read(self, number: int) -> None: ...


def start(count: int = 3) -> tuple[World, int]:
    """Return a network with a leader, and whose index that is."""
    world = World(make_raft, count=count)
    world.start()
    assert world.run(20_000, lambda: find_leader(world) is not None)
    leader = find_leader(world)
    assert leader is not None
    world.run(500)
    return world, leader


def find_leader(world: World) -> int | None:
    for i in range(len(world.machines)):
        replica = world.get_node(i).replica
        assert isinstance(replica, Raft)
        if replica.role == "leader" and replica.is_current():
            return i
    return None


def read(world: World, index: int, run_ms: int = 1000) -> list[int]:
    answers: list[int] = []
    world.get_node(index).read(answers.append)
    world.run(run_ms, lambda: bool(answers))
    return answers


def test_every_member_reads_what_was_final_before() -> None:
    world, leader = start()
    world.submit(leader, b"item")
    assert world.run(5000, lambda: world.get_node(leader).execution.final.items == 1)
    height = world.get_node(leader).execution.final.height
    for index in range(3):
        (answer,) = read(world, index)
        assert answer >= height
        assert world.get_node(index).execution.final.height == answer


def test_member_without_leader_refuses() -> None:
    world = World(make_raft, count=3)
    world.start()
    assert read(world, 0) == [-1]
    assert world.get_node(0).get_counters()["reads_refused"] == 1


def test_leader_that_is_cut_off_refuses_in_the_end() -> None:
    world, leader = start()
    world.partition(leader)
    assert read(world, leader, 10_000) == [-1]


def test_read_waits_until_the_application_is_there() -> None:
    world, leader = start()
    node = world.get_node(leader)
    answers: list[int] = []
    node.reads.waiting[7] = (world.now + 10**12, answers.append)
    node.reads.on_readable(Readable(7, node.execution.final.height + 1))
    assert answers == []
    world.submit(leader, b"item")
    assert world.run(5000, lambda: bool(answers))


def test_read_that_takes_too_long_is_refused() -> None:
    world, leader = start()
    node = world.get_node(leader)
    answers: list[int] = []
    began = world.now
    world.partition(leader)
    node.reads.interpreter = cast(Interpreter, Silent())
    node.read(answers.append)
    assert world.run(60_000, lambda: bool(answers))
    assert answers == [-1]
    assert world.now - began == Settings().read_timeout_ms * MS


def test_reads_beyond_the_bound_are_refused() -> None:
    world, leader = start()
    node = world.get_node(leader)
    answers: list[int] = []
    object.__setattr__(node.reads, "settings", Settings(max_reads=1))
    world.partition(leader)
    node.read(answers.append)
    node.read(answers.append)
    assert answers == [-1]
