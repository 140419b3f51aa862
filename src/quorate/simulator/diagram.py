"""The space-time diagram of a run as one page that needs nothing else.

Lamport, "Time, clocks, and the ordering of events in a distributed system", CACM 21(7), 1978, has
the picture: a line for each machine, a point for each event, an arrow for each message. The page
holds every event of the trace, so what happened before what is computed over all of them.

What messages hold is not trusted: the data is JSON with every `<` escaped, the page writes it as
text only, and its policy lets no script run but its own.
"""

import base64
import hashlib
from collections.abc import Collection, Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from quorate.simulator.contents import shorten_hashes
from quorate.simulator.history import Operation
from quorate.simulator.plan import Plan
from quorate.simulator.story import compute_spans, shorten_names, tell_story
from quorate.simulator.trace import KINDS, Event
from quorate.simulator.verdict import Outcome

__all__ = ["make_diagram", "write_diagram"]

SCRIPTS = (
    "model.js",
    "scene.js",
    "points.js",
    "history.js",
    "panels.js",
    "view.js",
    "input.js",
    "main.js",
)
"""In the order in which they need each other."""


def write_diagram(
    path: Path,
    events: Sequence[Event],
    plan: Plan,
    outcome: Outcome,
    operations: Iterable[Operation] = (),
    suspects: Collection[str] = (),
) -> None:
    """Write the page of a traced run, as `make_diagram` makes it."""
    page = make_diagram(events, plan, outcome, operations, suspects)
    path.write_text(page, encoding="utf-8")


def make_diagram(
    events: Sequence[Event],
    plan: Plan,
    outcome: Outcome,
    operations: Iterable[Operation] = (),
    suspects: Collection[str] = (),
) -> str:
    """Return the page of a traced run as HTML.

    `operations` are what clients saw, `suspects` the ids of those that together violate a property:
    the window of a `linearizability.Judgement`. Those that a finding names are suspects anyway.
    """
    page = files("quorate.simulator") / "page"
    style = (page / "page.css").read_text(encoding="utf-8")
    parts = [(page / name).read_text(encoding="utf-8") for name in SCRIPTS]
    script = f'"use strict";\n(() => {{\n{"".join(parts)}\n}})();'
    return fill(
        (page / "page.html").read_text(encoding="utf-8"),
        {
            "STYLE": style,
            "STYLE_HASH": hash_source(style),
            "SCRIPT": script,
            "SCRIPT_HASH": hash_source(script),
            "DATA": encode_data(
                {
                    **make_data(events, plan, outcome),
                    "operations": make_operations(operations, suspects, outcome),
                }
            ),
        },
    )


def fill(template: str, values: dict[str, str]) -> str:
    """Put values into a template, each once, where `{{NAME}}` stands in the template itself."""
    out = []
    for part in template.split("{{"):
        name, closing, rest = part.partition("}}")
        out.append(values[name] + rest if closing and name in values else part)
    return "".join(out)


def hash_source(source: str) -> str:
    """Return what a policy names an inline script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def encode_data(data: dict[str, Any]) -> str:
    """Return JSON that ends no script element and begins no comment."""
    return msgspec.json.encode(data).decode().replace("<", "\\u003c")


# ---- data


class Strings:
    """Texts, each once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, text: str) -> int:
        return self.places.setdefault(text, len(self.places))


def make_data(events: Sequence[Event], plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """Return everything that the page knows."""
    names = list_names(events, plan)
    spans = compute_spans(events, names)
    strings = Strings()
    columns = make_columns(events, strings)
    return {
        "plan": {
            "name": plan.name,
            "seed": plan.seed,
            "engine": plan.engine,
            "profile": plan.profile.name,
            "bug": plan.bug,
        },
        "outcome": {
            "verdict": outcome.verdict,
            "digest": outcome.digest,
            "time_ns": outcome.time_ns,
            "findings": [
                {
                    "property": f.property,
                    "message": shorten_hashes(f.message),
                    "verdict": f.verdict,
                }
                for f in outcome.findings
            ],
        },
        "machines": make_machines(events, names, plan, outcome),
        "kinds": KINDS,
        "columns": columns,
        "strings": list(strings.places),
        "spans": spans,
        "story": [
            {"event": line.event, "tone": line.tone, "text": line.text, "machine": line.machine}
            for line in tell_story(events, names, spans)
        ],
    }


def list_names(events: Sequence[Event], plan: Plan) -> list[str]:
    """Return the names of all machines, those that joined after the plan's own."""
    names = [machine.name for machine in plan.machines]
    joined = {event.machine: event.name for event in events if event.kind == "join"}
    last = max((max(e.machine, e.other, e.source) for e in events), default=-1)
    names += [joined.get(i, f"machine {i}") for i in range(len(names), last + 1)]
    return names


def make_machines(
    events: Sequence[Event], names: Sequence[str], plan: Plan, outcome: Outcome
) -> list[dict[str, Any]]:
    liars = {event.machine for event in events if event.kind == "fault" and event.name == "traitor"}
    liars |= {event.machine for event in events if event.false and event.kind != "receive"}
    joined = {event.machine: event.text for event in events if event.kind == "join"}
    followers = {i for i, machine in enumerate(plan.machines) if not machine.power}
    followers |= {i for i, text in joined.items() if text == "follower"}
    heights = outcome.heights
    short = shorten_names(names)
    return [
        {
            "name": name,
            "short": short[i],
            "follower": i in followers,
            "height": heights[i] if i < len(heights) else 0,
            "traitor": i in liars,
            "note": joined.get(i, ""),
        }
        for i, name in enumerate(names)
    ]


def make_columns(events: Sequence[Event], strings: Strings) -> dict[str, list[int]]:
    """Return the events column by column: half the size, and quick to read."""
    places = {kind: place for place, kind in enumerate(KINDS)}
    return {
        "time": list(compute_steps(event.time_ns for event in events)),
        "kind": [places[event.kind] for event in events],
        "machine": [event.machine for event in events],
        "other": [event.other for event in events],
        "source": [event.source for event in events],
        "cause": [event.cause for event in events],
        "begin": [event.begin for event in events],
        "lamport": [event.lamport for event in events],
        "height": [event.height for event in events],
        "round": [event.round for event in events],
        "size": [event.size_bytes for event in events],
        "name": [strings.place(event.name) for event in events],
        "text": [strings.place(event.text) for event in events],
        "false": [event.number for event in events if event.false],
    }


def compute_steps(numbers: Iterable[int]) -> Iterable[int]:
    """Yield how far each number is from the one before."""
    last = 0
    for number in numbers:
        yield number - last
        last = number


def make_operations(
    operations: Iterable[Operation], suspects: Collection[str], outcome: Outcome
) -> list[dict[str, Any]]:
    found = " ".join(finding.message for finding in outcome.findings)
    return [
        {
            "client": operation.client,
            "start_ns": operation.start_ns,
            "end_ns": operation.end_ns,
            "outcome": operation.outcome,
            "suspect": operation.id in suspects or operation.describe() in found,
            "label": f"{operation.name} {operation.key}".rstrip(),
            "text": operation.describe(),
        }
        for operation in operations
    ]
