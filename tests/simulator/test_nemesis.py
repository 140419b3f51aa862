"""Who decides which faults happen: styles, casts, settings, and scripts of rounds."""

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.consensus.tendermint_types import Settings as EngineSettings
from quorate.node.settings import Settings
from quorate.simulator import knobs
from quorate.simulator.actors import ACTORS, Actor, Moody, Silent, TwoFaced
from quorate.simulator.cast import add_twin
from quorate.simulator.nemesis import ACTS, Nemesis
from quorate.simulator.plan import PROFILES, Profile, get_profile
from quorate.simulator.rounds import PATTERNS, Pattern
from quorate.simulator.run import run
from quorate.simulator.tape import Tape
from quorate.simulator.world import World
from simulator.networks import make_plan


@pytest.mark.parametrize("name", PROFILES)
def test_profile_breaks_nothing(name: str) -> None:
    for seed in range(3):
        outcome = run(make_plan(seed, name, duration_ms=3000))
        assert (outcome.verdict, outcome.findings) == ("true", [])
    assert get_profile(name).about


def test_default_seeds_come_to_rare_states() -> None:
    seen: Counter[str] = Counter()
    heights = []
    for seed in range(16):
        outcome = run(make_plan(seed, "default"))
        seen.update(name for name, n in outcome.sometimes.items() if n)
        seen.update(name for name, n in outcome.counters.items() if n)
        heights.append(max(outcome.heights))
    # Runs must come far under faults, and see what is rare.
    assert sorted(heights)[len(heights) // 2] >= 12
    for name in (
        "vote after round 0",
        "precommit nil",
        "value proposed again",
        "accusation",
        "membership changed",
        "down while catching up",
        "knobs turned",
        "fault round script",
        "fault upgrade",
        "fault torn write",
    ):
        assert seen[name] > 0, f"{name} never happened"


def test_every_act_has_a_weight_and_somebody_who_does_it() -> None:
    assert set(Nemesis.DO) == set(ACTS)
    assert all(hasattr(Profile(name="none"), name) for name in ACTS)
    assert all(getattr(get_profile("default"), name) for name in ACTS)


@pytest.mark.parametrize("kind", ACTORS)
def test_a_liar_among_four_forks_nothing_and_stops_nothing(kind: type[Actor]) -> None:
    def cast_one(world: World) -> None:
        world.machines[3].actor = kind(world.machines[3])

    for seed in range(4):
        profile = Profile(name="lossy", loss_permille=20, acts=12, rounds=4, crash=2, isolate=2)
        outcome = run(make_plan(seed, profile, duration_ms=3000), on_world=cast_one)
        assert (outcome.verdict, outcome.findings) == ("true", [])


@pytest.mark.parametrize("seed", range(3))
def test_liars_may_lie_about_the_real_ledger_as_well(seed: int) -> None:
    def cast_one(world: World) -> None:
        world.machines[seed].actor = Moody(world.machines[seed])

    # Blocks come although nobody has money for transactions.
    beat = {"heartbeat_ms": 100}
    plan = make_plan(seed, "network", duration_ms=1500, application="ethereum", node_settings=beat)
    outcome = run(plan, on_world=cast_one)
    assert (outcome.verdict, outcome.findings) == ("true", [])


@pytest.mark.parametrize("seed", range(3))
def test_twins_of_one_among_four_fork_nothing(seed: int) -> None:
    def cast_twins(world: World) -> None:
        add_twin(world, world.machines[1])

    profile = Profile(name="lossy", loss_permille=20, acts=12, rounds=4, crash=2)
    outcome = run(make_plan(seed, profile, duration_ms=3000), on_world=cast_twins)
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert len(outcome.heights) == 5


def test_two_liars_in_a_conspiracy_among_four_fork_the_others() -> None:
    """More than a third lie: agreement must break (negative control of the budget)."""
    shared: dict[Any, Any] = {}

    def cast_two(world: World) -> None:
        for machine in world.machines[2:]:
            machine.actor = TwoFaced(machine, shared)

    found = [
        run(make_plan(seed, duration_ms=4000), on_world=cast_two).get_class() for seed in range(6)
    ]
    assert "agreement" in found


def test_a_third_of_silent_members_stops_three() -> None:
    """n = 3f: there is no quorum without the silent one, so nobody may be blamed for it."""

    def silence_one(world: World) -> None:
        world.machines[2].actor = Silent(world.machines[2])

    outcome = run(make_plan(1, count=3, duration_ms=1000), on_world=silence_one)
    assert outcome.heights == [0, 0, 0]
    assert outcome.counters["runs without a live core"] == 1


@pytest.mark.parametrize("powers", [(1,), (1, 1), (3, 1, 1), (5, 3, 2, 2, 1), (1,) * 7])
def test_any_size_and_weights(powers: tuple[int, ...]) -> None:
    for seed in range(3):
        plan = make_plan(seed, "default", len(powers), duration_ms=3000)
        machines = [replace(m, power=p) for m, p in zip(plan.machines, powers, strict=True)]
        outcome = run(replace(plan, machines=machines))
        assert (outcome.verdict, outcome.findings) == ("true", [])


def test_knobs_are_legal_settings_of_node_and_engine() -> None:
    node, engine = Settings(), EngineSettings()
    for name, extremes in knobs.NODE.items():
        assert hasattr(node, name)
        for value in extremes:
            Settings(**{name: value})
    for name, extremes in knobs.ENGINES["tendermint"].items():
        assert hasattr(engine, name)
        for value in extremes:
            EngineSettings(**{name: value})


def test_settings_of_the_plan_are_not_turned() -> None:
    for seed in range(20):
        plan = make_plan(seed, "default", node_settings={"sync_range": 7})
        world = World(plan, Tape(seed))
        knobs.turn_knobs(world)
        assert world.node_settings.sync_range == 7


def test_pattern_zero_is_heard_by_everybody_and_everybody_hears_himself() -> None:
    for choice in range(PATTERNS * 40):
        pattern = Pattern(choice, 4, 0)
        assert all(pattern.hears(i, i) for i in range(4))
        heard = all(pattern.hears(i, j) for i in range(4) for j in range(4))
        if choice % PATTERNS == 0:
            assert heard
