"""Histories: what may follow what, operations, JSON lines."""

import pytest

from quorate.base.errors import Invalid
from quorate.simulator.history import (
    Event,
    History,
    decode_events,
    encode_events,
    merge_events,
    read_history,
)
from simulator.histories import make_history


def test_four_outcomes_become_operations() -> None:
    history = make_history(
        "a write 1", "b write 2", "c write 3", "d write 4", "a ok", "b fail", "c info"
    )
    found = [(o.outcome, o.start, o.end, o.start_ns, o.end_ns) for o in history.get_operations()]
    ms = 1_000_000
    assert found == [
        ("ok", 0, 4, 0, 4 * ms),
        ("fail", 1, 5, ms, 5 * ms),
        ("info", 2, None, 2 * ms, None),
        ("info", 3, None, 3 * ms, None),
    ]


def test_retry_has_the_same_id_and_begins_where_the_first_attempt_did() -> None:
    history = History()
    for time in (1, 5):
        history.invoke(time, "7", client="a", key="x", operation="write", argument=1)
    history.ok(9, "7")
    (operation,) = history.get_operations()
    assert (operation.attempts, operation.start, operation.end) == (2, 0, 2)


def test_late_answer_settles_what_was_given_up() -> None:
    history = make_history("a write 1", "a info", "a ok")
    (operation,) = history.get_operations()
    assert (operation.outcome, operation.end) == ("ok", 2)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Event("ok", 9, "new"), "ok of operation 'new', which was never invoked"),
        (Event("ok", 1, "a0"), "time 1 ns, expected at least 1000000"),
        (Event("ok", 10**7, "a0"), "ok of operation 'a0' after its answer"),
        (Event("invoke", 10**7, "a0", "a", "x", "write", 1), "sent again after its answer"),
        (Event("invoke", 10**7, "new"), "operation 'new' has no name"),
        (Event("invoke", 10**7, "b1", "b", "x", "write", 3), "argument 3, expected 2 as before"),
        (Event("ok", 10**7, "b1", "c"), "client 'c', expected 'b' as before"),
    ],
)
def test_event_that_cannot_follow_is_refused_and_changes_nothing(event: Event, error: str) -> None:
    history = make_history("a write 1", "b write 2", "a ok")
    if event.time_ns == 9:
        history.time_ns = 0
    elif event.time_ns == 1:
        history.time_ns = 1_000_000
    before = history.get_operations()
    with pytest.raises(Invalid, match=error):
        history.add(event)
    assert history.get_operations() == before
    assert len(history.events) == 3


def test_lines_give_the_history_back() -> None:
    history = make_history("a cas 1,2", "b read", "a ok true", "b ok word", "c read", "c info")
    lines = list(encode_events(history.events))
    assert lines[0] == (
        b'{"kind":"invoke","time_ns":0,"id":"a0","client":"a","key":"x",'
        b'"operation":"cas","argument":[1,2]}\n'
    )
    again = read_history([*lines[:3], b"\n", *lines[3:]])
    assert again.events == history.events
    assert again.get_operations() == history.get_operations()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"{", "line 2: "),
        (b'{"kind":"maybe","time_ns":1,"id":"a"}', "line 2: Invalid enum value 'maybe'"),
        (b'{"kind":"ok","time_ns":-1,"id":"a"}', "line 2: Expected `int` >= 0"),
        (b'{"kind":"ok","time_ns":1,"id":"a","value":1}', "line 2: .* unknown field `value`"),
        (b'{"kind":"ok","time_ns":1,"id":"a","result":1.5}', "line 2: value of type float"),
        (b'{"kind":"ok","time_ns":1,"id":"a","result":{}}', "line 2: value of type dict"),
        (b'{"kind":"ok","time_ns":1,"id":"a","result":' + b"[" * 9 + b"]" * 9 + b"}", "deeper"),
        (b" " * ((1 << 20) + 1), "line 2: 1048577 bytes, expected at most 1048576"),
    ],
)
def test_bad_line_is_refused_by_its_number(line: bytes, error: str) -> None:
    with pytest.raises(Invalid, match=error):
        list(decode_events([b"\n", line]))


def test_bad_event_is_refused_by_its_place() -> None:
    with pytest.raises(Invalid, match="event 1: ok of operation 'a'"):
        read_history([b'{"kind":"ok","time_ns":1,"id":"a"}'])


def test_observers_are_merged_with_beginnings_first() -> None:
    one = [Event("invoke", 1, "a", operation="read"), Event("ok", 5, "a")]
    two = [Event("invoke", 5, "b", operation="read"), Event("ok", 6, "b")]
    merged = merge_events([one, two])
    assert [(e.kind, e.id) for e in merged] == [
        ("invoke", "a"),
        ("invoke", "b"),
        ("ok", "a"),
        ("ok", "b"),
    ]


def test_operations_read_well() -> None:
    history = make_history("a cas 1,2", "b write word", "a ok true", "c write 1", "c fail")
    assert [o.describe() for o in history.get_operations()] == [
        "cas([1,2]) = true by a (0.000 ms to 2.000 ms)",
        'write("word") by b (from 1.000 ms, outcome not known)',
        "write(1) by c (3.000 ms to 4.000 ms, refused)",
    ]
