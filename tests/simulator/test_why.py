"""When a run became doomed: the moment is known here, since a script makes it."""

import pytest

from quorate.base.errors import Invalid
from quorate.simulator.plan import MS, Profile
from quorate.simulator.replay import Recording
from quorate.simulator.run import run
from quorate.simulator.why import Sample, compute_interval, explain, sample, sample_all
from simulator.networks import make_plan

CRASHES = Profile(name="crashes", loss_permille=20, acts=6, crash_at_sync=4, partition=1)


def find(bug: str) -> Recording:
    """Return the first seed that fails late, by choices and not from the beginning."""
    for seed in range(200):
        plan = make_plan(seed, CRASHES, duration_ms=3000, bug=bug)
        outcome = run(plan)
        if outcome.verdict == "false" and outcome.findings[0].time_ns > 1000 * MS:
            return Recording(plan=plan)
    pytest.fail(f"{bug} was not found in 200 seeds")


def test_interval_is_wilsons() -> None:
    # Newcombe 1998, table I: 15 of 148.
    low, high = compute_interval(15, 148)
    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)
    assert compute_interval(0, 10)[0] == 0.0
    assert compute_interval(10, 10)[1] == 1.0


def test_continuation_from_the_end_is_the_run_and_from_the_beginning_many_others() -> None:
    recording = find("never-in-doubt")
    assert sample(Sample(recording, 1 << 62, 99)) == "one proposal"
    early = [sample(Sample(recording, 0, seed)) for seed in range(8)]
    assert "" in early
    assert early == [sample(Sample(recording, 0, seed)) for seed in range(8)]


def test_run_is_doomed_at_the_end_and_a_jump_says_why() -> None:
    recording = find("never-in-doubt")
    asked: list[Sample] = []

    def evaluate(samples: list[Sample]) -> list[str]:
        asked.extend(samples)
        return sample_all(samples)

    found = explain(recording, points=4, samples=6, evaluate=evaluate)
    assert found.symptom == "one proposal"
    assert [point.time_ns for point in found.points] == sorted(p.time_ns for p in found.points)
    assert found.points[-1].failed == 6 > found.points[0].failed
    assert found.doomed_ns is not None
    assert found.doomed_ns <= found.found_ns + 1
    jump = found.jumps[0]
    assert jump.size == max(j.size for j in found.jumps) > 0
    # A jump may lie between two choices that are so close that nothing happens between them.
    assert jump.events or jump.drawn
    assert all(jump.begin.time_ns <= e.time_ns < jump.end.time_ns for e in jump.events)
    assert all(jump.begin.time_ns <= one.time_ns < jump.end.time_ns for one in jump.drawn)
    # All moments are judged by the same seeds.
    assert {one.seed for one in asked} == {asked[i].seed for i in range(6)}
    assert found.runs == len(asked) + 1


def test_run_that_does_not_fail_is_refused() -> None:
    recording = Recording(plan=make_plan(1, duration_ms=300))
    with pytest.raises(Invalid, match="verdict true, expected a run that fails"):
        explain(recording)
    with pytest.raises(Invalid, match="1 points, expected 2 to"):
        explain(recording, points=1)
