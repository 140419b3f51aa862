"""States that a run went through: each is counted once, by a number that is equal everywhere."""

import zlib
from typing import Any

import pytest

from quorate.simulator.coverage import MAX_LAG, MAX_ROUND, StateCoverage
from quorate.simulator.machine import Machine
from quorate.simulator.run import run
from quorate.simulator.world import World
from simulator.networks import make_plan


class Plainly:
    """The same, as it is said in words."""

    def __init__(self, world: World) -> None:
        self.world, self.states = world, set[int]()
        world.on_kept.append(self.on_kept)

    def on_kept(self, machine: Machine, records: list[bytes]) -> None:
        replicas: list[tuple[Any, bool]] = [
            (other.node.replica, other.paused)
            for other in self.world.machines
            if other.node is not None
        ]
        best = max([getattr(replica, "height", 0) for replica, _ in replicas], default=0)
        state = sorted(
            (
                min(best - getattr(replica, "height", 0), MAX_LAG),
                min(getattr(replica, "round", 0), MAX_ROUND),
                getattr(replica, "step", ""),
                getattr(replica, "locked_round", -1) >= 0,
                paused,
            )
            for replica, paused in replicas
        )
        self.states.add(zlib.crc32(repr(tuple(state)).encode()))


@pytest.mark.parametrize("engine", ["tendermint", "raft"])
def test_states_are_what_one_sees_of_all_members(engine: str) -> None:
    found: list[Any] = []
    plan = make_plan(3, "default", duration_ms=6000, engine=engine)
    run(plan, on_world=lambda world: found.extend((StateCoverage(world), Plainly(world))))
    coverage, plainly = found
    assert coverage.states == plainly.states
    assert len(coverage.states) > 5
