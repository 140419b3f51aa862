"""Short exchanges as golden text in `tests/dialogues`, one line for what each replica does.

`QUORATE_REWRITE=1` writes the files anew; read the difference before believing it.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from consensus.actors import Equivocator, InvalidProposer
from consensus.network import MS, Links, World
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.replica import Message
from quorate.consensus.tendermint_types import Proposal, Settings, Vote

FOLDER = Path(__file__).resolve().parent.parent / "dialogues"


def make_world(**options: object) -> World:
    """A quiet network in which A proposes round 0 of height 1, B round 1, and so on."""
    world = World(
        1,
        links=Links(delay=(10, 10)),
        work_ns=0,
        fsync_ns=0,
        settings=Settings(),
        **options,  # type: ignore[arg-type]
    )
    world.sync = False
    turns = [ValidatorSet(world.get_members(1)).get_proposer(1, round) for round in range(4)]
    world.all.sort(key=lambda machine: turns.index(machine.me))
    world.names = {who: "ABCD"[index] for index, who in enumerate(turns)}
    world.talk = []
    return world.boot()


def give_all(world: World, number: int = 1) -> None:
    for machine in world.all:
        if machine.up:
            machine.give(number)


def idle() -> World:
    world = make_world()
    world.run(60)
    return world


def one_block() -> World:
    world = make_world()
    give_all(world)
    world.run(5)
    return world


def silent_proposer() -> World:
    world = make_world()
    world.all[0].crash()
    give_all(world)
    world.run(5)
    return world


def invalid_proposal() -> World:
    probe = make_world()
    index = list(probe.machines).index(probe.all[0].me)
    world = make_world(machines={index: InvalidProposer})
    give_all(world)
    world.run(1)
    return world


def lost_proposal() -> World:
    world = make_world()
    deaf = world.all[3].me
    world.hears = lambda to, m: not (isinstance(m, Proposal) and to == deaf and world.now < 50 * MS)
    give_all(world)
    world.run(2)
    return world


def hidden_lock() -> World:
    """A alone sees the polka of round 0; its lock is taken over in a later round."""
    world = make_world()
    a, b, c, d = (machine.me for machine in world.all)

    def hears(to: bytes, m: Message) -> bool:
        if isinstance(m, Proposal) and m.round == 0 and to == d:
            return False
        return not (
            isinstance(m, Vote) and (m.kind, m.round, m.voter) == (1, 0, a) and to in (b, c, d)
        )

    world.hears = hears
    give_all(world)
    world.run(2, lambda: all(machine.replica.round >= 1 for machine in world.all))
    world.hears = None
    world.run(4)
    return world


def restart_after_prevote() -> World:
    world = make_world()
    give_all(world)
    machine = world.all[1]
    world.run(5, lambda: machine.replica.step == "prevote")
    machine.crash()
    world.run(0.1)
    machine.boot()
    world.run(2)
    return world


def one_behind() -> World:
    """D hears nothing of height 1, and asks for what it missed."""
    world = make_world()
    world.partition([3])
    give_all(world)
    world.run(0.6)
    world.partition()
    world.run(1)
    return world


def equivocation() -> World:
    probe = make_world()
    index = list(probe.machines).index(probe.all[0].me)
    world = make_world(machines={index: Equivocator})
    give_all(world)
    world.run(2)
    return world


SCENES: list[Callable[[], World]] = [
    idle,
    one_block,
    silent_proposer,
    invalid_proposal,
    lost_proposal,
    hidden_lock,
    restart_after_prevote,
    one_behind,
    equivocation,
]


@pytest.mark.parametrize("scene", SCENES)
def test_dialogue(scene: Callable[[], World]) -> None:
    world = scene()
    assert world.talk is not None
    text = "".join(line + "\n" for line in world.talk)
    path = FOLDER / f"tendermint_{scene.__name__}.txt"
    if os.environ.get("QUORATE_REWRITE"):
        path.write_text(text)
    assert path.read_text() == text
