"""What happened in a run, in the sentences that matter: faults, rounds, decisions, the finding.

Both are pure functions of a trace: `compute_spans` joins what began with what ended it, and
`tell_story` chooses the events that somebody would tell who had watched.
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from quorate.simulator.trace import Event

__all__ = ["Line", "Span", "compute_spans", "tell_story"]

Tone = Literal["fault", "mend", "round", "final", "lie", "note", "finding"]

MAX_LINES = 20_000
"""Of one story; the last ones say most, so the first are left out."""

WORTH_TELLING = frozenset(
    {"catching up", "caught up", "sync failed", "payload refused", "peer refused"}
)
"""Notes of nodes that belong to a story."""


class Span(Struct, frozen=True, kw_only=True):
    """Something that lasted."""

    kind: Literal["down", "refused", "pause", "slow", "cut"]
    label: str
    machine: int = -1
    links: list[tuple[int, int]] = []
    """Of cuts: from, to."""
    begin: int
    """The event that began it."""
    end: int = -1
    """The event that ended it; -1: the run ended before."""


class Line(Struct, frozen=True):
    """One sentence of a story."""

    event: int
    tone: Tone
    text: str
    machine: int = -1


# ---- spans


class Opened:
    """Spans that have not ended, while a trace is read."""

    def __init__(self) -> None:
        self.machines: dict[tuple[str, int], Event] = {}
        self.cuts: dict[int, tuple[str, list[tuple[int, int]]]] = {}
        """By the event that led to the cuts: its name, and the links."""
        self.left: dict[int, int] = {}
        """How many links of those are still cut."""
        self.parents: dict[int, int] = {}
        """The leading event of each cut."""
        self.spans: list[Span] = []

    def end(self, kind: Literal["down", "pause", "slow"], machine: int, event: int) -> None:
        began = self.machines.pop((kind, machine), None)
        if began is not None:
            label = kind if kind != "slow" else f"slow, {began.text}"
            span = Span(kind=kind, label=label, machine=machine, begin=began.number, end=event)
            self.spans.append(span)

    def end_cut(self, parent: int, event: int) -> None:
        label, links = self.cuts.pop(parent)
        self.spans.append(Span(kind="cut", label=label, links=links, begin=parent, end=event))


def compute_spans(events: Sequence[Event]) -> list[Span]:
    """Return what lasted, in order of beginning."""
    opened = Opened()
    for event in events:
        if event.kind == "fault":
            read_fault(opened, event)
        elif event.kind == "down":
            opened.end("pause", event.machine, event.number)
            opened.machines["down", event.machine] = event
        elif event.kind == "start":
            opened.end("down", event.machine, event.number)
        elif event.kind == "fail" and event.name.startswith("refuses"):
            opened.end("down", event.machine, event.number)
            label = f"does not start: {event.text}"
            span = Span(kind="refused", label=label, machine=event.machine, begin=event.number)
            opened.spans.append(span)
        elif event.kind == "cut":
            read_cut(opened, event, events)
        elif event.kind == "mended" and event.begin in opened.parents:
            parent = opened.parents.pop(event.begin)
            opened.left[parent] -= 1
            if not opened.left[parent]:
                opened.end_cut(parent, event.number)
    for kind, machine in list(opened.machines):
        if kind == "down" or kind == "pause" or kind == "slow":
            opened.end(kind, machine, -1)
    for parent in list(opened.cuts):
        opened.end_cut(parent, -1)
    return sorted(opened.spans, key=lambda span: span.begin)


def read_fault(opened: Opened, event: Event) -> None:
    machine = event.machine
    if event.name == "pause":
        opened.machines["pause", machine] = event
    elif event.name == "resume":
        opened.end("pause", machine, event.number)
    elif event.name == "slow":
        opened.end("slow", machine, event.number)
        if event.text != "factor 1":
            opened.machines["slow", machine] = event
    elif event.name == "heal":
        for kind, paused in list(opened.machines):
            if kind == "pause" or kind == "slow":
                opened.end(kind, paused, event.number)


def read_cut(opened: Opened, event: Event, events: Sequence[Event]) -> None:
    # Cuts without a cause are each a group of their own.
    parent = event.cause if event.cause >= 0 else event.number
    label = events[parent].name if events[parent].kind == "fault" else "cut"
    opened.cuts.setdefault(parent, (label, []))[1].append((event.source, event.other))
    opened.left[parent] = opened.left.get(parent, 0) + 1
    opened.parents[event.number] = parent


# ---- story


class Teller:
    """What has been told, while a trace is read."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.lines: list[Line] = []
        self.rounds: set[tuple[int, int]] = set()
        self.finals: dict[int, str] = {}
        self.lies: set[tuple[int, str, int, int]] = set()

    def get_name(self, machine: int) -> str:
        if machine < 0:
            return "the network"
        return self.names[machine] if machine < len(self.names) else f"machine {machine}"

    def tell(self, event: Event, tone: Tone, text: str) -> None:
        self.lines.append(Line(event.number, tone, text, event.machine))

    def read(self, event: Event) -> None:
        who = self.get_name(event.machine)
        if event.false and event.kind != "receive":
            self.read_lie(event, who)
        elif event.kind == "fault":
            self.read_fault(event, who)
        elif event.kind == "state" and event.round > 0:
            self.read_round(event, who)
        elif event.kind == "final":
            self.read_final(event, who)
        elif event.kind == "start" and event.begin >= 0:
            self.tell(event, "mend", f"{who} starts again ({event.name}), {event.text}")
        elif event.kind == "fail":
            self.tell(event, "fault", f"{who} {event.name}: {event.text}")
        elif event.kind == "accuse":
            self.tell(event, "note", f"{who} {event.name}")
        elif event.kind == "note" and event.name in WORTH_TELLING:
            self.tell(event, "note", f"{who}: {event.name} {event.text}")
        elif event.kind == "finding":
            self.tell(event, "finding", f"{event.name}: {event.text}")

    def read_fault(self, event: Event, who: str) -> None:
        text = f", {event.text}" if event.text else ""
        mends = event.begin >= 0 or event.name in ("mend", "heal", "swizzle mend")
        if event.name == "slow" and event.text == "factor 1":
            mends = True
        if event.name == "heal":
            self.tell(event, "mend", "all faults end")
            return
        if event.name == "restart":
            # The process itself tells that it starts.
            return
        target = f" with {self.get_name(event.other)}" if event.other >= 0 else ""
        tone: Tone = "mend" if mends else "fault"
        self.tell(event, tone, f"{who}: {event.name}{target}{text}")

    def read_round(self, event: Event, who: str) -> None:
        place = event.height, event.round
        if place not in self.rounds:
            self.rounds.add(place)
            leader = f", {event.text}" if event.text else ""
            words = f"height {event.height} goes to round {event.round} ({who} first{leader})"
            self.tell(event, "round", words)

    def read_final(self, event: Event, who: str) -> None:
        known, block = self.finals.get(event.height), event.text[:10]
        if known is None:
            self.finals[event.height] = event.text
            self.tell(event, "final", f"height {event.height} is final: {block} ({who} first)")
        elif known != event.text:
            words = f"{who} makes another block final at height {event.height}: {block}"
            self.tell(event, "finding", f"{words}, others have {known[:10]}")

    def read_lie(self, event: Event, who: str) -> None:
        key = event.machine, event.name, event.height, event.round
        if key in self.lies:
            return
        self.lies.add(key)
        place = f" {event.height}/{event.round}" if event.round >= 0 else ""
        verb = "withholds" if event.kind == "withheld" else "lies:"
        to = f" from {self.get_name(event.other)}" if event.kind == "withheld" else ""
        self.tell(event, "lie", f"{who} {verb} {event.name}{place}{to} {event.text}".rstrip())


def tell_story(events: Sequence[Event], names: Sequence[str]) -> list[Line]:
    """Return the sentences of a trace, in order."""
    teller = Teller(names)
    for event in events:
        teller.read(event)
    return teller.lines[-MAX_LINES:]
