"""Whether a history can be explained by operations that take effect one at a time, in real time.

Source: Wing and Gong, "Testing and verifying concurrent objects", JPDC 1993; Lowe, "Testing for
linearizability", CCPE 2017: the search with a memory of configurations (section 4), linearizing
just in time (section 5). Herlihy and Wing 1990, theorem 1: objects are judged key by key.

The answers of a history are taken in the order in which they came. When an operation answers and
has not taken effect yet, operations that are under way take effect one after another until it has.
A configuration is the number of answers so far, which operations that are under way have taken
effect, and the state; none is searched twice. Five rules keep the search short, and each is safe:

* What only reads takes effect as soon as its answer fits: nothing else is the worse for it.
* An operation without an answer (`info`) takes effect only where it changes something, or never;
  of two configurations that differ only in such operations, the one that used more is left out.
* A write without an answer that nobody reads before the next write took no effect.
* Of operations that do and answer the same, the one that must answer first goes first.
* Candidates are tried in the order of their answers, operations without one last.

The search is depth first without recursion, and bounded by steps, not by a clock: the verdict of a
history is the same everywhere. "unknown" means that the steps were used up, or that the caller's
own limit of time was.

What cannot be explained is told, where it can be found in few steps, as the fewest operations that
contradict each other even if every other one happened any number of times, at any time, or never.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeAlias

from msgspec import Struct

from quorate.simulator.history import Operation, Value
from quorate.simulator.models import Model, State
from quorate.simulator.verdict import Verdict

__all__ = ["MAX_STEPS", "Judgement", "Report", "check_history", "check_key"]

MAX_STEPS = 1_000_000
"""Operations applied for one key; about a second."""
MAX_STATES = 4
"""Possible states that are named when an answer fits none."""
MAX_QUESTIONS = 40
"""On the way to the fewest operations that contradict each other."""
MAX_QUESTION_STEPS = 20_000
MAX_WINDOW_STEPS = 200_000
"""For all questions about one key."""
MAX_RELATED = 8
"""Operations with the same value, and operations under way, that such questions begin with."""
MAX_TOLD = 24
"""Operations of a contradiction in words."""
LATE_EVERY = 1024
"""Steps between two looks at the caller's limit of time."""

Candidate: TypeAlias = tuple[int, str, Value, Value, int, int]
"""(its bit, name, argument, result, its number or -1 without an answer, its twins' number or -1)"""


class Judgement(Struct, frozen=True, kw_only=True):
    """What was found about one key."""

    key: str
    verdict: Verdict
    operations: int
    steps: int
    order: list[str]
    """Ids in an order that explains all answers, or the most of them if not all."""
    failing: Operation | None = None
    """The first answer that no order explains."""
    states: list[str] = []
    """What the state may be just before it, a few of them."""
    window: list[Operation] = []
    """Operations that contradict each other, `failing` among them."""
    is_minimal: bool = False
    """Whether they do so whatever all others did, and none of them can be left out."""

    def describe(self) -> list[str]:
        """Return lines for people; the first one says it all."""
        if self.verdict == "true":
            return [f"key {self.key!r}: {self.operations} operations in a valid order"]
        if self.failing is None:
            return [
                f"key {self.key!r}: not judged: {self.operations} operations, "
                f"limit reached after {self.steps} steps"
            ]
        states = " or ".join(self.states)
        lines = [
            f"key {self.key!r}: {self.failing.describe()} fits no order: "
            f"before it the state is {states}",
            "these contradict each other, whatever all others did:"
            if self.is_minimal
            else "it came with and after these, among others:",
        ]
        cut = max(0, len(self.window) - MAX_TOLD)
        lines += [f"  {operation.describe()}" for operation in self.window[cut:]]
        if cut:
            lines.append(f"  and {cut} before them")
        return lines


class Report(Struct, frozen=True):
    """What was found about a history."""

    verdict: Verdict
    keys: list[Judgement]

    def describe(self) -> list[str]:
        """Return lines for people about what is not as it should be."""
        return [line for key in self.keys if key.verdict != "true" for line in key.describe()]


