"""Whole nodes that agree by Raft, under crashes and bad links."""

import pytest

from quorate.base.errors import Invalid
from quorate.simulator.run import run
from simulator.networks import make_plan

SEEDS = 200


def test_removed_member_with_the_longest_log_ends_the_election() -> None:
    """Seed 3900005: whoever lacked its entry needed its vote, and it stood itself no more."""
    outcome = run(make_plan(3900005, "default", count=4, engine="raft"))
    assert outcome.verdict == "true", outcome.findings


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_default_faults_break_nothing(count: int) -> None:
    for seed in range(8):
        outcome = run(make_plan(seed, "default", count=count, engine="raft", duration_ms=4000))
        assert (outcome.verdict, outcome.findings) == ("true", [])


def test_items_that_only_the_leader_is_told_become_final() -> None:
    for seed in range(6):
        plan = make_plan(
            seed,
            "default",
            count=3,
            engine="raft",
            duration_ms=4000,
            node_settings={"forward": True},
        )
        outcome = run(plan)
        assert (outcome.verdict, outcome.findings) == ("true", [])


@pytest.mark.parametrize(
    ("bug", "count", "properties"),
    [
        ("r2-vote-not-kept", 3, {"write first", "one vote"}),
        ("r4-truncate", 3, {"commitment", "write first"}),
        ("r5-half", 2, {"commitment", "agreement", "election safety"}),
        ("r13-nack", 3, {"commitment", "agreement"}),
        ("raft-early-ack", 3, {"write first"}),
        ("raft-own-count", 3, {"commitment"}),
    ],
)
def test_bug_is_found(bug: str, count: int, properties: set[str]) -> None:
    for seed in range(SEEDS):
        outcome = run(make_plan(seed, "default", count=count, engine="raft", bug=bug))
        if outcome.verdict != "true":
            assert outcome.get_class() in properties
            return
    pytest.fail(f"{bug} was not found in {SEEDS} seeds")


def test_bug_of_another_engine_is_refused() -> None:
    with pytest.raises(Invalid, match="'r5-half' is one of raft, not of tendermint"):
        run(make_plan(1, bug="r5-half"))
