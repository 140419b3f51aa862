"""A member that comes back is soon as far as the others, though they never stand still."""

import pytest

from quorate.node.wire import Tip
from quorate.simulator.machine import Machine
from quorate.simulator.plan import MS
from quorate.simulator.run import ignore
from quorate.simulator.tape import Tape
from quorate.simulator.world import World
from simulator.networks import make_plan

PAUSE_MS = 10


def keep_busy(world: World, until_ms: int) -> None:
    """Give somebody who runs a new item every few milliseconds."""

    def submit(number: int) -> None:
        machines: list[Machine] = [m for m in world.machines if m.node is not None]
        machines[number % len(machines)].submit([b"item %d" % number], ignore)

    for number, at in enumerate(range(0, until_ms, PAUSE_MS)):
        world.after(at * MS - world.now, submit, number)


@pytest.mark.parametrize("engine", ["tendermint", "raft"])
def test_member_that_was_down_takes_part_again_under_load(engine: str) -> None:
    world = World(make_plan(1, engine=engine, jitter_ns=MS // 2), Tape(1))
    for machine in world.machines:
        machine.start()
    keep_busy(world, 20_000)
    world.run(6_000 * MS)
    world.machines[2].crash()
    world.run(8_000 * MS)
    world.machines[2].start()
    world.run(10_000 * MS)
    behind = 0
    for _ in range(100):
        world.run(world.now + 10 * MS)
        heights = [m.node.execution.final.height for m in world.machines if m.node is not None]
        assert len(heights) == 4
        behind += heights[2] < max(heights) - 1
    # Now and then a decision may be under way to it and not to others.
    assert behind <= 5


@pytest.mark.parametrize(("engine", "most"), [("tendermint", 0), ("raft", 12 * 4 * 2)])
def test_heights_that_messages_show_are_not_told(engine: str, most: int) -> None:
    # Tendermint's votes show everybody's height. Of Raft only the leader's is seen: others tell
    # theirs once a second, in twelve directions, and what is said to all counts once.
    world = World(make_plan(1, engine=engine, base_delay_ns=80 * MS), Tape(1))
    told: list[Tip] = []
    world.on_message[Tip] = [lambda _machine, m: told.append(m)]
    for machine in world.machines:
        machine.start()
    keep_busy(world, 8_000)
    world.run(4_000 * MS)
    told.clear()
    world.run(8_000 * MS)
    assert bool(told) == bool(most)
    assert len(told) <= most


@pytest.mark.parametrize("engine", ["tendermint", "raft"])
def test_the_last_height_of_a_network_that_falls_silent_is_told_once(engine: str) -> None:
    world = World(make_plan(1, engine=engine, jitter_ns=MS // 2), Tape(1))
    for machine in world.machines:
        machine.start()
    keep_busy(world, 3_000)
    world.run(8_000 * MS)
    nodes = [machine.node for machine in world.machines if machine.node is not None]
    height = max(node.execution.final.height for node in nodes)
    assert height > 10
    for node in nodes:
        assert [peer.height for peer in node.peers.connected.values()] == 3 * [height]
    told: list[Tip] = []
    world.on_message[Tip] = [lambda _machine, m: told.append(m)]
    world.run(30_000 * MS)
    assert told == []
