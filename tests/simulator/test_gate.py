"""A share of the gate: known bugs that few seeds show, from seeds that differ with every commit.

The whole of it is `python -m quorate.simulator.campaign.gate`, and its table docs/bug-gate.md.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

import quorate
from quorate.simulator.actors import Turncoat
from quorate.simulator.campaign.gate import (
    RANGES,
    Control,
    Hunt,
    hunt,
    is_passed,
    make_plan,
    make_table,
)
from quorate.simulator.plan import Profile
from quorate.simulator.run import run
from quorate.simulator.world import World
from simulator.test_share import get_first_seed

MAX_SEEDS = 100


@pytest.mark.parametrize(
    ("bug", "properties"),
    [
        ("small-quorum", {"certificate", "polka", "agreement"}),
        ("vote-before-write", {"write first"}),
        ("never-in-doubt", {"one proposal"}),
        ("t3-no-valid-value", {"valid value"}),
        ("d1-ack-before-sync", {"durability", "one vote", "one proposal"}),
        ("d3-folder-not-synced", {"durability"}),
        ("refuse-torn-tail", {"durability"}),
    ],
)
def test_known_bug_is_found_by_seeds_of_this_commit(bug: str, properties: set[str]) -> None:
    found = hunt(bug, get_first_seed(), max_seeds=MAX_SEEDS, shrink=False)
    assert found.seed is not None
    assert found.property in properties


def test_majorities_counted_over_both_sets_together_are_found() -> None:
    found = hunt("r13-union", get_first_seed(), max_seeds=MAX_SEEDS, shrink=False, engine="raft")
    assert found.property in {"commitment", "agreement", "log matching"}


def test_never_unlocking_is_found_where_locks_are_split() -> None:
    """It takes a traitor that helps two members to different locks, and then falls silent.

    To be sure that nothing follows takes long (the gate does it); here it is enough that a run with
    the bug does not come to its end where the same run without it does.
    """

    def cast_one(world: World) -> None:
        world.machines[3].actor = Turncoat(world.machines[3])

    splits = Profile(name="splits", acts=30, outage_ms=2000, rounds=1)
    haste = {"propose_ms": 200, "prevote_ms": 60, "precommit_ms": 60, "status_ms": 80}
    for seed in range(200, 260):
        plan = replace(
            make_plan(seed, "t1-never-unlock"),
            profile=splits,
            duration_ms=4000,
            engine_settings=haste,
            max_events=20_000,
        )
        found = run(plan, on_world=cast_one)
        if found.verdict != "true":
            assert found.sometimes["locks split"] > 0
            assert run(replace(plan, bug=""), on_world=cast_one).verdict == "true"
            return
    pytest.fail("not found in 60 seeds")


def test_bug_must_be_found_in_two_ranges_and_the_table_says_where() -> None:
    hunts = [
        Hunt(bug="b", start=start, seed=seed, property="lock", events=1000, cpu_s=1.5, shrunk=7)
        for start, seed in zip(RANGES, (3, 1_000_004, None), strict=True)
    ]
    assert is_passed(hunts)
    assert not is_passed(hunts[1:])
    table = make_table(hunts, Control(runs=5, events=10, cpu_s=1.0, alarms=[]), 60)
    assert "| b | lock | 3 / 4 / - | 1,000 / 1,000 / 1,000 | 1.5 / 1.5 / 1.5 | 7 |" in table
    assert ", `-`: not found in the time; `shrunk` is how many" in table
    assert "5 seeds, 10 events, 1 CPU seconds, 0 alarms" in table
    table = make_table(hunts, Control(runs=5, events=10, cpu_s=1.0, alarms=[]), 60, "pow")
    assert "known bugs under pow" in table
    assert "`n5-overflow` is put back into an application that pays" in table


def test_gate_hunts_through_families_of_seeds(tmp_path: Path) -> None:
    page = tmp_path / "gate.md"
    words = ["--bugs", "never-in-doubt", "--branches", "4", "--seconds", "0.01", "--no-shrink"]
    done = subprocess.run(
        [sys.executable, "-m", "quorate.simulator.campaign.gate", *words, "--out", str(page)],
        env={"PYTHONPATH": str(Path(quorate.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.startswith("never-in-doubt: seed 0, one proposal")
    table = page.read_text()
    assert "`python -m quorate.simulator.campaign.gate --engine tendermint --branches 4`" in table
    assert "| never-in-doubt | one proposal | 0 / 0 / " in table
    assert "shrunk" not in table
    # A family that fails before its seeds part costs what its first seed does.
    alone = hunt("never-in-doubt", RANGES[1], max_seeds=1, shrink=False)
    assert f" / {alone.events:,} / " in table
    # Each part of the control is one family at least.
    assert "Control without a bug: 40 seeds, " in table
    assert done.returncode == 0
