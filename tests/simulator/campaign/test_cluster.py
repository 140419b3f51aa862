"""A campaign on a real Ray cluster: the same verdicts as on this machine."""

import pytest
from msgspec.structs import replace

from quorate.simulator.campaign.coordinator import Campaign, Coordinator, make_job
from quorate.simulator.campaign.processes import Pool, Processes
from quorate.simulator.campaign.summary import Summary
from quorate.simulator.plan import Fork
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
        # Processes of Ray have threads and must not fork: they let others do it.
        sharing = Campaign(
            plan=replace(plan, forks=(Fork(700, 4),)),
            count=16,
            audit_permille=125,
            hook=f"{hooks.__name__}:find_in_some_late",
        )
        cluster.put_job(make_job(sharing))
        shared = Coordinator(sharing, cluster).run()
        dying = Campaign(
            plan=sharing.plan,
            count=8,
            audit_permille=0,
            canary=False,
            hook=f"{hooks.__name__}:die_late",
        )
        cluster.put_job(make_job(dying))
        lost_in_family = Coordinator(dying, cluster).run()
    finally:
        cluster.close()
    here = run_on(Processes(make_job(campaign), 1), campaign)
    summary.tally.cpu_ns = here.tally.cpu_ns = 0
    assert summary.tally == here.tally
    assert lost.tally.verdicts == {"true": 7, "false": 0, "unknown": 1}
    assert [failure.seed for failure in lost.tally.failures] == [hooks.FATAL_SEED]
    assert len(lost.deaths) >= 2
    here = run_on(Processes(make_job(sharing), 1), sharing)
    shared.tally.cpu_ns = here.tally.cpu_ns = 0
    assert shared.tally == here.tally
    assert (shared.audit.repeated, shared.audit.differing) == (2, [])
    assert shared.tally.executed < shared.tally.events
    assert [f.seed for f in lost_in_family.tally.failures] == [hooks.FATAL_SEED]
    assert "killed by SIGKILL" in lost_in_family.deaths[0]
