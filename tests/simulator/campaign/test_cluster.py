"""A campaign on a real Ray cluster: the same verdicts as on this machine."""

import pytest

from quorate.simulator.campaign.coordinator import Campaign, Coordinator, make_job
from quorate.simulator.campaign.processes import Pool, Processes
from quorate.simulator.campaign.summary import Summary
from simulator import hooks
from simulator.networks import make_plan

ray = pytest.importorskip("ray", reason="needs Ray: the extra `cluster`")


def run_on(pool: Pool, campaign: Campaign) -> Summary:
    try:
        return Coordinator(campaign, pool).run()
    finally:
        pool.close()


@pytest.mark.network
def test_ray_gives_the_verdicts_of_one_machine_and_names_what_it_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from quorate.simulator.campaign.cluster import open_cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    plan = make_plan(0, "default", duration_ms=1500)
    campaign = Campaign(plan=plan, count=16, audit_permille=250)
    cluster = open_cluster(make_job(campaign), 2)
    try:
        summary = Coordinator(campaign, cluster).run()
        assert summary.list_doubts() == []
        assert (summary.slots, summary.audit.repeated) == (2, 4)
        # A task whose process dies is told apart from one that is in error, and run again.
        deadly = Campaign(
            plan=plan, count=8, audit_permille=0, canary=False, hook=f"{hooks.__name__}:die"
        )
        cluster.put_job(make_job(deadly))
        lost = Coordinator(deadly, cluster).run()
    finally:
        cluster.close()
    here = run_on(Processes(make_job(campaign), 1), campaign)
    summary.tally.cpu_ns = here.tally.cpu_ns = 0
    assert summary.tally == here.tally
    assert lost.tally.verdicts == {"true": 7, "false": 0, "unknown": 1}
    assert [failure.seed for failure in lost.tally.failures] == [hooks.FATAL_SEED]
    assert len(lost.deaths) >= 2
