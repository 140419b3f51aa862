"""What clients asked and what they were told: the only evidence that matters to them.

A history is a list of events in the order in which one observer saw them. `invoke` begins an
operation, or sends it again under the same id (a retry). `ok` and `fail` end it: it happened, with
this result, or it did not happen and never will. `info` says that the client does not know: the
request, the answer, or nothing at all may have been lost. An operation that ends with `info`, or
never ends, stays concurrent with everything that comes after it; a late answer may still settle it.

Source: the four outcomes of a request as in Jepsen's histories; Herlihy and Wing, "Linearizability:
a correctness condition for concurrent objects", TOPLAS 1990, section 2, for histories as such.

As text a history is JSON lines, one event a line, so histories recorded elsewhere can be judged:

    {"kind":"invoke","time_ns":5,"id":"7","client":"a","key":"x","operation":"write","argument":1}
    {"kind":"ok","time_ns":9,"id":"7","result":null}

The order of the lines is the order of events; times may be equal and must not go back. Values are
null, booleans, integers, strings, and lists of them.
"""

from collections.abc import Iterable, Iterator

import msgspec

from quorate.base.errors import Invalid
from quorate.base.types import Nanoseconds
from quorate.simulator.history_values import Event, Operation, Outcome, Value, format_value

__all__ = [
    "Event",
    "History",
    "Operation",
    "Value",
    "decode_events",
    "encode_events",
    "format_value",
    "merge_events",
    "read_history",
]

MAX_EVENTS = 2_000_000
"""In one history."""
MAX_LINE_BYTES = 1 << 20
MAX_DEPTH = 8
"""Of lists in lists."""


class Operating:
    """An operation while its history is read."""

    __slots__ = ("attempts", "first", "outcome", "place", "start")

    def __init__(self, first: Event, start: int, place: int) -> None:
        self.first, self.start = first, start
        self.place = place
        """Among all operations."""
        self.attempts = 1
        self.outcome: Outcome = "info"

    def describe(self, last: Event | None = None, end: int | None = None) -> Operation:
        """Return the operation as what is known of it, settled by an event or not."""
        first = self.first
        return Operation(
            id=first.id,
            client=first.client,
            key=first.key,
            name=first.operation,
            argument=first.argument,
            result=None if last is None else last.result,
            outcome=self.outcome,
            start=self.start,
            end=end,
            start_ns=first.time_ns,
            end_ns=None if last is None else last.time_ns,
            attempts=self.attempts,
        )


class History:
    """Events of clients, checked as they come."""

    __slots__ = ("events", "known", "operations", "time_ns")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.known: dict[str, Operating] = {}
        """By id, settled ones too."""
        self.operations: list[Operation | Operating] = []
        """In the order of their first `invoke`. What is settled never changes again, so it is
        described then, once for all futures of a run.
        """
        self.time_ns: Nanoseconds = 0

    def add(self, event: Event) -> None:
        """Take up the next event. Raises Invalid, and is then unchanged."""
        if len(self.events) >= MAX_EVENTS:
            raise Invalid(f"more than {MAX_EVENTS} events")
        if event.time_ns < self.time_ns:
            raise Invalid(f"time {event.time_ns} ns, expected at least {self.time_ns}")
        found = self.known.get(event.id)
        if event.kind == "invoke":
            self.begin(event, found)
        else:
            self.settle(event, found)
        self.time_ns = event.time_ns
        self.events.append(event)

    def begin(self, event: Event, found: Operating | None) -> None:
        if found is None:
            if not event.operation:
                raise Invalid(f"operation {event.id!r} has no name")
            found = Operating(event, len(self.events), len(self.operations))
            self.known[event.id] = found
            self.operations.append(found)
            return
        if found.outcome in ("ok", "fail"):
            raise Invalid(f"operation {event.id!r} is sent again after its answer")
        require_same(found.first, event)
        found.attempts += 1

    def settle(self, event: Event, found: Operating | None) -> None:
        if found is None:
            raise Invalid(f"{event.kind} of operation {event.id!r}, which was never invoked")
        if found.outcome in ("ok", "fail"):
            raise Invalid(f"{event.kind} of operation {event.id!r} after its answer")
        require_same(found.first, event)
        if event.kind == "ok" or event.kind == "fail":
            found.outcome = event.kind
            self.operations[found.place] = found.describe(event, len(self.events))

    # ---- recording

    def invoke(
        self,
        time_ns: Nanoseconds,
        id: str,
        *,
        client: str,
        key: str,
        operation: str,
        argument: Value = None,
    ) -> None:
        """A client sends an operation, for the first time or again."""
        self.add(Event("invoke", time_ns, id, client, key, operation, argument))

    def ok(self, time_ns: Nanoseconds, id: str, result: Value = None) -> None:
        """A client learns that the operation happened."""
        self.add(Event("ok", time_ns, id, result=result))

    def fail(self, time_ns: Nanoseconds, id: str, result: Value = None) -> None:
        """A client learns that the operation did not happen and never will."""
        self.add(Event("fail", time_ns, id, result=result))

    def info(self, time_ns: Nanoseconds, id: str) -> None:
        """A client gives up waiting for an answer."""
        self.add(Event("info", time_ns, id))

    # ---- reading

    def get_operations(self) -> list[Operation]:
        """Return the operations in the order of their first `invoke`."""
        return [
            found if isinstance(found, Operation) else found.describe() for found in self.operations
        ]


