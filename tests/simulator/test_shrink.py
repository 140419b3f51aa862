"""A failing run made small: the same failure from a handful of choices."""

from functools import cache

import pytest

from quorate.base.errors import Invalid
from quorate.simulator import shrink
from quorate.simulator.edits import count_choices
from quorate.simulator.plan import Plan, Profile
from quorate.simulator.replay import (
    Recording,
    compare,
    decode_recording,
    encode_recording,
    replay,
)
from quorate.simulator.run import run
from quorate.simulator.shrink import Attempt, Candidate, Shrinker, attempt_all, get_symptom
from simulator.networks import make_plan

SEEDS = 200
CRASHES = Profile(
    name="crashes", loss_permille=20, tail_permille=10, acts=10, crash_at_sync=4, partition=1
)
"""Few kinds of fault, so that a failing seed is found soon."""


@cache
def find(bug: str, property: str = "", first: int = 0) -> Recording:
    """Return the first seed that fails, of the property if one is named."""
    for seed in range(first, first + SEEDS):
        plan = make_plan(seed, CRASHES, duration_ms=3000, bug=bug)
        outcome = run(plan)
        if outcome.verdict == "false" and property in ("", outcome.get_class()):
            return Recording(plan=plan)
    pytest.fail(f"{bug} was not found in {SEEDS} seeds")


@pytest.mark.parametrize(
    ("bug", "most"),
    [
        # These need no fault at all.
        ("small-quorum", 0),
        ("vote-before-write", 0),
        # A proposer crashes between proposal and record.
        ("never-in-doubt", 24),
    ],
)
def test_known_bug_shrinks_to_a_handful_of_choices(bug: str, most: int) -> None:
    recording = find(bug)
    shrinker = Shrinker(recording, max_runs=400, fresh=False)
    before = shrinker.get_progress()
    shrinker.shrink()
    after = shrinker.get_progress()
    assert after.faults + after.choices <= most < before.choices
    small = decode_recording(encode_recording(shrinker.get_recording()))
    outcome = replay(small)
    assert compare(small, outcome) == []
    assert get_symptom(outcome) == shrinker.symptom


@cache
def find_stuck() -> Recording:
    """Return a run that makes no progress any more."""
    cuts = Profile(name="cuts", loss_permille=100, acts=6, partition=1)
    for seed in range(SEEDS):
        plan = make_plan(
            seed,
            cuts,
            duration_ms=3000,
            patience_ms=5000,
            bug="t2-no-precommit-timeout",
            engine_settings={"max_timeout_ms": 2000, "propose_ms": 500},
        )
        if run(plan).get_class() == "progress":
            return Recording(plan=plan)
    pytest.fail(f"no run got stuck in {SEEDS} seeds")


def shrink_stuck(runs: int) -> tuple[Shrinker, list[Candidate]]:
    seen: list[Candidate] = []

    def evaluate(candidates: list[Candidate]) -> list[Attempt]:
        seen.extend(candidates)
        return attempt_all(candidates)

    shrinker = Shrinker(find_stuck(), max_runs=runs, evaluate=evaluate, fresh=False)
    shrinker.shrink()
    small = shrinker.get_recording()
    assert compare(small, replay(small)) == []
    assert small.expected is not None
    assert small.expected.property == "progress"
    return shrinker, seen


def test_candidates_that_may_be_stuck_are_screened_and_the_best_is_run_in_full() -> None:
    shrinker, seen = shrink_stuck(60)
    assert shrinker.is_screening
    full = [candidate for candidate in seen if not candidate.screened]
    # One for each pass that helped.
    assert 0 < len(full) < 10 < len(seen)
    assert count_choices(shrinker.best.choices) < count_choices(shrinker.first.choices)


def test_screen_that_takes_slow_runs_for_stuck_ones_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shrink, "SCREEN_NS", 1)
    shrinker, seen = shrink_stuck(30)
    assert not shrinker.is_screening
    assert not seen[-1].screened


def test_result_does_not_depend_on_how_many_run_at_the_same_time() -> None:
    recording = find("never-in-doubt")
    results = []
    for width in (1, 5):
        widest = 0

        def evaluate(candidates: list[Candidate]) -> list[Attempt]:
            nonlocal widest
            widest = max(widest, len(candidates))
            return attempt_all(candidates)

        shrinker = Shrinker(recording, max_runs=60, evaluate=evaluate, width=width)
        shrinker.shrink()
        results.append(shrinker.get_recording())
        assert shrinker.runs <= 60
        assert widest == width
    assert results[0] == results[1]


def test_shrinking_goes_on_from_the_best_run_so_far() -> None:
    recording = find("never-in-doubt")
    first = Shrinker(recording, max_runs=20)
    assert not first.shrink()
    second = Shrinker(first.get_recording(), max_runs=20)
    second.shrink()
    assert second.first.choices == first.best.choices
    assert second.cost <= first.cost < first.compute_cost(first.plan, first.first)


def test_expired_budget_ends_it_with_the_best_run_so_far() -> None:
    shrinker = Shrinker(find("never-in-doubt"), is_expired=lambda: shrinker.runs >= 10)
    assert not shrinker.shrink()
    assert shrinker.runs == 10
    assert get_symptom(replay(shrinker.get_recording())) == shrinker.symptom


def test_other_seeds_are_tried_only_if_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "MUCH", 0)
    monkeypatch.setattr(shrink, "FRESH_SEEDS", 2)
    for fresh in (True, False):
        seen: list[Candidate] = []

        def evaluate(candidates: list[Candidate], seen: list[Candidate] = seen) -> list[Attempt]:
            seen += candidates
            return attempt_all(candidates)

        recording = find("never-in-doubt")
        Shrinker(recording, max_runs=100, fresh=fresh, evaluate=evaluate).shrink()
        assert ({c.plan.seed for c in seen} > {recording.plan.seed}) == fresh


def test_progress_is_told_and_only_gets_better() -> None:
    told = []
    shrinker = Shrinker(find("vote-before-write"), max_runs=60, on_progress=told.append)
    shrinker.shrink()
    assert [p.runs for p in told] == sorted(p.runs for p in told)
    left = [p.faults + p.choices for p in told]
    assert left == sorted(left, reverse=True)
    assert told[0].doing == "groups of streams"


def test_run_that_does_not_fail_is_refused() -> None:
    plan: Plan = make_plan(1, duration_ms=500)
    with pytest.raises(Invalid, match="seed 1: verdict true, expected a failure"):
        Shrinker(Recording(plan=plan))
