"""Double spends: published tables, and races that agree with the law they follow."""

import pytest

from quorate.base.errors import Invalid
from quorate.simulator.double_spend import (
    compute_exact,
    compute_interval,
    compute_nakamoto,
    measure_curve,
    measure_races,
)

# Nakamoto 2008, section 11: q=0.1 and q=0.3.
NAKAMOTO = {
    (0.1, 0): 1.0,
    (0.1, 1): 0.2045873,
    (0.1, 2): 0.0509779,
    (0.1, 5): 0.0009137,
    (0.1, 10): 0.0000012,
    (0.3, 5): 0.1773523,
    (0.3, 10): 0.0416605,
    (0.3, 50): 0.0000006,
}
# Rosenfeld 2014, table 1, in percent; one block is found in advance.
ROSENFELD = {
    (0.02, 1): 4.0,
    (0.1, 1): 20.0,
    (0.1, 6): 0.059,
    (0.3, 6): 15.645,
    (0.4, 10): 37.218,
}


@pytest.mark.parametrize(("at", "expected"), NAKAMOTO.items())
def test_formula_gives_the_table_of_the_paper(at: tuple[float, int], expected: float) -> None:
    assert compute_nakamoto(*at) == pytest.approx(expected, abs=5e-8)


@pytest.mark.parametrize(("at", "expected"), ROSENFELD.items())
def test_exact_law_gives_the_published_table(at: tuple[float, int], expected: float) -> None:
    assert 100 * compute_exact(*at, ahead=1) == pytest.approx(expected, abs=6e-4)


def test_great_numbers_of_confirmations_are_computed_too() -> None:
    # With a ratio r of the powers an attacker that is n behind comes back with r to the n.
    assert 0.3 < compute_nakamoto(0.49, 1000) < compute_exact(0.49, 1000, ahead=1) < 0.4
    assert 0 <= compute_exact(0.3, 1000) < 1e-9


def test_half_of_the_power_always_wins() -> None:
    assert compute_nakamoto(0.5, 20) == compute_exact(0.6, 20) == 1.0
    assert measure_races(600, 3, 50) == 50


@pytest.mark.parametrize("share_permille", [100, 250, 400])
def test_races_follow_the_exact_law(share_permille: int) -> None:
    for point in measure_curve(share_permille, [0, 1, 3, 6], races=1000, seed=3):
        four_sigma = 4 * (point.exact * (1 - point.exact) / point.races) ** 0.5
        assert abs(point.rate - point.exact) <= four_sigma + 1 / point.races
        assert 0 <= point.low <= point.rate <= point.high <= 1


@pytest.mark.parametrize("share_permille", [100, 250, 400])
def test_races_with_a_block_in_advance_lie_beside_nakamotos_formula(share_permille: int) -> None:
    for point in measure_curve(share_permille, [0, 1, 3, 6], races=1000, seed=3, ahead=1):
        four_sigma = 4 * (point.exact * (1 - point.exact) / point.races) ** 0.5
        assert abs(point.rate - point.exact) <= four_sigma + 1 / point.races
        assert abs(point.nakamoto - point.exact) <= 0.06


def test_same_arguments_give_the_same_races() -> None:
    assert measure_races(300, 2, 200, seed=5) == measure_races(300, 2, 200, seed=5)
    assert measure_races(0, 1, 20) == 0


def test_interval_is_wilsons() -> None:
    low, high = compute_interval(5, 10)
    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)
    assert compute_interval(0, 0) == (0.0, 1.0)


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(Invalid, match=r"share 1\.5, expected 0 to 1"):
        compute_nakamoto(1.5, 1)
    with pytest.raises(Invalid, match="1001 confirmations"):
        compute_exact(0.1, 1001)
