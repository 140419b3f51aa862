"""The arithmetic of proof of work, against published tables and against its own promises."""

import math
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.base.rng import Rng
from quorate.consensus.pow_difficulty import (
    MAX_INTERVALS,
    compute_next_target,
    compute_reversal_probability,
    compute_target,
    compute_work,
    format_rate,
)

EASIEST = compute_target(256)
T, WINDOW = 5000, 24


def following(target: int, elapsed_ms: int) -> int:
    return compute_next_target(target, elapsed_ms, interval_ms=T, window=WINDOW, easiest=EASIEST)


@pytest.mark.parametrize(
    ("share", "depth", "published"),
    [
        (0.1, 0, 1.0),
        (0.1, 1, 0.2045873),
        (0.1, 5, 0.0009137),
        (0.1, 10, 0.0000012),
        (0.3, 5, 0.1773523),
        (0.3, 50, 0.0000006),
    ],
)
def test_probabilities_are_those_of_nakamoto(share: float, depth: int, published: float) -> None:
    assert compute_reversal_probability(depth, share) == pytest.approx(published, abs=5e-8)


def test_depths_are_those_of_nakamoto() -> None:
    # "Solving for P less than 0.1%", section 11.
    published = {0.10: 5, 0.15: 8, 0.20: 11, 0.25: 15, 0.30: 24, 0.35: 41, 0.40: 89, 0.45: 340}
    for share, depth in published.items():
        assert compute_reversal_probability(depth, share) <= 0.001
        assert compute_reversal_probability(depth - 1, share) > 0.001


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45, 0.49, 0.499])
@pytest.mark.parametrize("depth", [1, 30, 776, 1500])
def test_sum_is_that_of_exact_arithmetic(share: float, depth: int) -> None:
    with localcontext(prec=60):
        ratio = Decimal(share) / (1 - Decimal(share))
        expected = depth * ratio
        behind, poisson = Decimal(0), (-expected).exp()
        for k in range(depth + 1):
            behind += poisson * (1 - ratio ** (depth - k))
            poisson *= expected / (k + 1)
        found = float(1 - behind)
    assert compute_reversal_probability(depth, share) == pytest.approx(found, rel=1e-9, abs=1e-50)


def test_great_depths_take_few_steps() -> None:
    assert compute_reversal_probability(10**9, 0.1) == 0.0
    assert 0.9 < compute_reversal_probability(10**9, 0.4999999) < 1.0


def test_half_of_the_power_reverses_everything_and_none_nothing() -> None:
    assert compute_reversal_probability(100, 0.5) == 1.0
    assert compute_reversal_probability(0, 0.0) == 0.0


def test_work_is_the_mean_number_of_tries() -> None:
    for difficulty in (1 << 8, 1000, 12345678, 1 << 60):
        assert compute_work(compute_target(difficulty)) == difficulty


def test_blocks_in_time_change_nothing() -> None:
    """A window that is off by one (as Bitcoin's) would drift."""
    target = start = compute_target(123_456_789)
    for _ in range(1000):
        target = following(target, T)
    assert target == start


@given(st.integers(1, EASIEST), st.integers(-(10**15), 10**15))
def test_a_step_is_bounded(target: int, elapsed_ms: int) -> None:
    found = following(target, elapsed_ms)
    assert 1 <= found <= EASIEST
    assert found >= target * (WINDOW - 1) // WINDOW
    assert found <= target * (WINDOW - 1 + MAX_INTERVALS) // WINDOW + 1


@pytest.mark.parametrize("factor", [0.1, 0.5, 1, 3, 20])
def test_interval_converges_after_a_step_of_hash_rate(factor: float) -> None:
    rng = Rng(7)
    difficulty, rate = 1 << 24, (1 << 24) / T
    target = compute_target(difficulty)

    def mine(count: int, rate: float) -> float:
        nonlocal target
        total = 0
        for _ in range(count):
            luck = -math.log((rng.below(1 << 32) + 1) / (1 << 32))
            elapsed = max(int(compute_work(target) / rate * luck), 1)
            total += elapsed
            target = following(target, elapsed)
        return total / count

    mine(500, rate)
    mine(int(WINDOW * 4), rate * factor)
    assert mine(3000, rate * factor) == pytest.approx(T, rel=0.1)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 20 * T), min_size=1, max_size=200))
def test_time_cannot_be_warped(times: list[int]) -> None:
    """Whatever times a miner writes, as long as they grow: the difficulty of a chain is never lower
    than it would be, had all its blocks come evenly in the same time.
    """
    start = compute_target(1 << 40)
    target = start
    for elapsed in times:
        target = following(target, elapsed)
    mean = sum(times) / len(times)
    even = len(times) * math.log1p((mean / T - 1) / WINDOW)
    assert math.log(target) - math.log(start) <= even + 1e-9


def test_times_that_went_back_would_count_as_none() -> None:
    """Counting them as zero is safe only because no block is earlier than its parent: the rule is
    tested with the engine.
    """
    target = compute_target(1 << 40)
    assert following(target, -5000) == following(target, 0)


def test_rates_are_told_in_words() -> None:
    assert [format_rate(n) for n in (950, 13_400_000, 2 * 10**12)] == [
        "950 H/s",
        "13.4 MH/s",
        "2 TH/s",
    ]
