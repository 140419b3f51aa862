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


def test_nodes_that_hold_the_same_take_turns_in_one_state() -> None:
    lasso = find([make_snapshot(r, r, r, r, r) for r in range(10, 40)])
    assert lasso is not None
    assert (lasso.kind, lasso.states, lasso.repeats) == ("circle", 1, 30)
    assert "the same state comes, 30 times in 29 s" in lasso.text


def test_leader_that_is_away_in_its_turn_makes_the_circle_longer() -> None:
    # Machine 3 is not among the nodes: every fourth round has no leader.
    lasso = find([make_snapshot(r, r, r, r) for r in range(10, 40)])
    assert lasso is not None
    assert (lasso.kind, lasso.states, lasso.repeats) == ("circle", 4, 7)
    assert "the same 4 states come in turn, 7 times in 29 s" in lasso.text


def test_state_that_comes_back_in_changing_ways_is_a_recurrence() -> None:
    order = [0, 1, 2, 0, 2, 1, 1, 0, 2, 2, 0, 1, 3, 1, 0, 0, 1, 2, 1, 4, 0, 2, 1, 0, 1, 0, 2, 5]
    snapshots = [
        make_snapshot(i, 10 + i, leader=0, step=f"step {number}") for i, number in enumerate(order)
    ]
    assert find(snapshots[:23]) is None
    lasso = find(snapshots)
    assert lasso is not None
    assert (lasso.kind, lasso.states, lasso.repeats) == ("recurrence", 6, 9)
    assert "one of 6 states comes back, 9 times in 27 s, rounds 10 to 37" in lasso.text


def test_what_still_changes_is_not_judged() -> None:
    detector = LassoDetector(STILL)
    for r in range(40):
        detector.add(
            make_snapshot(r, r, step=f"step {r % (r // 7 + 4) if r < 20 else r // 3}", leader=0)
        )
        detector.add(make_snapshot(r, r, step=f"other {r // 2}", leader=0))
        assert detector.find() is None
    assert detector.temperature == 79


def test_standstill_needs_its_time() -> None:
    detector = LassoDetector(STILL)
    detector.add(make_snapshot(0, 0, 0))
    detector.add(make_snapshot(7, 1, 0, in_flight=()))
    detector.touch(make_snapshot(106, 1, 0, in_flight=()))
    assert detector.find() is None
    detector.touch(make_snapshot(107, 1, 0, in_flight=()))
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


def test_nodes_are_told_apart_by_what_they_hold_and_whether_they_lead() -> None:
    one, other = make_snapshot(0, 4, 5, leader=0), make_snapshot(1, 6, 5, leader=1)
    assert compute_fingerprint(one) == compute_fingerprint(other)
    assert compute_fingerprint(one) != compute_fingerprint(make_snapshot(0, 4, 5, leader=1))
    assert compute_fingerprint(one) != compute_fingerprint(make_snapshot(0, 4, 5, leader=3))
    locked = make_snapshot(0, 4, 5, leader=0, locked=(3, b"v"))
    assert compute_fingerprint(one) != compute_fingerprint(locked)


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
