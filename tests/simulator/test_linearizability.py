"""The checker against one that tries every order, and histories that are easy to get wrong."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.base.errors import Invalid
from quorate.base.rng import Rng
from quorate.simulator.history import History, Operation, Value
from quorate.simulator.linearizability import Search, check_history, check_key
from quorate.simulator.models import (
    Bank,
    Counter,
    GrowingSet,
    Log,
    Model,
    Register,
    get_model,
)
from simulator.histories import is_linearizable, is_valid, make_history

KINDS: dict[str, tuple[Callable[[], Model], list[tuple[str, list[Value], list[Value]]]]] = {
    "register": (
        lambda: Register(0),
        [
            ("write", [1, 2], [None]),
            ("read", [None], [0, 1, 2]),
            ("cas", [(0, 1), (1, 2), (2, 0)], [False, True]),
        ],
    ),
    "counter": (Counter, [("add", [1, 2], [None]), ("read", [None], [0, 1, 2, 3, 4])]),
    "set": (
        GrowingSet,
        [
            ("add", [1, 2], [None]),
            ("contains", [1, 2], [False, True]),
            ("read", [None], [(), (1,), (2,), (1, 2)]),
        ],
    ),
    "log": (
        Log,
        [
            ("append", [1, 2, 3], [None]),
            ("read", [None], [(), (1,), (2, 1), (1, 2), (3, 2), (2, 1, 3)]),
            ("length", [None], [0, 1, 2]),
        ],
    ),
    "bank": (
        lambda: Bank([("a", 2), ("b", 0)]),
        [
            ("transfer", [("a", "b", 1), ("b", "a", 2)], [False, True]),
            ("balance", ["a"], [0, 1, 2]),
            ("read", [None], [(("a", 1), ("b", 1))]),
        ],
    ),
}
"""Makers of models, and their operations with arguments and the results that are tried."""


@st.composite
def draw_histories(draw: st.DrawFn, kind: str) -> list[Operation]:
    """Operations that overlap at will; most answers are those of some order, a few are not."""
    make_model, names = KINDS[kind]
    model, state = make_model(), make_model().initial
    count = draw(st.integers(2, 6))
    places = draw(st.permutations(range(2 * count)))
    spans = [tuple(sorted(places[2 * i : 2 * i + 2])) for i in range(count)]
    # The order in which they take effect follows their middles, so it respects real time.
    spans.sort(key=sum)
    operations = []
    for number, (start, end) in enumerate(spans):
        name, arguments, results = draw(st.sampled_from(names))
        argument = draw(st.sampled_from(arguments))
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "info", "fail"]))
        result = None
        if outcome != "fail" and not (outcome == "info" and draw(st.booleans())):
            state, result = model.apply(state, name, argument)
        if outcome == "ok" and draw(st.sampled_from([False, False, True])):
            result = draw(st.sampled_from(results))
        operations.append(
            Operation(
                id=str(number),
                client=str(number),
                key="x",
                name=name,
                argument=argument,
                result=result if outcome == "ok" else None,
                outcome=outcome,
                start=start,
                end=end if outcome != "info" else None,
                start_ns=start,
                end_ns=end,
            )
        )
    return operations


@pytest.mark.parametrize("kind", KINDS)
def test_verdict_is_that_of_trying_every_order(kind: str) -> None:
    make_model = KINDS[kind][0]
    seen = {"true": 0, "false": 0, "minimal": 0}

    @settings(max_examples=250, deadline=None, derandomize=True, database=None)
    @given(draw_histories(kind))
    def judge(operations: list[Operation]) -> None:
        judgement = check_key(operations, make_model())
        expected = is_linearizable(operations, make_model())
        assert judgement.verdict == ("true" if expected else "false")
        seen[judgement.verdict] += 1
        by_id = {o.id: o for o in operations}
        order = tuple(by_id[i] for i in judgement.order)
        assert is_valid(order, make_model())
        if expected:
            assert {o.id for o in operations if o.outcome == "ok"} <= set(judgement.order)
        else:
            assert judgement.failing in judgement.window
            if judgement.is_minimal:
                until = end_of(judgement.failing)
                before = [o for o in operations if o.start < until]
                judge_contradiction(before, judgement.window, make_model())
                seen["minimal"] += 1
            earlier = [o for o in operations if end_of(o) < end_of(judgement.failing)]
            assert {o.id for o in earlier if o.outcome == "ok"} <= set(judgement.order)
            assert judgement.failing.id not in judgement.order

    judge()
    # Neither verdict is the only one that was tried.
    assert min(seen.values()) >= 5, seen


def end_of(operation: Operation | None) -> int:
    assert operation is not None
    return 1 << 30 if operation.end is None else operation.end


def judge_contradiction(operations: list[Operation], window: list[Operation], model: Model) -> None:
    """The window fits no order by itself either, when the others may happen twice or never."""
    others = [o for o in operations if o not in window and o.outcome != "fail"]
    others = [o for o in others if not model.is_read(o.name, o.result)]
    lost = [
        Operation(
            id=f"{o.id} {copy}",
            client=o.client,
            key=o.key,
            name=o.name,
            argument=o.argument,
            start=-1,
            start_ns=0,
        )
        for o in others
        for copy in range(2)
    ]
    if len(window) + len(lost) <= 7:
        assert not is_linearizable([*window, *lost], model)


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        # A read of what was overwritten before it began.
        (("a write 1", "a ok", "a write 2", "a ok", "b read", "b ok 1"), "false"),
        # The same, but the second write is still under way.
        (("a write 1", "a ok", "a write 2", "b read", "b ok 1", "a ok"), "true"),
        # Two readers in turn may not see new and then old.
        (("w write 1", "a read", "a ok 1", "b read", "b ok 0", "w ok"), "false"),
        (("w write 1", "a read", "b read", "a ok 1", "b ok 0", "w ok"), "true"),
        # What got no answer may have happened, much later too, or never, but not twice.
        (("w write 1", "w info", "a read", "a ok 0", "a read", "a ok 1"), "true"),
        (("w write 1", "w info", "a read", "a ok 0", "a read", "a ok 0"), "true"),
        (("w write 1", "w info", "a read", "a ok 1", "a read", "a ok 0"), "false"),
        (
            ("w write 1", "w info", "v write 2", "v ok", "a read", "a ok 1", "a read", "a ok 2"),
            "false",
        ),
        # It may not have happened before it was asked for.
        (("a read", "a ok 1", "w write 1", "w info"), "false"),
        # What was refused did not happen.
        (("w write 1", "w fail", "a read", "a ok 1"), "false"),
        (("w write 1", "w fail", "a read", "a ok 0"), "true"),
        # A lost update: both compare-and-swaps say that they found 0.
        (("a cas 0,1", "b cas 0,2", "a ok true", "b ok true"), "false"),
        (("a cas 0,1", "b cas 0,2", "a ok true", "b ok false"), "true"),
        # One that failed must have found something else at some time.
        (("a cas 0,1", "a ok false"), "false"),
        (("w write 1", "a cas 0,1", "a ok false", "w info"), "true"),
        # Of two that may have done the same, the one that can still be used later did not.
        (
            (
                "v write 1",
                "v info",
                "w cas 0,1",
                "w info",
                "a read",
                "a ok 1",
                "a write 2",
                "a ok",
                "a read",
                "a ok 1",
            ),
            "true",
        ),
        # A read without an answer says nothing.
        (("a read", "a info", "b read", "b ok 0"), "true"),
    ],
)
def test_tricky_register_histories(lines: tuple[str, ...], verdict: str) -> None:
    operations = make_history(*lines).get_operations()
    assert check_key(operations, Register(0)).verdict == verdict
    assert is_linearizable(operations, Register(0)) == (verdict == "true")


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        (("a append 1", "b append 2", "a ok", "b ok", "c read", "c ok 2,1"), "true"),
        (("a append 1", "a ok", "b append 2", "b ok", "c read", "c ok 2,1"), "false"),
        # A stale read is no linearizable one.
        (("a append 1", "a ok", "c read", "c ok ,"), "false"),
        # An item that was sent twice is there once.
        (("a append 1", "b append 1", "a ok", "b ok", "c read", "c ok 1,"), "true"),
        (("a append 1", "b append 1", "a ok", "b ok", "c read", "c ok 1,1"), "false"),
        # Two readers that saw different orders.
        (("a append 1", "b append 2", "c read", "c ok 1,", "d read", "d ok 2,"), "false"),
        (
            (
                "a append 1",
                "a info",
                "c length",
                "c ok 1",
                "b append 2",
                "b ok",
                "c length",
                "c ok 2",
            ),
            "true",
        ),
    ],
)
def test_tricky_log_histories(lines: tuple[str, ...], verdict: str) -> None:
    operations = make_history(*lines).get_operations()
    assert check_key(operations, Log()).verdict == verdict
    assert is_linearizable(operations, Log()) == (verdict == "true")


def test_contradiction_is_told_with_the_operations_that_matter() -> None:
    lines = [word for i in range(3, 40) for word in (f"w write {i}", "w ok", "r read", f"r ok {i}")]
    history = make_history(
        "a write 1", *lines, "a ok", "b write 2", "b ok", "r read", "r ok 1", *lines
    )
    judgement = check_key(history.get_operations(), Register(0))
    assert judgement.verdict == "false"
    assert judgement.describe() == [
        "key 'x': read() = 1 by r (152.000 ms to 153.000 ms) fits no order: before it the state "
        "is 2",
        "these contradict each other, whatever all others did:",
        "  write(1) by a (0.000 ms to 149.000 ms)",
        "  write(2) by b (150.000 ms to 151.000 ms)",
        "  read() = 1 by r (152.000 ms to 153.000 ms)",
    ]


def test_contradiction_holds_whatever_the_others_did() -> None:
    # Were 7 not written before 5, it might be what the compare-and-swap found.
    history = make_history(
        "a read", "a ok 0", "a write 7", "a ok", "a write 5", "a ok", "a cas 5,1", "a ok false"
    )
    judgement = check_key(history.get_operations(), Register(0))
    assert [o.id for o in judgement.window] == ["a2", "a4", "a6"]
    assert judgement.is_minimal


def test_keys_are_judged_one_by_one() -> None:
    history = make_history("a write 1", "a ok", "a read", "a ok 1", key="x")
    other = make_history("b write 1", "b ok", "b read", "b ok 2", key="y")
    report = check_history(history.get_operations() + other.get_operations(), Register)
    assert report.verdict == "false"
    assert [(k.key, k.verdict) for k in report.keys] == [("x", "true"), ("y", "false")]
    assert report.describe()[0].startswith("key 'y': read() = 2 by b")


def make_hard_history() -> History:
    """Many concurrent additions, and a sum that none of their choices gives."""
    lines = [f"c{i} add {2 << i}" for i in range(16)]
    lines += ["r read", "r ok 7", *[f"c{i} ok" for i in range(16)]]
    return make_history(*lines)


def test_limit_of_steps_ends_in_unknown() -> None:
    judgement = check_key(make_hard_history().get_operations(), Counter(), max_steps=5_000)
    assert judgement.verdict == "unknown"
    assert 5_000 <= judgement.steps < 6_000
    assert judgement.describe()[0].startswith("key 'x': not judged: 17 operations, limit reached")
    assert check_history(make_hard_history().get_operations(), Counter, max_steps=99).verdict == (
        "unknown"
    )


def test_limit_of_the_caller_ends_in_unknown() -> None:
    looks = iter([False, False, True])
    judgement = check_key(
        make_hard_history().get_operations(), Counter(), is_late=lambda: next(looks)
    )
    assert judgement.verdict == "unknown"
    assert judgement.steps < 4_000


def test_unknown_operation_is_refused() -> None:
    operations = make_history("a jump 1", "a ok").get_operations()
    with pytest.raises(Invalid, match="operation 'jump' of a register, expected read, write"):
        check_key(operations, get_model("register"))
    with pytest.raises(Invalid, match="model 'stack': expected one of register, counter"):
        get_model("stack")


def make_long_history(operations: int, clients: int, *, lost: int) -> list[Operation]:
    """Reads and writes of overlapping clients that really took effect in some order."""
    rng = Rng(5)
    history, value, now = History(), 0, 0
    busy: dict[int, tuple[str, Value]] = {}
    for number in range(operations):
        client = rng.below(clients)
        now += 1
        if client in busy:
            history.ok(now, *busy.pop(client))
        name = "write" if rng.below(3) == 0 else "read"
        identity = str(number)
        argument = number if name == "write" else None
        history.invoke(
            now, identity, client=str(client), key="x", operation=name, argument=argument
        )
        if name == "write":
            value = number
        if rng.below(operations) >= lost:
            busy[client] = (identity, value if name == "read" else None)
    for entry in busy.values():
        history.ok(now, *entry)
    return history.get_operations()


def test_thousands_of_operations_take_few_steps() -> None:
    operations = make_long_history(4_000, 10, lost=100)
    judgement = check_key(operations, Register(0))
    assert judgement.verdict == "true"
    assert judgement.steps < 200_000
    # The same with one read of a value that was overwritten long ago.
    place = next(i for i, o in enumerate(operations) if o.start > 6_000 and o.name == "read")
    stale = Operation(
        **{f: getattr(operations[place], f) for f in Operation.__struct_fields__ if f != "result"},
        result=operations[5].argument if operations[5].name == "write" else 0,
    )
    broken = [*operations[:place], stale, *operations[place + 1 :]]
    judgement = check_key(broken, Register(0))
    assert judgement.verdict == "false"
    assert judgement.failing == stale
    assert len(judgement.window) <= 4


def test_search_needs_no_stack_of_calls() -> None:
    lines = [word for i in range(3_000) for word in (f"a append {i}", "a ok")]
    lines += ["r length", "r ok 3000"]
    search = Search(make_history(*lines).get_operations(), Log())
    assert search.run(100_000) == "true"
    assert len(search.best) == 3_001
