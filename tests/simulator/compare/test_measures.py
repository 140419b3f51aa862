"""Arithmetic on histories made by hand."""

import pytest

from quorate.simulator.compare.measures import (
    Operation,
    Recovery,
    compute_band,
    compute_percentile,
    compute_recovery,
    compute_series,
    compute_spans,
    compute_window,
    find_longest_gap,
)
from quorate.simulator.plan import MS, SECOND

WINDOW = 100 * MS
BAND = 50 * MS


def make_steady(until_ms: int, slow: dict[range, int | None] | None = None) -> list[Operation]:
    """Return an operation each 10 ms that takes 5 ms, but for ranges of due times that take more
    (None: never answered).
    """
    operations = []
    for due in range(0, until_ms, 10):
        took: int | None = 5
        for span, latency in (slow or {}).items():
            if due in span:
                took = latency
        operations.append(Operation(due * MS, None if took is None else took * MS))
    return operations


@pytest.mark.parametrize(
    ("latencies", "percent", "expected"),
    [
        ([], 50, None),
        ([7], 50, 7),
        ([4, 1, 3, 2], 50, 2),
        ([4, 1, 3, 2], 75, 3),
        ([4, 1, 3, 2], 75.1, 4),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 1001)), 99.9, 999),
        ([1, 2, 3, None], 75, 3),
        ([1, 2, 3, None], 95, None),
        ([None], 50, None),
    ],
)
def test_percentile_is_the_nearest_rank(
    latencies: list[int | None], percent: float, expected: int | None
) -> None:
    assert compute_percentile(latencies, percent) == expected


def test_band_is_twice_the_usual_and_never_narrow() -> None:
    assert compute_band([1 * MS] * 20) == 51 * MS
    assert compute_band([100 * MS] * 20) == 200 * MS
    assert compute_band([None] * 20) is None


def test_windows_hold_enough_operations() -> None:
    assert compute_window(1000) == 100 * MS
    assert compute_window(100) == 200 * MS
    assert compute_window(1) == 20 * SECOND


def recover(operations: list[Operation], start_ms: int, end_ms: int) -> Recovery:
    return compute_recovery(operations, start_ms * MS, end_ms * MS, window_ns=WINDOW, band_ns=BAND)


def test_fault_that_nobody_notices_is_masked() -> None:
    assert recover(make_steady(5000), 1000, 5000) == Recovery(True, 0, 0, 5 * MS)


def test_one_slow_answer_in_thirty_is_within_the_band() -> None:
    operations = make_steady(5000)
    operations += [Operation(1000 * MS + n, 5 * MS) for n in range(20)]
    operations.append(Operation(1000 * MS, 900 * MS))
    assert recover(operations, 1000, 5000).masked


def test_service_is_back_when_an_operation_of_the_first_good_window_is_answered() -> None:
    operations = make_steady(5000, {range(1000, 1700): 800})
    found = recover(operations, 1000, 5000)
    assert found == Recovery(False, 705 * MS, 700 * MS, 800 * MS)


def test_good_moment_that_does_not_last_is_no_recovery() -> None:
    slow = {range(1000, 1500): 800, range(2000, 2300): 700}
    found = recover(make_steady(6000, slow), 1000, 6000)
    assert found.back_ns == 1305 * MS
    assert found.bad_ns == 800 * MS


def test_service_that_never_comes_back() -> None:
    found = recover(make_steady(4000, {range(1500, 4000): None}), 1000, 4000)
    assert found == Recovery(False, None, 2500 * MS, None)


def test_waiting_for_the_end_of_an_outage_is_not_being_back() -> None:
    # Whoever came late in an outage waits no longer than the band, and is answered at its end.
    operations = [
        Operation(due * MS, (max(2000 - due, 0) + 5) * MS if due >= 1000 else 5 * MS)
        for due in range(0, 5000, 10)
    ]
    found = recover(operations, 1000, 5000)
    assert found.back_ns == 1005 * MS


def test_windows_without_operations_are_as_those_before() -> None:
    operations = [o for o in make_steady(6000) if not 2000 * MS <= o.due_ns < 3000 * MS]
    assert recover(operations, 1000, 6000).masked


def test_spans_leave_out_what_the_next_fault_may_have_met() -> None:
    faults = [(3000, 6000), (9000, 10_000), (9000, 9500)]
    assert compute_spans(faults, 20_000, 800) == [(2200, 8200), (8200, 20_000), (8200, 20_000)]
    # Not before the end of another fault, nor after the own begin.
    assert compute_spans([(1000, 5000), (5100, 6000)], 9000, 800)[1] == (5000, 9000)
    assert compute_spans([(1000, 5000), (2000, 3000)], 9000, 1500) == [(0, 1000), (2000, 9000)]


def test_what_was_under_way_when_a_fault_began_counts() -> None:
    # Whoever came within the last 40 ms before the fault waits until 2 s.
    slow = {range(960, 1000): 1040, range(1000, 1950): 1000}
    operations = make_steady(5000, slow)
    found = compute_recovery(
        operations, 950 * MS, 5000 * MS, window_ns=WINDOW, band_ns=BAND, begin_ns=1000 * MS
    )
    assert found.back_ns == 955 * MS
    assert not found.masked


def test_series_count_answers_when_they_come_and_latencies_when_they_were_due() -> None:
    operations = [Operation(0, 150 * MS), Operation(50 * MS, None), Operation(120 * MS, 30 * MS)]
    assert compute_series(operations, 300 * MS, 100 * MS) == {
        "answers": [0, 2, 0],
        "p50_us": [150_000, 30_000, None],
        "p99_us": [None, 30_000, None],
    }


def test_longest_gap_counts_from_edge_to_edge() -> None:
    operations = [Operation(0, 100 * MS), Operation(0, 400 * MS), Operation(0, None)]
    assert find_longest_gap(operations, 0, 600 * MS) == 300 * MS
    assert find_longest_gap([], 0, 600 * MS) == 600 * MS
