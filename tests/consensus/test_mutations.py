"""Known bugs put back: each must be found, and the correct engine must pass the same scene."""

from collections.abc import Callable

import pytest

from consensus.network import Fault, World
from consensus.single import Single
from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE
from quorate.consensus.evidence import EVIDENCE_HEIGHTS
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.replica import Accuse, Decision, Message
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import Proposal, Settings, Vote
from quorate.simulator.bugs import tendermint as mutations

Scene = Callable[[type[Tendermint]], None]


def make_world(kind: type[Tendermint]) -> World:
    """Four machines, sorted so that `all[i]` proposes round i of height 1."""
    settings = Settings(propose_ms=200, prevote_ms=80, precommit_ms=80, status_ms=100)
    world = World(1, settings=settings, kinds={-1: kind})
    world.sync = False
    validators = ValidatorSet(world.get_members(1))
    turns = [validators.get_proposer(1, round) for round in range(4)]
    world.all.sort(key=lambda machine: turns.index(machine.me))
    world.boot()
    return world


def play(
    world: World, unheard: Callable[[bytes, Message], bool], until: Callable[[], bool]
) -> None:
    world.hears = lambda to, m: not unheard(to, m)
    for machine in world.all:
        machine.give(1)
    assert world.run(20, until), "the scene did not come about"


def is_vote(m: Message, kind: int, round: int, voter: bytes) -> bool:
    return isinstance(m, Vote) and (m.kind, m.round, m.voter) == (kind, round, voter)


def hide_a_lock(kind: type[Tendermint]) -> World:
    """A alone sees the polka of round 0 and locks; D is down afterwards, so all others count."""
    world = make_world(kind)
    a, b, c, d = (machine.me for machine in world.all)

    def unheard(to: bytes, m: Message) -> bool:
        if isinstance(m, Proposal):
            return m.round == 0 and to == d
        return is_vote(m, PREVOTE, 0, a) and to in (b, c, d)

    play(world, unheard, lambda: all(m.replica.round >= 1 for m in world.all))
    locks = [machine.replica.locked_round for machine in world.all]
    assert locks == [0, -1, -1, -1]
    world.all[3].crash()
    world.hears = None
    return world


def split_locks(kind: type[Tendermint]) -> World:
    """A locks in round 0, B and C on another value in round 1; D is down afterwards."""
    world = make_world(kind)
    a, b, c, d = (machine.me for machine in world.all)

    def unheard(to: bytes, m: Message) -> bool:
        if isinstance(m, Proposal):
            return m.round == 0 and to == d
        return (is_vote(m, PREVOTE, 0, a) and to in (b, c, d)) or (
            is_vote(m, PREVOTE, 1, b) and to in (a, d)
        )

    play(world, unheard, lambda: all(m.replica.round >= 2 for m in world.all))
    locks = [machine.replica.locked_round for machine in world.all]
    assert locks == [0, 1, 1, -1]
    world.all[3].crash()
    world.hears = None
    return world


def decide_alone(kind: type[Tendermint]) -> World:
    """A decides round 0 alone and is gone; B and C are locked, the next proposer knows nothing."""
    world = make_world(kind)
    a, knows_nothing = world.all[0].me, world.all[1].me

    def unheard(to: bytes, m: Message) -> bool:
        if isinstance(m, Proposal):
            return m.round == 0 and to == knows_nothing
        if isinstance(m, Decision):
            return True
        return (is_vote(m, PREVOTE, 0, a) and to == knows_nothing) or (
            is_vote(m, PRECOMMIT, 0, a) and to != a
        )

    play(world, unheard, lambda: world.all[0].delivered == 1)
    world.all[0].crash()
    assert world.run(5, lambda: all(m.replica.step == "precommit" for m in world.all[2:]))
    assert [machine.replica.locked_round for machine in world.all[1:]] == [-1, 0, 0]
    return world


def restart_the_locked(world: World) -> None:
    for machine in world.all[2:]:
        machine.flush()
        world.run(0.02)
        machine.crash()
        machine.boot()


def make_progress(world: World) -> None:
    if not world.run(300, lambda: all(m.delivered >= 1 for m in world.all if m.up)):
        raise Fault("no progress")


def scene_hidden_lock(kind: type[Tendermint]) -> None:
    make_progress(hide_a_lock(kind))


def scene_split_locks(kind: type[Tendermint]) -> None:
    make_progress(split_locks(kind))


def scene_lone_decision(kind: type[Tendermint]) -> None:
    world = decide_alone(kind)
    world.hears = None
    make_progress(world)


def scene_lone_decision_and_restart(kind: type[Tendermint]) -> None:
    world = decide_alone(kind)
    restart_the_locked(world)
    world.hears = None
    make_progress(world)


@pytest.mark.parametrize(
    "scene",
    [
        scene_hidden_lock,
        scene_split_locks,
        scene_lone_decision,
        scene_lone_decision_and_restart,
    ],
)
def test_the_correct_engine_passes_every_scene(scene: Scene) -> None:
    scene(Tendermint)


def test_t1_never_unlocking_is_found_as_a_standstill() -> None:
    with pytest.raises(Fault, match="no progress"):
        scene_split_locks(mutations.NeverUnlock)


def test_t1_unlocking_without_a_polka_is_found_as_a_fork() -> None:
    with pytest.raises(Fault, match="two decisions at height 1"):
        scene_lone_decision(mutations.UnlockWithoutPolka)


def test_t3_no_valid_value_is_found_as_a_standstill() -> None:
    with pytest.raises(Fault, match="no progress"):
        scene_hidden_lock(mutations.NoValidValue)


def test_t4_amnesia_after_restart_is_found_as_a_fork() -> None:
    with pytest.raises(Fault, match="two decisions at height 1"):
        scene_lone_decision_and_restart(mutations.AmnesiaAfterRestart)


def test_t5_offences_counted_twice_or_late_are_found() -> None:
    def count(one: Single) -> int:
        liar = one.others[0]
        votes = [one.vote(PREVOTE, liar, value) for value in (NIL, one.value(), bytes([1]) * 32)]
        return sum(isinstance(effect, Accuse) for effect in one.hear(*votes))

    assert count(Single()) == 1
    mutated = Single()
    mutated.replica.offences = mutations.Forgetful()
    assert count(mutated) == 2
    old = (bytes(20), 1, 0, PREVOTE)
    assert not Single().replica.offences.admit(old, 2 + EVIDENCE_HEIGHTS)
    assert mutations.Forgetful().admit(old, 2 + EVIDENCE_HEIGHTS)
