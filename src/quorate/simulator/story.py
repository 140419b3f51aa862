"""What happened in a run, in the sentences that matter: faults, rounds, decisions, the finding.

Both are pure functions of a trace: `compute_spans` joins what began with what ended it, and
`tell_story` chooses the events that somebody would tell who had watched.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

from msgspec import Struct

from quorate.simulator.contents import shorten_hashes
from quorate.simulator.trace import Event

__all__ = ["Line", "Span", "compute_spans", "shorten_names", "tell_story"]

Link = tuple[int, int]
"""From, to."""

Lasting = Literal["down", "pause", "slow", "script"]
"""What a machine can be for a while, and a script that says who hears what."""

Tone = Literal["fault", "mend", "round", "final", "lie", "note", "finding"]

MAX_LINES = 20_000
"""Of one story; the last ones say most, so the first are left out."""

CHATTER = frozenset({"Hello", "Tip"})
"""Messages beside the protocol, of which no lies are told."""
MERGED_FROM = 2
"""Heights, or links of a swizzle, in a row that are told one by one."""
SWIZZLES = {
    "swizzle cut": "swizzle: {} links are cut one by one",
    "swizzle mend": "swizzle: {} links are mended one by one",
}

SUSPICIONS = frozenset({"suspects", "trusts"})
"""What failure detectors note."""
TWIN = "twin of "
"""What the text of a join begins with, before the name of the other one."""
MAX_SHORT = 10
"""Characters of a short name."""
NUMBERED = re.compile(r"^([^\W\d][^\d]*)(\d+)((?:-\w+)?)$")

WORTH_TELLING = frozenset(
    {"catching up", "caught up", "sync failed", "payload refused", "peer refused"}
)
"""Notes of nodes that belong to a story."""


class Span(Struct, frozen=True, kw_only=True):
    """Something that lasted."""

    kind: Literal["down", "refused", "pause", "slow", "script", "cut"]
    label: str
    machine: int = -1
    cut_off: list[int] = []
    """Of cuts: the machines on the smaller side."""
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

    def __init__(self, names: Sequence[str]) -> None:
        self.short = shorten_names(names)
        self.machines: dict[tuple[Lasting, int], Event] = {}
        self.cuts: dict[int, list[Link]] = {}
        """By the event that led to the cuts."""
        self.left: dict[int, int] = {}
        """How many links of those are still cut."""
        self.parents: dict[int, int] = {}
        """The leading event of each cut."""
        self.strangers: set[Link] = set()
        """Pairs of machines that never have a link: twins."""
        self.spans: list[Span] = []

    def end(self, kind: Lasting, machine: int, event: int) -> None:
        began = self.machines.pop((kind, machine), None)
        if began is not None:
            label = kind if kind in ("down", "pause") else f"{began.name}, {began.text}"
            span = Span(kind=kind, label=label, machine=machine, begin=began.number, end=event)
            self.spans.append(span)

    def end_cut(self, parent: int, event: int) -> None:
        label, cut_off = describe_cut(self.cuts.pop(parent), self.short, self.strangers)
        span = Span(kind="cut", label=label, cut_off=cut_off, begin=parent, end=event)
        self.spans.append(span)


def compute_spans(events: Sequence[Event], names: Sequence[str]) -> list[Span]:
    """Return what lasted, in order of beginning."""
    opened = Opened(names)
    for event in events:
        if event.kind == "join":
            twin = event.text.removeprefix(TWIN)
            if twin != event.text and twin in names:
                other = names.index(twin)
                opened.strangers |= {(event.machine, other), (other, event.machine)}
        elif event.kind == "fault":
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
            read_cut(opened, event)
        elif event.kind == "mended" and event.begin in opened.parents:
            parent = opened.parents.pop(event.begin)
            opened.left[parent] -= 1
            if not opened.left[parent]:
                opened.end_cut(parent, event.number)
    for kind, machine in list(opened.machines):
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
    elif event.name == "round script":
        opened.machines["script", -1] = event
    elif event.name == "round script ends":
        opened.end("script", -1, event.number)
    elif event.name == "heal":
        for kind, paused in list(opened.machines):
            if kind != "down":
                opened.end(kind, paused, event.number)


def read_cut(opened: Opened, event: Event) -> None:
    # Cuts without a cause are each a group of their own.
    parent = event.cause if event.cause >= 0 else event.number
    opened.cuts.setdefault(parent, []).append((event.source, event.other))
    opened.left[parent] = opened.left.get(parent, 0) + 1
    opened.parents[event.number] = parent


def describe_cut(
    links: list[Link], short: Sequence[str], strangers: set[Link]
) -> tuple[str, list[int]]:
    """Return who is cut off from whom, and the machines on the smaller side."""
    cut = set(links)
    if any((there, here) not in cut for here, there in links):
        sources, targets = ({link[end] for link in links} for end in (0, 1))
        label = f"{join_names(sources, short)} \u21f8 {join_names(targets, short)}"
        if len(links) == 1:
            # Whoever lacks one link is not cut off.
            return label, []
        return label, sorted(sources if len(sources) <= len(targets) else targets)
    groups = compute_groups(len(short), cut | strangers)
    if len(groups) == 1:
        pairs = {(min(link), max(link)) for link in links}
        return ", ".join(f"{short[a]} \u21ce {short[b]}" for a, b in sorted(pairs)), []
    groups.sort(key=lambda group: (len(group), group))
    label = " | ".join(join_names(group, short) for group in groups)
    return label, sorted(m for group in groups[:-1] for m in group)


def compute_groups(count: int, cut: set[Link]) -> list[list[int]]:
    """Return the groups of machines that still reach each other."""
    left = list(range(count))
    groups = []
    while left:
        group = [left.pop(0)]
        for machine in group:
            reached = [other for other in left if (machine, other) not in cut]
            group += reached
            left = [other for other in left if other not in reached]
        groups.append(sorted(group))
    return groups


def join_names(machines: Iterable[int], short: Sequence[str]) -> str:
    return " ".join(short[m] for m in sorted(machines))


def shorten_names(names: Sequence[str]) -> list[str]:
    """Return names of a few letters: `v0` where all are of the form `validator-0`."""
    parts = [NUMBERED.match(name) for name in names]
    short = [part[1][0] + part[2] + part[3][:2] if part else "" for part in parts]
    if all(short) and len(set(short)) == len(short):
        return short
    return [name if len(name) <= MAX_SHORT else f"{name[: MAX_SHORT - 1]}\u2026" for name in names]


# ---- story


class Teller:
    """What has been told, while a trace is read."""

    def __init__(self, names: Sequence[str], cut: dict[int, str], mended: dict[int, str]) -> None:
        self.names = names
        self.cut, self.mended = cut, mended
        """What the cuts and mends of each fault came to."""
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
        elif event.kind == "join":
            self.tell(event, "note", f"{who} is there, {event.text}")
        elif event.kind == "start" and event.begin >= 0:
            reads = event.text.partition(":")[0]
            self.tell(event, "mend", f"{who} starts again ({event.name}), {reads}")
        elif event.kind == "fail":
            self.tell(event, "fault", f"{who} {event.name}: {event.text}")
        elif event.kind == "accuse":
            self.tell(event, "note", f"{who} accuses {event.name}")
        elif event.kind == "note" and event.name in SUSPICIONS:
            self.tell(event, "note", f"{who} {event.text}")
        elif event.kind == "note" and event.name in WORTH_TELLING:
            self.tell(event, "note", f"{who}: {event.name}, {event.text}".rstrip(", "))
        elif event.kind == "finding":
            self.tell(event, "finding", f"{event.name}: {shorten_hashes(event.text)}")

    def read_fault(self, event: Event, who: str) -> None:
        text = f", {event.text}" if event.text else ""
        mends = event.begin >= 0 or event.name in ("mend", "heal", "swizzle mend")
        if event.name == "slow" and event.text == "factor 1":
            mends = True
        links = self.cut.get(event.number) or self.mended.get(event.number)
        if event.name == "heal":
            self.tell(event, "mend", "all faults end")
        elif links is not None:
            self.tell(event, "mend" if mends else "fault", f"{event.name}: {links}")
        elif event.name != "restart":
            # Of a restart the process itself tells.
            if event.source >= 0:
                who = f"{self.get_name(event.source)} to {self.get_name(event.other)}"
            self.tell(event, "mend" if mends else "fault", f"{who}: {event.name}{text}")

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
        if key in self.lies or event.name in CHATTER:
            return
        self.lies.add(key)
        place = f" {event.height}/{event.round}" if event.round >= 0 else ""
        verb = "withholds" if event.kind == "withheld" else "lies:"
        to = f" from {self.get_name(event.other)}" if event.kind == "withheld" else ""
        self.tell(event, "lie", f"{who} {verb} {event.name}{place}{to} {event.text}".rstrip())


def tell_story(events: Sequence[Event], names: Sequence[str], spans: Sequence[Span]) -> list[Line]:
    """Return the sentences of a trace, in order. `spans` are what lasted in it."""
    cuts = [span for span in spans if span.kind == "cut"]
    mended: dict[int, list[str]] = {}
    for span in cuts:
        if span.end >= 0:
            mended.setdefault(events[span.end].cause, []).append(span.label)
    teller = Teller(
        names,
        {span.begin: span.label for span in cuts},
        {number: ", ".join(labels) for number, labels in mended.items()},
    )
    for event in events:
        teller.read(event)
    return merge_lines(teller.lines, events)[-MAX_LINES:]


def merge_lines(lines: Sequence[Line], events: Sequence[Event]) -> list[Line]:
    """Return the lines with what happened again and again, and nothing else between, in one."""

    def get_key(line: Line) -> tuple[str, str]:
        name = events[line.event].name
        return line.tone, name if name in SWIZZLES else ""

    merged: list[Line] = []
    for (tone, name), group in groupby(lines, key=get_key):
        run = list(group)
        if len(run) > MERGED_FROM and tone == "final":
            heights = [events[line.event].height for line in run]
            text = f"heights {min(heights)} to {max(heights)} become final"
            merged.append(Line(run[-1].event, "final", text))
        elif len(run) > MERGED_FROM and name:
            merged.append(Line(run[-1].event, run[0].tone, SWIZZLES[name].format(len(run))))
        else:
            merged += run
    return merged
