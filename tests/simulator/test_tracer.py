"""A trace tells what led to what, and changes nothing."""

import pytest

from quorate.simulator.causality import Causality
from quorate.simulator.faults import Faults
from quorate.simulator.run import run
from quorate.simulator.story import compute_spans
from quorate.simulator.tape import Tape
from quorate.simulator.trace import KINDS, Event
from quorate.simulator.tracer import Tracer
from quorate.simulator.world import World
from simulator.networks import make_plan


def trace(seed: int, profile: str = "default", **more: object) -> list[Event]:
    tracer = Tracer()
    plan = make_plan(seed, profile, **more)
    assert run(plan, None, tracer) == run(plan)
    return tracer.events


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return trace(3, duration_ms=2000)


def test_every_kind_is_known_and_most_of_them_happen(events: list[Event]) -> None:
    kinds = {event.kind for event in events}
    assert kinds <= set(KINDS)
    assert {"send", "receive", "lost", "arm", "timer", "persist", "durable", "cut"} <= kinds


def test_what_arrives_was_sent_between_the_same_machines(events: list[Event]) -> None:
    for event in events:
        if event.kind == "receive":
            sent = events[event.cause]
            assert sent.kind in ("send", "double")
            assert (sent.machine, sent.other) == (event.other, event.machine)
            assert (sent.name, sent.text) == (event.name, event.text)
            assert sent.time_ns < event.time_ns


def test_a_timer_that_falls_was_set_and_a_durable_record_was_written(events: list[Event]) -> None:
    before = {"timer": "arm", "durable": "persist"}
    for event in events:
        if event.kind in before:
            led = events[event.cause]
            assert (led.kind, led.machine) == (before[event.kind], event.machine)
            assert led.name == event.name


def test_causes_lead_from_machine_to_machine_only_by_messages(events: list[Event]) -> None:
    for event in events:
        led = events[event.cause] if event.cause >= 0 else event
        if event.machine >= 0 <= led.machine and led.machine != event.machine:
            assert event.kind == "receive", event


def test_lamport_numbers_are_those_of_the_partial_order(events: list[Event]) -> None:
    assert [event.lamport for event in events] == Causality(events).compute_lamport()


def test_cuts_end_where_they_began(events: list[Event]) -> None:
    mended = [event for event in events if event.kind == "mended"]
    assert mended
    for event in mended:
        cut = events[event.begin]
        assert (cut.kind, cut.source, cut.other) == ("cut", event.source, event.other)


def test_a_process_that_starts_again_says_what_it_was_and_what_it_reads() -> None:
    lives = [
        event
        for seed in range(6)
        for event in trace(seed, duration_ms=4000)
        if event.kind == "start" and event.begin >= 0
    ]
    assert lives
    for event in lives:
        assert event.name != "life 1"
        assert event.text.startswith("reads ")
        assert event.lamport > 1


def test_a_finding_stands_where_it_was_made_and_nothing_happens_later() -> None:
    events = trace(2, duration_ms=2000, bug="small-quorum")
    found = next(event for event in events if event.kind == "finding")
    assert found.cause >= 0
    assert all(event.time_ns == found.time_ns for event in events[found.number :])


def test_of_two_cuts_across_a_link_the_right_one_ends() -> None:
    tracer = Tracer()
    world = World(make_plan(1), Tape(1), tracer)
    faults = Faults(world)
    faults.partition(0)
    faults.mend(faults.partition(1))
    faults.heal()
    tracer.mend()
    spans = compute_spans(tracer.events, [m.name for m in world.machines])
    ends = [(span.label, tracer.events[tracer.events[span.end].cause].name) for span in spans]
    assert ends == [("v0 | v1 v2 v3", "heal"), ("v1 | v0 v2 v3", "mend")]
