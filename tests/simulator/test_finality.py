"""Final orders and reads against what clients were told."""

import pytest

from quorate.simulator.finality import (
    EXACTLY_ONCE,
    REAL_TIME,
    SESSION,
    judge_order,
    judge_real_time,
    judge_sessions,
)
from quorate.simulator.history import Operation
from quorate.simulator.linearizability import check_key
from quorate.simulator.models import Log
from simulator.histories import make_history
from simulator.test_linearizability import make_long_history

LINES = ("a append 1", "b append 2", "a ok", "c append 3", "d append 4", "b ok", "d fail", "c info")
"""Ids: a0 was answered before c3 began, b1 was not."""


@pytest.mark.parametrize(
    ("order", "faults"),
    [
        (["a0", "b1"], []),
        (["b1", "a0", "c3"], []),
        (["a0", "c3", "b1"], []),
        (["a0"], [(EXACTLY_ONCE, "append(2) by b (1.000 ms to 5.000 ms) was answered")]),
        (
            ["b1", "a0", "d4"],
            [(EXACTLY_ONCE, "append(4) by d (4.000 ms to 6.000 ms, refused)")],
        ),
        (["b1", "a0", "b1"], [(EXACTLY_ONCE, "item b1 is final at places 0 and 2")]),
        (["b1", "a0", "x"], [(EXACTLY_ONCE, "item x is final, and nobody submitted it")]),
        (
            ["b1", "c3", "a0"],
            [
                (
                    REAL_TIME,
                    "append(3) by c (from 3.000 ms, outcome not known) is final before append(1)",
                )
            ],
        ),
    ],
)
def test_order_is_judged(order: list[str], faults: list[tuple[str, str]]) -> None:
    found = judge_order(make_history(*LINES).get_operations(), order)
    assert [property for property, _ in found] == [property for property, _ in faults]
    for (_, message), (_, begin) in zip(found, faults, strict=True):
        assert message.startswith(begin)


def test_judging_an_order_agrees_with_the_search_for_one() -> None:
    verdicts = set()
    for turn in range(40):
        operations = [
            Operation(
                id=o.id,
                client=o.client,
                key="x",
                name="append",
                argument=o.id,
                outcome=o.outcome,
                start=o.start,
                end=o.end,
                start_ns=0,
            )
            for o in make_long_history(30, 4, lost=0)
        ]
        middles = sorted(operations, key=lambda o: o.start + (o.end or 0))
        first = turn % 29
        for place in range(first, min(first + turn % 3, 29)):
            middles[place], middles[place + 1] = middles[place + 1], middles[place]
        last = max(o.end or 0 for o in operations)
        read = Operation(
            id="read",
            client="r",
            key="x",
            name="read",
            argument=None,
            outcome="ok",
            result=tuple(o.id for o in middles),
            start=last + 1,
            end=last + 2,
            start_ns=0,
        )
        expected = "false" if judge_real_time(middles) else "true"
        assert check_key([*operations, read], Log()).verdict == expected
        verdicts.add(expected)
    assert verdicts == {"true", "false"}


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (("a height", "a ok 3", "b height", "b ok 3", "a height", "a ok 4"), ""),
        (("a height", "a ok 3", "b height", "b ok 2"),
         "height() = 2 by b (2.000 ms to 3.000 ms) at x, after height() = 3 by a"),
        # Reads that overlap may be answered in any order.
        (("a height", "b height", "a ok 3", "b ok 2"), ""),
        (("a height", "b height", "b ok 2", "c height", "a ok 3", "c ok 2"), ""),
        (("a height", "b height", "b ok 3", "a ok 2", "c height", "c ok 2"),
         "height() = 2 by c (4.000 ms to 5.000 ms) at x, after height() = 3 by b"),
        (("a height", "a info", "b height", "b ok 0"), ""),
    ],
)  # fmt: skip
def test_reads_of_one_node_never_go_back(lines: tuple[str, ...], fault: str) -> None:
    faults = judge_sessions(make_history(*lines).get_operations())
    assert [property for property, _ in faults] == ([SESSION] if fault else [])
    assert all(message.startswith(fault) for _, message in faults)


def test_reads_of_two_nodes_are_two_sessions() -> None:
    one = make_history("a height", "a ok 3", key="one").get_operations()
    other = make_history("a height", "a ok 2", key="other").get_operations()
    assert judge_sessions([*one, *other]) == []