def require_same(first: Event, event: Event) -> None:
    """Raise Invalid if an event says something else of its operation than the first one did."""
    for field in ("client", "key", "operation", "argument"):
        found, expected = getattr(event, field), getattr(first, field)
        unsaid = event.kind != "invoke" and found in ("", None)
        if found != expected and not unsaid:
            raise Invalid(
                f"operation {event.id!r}: {field} {found!r}, expected {expected!r} as before"
            )


# ---- text

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Event)


def encode_events(events: Iterable[Event]) -> Iterator[bytes]:
    """Yield each event as a line of JSON, with its line feed."""
    for event in events:
        yield _ENCODER.encode(event) + b"\n"


def decode_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events of JSON lines; empty lines are skipped. Raises Invalid, naming the line."""
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_BYTES:
            raise Invalid(f"line {number}: {len(line)} bytes, expected at most {MAX_LINE_BYTES}")
        if not line.strip():
            continue
        try:
            event = _DECODER.decode(line)
            argument = freeze(event.argument, MAX_DEPTH)
            result = freeze(event.result, MAX_DEPTH)
        except (msgspec.MsgspecError, Invalid) as error:
            raise Invalid(f"line {number}: {error}") from None
        yield msgspec.structs.replace(event, argument=argument, result=result)


def read_history(lines: Iterable[bytes]) -> History:
    """Return the history of JSON lines. Raises Invalid, naming the event by its place."""
    history = History()
    for number, event in enumerate(decode_events(lines), 1):
        try:
            history.add(event)
        except Invalid as error:
            raise Invalid(f"event {number}: {error}") from None
    return history


def merge_events(histories: Iterable[Iterable[Event]]) -> list[Event]:
    """Return the events of several observers, whose clocks agree, as one history.

    At equal times what begins comes before what ends: nothing then counts as earlier that may not
    have been.
    """
    merged = [event for history in histories for event in history]
    merged.sort(key=lambda event: (event.time_ns, event.kind != "invoke"))
    return merged


def freeze(value: Value, depth: int) -> Value:
    """Return a value of JSON as one that can be hashed. Raises Invalid."""
    if isinstance(value, list):
        if not depth:
            raise Invalid(f"lists in lists deeper than {MAX_DEPTH}")
        return tuple([freeze(item, depth - 1) for item in value])
    if value is None or isinstance(value, bool | int | str):
        return value
    raise Invalid(
        f"value of type {type(value).__name__}, expected null, boolean, integer, string or list"
    )
