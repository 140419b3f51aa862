"""Campaigns: the same verdicts for any number of workers, and doubt where they prove nothing."""

from pathlib import Path
from typing import Any

import pytest

from quorate.consensus import ENGINES
from quorate.simulator.campaign.coordinator import CANARIES, Campaign, Coordinator, make_job
from quorate.simulator.campaign.processes import Processes
from quorate.simulator.campaign.summary import Summary
from quorate.simulator.campaign.tally import BROKEN, LOST
from quorate.simulator.run import run
from simulator import hooks
from simulator.networks import make_plan


def run_campaign(slots: int = 1, interrupt_after: int = 0, **asked: Any) -> Summary:
    asked.setdefault("plan", make_plan(0, "default", duration_ms=1500))
    asked.setdefault("count", 12)
    campaign = Campaign(**asked)
    pool = Processes(make_job(campaign), slots)

    def on_progress(coordinator: Coordinator) -> None:
        if interrupt_after and coordinator.tally.runs >= interrupt_after:
            raise KeyboardInterrupt

    try:
        return Coordinator(campaign, pool, on_progress=on_progress).run()
    finally:
        pool.close()


def test_verdicts_are_the_same_for_one_worker_and_for_three() -> None:
    hook = f"{hooks.__name__}:find_in_some"
    one, three = (run_campaign(slots, count=24, hook=hook) for slots in (1, 3))
    one.tally.cpu_ns = three.tally.cpu_ns = 0
    assert one.tally == three.tally
    assert [(f.seed, f.failure) for f in one.tally.failures] == [
        (seed, "not 4" if seed % 4 == 0 else "not 6") for seed in (0, 4, 6, 8, 12, 16, 18, 20)
    ]
    for failure in one.tally.failures[:2]:
        plan = make_plan(failure.seed, "default", duration_ms=1500)
        outcome = run(plan, on_world=hooks.find_in_some)
        assert (outcome.get_class(), outcome.digest) == (failure.failure, failure.digest)


def test_clean_campaign_finds_its_canary_and_repeats_a_share() -> None:
    summary = run_campaign(2, audit_permille=250)
    assert summary.list_doubts() == []
    assert summary.verdict == "true"
    assert summary.canary is not None
    assert summary.canary.found is not None
    assert (summary.audit.repeated, summary.audit.differing) == (3, [])
    assert not summary.audit.same_order
    assert len(summary.tally.states) > 12
    assert summary.curve[-1].runs == 12


@pytest.mark.parametrize("engine", ENGINES)
def test_campaigns_of_every_engine_have_a_canary(engine: str) -> None:
    plan = make_plan(0, "network", engine=engine, duration_ms=1500)
    summary = run_campaign(plan=plan, count=1, audit_permille=0)
    assert summary.canary is not None
    assert summary.canary.bug == CANARIES[engine]
    assert summary.canary.found is not None
    assert summary.canary.found.seed == 0


def test_campaign_that_cannot_find_its_canary_proves_nothing() -> None:
    # A single validator has nobody to disagree with.
    summary = run_campaign(plan=make_plan(0, "network", 1, duration_ms=1500), count=2)
    assert summary.tally.verdicts["true"] == 2
    assert summary.verdict == "unknown"
    assert any("would not find a real bug either" in doubt for doubt in summary.list_doubts())


def test_canary_has_faults_even_if_the_campaign_has_none() -> None:
    job = make_job(Campaign(plan=make_plan()))
    assert (job.plan.profile.acts, job.plan.bug) == (0, "")
    assert (job.canary.profile.acts > 0, job.canary.bug) == (True, CANARIES["tendermint"])


def test_dependence_on_hash_order_is_found_and_its_first_event_named() -> None:
    summary = run_campaign(count=2, hook=f"{hooks.__name__}:iterate_over_a_set")
    assert summary.audit.differing == [0]
    assert summary.verdict == "false"
    [difference] = summary.audit.differences
    assert difference.here is not None
    assert difference.there is not None
    assert {difference.here.text, difference.there.text} <= hooks.NAMES
    assert difference.here.time_ns == 700_000_000
    assert f"event {difference.step}: fault at 700.000 ms" in str(difference)


def test_worker_that_dies_once_is_reported_and_its_seeds_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(hooks.MARKER, str(tmp_path / "died"))
    summary = run_campaign(hook=f"{hooks.__name__}:die_once", audit_permille=0, canary=False)
    [death] = summary.deaths
    assert death.endswith(f"ended in seed {hooks.FATAL_SEED}: killed by SIGKILL")
    assert summary.tally.verdicts == {"true": 12, "false": 0, "unknown": 0}
    assert summary.verdict == "true"


def test_run_that_takes_its_worker_along_twice_is_left_out_and_all_others_are_run() -> None:
    summary = run_campaign(2, hook=f"{hooks.__name__}:die", audit_permille=0, canary=False)
    assert len(summary.deaths) == 2
    assert summary.tally.verdicts == {"true": 11, "false": 0, "unknown": 1}
    [failure] = summary.tally.failures
    assert (failure.seed, failure.failure) == (hooks.FATAL_SEED, LOST)
    assert summary.verdict == "unknown"


def test_error_of_the_simulator_is_a_run_that_could_not_be_judged() -> None:
    summary = run_campaign(hook=f"{hooks.__name__}:fail", audit_permille=0, canary=False)
    [failure] = summary.tally.failures
    assert (failure.seed, failure.failure, failure.verdict) == (5, BROKEN, "unknown")
    assert failure.message.startswith("ValueError: a bug of the simulator (hooks.py:")
    assert (summary.tally.runs, summary.verdict) == (12, "unknown")


def test_workers_that_cannot_even_start_end_the_campaign() -> None:
    summary = run_campaign(hook="no.such.module:at_all", audit_permille=0, canary=False, count=1)
    assert summary.tally.verdicts["unknown"] == 1
    assert "ModuleNotFoundError" in summary.deaths[0]


def test_interrupted_campaign_tells_what_it_has() -> None:
    summary = run_campaign(count=10_000, interrupt_after=1)
    assert summary.interrupted
    assert 0 < summary.tally.runs < 10_000
    assert summary.verdict == "unknown"
    assert summary.list_doubts()[0].startswith("the campaign was interrupted after ")


def test_campaign_without_a_number_ends_when_its_time_is_up() -> None:
    summary = run_campaign(count=None, seconds=0.01, audit_permille=0)
    assert summary.tally.runs > 0
    assert summary.verdict == "true"
