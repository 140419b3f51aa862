"""What happened before what: against a hand-made diagram and brute force."""

import itertools

import pytest
from msgspec import Struct

from quorate.base.rng import Rng
from quorate.simulator.causality import (
    Causality,
    HybridClock,
    HybridTime,
    list_alarms,
    run_hybrid_clocks,
)
from quorate.simulator.clock_errors import MS, Step
from quorate.simulator.faults import Faults
from quorate.simulator.run import run
from quorate.simulator.tracer import Tracer
from quorate.simulator.world import World
from simulator.networks import make_plan


class Happened(Struct, frozen=True):
    machine: int
    cause: int = -1


DIAGRAM = [
    Happened(0),  # 0: A sends to B
    Happened(2),  # 1: C does something
    Happened(1, 0),  # 2: B receives it
    Happened(1, 2),  # 3: B sends to C
    Happened(0, 0),  # 4: A goes on
    Happened(2, 3),  # 5: C receives
    Happened(-1, 4),  # 6: a fault that A's state provoked
    Happened(1, 6),  # 7: and that B notices
]


def test_lamport_numbers_of_a_small_diagram() -> None:
    assert Causality(DIAGRAM).compute_lamport() == [1, 1, 2, 3, 2, 4, 3, 4]


def test_vectors_of_a_small_diagram() -> None:
    assert Causality(DIAGRAM).compute_vectors() == [
        (1, 0, 0),
        (0, 0, 1),
        (1, 1, 0),
        (1, 2, 0),
        (2, 0, 0),
        (1, 2, 2),
        (2, 0, 0),
        (2, 3, 0),
    ]


def test_cones_and_paths_of_a_small_diagram() -> None:
    causality = Causality(DIAGRAM)
    assert causality.get_past(5) == [0, 1, 2, 3]
    assert causality.get_future(0) == [2, 3, 4, 5, 6, 7]
    assert causality.get_cone(4) == [0, 4, 6, 7]
    assert causality.find_path(0, 5) == [0, 2, 3, 5]
    assert causality.find_path(5, 0) == []
    assert causality.find_path(3, 3) == [3]
    assert causality.is_before(6, 7)
    assert not causality.is_before(7, 6)
    assert causality.is_concurrent(1, 4)
    assert not causality.is_concurrent(4, 4)


def make_random_trace(rng: Rng, machines: int, length: int) -> list[Happened]:
    trace = []
    for number in range(length):
        cause = rng.below(number) if number and rng.below(2) else -1
        trace.append(Happened(rng.below(machines + 1) - 1, cause))
    return trace


def close_over(trace: list[Happened]) -> list[set[int]]:
    """The past of every event, by definition."""
    pasts: list[set[int]] = []
    for number, event in enumerate(trace):
        past: set[int] = set()
        earlier = [
            i for i in range(number) if trace[i].machine == event.machine and event.machine >= 0
        ]
        for before in [*earlier, *([event.cause] if event.cause >= 0 else [])]:
            past |= {before} | pasts[before]
        pasts.append(past)
    return pasts


def test_happened_before_is_the_transitive_closure() -> None:
    rng = Rng(11)
    for _ in range(30):
        trace = make_random_trace(rng, 1 + rng.below(4), 40)
        causality = Causality(trace)
        pasts = close_over(trace)
        lamport = causality.compute_lamport()
        for one in range(40):
            assert causality.get_past(one) == sorted(pasts[one])
            assert causality.get_future(one) == [e for e in range(40) if one in pasts[e]]
            for other in range(40):
                before = one in pasts[other]
                assert causality.is_before(one, other) == before
                assert not before or lamport[one] < lamport[other]
                path = causality.find_path(one, other)
                assert bool(path) == (before or one == other)
                for a, b in itertools.pairwise(path):
                    assert a in (causality.previous[b], causality.causes[b])


def test_a_cut_is_consistent_unless_an_effect_is_in_it_without_its_cause() -> None:
    causality = Causality(DIAGRAM[:6])
    assert causality.is_consistent([1, 1, 1])
    assert causality.is_consistent([0, 0, 1])
    assert causality.is_consistent([2, 2, 2])
    assert not causality.is_consistent([0, 1, 0])
    assert not causality.is_consistent([1, 1, 2])


def test_a_cause_comes_first() -> None:
    with pytest.raises(ValueError, match="event 1: its cause is 1, expected an earlier one"):
        Causality([Happened(0), Happened(0, 1)])


def test_hybrid_times_of_the_papers_rules() -> None:
    clock = HybridClock(1, 10)
    assert clock.tick(5) == HybridTime(5, 0)
    assert clock.tick(5) == HybridTime(5, 1)
    assert clock.tick(3) == HybridTime(5, 2)
    assert clock.merge(4, HybridTime(9, 7), 0) == HybridTime(9, 8)
    assert clock.merge(4, HybridTime(9, 3), 0) == HybridTime(9, 9)
    assert clock.merge(4, HybridTime(9, 20), 0) == HybridTime(9, 21)
    assert clock.merge(8, HybridTime(2, 2), 0) == HybridTime(9, 22)
    assert clock.merge(30, HybridTime(29, 2), 0) == HybridTime(30, 0)
    assert clock.count == 0


