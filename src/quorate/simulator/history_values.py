"""Events and operations of a history, as values; `history` says what they mean."""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from quorate.base.types import Nanoseconds

__all__ = ["Event", "Operation", "Outcome", "Value", "format_value"]

Value: TypeAlias = Any
"""None, a boolean, an integer, a string, or a tuple of values: what can be compared and hashed."""
Kind: TypeAlias = Literal["invoke", "ok", "fail", "info"]
Outcome: TypeAlias = Literal["ok", "fail", "info"]
Name = Annotated[str, Meta(max_length=1024)]


class Event(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of a history. What an `invoke` said need not be repeated when the operation ends."""

    kind: Kind
    time_ns: Annotated[Nanoseconds, Meta(ge=0, le=2**62)]
    id: Name
    client: Name = ""
    key: Name = ""
    operation: Name = ""
    argument: Value = None
    result: Value = None


class Operation(Struct, frozen=True, kw_only=True):
    """One operation, from its first `invoke` to what settled it."""

    id: str
    client: str
    key: str
    name: str
    argument: Value
    result: Value = None
    outcome: Outcome = "info"
    start: int
    """The place of the first `invoke` in the history."""
    end: int | None = None
    """The place of the answer; None: it stays concurrent for ever."""
    start_ns: Nanoseconds
    end_ns: Nanoseconds | None = None
    attempts: int = 1

    def describe(self) -> str:
        """Return what was asked, by whom, when, and what came back, for people."""
        argument = "" if self.argument is None else format_value(self.argument)
        text = f"{self.name}({argument})"
        if self.outcome == "ok" and self.result is not None:
            text += f" = {format_value(self.result)}"
        begin = format_time(self.start_ns)
        if self.end_ns is None or self.outcome == "info":
            when = f"from {begin}, outcome not known"
        else:
            when = f"{begin} to {format_time(self.end_ns)}"
            if self.outcome == "fail":
                when += ", refused"
        retried = f", {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{text} by {self.client or 'a client'} ({when}{retried})"


_ENCODER = msgspec.json.Encoder()


def format_value(value: Value) -> str:
    """Return a value as people write it, cut if it is long."""
    text = _ENCODER.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:48]}... ({len(text)} characters)"


def format_time(time_ns: Nanoseconds) -> str:
    """Return a time in milliseconds, exact to the microsecond."""
    return f"{time_ns // 1_000_000}.{time_ns // 1_000 % 1_000:03d} ms"