def check_history(
    operations: Iterable[Operation],
    make_model: Callable[[], Model],
    *,
    max_steps: int = MAX_STEPS,
    is_late: Callable[[], bool] | None = None,
) -> Report:
    """Judge each key of a history as an object of its own, in the order of the keys' names.

    `max_steps` holds for each key; `is_late` ends the search when it becomes true.
    Raises Invalid for an operation that the model does not know.
    """
    keys: dict[str, list[Operation]] = {}
    for operation in operations:
        keys.setdefault(operation.key, []).append(operation)
    found = [
        check_key(keys[key], make_model(), max_steps=max_steps, is_late=is_late)
        for key in sorted(keys)
    ]
    verdicts = [judgement.verdict for judgement in found]
    verdict: Verdict = "true"
    if "false" in verdicts:
        verdict = "false"
    elif "unknown" in verdicts:
        verdict = "unknown"
    return Report(verdict, found)


def check_key(
    operations: Sequence[Operation],
    model: Model,
    *,
    max_steps: int = MAX_STEPS,
    is_late: Callable[[], bool] | None = None,
) -> Judgement:
    """Judge the operations of one object, which need not be in any order.

    Raises Invalid for an operation that the model does not know.
    """
    search = Search(operations, model)
    verdict = search.run(max_steps, is_late)
    steps = search.steps
    failing = None
    window: list[Operation] = []
    is_minimal = False
    states: list[str] = []
    if verdict == "false":
        failing = search.answers[search.reached]
        if search.is_prepared:
            failing, search = find_failing(operations, model, search)
        states = [model.describe(state) for state in search.states]
        window, is_minimal = find_window(operations, model, failing)
    return Judgement(
        key=operations[0].key if operations else "",
        verdict=verdict,
        operations=len(operations),
        steps=steps,
        order=[search.numbered[number].id for number in search.best],
        failing=failing,
        states=states,
        window=window,
        is_minimal=is_minimal,
    )


