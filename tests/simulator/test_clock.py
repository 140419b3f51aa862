"""A machine's clocks: against hand-made cases and small brute force."""

import math

import pytest

from quorate.base.rng import Rng
from quorate.simulator.clock import MAX_DRIFT_PPM, START_MS, Clock
from quorate.simulator.clock_errors import (
    MS,
    SECOND,
    Backwards,
    ClockError,
    Drift,
    Frozen,
    Leap,
    Offset,
    Sine,
    Step,
    choose_drift,
    choose_error,
    compute_sine,
)
from quorate.simulator.tape import Tape


def test_a_clock_without_faults_is_the_worlds() -> None:
    clock = Clock()
    assert [clock.now(t) for t in (0, 7, 10**18)] == [0, 7, 10**18]
    assert clock.wall_ms(1_999_999) == START_MS + 1
    assert clock.compute_delay(5, 100) == 100


def test_drift_makes_timers_early_or_late() -> None:
    fast, slow = Clock(drift_ppm=250_000), Clock(drift_ppm=-200_000)
    assert fast.now(1_000) == 1_250
    assert fast.compute_delay(0, 1_000) == 800
    assert slow.now(1_000) == 800
    assert slow.compute_delay(0, 1_000) == 1_250


def test_drift_changes_without_a_jump() -> None:
    clock = Clock(boot_ns=50)
    clock.set_drift(100, 500_000)
    assert (clock.now(100), clock.now(200)) == (150, 300)
    clock.set_drift(200, -500_000)
    assert (clock.now(200), clock.now(300)) == (300, 350)


def test_a_monotonic_clock_never_goes_back_and_timers_fall_at_the_first_right_time() -> None:
    rng = Rng(5)
    for _ in range(50):
        clock = Clock(boot_ns=rng.below(1000), drift_ppm=rng.below(1_800_001) - MAX_DRIFT_PPM)
        t, last = 0, clock.now(0)
        for _ in range(40):
            t += rng.below(30)
            if rng.below(4) == 0:
                clock.set_drift(t, rng.below(1_800_001) - MAX_DRIFT_PPM)
            now = clock.now(t)
            assert now >= last
            last = now
            delay = rng.below(50)
            falls = t + clock.compute_delay(t, delay)
            brute = next(u for u in range(t, t + 1000) if clock.now(u) >= now + delay)
            assert falls == brute


def test_drift_has_a_bound() -> None:
    with pytest.raises(ValueError, match="a drift of 900001 ppm, expected at most 900000"):
        Clock(drift_ppm=900_001)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Offset(-5), [-5, -5, -5, -5]),
        (Step(20, 300), [0, 0, 300, 300]),
        (Drift(500_000), [0, 5, 10, 15]),
        (Drift(-500_000, 10, 30), [0, 0, -5, 0]),
        (Frozen(5, 25), [0, -5, -15, 0]),
        (Frozen(5, 25, behind=True), [0, -5, -15, -20]),
        (Backwards(10, 25), [0, 0, -20, 0]),
        (Leap(20, 0), [0, 0, -SECOND, -SECOND]),
        (Leap(15, 20), [0, -SECOND // 4, -SECOND * 3 // 4, -SECOND]),
    ],
)
def test_errors_have_their_shape(error: ClockError, expected: list[int]) -> None:
    assert [error.compute_error(t) for t in (0, 10, 20, 30)] == expected


def test_a_backward_clock_runs_backwards() -> None:
    clock = Clock()
    clock.add_error(Backwards(10 * MS, 30 * MS))
    assert [clock.wall_ms(t * MS) - START_MS for t in (9, 10, 15, 25, 30)] == [9, 10, 5, -5, 30]


def test_errors_add_up_until_somebody_corrects_them() -> None:
    clock = Clock(drift_ppm=100)
    clock.add_error(Offset(3 * MS))
    clock.add_error(Step(MS, -10 * MS))
    assert clock.wall_ms(0) == START_MS + 3
    assert clock.wall_ms(2 * MS) == START_MS - 5
    clock.correct()
    assert clock.wall_ms(2 * MS) == START_MS + 2


def test_the_integer_sine_is_one() -> None:
    for period in (360, 361, 7_777):
        for phase in range(period):
            true = 10_000 * math.sin(2 * math.pi * phase / period)
            assert abs(compute_sine(10_000, phase, period) - true) <= 20
    assert Sine(100, 40).compute_error(10) == 100
    assert Sine(100, 40).compute_error(30) == -100


def test_an_empty_tape_means_right_clocks() -> None:
    stream = Tape(0, {}).stream("clock 0")
    assert choose_drift(stream) == 0
    assert choose_error(stream, 100) is None


def test_every_kind_of_error_is_chosen() -> None:
    stream = Tape(3).stream("clock 0")
    chosen = [choose_error(stream, 10**9) for _ in range(300)]
    assert {type(error) for error in chosen} == {
        type(None), Step, Drift, Frozen, Backwards, Sine, Leap,
    }  # fmt: skip
    assert all(error.compute_error(0) == 0 for error in chosen if error and type(error) is not Leap)
