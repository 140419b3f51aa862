"""What a node does first: say, execute, complete."""

from typing import Any

import pytest

from node.lone import make_lone
from node.world import World
from quorate.consensus.replica import Decision
from quorate.node.execution import AHEAD_BYTES
from quorate.node.wire import encode


def test_what_was_said_leaves_before_a_height_is_completed() -> None:
    world = World(make_lone)
    world.start()
    world.run(100)
    leader = world.get_machine(0)
    world.submit(0, b"one")
    world.run(20_000)
    assert [height for _, height in leader.hurried] == [0, 1]
    for said, height in leader.hurried:
        final = leader.store.final[height + 1]
        decision = Decision(height + 1, final.payloads, final.certificate)
        assert said == encode(decision)


@pytest.mark.parametrize("size", [100, AHEAD_BYTES])
def test_small_payload_goes_out_before_it_is_executed(size: int) -> None:
    world = World(make_lone)
    world.start()
    node: Any = world.get_node(0)
    submit, executed_first = node.replica.submit, []

    def spy(now: int, height: int, payload: bytes) -> None:
        execution = node.execution
        executed_first.append(payload in execution.results or payload in execution.speculating)
        submit(now, height, payload)

    node.replica.submit = spy
    world.submit(0, bytes(size))
    assert world.run(500, lambda: len(world.get_machine(0).store.final) > 1)
    assert executed_first[0] is (size >= AHEAD_BYTES)
    world.check_agreement()
