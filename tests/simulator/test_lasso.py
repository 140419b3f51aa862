"""Circles, standstill, and change that is neither."""

import pytest

from quorate.simulator.lasso import (
    Lasso,
    LassoDetector,
    NodeView,
    Snapshot,
    compute_fingerprint,
    find_period,
)

SECOND = 1_000_000_000
STILL = 100 * SECOND


def make_snapshot(
    time: int,
    *rounds: int,
    height: int = 5,
    step: str = "propose",
    locked: tuple[int, bytes] = (-1, b""),
    leader: int = -1,
    in_flight: tuple[str, ...] = ("Vote",),
) -> Snapshot:
    """Return a snapshot of nodes in these rounds; the first one holds the lock."""
    nodes = [
        NodeView(
            i,
            height,
            number,
            step,
            number % 4 if leader < 0 else leader,
            *(locked if i == 0 else (-1, b"")),
        )
        for i, number in enumerate(rounds)
    ]
    return Snapshot(time * SECOND, nodes, list(in_flight))


def find(snapshots: list[Snapshot]) -> Lasso | None:
    detector = LassoDetector(STILL)
    for snapshot in snapshots:
        detector.add(snapshot)
    return detector.find()


def test_rounds_that_only_grow_are_a_circle() -> None:
    lasso = find([make_snapshot(r, r, r, r, locked=(3, b"\xaa" * 32)) for r in range(10, 40)])
    assert lasso is not None
    assert (lasso.kind, lasso.states, lasso.repeats, lasso.rounds) == ("circle", 4, 7, (10, 39))
    assert lasso.text == (
        "height 5: the same 4 states come in turn, 7 times in 29 s, rounds 10 to 39; now "
        "machine 0 at height 5 round 39 propose, locked in round 3 on 0xaaaaaaaa; "
        "machine 1 at height 5 round 39 propose; machine 2 at height 5 round 39 propose; "
        "under way: Vote"
    )


def test_way_into_the_circle_does_not_hide_it() -> None:
    way = [make_snapshot(r, r, 0, step=f"step {r}") for r in range(10)]
    lasso = find(way + [make_snapshot(r, r, r) for r in range(10, 26)])
    assert lasso is not None
    assert lasso.kind == "circle"
    assert lasso.since_ns == 10 * SECOND


def test_node_that_stays_behind_for_ever_is_part_of_the_circle() -> None:
    lasso = find([make_snapshot(r, 2, r, r) for r in range(10, 30)])
    assert lasso is not None
    assert lasso.kind == "circle"


def test_new_values_of_each_round_are_alike() -> None:
    lasso = find(
        [make_snapshot(r, r, r, locked=(r - 1, bytes([r]) * 32), leader=1) for r in range(1, 14)]
    )
    assert lasso is not None
    assert (lasso.kind, lasso.states) == ("circle", 1)


def test_states_in_changing_order_are_a_recurrence() -> None:
    order = [0, 1, 2, 0, 2, 1, 1, 0, 2, 2, 0, 1, 2, 1, 0, 0, 1, 2, 1, 2, 0, 2, 1, 0, 1, 0, 2, 0]
    snapshots = [
        make_snapshot(i, 10 + i, leader=0, step=f"step {number}") for i, number in enumerate(order)
    ]
    assert find(snapshots[:20]) is None
    lasso = find(snapshots)
    assert lasso is not None
    assert (lasso.kind, lasso.states) == ("recurrence", 3)
    assert lasso.repeats >= 8


def test_what_still_changes_is_not_judged() -> None:
    detector = LassoDetector(STILL)
    for r in range(60):
        detector.add(make_snapshot(r, r, step=f"step {r % (r // 7 + 1)}", leader=r // 9))
        assert detector.find() is None
    assert detector.temperature == 59


def test_standstill_needs_its_time() -> None:
    detector = LassoDetector(STILL)
    detector.add(make_snapshot(0, 0, 0))
    detector.add(make_snapshot(7, 1, 0, in_flight=()))
    detector.add(make_snapshot(106, 1, 0, in_flight=()))
    assert detector.find() is None
    detector.add(make_snapshot(107, 1, 0, in_flight=()))
    lasso = detector.find()
    assert lasso is not None
    assert lasso.kind == "standstill"
    assert lasso.text == (
        "height 5: nothing changed for 100 s; now machine 0 at height 5 round 1 propose; "
        "machine 1 at height 5 round 0 propose; under way: nothing"
    )


@pytest.mark.parametrize("who", ["highest", "lowest"])
def test_progress_begins_anew(who: str) -> None:
    detector = LassoDetector(STILL)
    for r in range(30):
        detector.add(make_snapshot(r, r, r))
    assert detector.find() is not None
    nodes = make_snapshot(30, 0, 0).nodes
    if who == "highest":
        nodes = make_snapshot(30, 0, 0, height=6).nodes[:1] + nodes[1:]
        detector.add(Snapshot(30 * SECOND, nodes, []))
        assert detector.find() is None
        assert detector.temperature == 0
    else:
        ahead = make_snapshot(30, 0, 0, height=6).nodes
        detector.add(Snapshot(30 * SECOND, ahead[:1] + nodes[1:], []))
        detector.add(Snapshot(31 * SECOND, ahead, []))
        assert detector.temperature == 0


def test_leader_that_does_not_turn_is_another_state() -> None:
    one, other = make_snapshot(0, 4, 4, leader=1), make_snapshot(1, 5, 5, leader=2)
    assert compute_fingerprint(one) != compute_fingerprint(other)
    assert compute_fingerprint(one) == compute_fingerprint(make_snapshot(9, 7, 7, leader=1))


def test_rounds_apart_are_told_from_rounds_together() -> None:
    together, near = make_snapshot(0, 4, 4, leader=0), make_snapshot(0, 4, 5, leader=0)
    far, farther = make_snapshot(0, 4, 40, leader=0), make_snapshot(0, 4, 400, leader=0)
    prints = [compute_fingerprint(s) for s in (together, near, far, farther)]
    assert len(set(prints)) == 3
    assert prints[2] == prints[3]


@pytest.mark.parametrize(
    ("states", "period"),
    [
        ([], 0),
        ([1] * 11, 0),
        ([1] * 12, 1),
        ([9, 8, *[1, 2, 3] * 4], 3),
        ([9, 8, *[1, 2, 3] * 4, 1], 3),
        ([*[1, 2, 3, 4, 5, 6] * 2], 0),
        ([*[1, 2, 3, 4, 5, 6] * 3], 6),
        ([*[1, 2, 3] * 5, 9], 0),
        ([*[1, 1, 2] * 5], 3),
    ],
)
def test_shortest_period_is_found(states: list[int], period: int) -> None:
    assert find_period(states) == period
