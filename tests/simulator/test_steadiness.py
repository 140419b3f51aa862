"""A small fault that stays, which whoever hears a quorum has to live with."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.simulator.budget import Budget
from quorate.simulator.plan import Profile
from quorate.simulator.run import run
from quorate.simulator.steadiness import STEADY, is_enough
from quorate.simulator.tape import Tape
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World
from simulator.networks import make_plan

STAYS = Profile(name="stays", one_way=1)
"""No other fault, but for one act at most."""
KINDS = ("link stays broken", "deaf stays broken", "one way stays broken")


def break_for_good(seed: int, count: int = 4, **more: Any) -> Outcome:
    plan = make_plan(seed, STAYS, count=count, engine="raft", duration_ms=2000)
    return run(replace(plan, **more))


def list_broken(outcomes: list[Outcome]) -> list[str]:
    return [kind for o in outcomes for kind in KINDS if o.sometimes.get(kind)]


@pytest.mark.parametrize("count", [3, 4])
def test_correct_members_go_on_under_one_leader(count: int) -> None:
    outcomes = [break_for_good(seed, count) for seed in range(24)]
    assert all((o.verdict, o.findings) == ("true", []) for o in outcomes)
    assert set(list_broken(outcomes)) == set(KINDS)


def test_without_trial_elections_leaders_are_deposed_again_and_again() -> None:
    outcomes = [break_for_good(seed, bug="r12-no-prevote") for seed in range(24)]
    failed = [o for o in outcomes if o.verdict != "true"]
    assert {o.get_class() for o in failed} <= {STEADY, "progress"}
    assert any("and a quorum hear each other" in o.findings[0].message for o in failed)
    assert {"deaf stays broken", "link stays broken"} <= set(list_broken(failed))


def test_two_machines_that_need_each_other_are_left_alone() -> None:
    outcomes = [break_for_good(seed, 2) for seed in range(12)]
    assert all(o.verdict == "true" for o in outcomes)
    assert list_broken(outcomes) == []


def test_a_follower_that_only_hears_another_one_is_owed_nothing() -> None:
    """Seed 4 has one member and a spare, and the link between them is cut."""
    outcome = run(make_plan(4, "default", count=1, engine="raft", duration_ms=4000))
    assert outcome.verdict == "true", outcome.findings


def test_a_profile_without_such_cuts_breaks_nothing() -> None:
    gentle = Profile(name="gentle", isolate=1)
    outcomes = [break_for_good(seed, profile=gentle) for seed in range(12)]
    assert list_broken(outcomes) == []


def test_a_group_without_a_quorum_of_every_set_owes_nothing() -> None:
    world = World(make_plan(1, "network", engine="raft"), Tape(1))
    budget = Budget(world)
    assert is_enough(budget, world.machines[:3])
    assert not is_enough(budget, world.machines[:2])
    budget.sets.append({world.machines[3].address: 5, world.machines[0].address: 1})
    assert not is_enough(budget, world.machines[:3])