class Search:
    """One search for an order; `free` operations may happen any number of times at any time."""

    def __init__(
        self,
        operations: Iterable[Operation],
        model: Model,
        free: Iterable[Operation] = (),
        until: int | None = None,
    ) -> None:
        self.model = model
        happened = [o for o in operations if o.outcome != "fail"]
        known = [o for o in happened if o.end is not None]
        self.numbered = sorted(happened, key=lambda o: o.start)
        self.answers = [
            o for o in sorted(known, key=get_end) if until is None or get_end(o) <= until
        ]
        """Those that must have taken effect, in the order of their answers."""
        self.is_prepared = model.prepare(self.answers)
        self.bits = [0] * len(self.answers)
        self.writers: list[list[Candidate]] = []
        """At each answer: operations under way that may change the state."""
        self.readers: list[list[Candidate]] = []
        self.fresh: list[list[Candidate]] = []
        """Of the readers: those that began since the answer before."""
        self.unanswered: list[Candidate] = []
        self.begun: list[int] = []
        """How many of them had begun at each answer."""
        self.width = 0
        """Bits below this one are of operations with an answer."""
        self.arrange()
        self.free = list(self.list_free(free))
        self.seen: dict[tuple[int, int, State], list[int]] = {}
        """Configurations, and which operations without an answer had taken effect in each."""
        self.steps = 0
        self.reached = -1
        """The most answers that were explained."""
        self.best: list[int] = []
        """An order that explains them, by number."""
        self.states: list[State] = []

    def arrange(self) -> None:
        """Number the operations, and find out which are under way at each answer."""
        model, twins = self.model, count_twins(self.numbered)
        slots: list[int] = []
        """Bits that are free again: a bit belongs to an operation only while it is under way."""
        active: list[tuple[int, bool, Candidate]] = []
        waiting = iter(enumerate(self.numbered))
        coming = next(waiting, None)
        lost: list[tuple[int, Operation]] = []
        for place, answer in enumerate(self.answers):
            fresh: list[Candidate] = []
            while coming is not None and coming[1].start < get_end(answer):
                number, operation = coming
                coming = next(waiting, None)
                if operation.end is None:
                    if not model.is_read(operation.name, None):
                        lost.append((number, operation))
                    continue
                if not slots:
                    slots.append(self.width)
                    self.width += 1
                result = model.normalize(operation.name, operation.result)
                is_read = model.is_read(operation.name, result)
                candidate = (
                    1 << slots.pop(),
                    operation.name,
                    operation.argument,
                    result,
                    number,
                    twins.get((operation.name, operation.argument, operation.result, True), -1),
                )
                insort(active, (operation.end, is_read, candidate), key=lambda item: item[0])
                if is_read:
                    fresh.append(candidate)
            self.begun.append(len(lost))
            self.writers.append([c for _, is_read, c in active if not is_read])
            self.readers.append([c for _, is_read, c in active if is_read])
            self.fresh.append(fresh)
            bit = self.bits[place] = active.pop(0)[2][0]
            slots.append(bit.bit_length() - 1)
        for place, (number, operation) in enumerate(lost):
            twin = twins.get((operation.name, operation.argument, None, False), -1)
            bit = 1 << (self.width + place)
            self.unanswered.append((bit, operation.name, operation.argument, None, ~number, twin))

    def list_free(self, operations: Iterable[Operation]) -> Iterator[Candidate]:
        kinds = dict.fromkeys(
            (o.name, o.argument)
            for o in operations
            if o.outcome != "fail" and not self.model.is_read(o.name, o.result)
        )
        for name, argument in kinds:
            yield 0, name, argument, None, ~len(self.numbered), -1

    def run(self, max_steps: int, is_late: Callable[[], bool] | None = None) -> Verdict:
        """Search for an order that explains all answers."""
        apply = self.model.apply
        goal = len(self.answers)
        order: list[int] = []
        stack: list[tuple[int, int, State, int, Iterator[Candidate], set[int]]] = []
        found: tuple[int, int, State] | None = self.advance(0, 0, self.model.initial, order)
        wrote = False
        look = LATE_EVERY
        while True:
            if found is not None:
                place, mask, state = found
                self.note(place, state, order)
                if place == goal:
                    return "true"
                candidates = self.get_candidates(place, wrote)
                stack.append((place, mask, state, len(order), candidates, set()))
                found = None
            if not stack:
                return "false"
            place, mask, state, length, candidates, tried = stack[-1]
            del order[length:]
            for bit, name, argument, result, number, twin in candidates:
                if mask & bit or (twin >= 0 and twin in tried):
                    continue
                self.steps += 1
                after, answer = apply(state, name, argument)
                if twin >= 0:
                    tried.add(twin)
                if (after == state) if number < 0 else (answer != result):
                    continue
                order.append(number)
                found = self.advance(place, mask | bit, after, order)
                if self.is_new(*found):
                    # Reads that it explains stand behind it in the order.
                    unread = number < 0 and order[-1] == number
                    wrote = unread and self.model.is_write(name)
                    break
                del order[length:]
                found = None
            else:
                stack.pop()
            if self.steps >= max_steps:
                return "unknown"
            if is_late is not None and self.steps >= look:
                look = self.steps + LATE_EVERY
                if is_late():
                    return "unknown"

    def get_candidates(self, place: int, wrote: bool) -> Iterator[Candidate]:
        """Return what may take effect next; `wrote`: a write did that must be read first."""
        lost = islice(self.unanswered, self.begun[place])
        found = chain(self.writers[place], lost, self.free)
        if wrote:
            is_write = self.model.is_write
            return iter([candidate for candidate in found if not is_write(candidate[1])])
        return found

    def is_new(self, place: int, mask: int, state: State) -> bool:
        """Whether a configuration gives hope that those seen do not give."""
        lost = mask >> self.width
        key = (place, mask ^ (lost << self.width), state)
        before = self.seen.get(key)
        if before is None:
            self.seen[key] = [lost]
            return True
        for used in before:
            if used & lost == used:
                return False
        before.append(lost)
        return True

    def advance(
        self, place: int, mask: int, state: State, order: list[int]
    ) -> tuple[int, int, State]:
        """Let everything read that can, and pass the answers of what has taken effect."""
        apply, bits = self.model.apply, self.bits
        readers = self.readers
        while place < len(bits):
            for bit, name, argument, result, number, _ in readers[place]:
                if not mask & bit:
                    self.steps += 1
                    if apply(state, name, argument)[1] == result:
                        mask |= bit
                        order.append(number)
            if not mask & bits[place]:
                break
            mask ^= bits[place]
            place += 1
            readers = self.fresh
        return place, mask, state

    def note(self, place: int, state: State, order: list[int]) -> None:
        """Remember how far the search came."""
        if place > self.reached:
            self.reached = place
            self.best = [number if number >= 0 else ~number for number in order]
            self.best = [number for number in self.best if number < len(self.numbered)]
            self.states = []
        if place == self.reached and len(self.states) < MAX_STATES and state not in self.states:
            self.states.append(state)


