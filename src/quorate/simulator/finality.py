"""What clients may rely on: an item becomes final once, and its place respects real time.

The final order is known when a run is over, so judging it takes one pass instead of a search. Plain
reads of a node are not linearizable and are not judged as such: a node may be behind. They are
sequentially consistent for each node: what it has shown it never takes back, across restarts too.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from quorate.simulator.history import Operation

__all__ = ["EXACTLY_ONCE", "REAL_TIME", "SESSION", "Fault", "judge_order", "judge_sessions"]

EXACTLY_ONCE = "final exactly once"
REAL_TIME = "final order respects real time"
SESSION = "a node takes back nothing"

Fault: TypeAlias = tuple[str, str]
"""(property, message)"""


def judge_order(operations: Iterable[Operation], order: Sequence[str]) -> list[Fault]:
    """Return how a final order of operations (by id) contradicts what clients were told.

    Every operation that was answered must be in the order, none that was refused, none that nobody
    asked for, and none twice. One that was answered before another began comes before it.
    """
    known = {operation.id: operation for operation in operations}
    faults: list[Fault] = []
    places: dict[str, int] = {}
    for place, id in enumerate(order):
        if id not in known:
            faults.append((EXACTLY_ONCE, f"item {id} is final, and nobody submitted it"))
        elif id in places:
            faults.append((EXACTLY_ONCE, f"item {id} is final at places {places[id]} and {place}"))
        else:
            places[id] = place
    for operation in known.values():
        if operation.outcome == "ok" and operation.id not in places:
            faults.append((EXACTLY_ONCE, f"{operation.describe()} was answered and is not final"))
        if operation.outcome == "fail" and operation.id in places:
            faults.append((EXACTLY_ONCE, f"{operation.describe()} was refused and is final"))
    faults += judge_real_time([known[id] for id in places])
    return faults


def judge_real_time(order: Sequence[Operation]) -> list[Fault]:
    """Return the first pair whose places contradict the times at which they were under way."""
    earliest: Operation | None = None
    """Among those behind: the one that was answered first."""
    for operation in reversed(order):
        if earliest is not None and earliest.end is not None and operation.start > earliest.end:
            text = f"{operation.describe()} is final before {earliest.describe()}"
            return [(REAL_TIME, text)]
        if operation.end is not None and (
            earliest is None or earliest.end is None or operation.end < earliest.end
        ):
            earliest = operation
    return []


def judge_sessions(reads: Iterable[Operation]) -> list[Fault]:
    """Return the first read of each node that shows less than one that was answered before it.

    The key of a read names the node, its result is the height that the node showed.
    """
    events: list[tuple[int, bool, Operation]] = []
    for read in reads:
        if read.outcome == "ok" and read.end is not None:
            events += ((read.start, True, read), (read.end, False, read))
    events.sort(key=lambda event: event[0])
    most: dict[str, Operation] = {}
    """Of the reads of each node that were answered: the one that showed most."""
    faults: dict[str, Fault] = {}
    for _, begins, read in events:
        known = most.get(read.key)
        if not begins:
            if known is None or read.result > known.result:
                most[read.key] = read
        elif known is not None and known.result > read.result:
            text = f"{read.describe()} at {read.key}, after {known.describe()}"
            faults.setdefault(read.key, (SESSION, text))
    return list(faults.values())
