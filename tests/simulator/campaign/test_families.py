"""Runs that share their beginning are those of their seeds alone, for fewer events."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.cli.simulated import Setup, build_plan
from quorate.simulator.campaign import processes
from quorate.simulator.campaign.coordinator import Campaign, Coordinator, make_job
from quorate.simulator.campaign.processes import Processes
from quorate.simulator.campaign.summary import Summary
from quorate.simulator.campaign.tally import BROKEN, LOST, Row
from quorate.simulator.campaign.tasks import STUCK_S
from quorate.simulator.plan import Fork, Plan
from quorate.simulator.run import run
from simulator import hooks
from simulator.networks import make_plan

FORKS = (Fork(500, 2), Fork(800, 2))
PLAN = make_plan(0, "default", duration_ms=1500, forks=FORKS)


def run_campaign(slots: int = 1, hook: str = "", **asked: Any) -> tuple[Summary, list[Row]]:
    """Run a campaign; return its summary and all its runs, by their seeds."""
    more: dict[str, Any] = {"plan": PLAN, "count": 12, "audit_permille": 0, "canary": False}
    named = f"{hooks.__name__}:{hook}" if hook else ""
    campaign = Campaign(**{**more, **asked}, hook=named, rows=True)
    pool = Processes(make_job(campaign), slots)
    rows: list[Row] = []
    try:
        summary = Coordinator(campaign, pool, on_rows=rows.extend).run()
    finally:
        pool.close()
    return summary, sorted(rows, key=lambda row: row.seed)


def run_alone(seed: int, plan: Plan = PLAN) -> tuple[str, str, int]:
    outcome = run(replace(plan, seed=seed))
    return outcome.digest, outcome.verdict, outcome.events


def test_runs_are_those_of_their_seeds_alone_for_fewer_events() -> None:
    summary, rows = run_campaign(first=2, count=13, audit_permille=250, canary=True)
    assert [row.seed for row in rows] == list(range(2, 15))
    for row in rows:
        assert (row.digest, row.verdict, row.events) == run_alone(row.seed)
    tally = summary.tally
    assert (tally.events, tally.executed) == tuple(
        sum(getattr(row, name) for row in rows) for name in ("events", "executed")
    )
    assert tally.executed < 0.7 * tally.events
    # Repeated whole, in other processes: forks change nothing.
    assert (summary.audit.repeated, summary.audit.differing) == (4, [])
    assert summary.verdict == "true"


@pytest.mark.parametrize(
    "setup",
    [
        # Whose blocks the kernel hashes by as many threads as there are, unless it is told not to.
        Setup(ledger=True, duration_ms=700),
        Setup(engine="raft", application="keyvalue", duration_ms=700),
        Setup(signatures="real", duration_ms=700),
    ],
)
def test_kernel_goes_on_in_children(setup: Setup) -> None:
    plan = replace(build_plan(setup, 0), forks=(Fork(600, 3),))
    _, rows = run_campaign(plan=plan, count=3)
    assert [(r.digest, r.verdict, r.events) for r in rows] == [run_alone(s, plan) for s in range(3)]


def test_tallies_are_the_same_for_one_worker_and_for_three() -> None:
    (one, _), (three, _) = (
        run_campaign(slots, "find_in_some_late", first=1, count=26) for slots in (1, 3)
    )
    one.tally.cpu_ns = three.tally.cpu_ns = 0
    assert one.tally == three.tally
    assert [(f.seed, f.failure) for f in one.tally.failures] == [
        (seed, "not 4" if seed % 4 == 0 else "not 6") for seed in (4, 6, 8, 12, 16, 18, 20, 24)
    ]


def test_beginning_that_fails_is_the_run_of_all_that_share_it() -> None:
    summary, rows = run_campaign(hook="find_early")
    failing = rows[8:]
    assert [row.failure for row in rows] == [""] * 8 + ["early"] * 4
    assert len({(row.digest, row.events, row.virtual_ns) for row in failing}) == 1
    # Once is enough, and nothing of it goes on.
    assert [row.executed for row in failing] == [failing[0].events, 0, 0, 0]
    assert (failing[0].virtual_ns, summary.tally.verdicts["false"]) == (hooks.EARLY, 4)


def test_error_of_the_simulator_is_that_of_all_that_share_it() -> None:
    _, rows = run_campaign(hook="fail_early")
    assert [row.seed for row in rows if row.failure == BROKEN] == [8, 9, 10, 11]
    _, rows = run_campaign(hook="fail_late")
    [broken] = [row for row in rows if row.failure]
    assert (broken.seed, broken.failure) == (hooks.FATAL_SEED, BROKEN)
    assert broken.message.startswith("ValueError: a bug of the simulator (hooks.py:")


def test_child_that_dies_once_is_reported_and_its_seeds_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(hooks.MARKER, str(tmp_path / "died"))
    summary, rows = run_campaign(hook="die_late_once")
    [death] = summary.deaths
    seed = hooks.FATAL_SEED
    assert f"ended in seed {seed}: " in death
    assert death.endswith("the process of seeds 4 to 5 ended: killed by SIGKILL")
    assert [row.verdict for row in rows] == ["true"] * 12


@pytest.mark.parametrize(("hook", "how"), [("die_late", "killed by SIGKILL"), ("exit_late", "1")])
def test_run_that_takes_its_process_along_is_left_out_and_its_family_is_run(
    hook: str, how: str
) -> None:
    summary, rows = run_campaign(2, hook)
    assert [row.seed for row in rows] == [s for s in range(12) if s != hooks.FATAL_SEED]
    [failure] = summary.tally.failures
    assert (failure.seed, failure.failure) == (hooks.FATAL_SEED, LOST)
    assert failure.message.endswith(how)
    for row in rows:
        assert (row.digest, row.verdict, row.events) == run_alone(row.seed)


def test_child_that_hangs_ends_with_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "hangs"
    monkeypatch.setenv(hooks.MARKER, str(marker))
    # A worker that starts beside other work has to begin in this time, too.
    monkeypatch.setattr(processes, "STUCK_S", 12)
    summary, rows = run_campaign(hook="hang_once", first=4, count=4)
    assert summary.deaths == [
        f"a worker for seeds 4 to 7 ended in seed {hooks.FATAL_SEED}: no run ended in 12 s"
    ]
    assert [row.verdict for row in rows] == ["true"] * 4
    await_end(int(marker.read_text()))


def await_end(process: int) -> None:
    """Wait until a process is gone, which was killed already."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"process {process} is still there")


def test_children_leave_nothing_behind_when_a_campaign_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "hangs"
    monkeypatch.setenv(hooks.MARKER, str(marker))
    hook = f"{hooks.__name__}:hang_once"
    campaign = Campaign(plan=PLAN, count=12, audit_permille=0, canary=False, hook=hook)
    pool = Processes(make_job(campaign), 1)

    def interrupt(_: Coordinator) -> None:
        if marker.exists():
            raise KeyboardInterrupt

    try:
        summary = Coordinator(campaign, pool, on_progress=interrupt).run()
    finally:
        pool.close()
    assert summary.interrupted
    await_end(int(marker.read_text()))


def test_every_child_has_a_limit_of_its_own() -> None:
    _, rows = run_campaign(hook="find_limits", count=4)
    # The last way of all is that of the worker itself.
    assert [row.failure for row in rows] == ["limited"] * 3 + [""]
    assert rows[0].message == f"{STUCK_S} s"
