"""The bugs of storage are found in whole nodes too, and the real storage passes the same runs."""

import pytest

from quorate.simulator.run import run
from simulator.networks import make_plan

SEEDS = 40


@pytest.mark.parametrize(
    "bug",
    [
        "d1-ack-before-sync",
        "d2-truncate-anywhere",
        "d3-folder-not-synced",
        "d5-retry-sync",
        "d6-cut-before-commit",
    ],
)
def test_storage_bug_is_found_by_what_journals_owe(bug: str) -> None:
    for seed in range(SEEDS):
        outcome = run(make_plan(seed, "disk", bug=bug, duration_ms=6000))
        if outcome.verdict != "true":
            assert outcome.get_class() == "durability"
            control = run(make_plan(seed, "disk", duration_ms=6000))
            assert (control.verdict, control.findings) == ("true", [])
            return
    pytest.fail(f"{bug} was not found in {SEEDS} seeds")


def test_faults_of_disks_stop_nodes_and_break_nothing() -> None:
    counters: dict[str, int] = {}
    for seed in range(20):
        outcome = run(make_plan(seed, "disk", duration_ms=6000))
        assert (outcome.verdict, outcome.findings) == ("true", [])
        for name, n in outcome.counters.items():
            counters[name] = counters.get(name, 0) + n
    # Sometimes: none of it is vacuous.
    for name in (
        "fault torn write",
        "fault undone entry",
        "fault sync error",
        "fault full disk",
        "fault bit rot",
        "fault lost sync",
        "fault stall",
        "nodes failed",
        "nodes refused to start",
    ):
        assert counters.get(name), f"{name} never happened"
