"""Known bugs that any run shows soon are found, each by the property that it breaks."""

import pytest

from quorate.base.errors import Invalid
from quorate.simulator.bugs import BUGS, get_bug, load
from quorate.simulator.run import run
from simulator.networks import make_plan

SEEDS = 80


@pytest.mark.parametrize(
    ("name", "properties"),
    [
        ("vote-before-write", {"write first"}),
        ("small-quorum", {"polka", "certificate", "agreement"}),
        ("never-in-doubt", {"one proposal"}),
        ("t3-no-valid-value", {"valid value"}),
    ],
)
def test_bug_is_found(name: str, properties: set[str]) -> None:
    for seed in range(SEEDS):
        outcome = run(make_plan(seed, "default", bug=name))
        if outcome.verdict != "true":
            assert outcome.get_class() in properties
            return
    pytest.fail(f"{name} was not found in {SEEDS} seeds")


def test_unknown_bug_is_named() -> None:
    with pytest.raises(Invalid, match="'t9': expected one of"):
        get_bug("t9")


def test_each_bug_has_a_source() -> None:
    load()
    assert all(bug.title and bug.source and bug.breaks for bug in BUGS.values())
