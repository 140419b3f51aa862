"""A trace as text, for terminals and for golden files."""

from collections.abc import Iterable, Sequence

from quorate.base.types import Nanoseconds
from quorate.simulator.trace import Event

__all__ = ["QUIET", "format_event", "format_time", "render_text"]

QUIET = frozenset({"arm", "work", "persist", "state", "connected", "disconnected", "note"})
"""Kinds that are left out unless all are asked for: they explain a node, not a protocol."""

MARKS = {
    "send": "->",
    "double": "=>",
    "lost": "-x",
    "missed": "-x",
    "withheld": "-/",
    "receive": "<-",
    "cut": "-|-",
    "mended": "---",
}


def render_text(
    events: Sequence[Event],
    names: Sequence[str] = (),
    *,
    all_kinds: bool = False,
    machines: Iterable[int] = (),
    heights: Iterable[int] = (),
    limit: int | None = None,
) -> str:
    """Return a trace as lines: number, time, machine, what happened, `(n)` its cause.

    A receive shows its sending, so a sending whose receive follows is told only once. `machines`
    and `heights` choose events, empty ones choose all; with `limit` only so many of the last lines
    are shown, and how many were left out.
    """
    shown_machines, shown_heights = frozenset(machines), frozenset(heights)
    arrived = frozenset() if all_kinds else frozenset(e.cause for e in events if is_arrival(e))
    lines = []
    for event in events:
        if not all_kinds and (event.kind in QUIET or event.number in arrived):
            continue
        ends = (event.machine, event.other, event.source)
        if shown_machines and not shown_machines.intersection(ends):
            continue
        if shown_heights and event.height not in shown_heights:
            continue
        lines.append(format_event(event, names))
    if limit is not None and len(lines) > limit:
        left = len(lines) - limit
        lines = [f"... {left} lines before", *lines[left:]]
    return "\n".join(lines) + "\n" if lines else ""


def is_arrival(event: Event) -> bool:
    return event.kind in ("receive", "missed")


def format_event(event: Event, names: Sequence[str] = ()) -> str:
    """Return an event as one line."""
    mark = MARKS.get(event.kind)
    where = get_name(event.machine if event.source < 0 else event.source, names)
    if mark is not None:
        where = f"{where} {mark} {get_name(event.other, names)}"
    words = [] if mark is not None else [event.kind]
    if event.false:
        words.append("FALSE")
    words.append(event.name)
    if event.height >= 0 and event.kind != "final":
        words.append(str(event.height) if event.round < 0 else f"{event.height}/{event.round}")
    words.append(event.text)
    cause = f" ({event.cause})" if event.cause >= 0 else ""
    told = " ".join(word for word in words if word)
    return f"{event.number:>6} {format_time(event.time_ns):>13}  {where:<12} {told}{cause}".rstrip()


def get_name(machine: int, names: Sequence[str]) -> str:
    if machine < 0:
        return "*"
    return names[machine] if machine < len(names) else str(machine)


def format_time(time_ns: Nanoseconds) -> str:
    """Return a virtual time in milliseconds, exact to the microsecond."""
    return f"{time_ns // 1_000_000}.{time_ns // 1000 % 1000:03d}"
