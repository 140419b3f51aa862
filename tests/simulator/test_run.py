"""Whole nodes in virtual time: runs are a function of plan and tape."""

import pytest

from quorate.simulator.run import run
from quorate.simulator.tape import Tape
from quorate.simulator.tracer import Tracer
from simulator.networks import make_plan


def test_network_without_faults_makes_everything_final() -> None:
    outcome = run(make_plan(duration_ms=2000))
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert len(set(outcome.heights)) == 1
    assert outcome.heights[0] > 5


def test_same_seed_gives_the_same_digest_and_another_seed_another() -> None:
    outcomes = [run(make_plan(seed, "default", duration_ms=2000)) for seed in (1, 1, 2)]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].digest != outcomes[2].digest


def test_recorded_tape_replays_the_run_and_a_trace_changes_nothing() -> None:
    plan = make_plan(3, "default", duration_ms=2000)
    tape = Tape(plan.seed, record=True)
    outcome = run(plan, tape)
    tracer = Tracer()
    assert run(plan, Tape(0, tape.get_values()), tracer) == outcome
    assert all(event.cause < event.number for event in tracer.events)


def test_empty_tape_is_a_run_without_faults() -> None:
    outcome = run(make_plan(3, "default", duration_ms=2000), Tape(0, {}))
    assert outcome.verdict == "true"
    assert set(outcome.counters) <= {"fault heal", "requests ok", "reads"}


@pytest.mark.parametrize("seed", range(8))
def test_default_faults_break_nothing(seed: int) -> None:
    outcome = run(make_plan(seed, "default", duration_ms=4000))
    assert (outcome.verdict, outcome.findings) == ("true", [])
