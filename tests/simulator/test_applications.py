"""Stores of machines: what they hold of a height is the same, byte for byte."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.simulator.applications import find_disagreement
from quorate.simulator.run import run
from quorate.simulator.world import World
from simulator.networks import make_plan


@pytest.fixture(scope="module")
def world() -> World:
    """Return a world at its end."""
    worlds: list[World] = []
    run(make_plan(2, "none", duration_ms=3000), on_world=worlds.append)
    return worlds[0]


def test_stores_of_a_run_are_equal(world: World) -> None:
    held = [machine.store for machine in world.machines]
    assert min(store.height for store in held) > 2
    assert find_disagreement(world.stores, held) is None
    assert find_disagreement(world.stores, []) is None


@pytest.mark.parametrize("change", ["payloads", "block"])
def test_a_difference_is_found_at_its_height_in_any_store(world: World, change: str) -> None:
    held = [machine.store for machine in world.machines]
    for store in held:
        right = store.final[2]
        changed: Any = {"payloads": [*right.payloads, b"more"]}
        if change == "block":
            changed = {"executed": replace(right.executed, block=bytes(32))}
        store.final[2] = replace(right, **changed)
        assert find_disagreement(world.stores, held) == 2
        assert find_disagreement(world.stores, [store]) is None
        # What one of them does not have is no difference.
        assert find_disagreement(world.stores, [store, world.stores.make()]) is None
        store.final[2] = right
    assert find_disagreement(world.stores, held) is None
