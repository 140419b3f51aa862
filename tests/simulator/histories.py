"""Histories in one line each, and a checker that tries every order."""

from itertools import combinations, permutations

from quorate.simulator.history import History, Operation, Value
from quorate.simulator.models import Model


def make_history(*lines: str, key: str = "x") -> History:
    """Return the history of lines like `a write 1`, `a ok`, `a ok 2`, `a fail`, `a info`.

    The first word is the client, which has one operation at a time; numbers are integers, words
    strings, `1,2` a list. A line comes one millisecond after the one before.
    """
    history = History()
    current: dict[str, str] = {}
    for place, line in enumerate(lines):
        client, kind, *rest = line.split()
        value = parse(rest[0]) if rest else None
        time_ns = place * 1_000_000
        if kind == "ok":
            history.ok(time_ns, current[client], value)
        elif kind == "fail":
            history.fail(time_ns, current[client])
        elif kind == "info":
            history.info(time_ns, current[client])
        else:
            current[client] = f"{client}{place}"
            history.invoke(
                time_ns, current[client], client=client, key=key, operation=kind, argument=value
            )
    return history


def parse(word: str) -> Value:
    if "," in word:
        return tuple(parse(part) for part in word.split(",") if part)
    if word in ("true", "false"):
        return word == "true"
    return int(word) if word.lstrip("-").isdigit() else word


def is_linearizable(operations: list[Operation], model: Model) -> bool:
    """Try every order of every choice of operations that may have happened."""
    known = [o for o in operations if o.outcome == "ok"]
    lost = [o for o in operations if o.outcome == "info"]
    return any(
        is_valid(order, model)
        for count in range(len(lost) + 1)
        for some in combinations(lost, count)
        for order in permutations([*known, *some])
    )


def is_valid(order: tuple[Operation, ...], model: Model) -> bool:
    """Whether an order respects real time and explains every answer."""
    state = model.initial
    latest = -1
    for operation in order:
        if operation.end is not None and operation.end < latest:
            return False
        latest = max(latest, operation.start)
        state, result = model.apply(state, operation.name, operation.argument)
        if operation.outcome == "ok" and result != model.normalize(
            operation.name, operation.result
        ):
            return False
    return True
