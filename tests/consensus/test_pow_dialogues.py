"""Short exchanges of miners as golden text in `tests/dialogues`.

`QUORATE_REWRITE=1` writes the files anew; read the difference before believing it. A block is named
by its height and the letter of its miner.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from consensus.pow_world import World

FOLDER = Path(__file__).resolve().parent.parent / "dialogues"
RATE = 1 << 20


def make_world(rates: list[int], **settings: int) -> World:
    world = World(rates, seed=3, **{"refresh_ms": 0, "final_depth": 3} | settings)
    world.talk = []
    return world


def until(world: World, height: int, index: int = 0, limit: int = 200) -> None:
    """Run until a machine's tip has a height."""
    for _ in range(limit * 10):
        if world.machines[index].replica.tree.head.height >= height:
            break
        world.run(0.1)
    world.run(0.3)


def one_block() -> World:
    """A mines and pushes; B and C check, follow, and tell whoever may not know."""
    world = make_world([RATE, 0, 0])
    world.mesh()
    until(world, 1)
    return world


def lost_block() -> World:
    """B misses a block, and asks for what lies between when it hears of the next."""
    world = make_world([RATE, 0])
    world.mesh()
    world.partition([0], [1])
    until(world, 2)
    world.partition([0, 1])
    until(world, 3, index=1)
    return world


def two_branches() -> World:
    """Both mine on their own for a while; the lighter branch is given up."""
    world = make_world([RATE, RATE // 2], final_depth=50)
    world.mesh()
    world.partition([0], [1])
    until(world, 3)
    world.partition([0, 1])
    until(world, 5)
    return world


def late_joiner() -> World:
    """B begins when A's first blocks are final: headers and blocks come out of A's store."""
    world = make_world([RATE, 0])
    until(world, 6)
    assert world.talk is not None
    world.talk.clear()
    world.connect(0, 1)
    until(world, 7, index=1)
    return world


def restart() -> World:
    """A stops and takes up its blocks again, from its journal."""
    world = make_world([RATE], final_depth=3)
    until(world, 5)
    assert world.talk is not None
    world.talk.clear()
    world.machines[0].boot()
    world.run(0.1)
    return world


@pytest.mark.parametrize("scene", [one_block, lost_block, two_branches, late_joiner, restart])
def test_dialogue(scene: Callable[[], World]) -> None:
    world = scene()
    assert world.talk is not None
    text = "".join(line + "\n" for line in world.talk)
    path = FOLDER / f"pow_{scene.__name__}.txt"
    if os.environ.get("QUORATE_REWRITE"):
        path.write_text(text)
    assert path.read_text() == text