def get_end(operation: Operation) -> int:
    """Return the place of an answer that is there."""
    assert operation.end is not None
    return operation.end


def count_twins(operations: list[Operation]) -> dict[tuple[str, Value, Value, bool], int]:
    """Number the kinds of operation that come more than once."""
    counts: dict[tuple[str, Value, Value, bool], int] = {}
    for o in operations:
        kind = (o.name, o.argument, o.result, o.end is not None)
        counts[kind] = counts.get(kind, 0) + 1
    return {kind: i for i, (kind, count) in enumerate(counts.items()) if count > 1}


def find_failing(
    operations: Sequence[Operation], model: Model, search: Search
) -> tuple[Operation, Search]:
    """Return the first answer that no order explains, and the search that explains all before it.

    Where a model looks at later answers, the search itself fails before it meets the contradiction.
    """
    answers, before = search.answers, Search((), model)
    low, high = 0, len(answers) - 1
    """All before `low` can be explained; up to `high` they cannot."""
    while low < high:
        middle = (low + high) // 2
        some = Search(operations, model, until=get_end(answers[middle]))
        if some.run(MAX_STEPS) == "false":
            high = middle
        else:
            low, before = middle + 1, some
    if not before.states:
        before.run(MAX_STEPS)
    return answers[high], before


def find_window(
    operations: Sequence[Operation], model: Model, failing: Operation
) -> tuple[list[Operation], bool]:
    """Return operations that explain why an answer fits no order, and whether they are the fewest.

    The fewest contradict each other whatever all others did, and none of them can be left out.
    """
    until = get_end(failing)
    scope = [o for o in operations if o.start < until and o.outcome != "fail"]
    questions = steps = 0

    def contradict(some: list[Operation]) -> bool:
        nonlocal questions, steps
        search = Search(some, model, list_free(scope, model, some), until)
        verdict = search.run(MAX_QUESTION_STEPS)
        questions, steps = questions + 1, steps + search.steps
        return verdict == "false"

    window: list[Operation] = []
    for count in (8, 32, 128):
        window = list_related(scope, model, failing, count)
        if contradict(window):
            break
        if len(window) == len(scope):
            return window, False
    else:
        return list_related(scope, model, failing, MAX_RELATED), False
    is_minimal = True
    for operation in window:
        if operation is failing:
            continue
        if questions >= MAX_QUESTIONS or steps >= MAX_WINDOW_STEPS:
            is_minimal = False
            break
        fewer = [o for o in window if o is not operation]
        if contradict(fewer):
            window = fewer
    return window, is_minimal


def list_free(scope: list[Operation], model: Model, strict: list[Operation]) -> Iterator[Operation]:
    """Yield the operations beside some that may have mattered to them.

    Of writes of values that none of those mentions, one stands for all.
    """
    ids = {o.id for o in strict}
    mentioned: set[Value] = set()
    for o in strict:
        for value in (o.argument, o.result):
            mentioned.add(value)
            mentioned.update(value if isinstance(value, tuple) else ())
    has_other = False
    for o in scope:
        if o.id in ids:
            continue
        if model.is_write(o.name) and o.argument not in mentioned:
            if has_other:
                continue
            has_other = True
        yield o


def list_related(
    scope: list[Operation], model: Model, failing: Operation, count: int
) -> list[Operation]:
    """Return what an answer most likely contradicts, in the order of its beginning.

    That is what shares a value with it, what was under way then, and what was done just before.
    """
    values = {v for v in (failing.argument, failing.result) if v is not None}
    earlier = [o for o in scope if o.end is not None and o.end < failing.start]
    earlier.sort(key=get_end)
    alike = [o for o in earlier if o.argument in values or o.result in values]
    beside = [o for o in scope if o.end is None or o.end > failing.start]
    done = [o for o in earlier if not model.is_read(o.name, model.normalize(o.name, o.result))]
    some = [*alike[-MAX_RELATED:], *beside[-MAX_RELATED:], *done[-count:], failing]
    return sorted({o.id: o for o in some}.values(), key=lambda o: o.start)