def test_hybrid_times_respect_causality_and_stay_near_physical_time() -> None:
    rng = Rng(4)
    trace = [e for e in make_random_trace(rng, 4, 300) if e.machine >= 0]
    trace = [Happened(e.machine, e.cause if e.cause < i else -1) for i, e in enumerate(trace)]
    causality = Causality(trace)
    offsets = [0, 30, -20, 7]
    clocks = [HybridClock(m, 50) for m in range(4)]
    times: list[HybridTime] = []
    for now, event in enumerate(trace, 100):
        physical, clock = now + offsets[event.machine], clocks[event.machine]
        if event.cause >= 0:
            sender = trace[event.cause].machine
            times.append(clock.merge(physical, times[event.cause], sender))
        else:
            times.append(clock.tick(physical))
        assert 0 <= times[-1].l_ns - physical <= 50
    assert sum(clock.count for clock in clocks) == 0
    for one in range(len(trace)):
        for other in causality.get_future(one):
            assert times[one] < times[other]


def test_a_clock_that_is_ahead_raises_the_alarm() -> None:
    clock = HybridClock(0, 10)
    clock.tick(100)
    clock.merge(100, HybridTime(111, 0), 3)
    [alarm] = clock.alarms
    assert (alarm.sender, alarm.physical_ns, alarm.hybrid) == (3, 100, HybridTime(111, 0))
    assert clock.time.l_ns == 111
    wary = HybridClock(0, 10, refuse=True)
    wary.merge(100, HybridTime(111, 0), 3)
    assert (wary.time, wary.count) == (HybridTime(100, 0), 1)


def test_a_clock_that_goes_back_accuses_itself() -> None:
    clock = HybridClock(2, 10)
    clock.tick(100)
    clock.tick(89)
    assert [alarm.sender for alarm in clock.alarms] == [2]


def test_a_traced_run_is_a_partial_order_with_its_lamport_numbers() -> None:
    tracer = Tracer()
    assert run(make_plan(2, "default", duration_ms=1_500), None, tracer).verdict == "true"
    causality = Causality(tracer.events)
    lamport = [event.lamport for event in tracer.events]
    for event in tracer.events[:3_000]:
        for before in (causality.causes[event.number], causality.previous[event.number]):
            assert before < 0 or lamport[before] < lamport[event.number]
    final = next(event for event in tracer.events if event.kind == "final")
    past = [tracer.events[number] for number in causality.get_past(final.number)]
    voters = {e.machine for e in past if e.kind == "send" and e.name == "Precommit"}
    assert len(voters) >= 2
    assert all(causality.is_before(event.number, final.number) for event in past)


@pytest.mark.parametrize("refuse", [False, True])
def test_hybrid_clocks_of_a_run_tell_whose_clock_is_ahead(refuse: bool) -> None:
    tracer = Tracer()
    plan = make_plan(duration_ms=1_500)
    step = Step(500 * MS, 2_000 * MS)
    run(plan, None, tracer, on_world=lambda world: Faults(world).break_clock(2, step))
    times, clocks = run_hybrid_clocks(tracer.events, 100 * MS, refuse=refuse)
    alarms = [alarm for clock in clocks.values() for alarm in clock.alarms]
    # At first; whoever believes it passes it on.
    assert alarms[0].sender == 2
    assert {alarm.sender for alarm in alarms} == ({2} if refuse else {0, 1, 2, 3})
    late = [e for e in tracer.events if e.time_ns > 1_000 * MS and e.machine == 0]
    ahead = max(times[e.number].l_ns - e.wall_ns for e in late)
    assert (ahead > 1_900 * MS) == (not refuse)
    if not refuse:
        for event in tracer.events:
            if event.cause >= 0 and event.machine >= 0 and tracer.events[event.cause].machine >= 0:
                assert times[event.cause] < times[event.number]


def test_alarms_name_the_clock_that_is_ahead_and_when() -> None:
    tracer = Tracer()

    def break_clocks(world: World) -> None:
        world.after(700 * MS, Faults(world).step_clock, 2, 5_000)
        world.after(1_000 * MS, Faults(world).step_clock, 1, -3_000)

    run(make_plan(duration_ms=2_000), None, tracer, on_world=break_clocks)
    pairs = list_alarms(tracer.events, 100 * MS)
    assert {(pair.ahead, pair.behind) for pair in pairs} == {
        (2, 0), (2, 1), (2, 3), (0, 1), (3, 1), (1, 1), (2, 2),
    }  # fmt: skip
    [pair] = [pair for pair in pairs if (pair.ahead, pair.behind) == (2, 0)]
    assert 4_800 * MS < pair.by_ns <= 5_000 * MS
    assert tracer.events[pair.event].time_ns > 700 * MS
    assert list_alarms(tracer.events, 60_000 * MS) == []
