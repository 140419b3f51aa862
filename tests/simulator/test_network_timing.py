"""Links keep what the timing model of a run promises, whatever the faults do."""

import pytest

from quorate.simulator.network import Link
from quorate.simulator.plan import MS, SECOND, Profile
from quorate.simulator.run import run
from quorate.simulator.tape import Tape
from quorate.simulator.timing import (
    Asynchronous,
    Lossy,
    PartiallySynchronous,
    Synchronous,
    Timing,
)
from quorate.simulator.trace import Event
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Outcome
from simulator.networks import make_plan

CRUEL = Profile(
    name="cruel",
    loss_permille=300,
    tail_permille=100,
    tail_factor=2_000,
    corrupt_permille=20,
    acts=20,
    partition=2,
    one_way=2,
)


def run_under(timing: Timing, seed: int = 1) -> tuple[Outcome, list[Event]]:
    tracer = Tracer()
    return run(make_plan(seed, CRUEL, duration_ms=3_000, timing=timing), None, tracer), (
        tracer.events
    )


def list_delays(events: list[Event], since_ns: int = 0) -> list[int]:
    """How long every frame took that was sent from then on."""
    return [
        e.time_ns - events[e.cause].time_ns
        for e in events
        if e.kind == "receive" and events[e.cause].time_ns >= since_ns
    ]


@pytest.mark.parametrize("seed", range(3))
def test_synchronous_links_lose_nothing_and_are_never_late(seed: int) -> None:
    outcome, events = run_under(Synchronous(40 * MS), seed)
    assert outcome.verdict == "true"
    assert not [e for e in events if e.kind in ("lost", "disconnected")]
    assert max(list_delays(events)) == 40 * MS


@pytest.mark.parametrize("seed", range(3))
def test_links_are_synchronous_from_gst_on(seed: int) -> None:
    gst = 1_500 * MS
    outcome, events = run_under(PartiallySynchronous(40 * MS, gst), seed)
    assert outcome.verdict == "true"
    lost = [e.time_ns for e in events if e.kind == "lost"]
    assert lost
    assert max(lost) < gst
    assert max(list_delays(events, gst)) <= 40 * MS
    assert all(
        e.time_ns <= max(events[e.cause].time_ns, gst) + 40 * MS
        for e in events
        if e.kind == "receive"
    )


def test_liveness_is_not_judged_before_gst() -> None:
    outcome, _ = run_under(PartiallySynchronous(40 * MS, 10 * SECOND))
    assert outcome.verdict == "true"
    assert outcome.time_ns > 10 * SECOND


def test_liveness_is_not_judged_without_synchrony() -> None:
    outcome, events = run_under(Asynchronous(5 * SECOND))
    assert outcome.verdict == "true"
    assert outcome.unjudged == {
        "termination": "no deterministic engine terminates in every asynchronous run"
    }
    assert not [e for e in events if e.kind == "lost"]


def test_fair_loss_goes_on_after_healing_but_not_for_ever_on_one_link() -> None:
    outcome, events = run_under(Lossy(400, 40 * MS, most_in_a_row=4))
    assert outcome.verdict == "true"
    assert max(e.time_ns for e in events if e.kind == "lost") > 3 * SECOND
    row: dict[tuple[int, int], int] = {}
    for event in events:
        link = event.machine, event.other
        if event.kind == "lost":
            row[link] = row.get(link, 0) + 1
            assert row[link] <= 4
        elif event.kind == "send":
            row[link] = 0


@pytest.mark.parametrize("seed", range(4))
def test_links_choose_alike_in_one_call_and_one_by_one(seed: int) -> None:
    plan = make_plan(seed, CRUEL, duration_ms=3_000)
    fast = run(plan)
    assert fast.counters["lost"]
    assert fast.counters["fault corrupt"]
    # What is recorded is chosen one by one.
    slow = run(plan, Tape(seed, record=True))
    assert (slow.digest, slow.events) == (fast.digest, fast.events)


def test_whoever_looks_at_frames_sees_each_that_is_not_lost_anyway() -> None:
    def see(link: Link, frame: bytes) -> bool:
        seen.append(frame)
        return False

    outcomes = []
    for looks in (False, True):
        seen: list[bytes] = []
        hear = see if looks else None
        outcomes.append(run(make_plan(3), on_world=lambda w, hear=hear: w.network.hear(hear)))
        assert bool(seen) == looks
    assert outcomes[0].digest == outcomes[1].digest
