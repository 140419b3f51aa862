"""The page of a run holds the whole run, and nothing in it is markup."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from quorate.simulator.diagram import make_diagram, write_diagram
from quorate.simulator.history import History
from quorate.simulator.plan import Plan
from quorate.simulator.run import run
from quorate.simulator.trace import Event
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Outcome
from simulator.networks import make_plan

EVIL = "</script><script>alert(1)</script><!-- {{DATA}} {{STYLE}}"


@pytest.fixture(scope="module")
def failing() -> tuple[list[Event], Plan, Outcome]:
    plan = make_plan(2, "default", bug="small-quorum", duration_ms=1000)
    tracer = Tracer()
    return tracer.events, plan, run(plan, None, tracer)


class Page(HTMLParser):
    """The scripts of a page, and whatever it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.references: list[str] = []
        self.policy = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        values = dict(attrs)
        self.references += [str(values[name]) for name in ("src", "href") if name in values]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(values["content"])

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside == "style":
            self.styles.append(data)

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


def test_page_holds_every_event_and_the_finding(
    failing: tuple[list[Event], Plan, Outcome], tmp_path: Path
) -> None:
    events, plan, outcome = failing
    write_diagram(tmp_path / "run.html", events, plan, outcome)
    data = Page((tmp_path / "run.html").read_text(encoding="utf-8")).data
    assert {len(data["columns"][name]) for name in data["columns"] if name != "false"} == {
        len(events)
    }
    assert sum(data["columns"]["time"]) == events[-1].time_ns
    kinds = list(data["kinds"])
    assert [kinds[place] for place in data["columns"]["kind"]] == [e.kind for e in events]
    texts = [data["strings"][place] for place in data["columns"]["text"]]
    assert texts == [event.text for event in events]
    assert data["outcome"]["findings"][0]["property"] == outcome.findings[0].property
    assert data["story"][-1]["tone"] == "finding"
    assert data["operations"] == []


def test_page_refers_to_nothing_and_lets_nothing_else_run(
    failing: tuple[list[Event], Plan, Outcome],
) -> None:
    page = Page(make_diagram(*failing))
    assert page.references == []
    assert len(page.scripts) == 2
    for source in (page.scripts[1], page.styles[0]):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none'")
    for source in (page.scripts[1], page.styles[0]):
        assert not re.search(r"https?:|@import|innerHTML|eval\(", source)


def test_contents_cannot_leave_the_data(failing: tuple[list[Event], Plan, Outcome]) -> None:
    _, plan, outcome = failing
    event = Event(number=0, time_ns=1, kind="note", machine=0, name=EVIL, text=EVIL)
    history = History()
    history.invoke(1, EVIL, client=EVIL, key=EVIL, operation=EVIL, argument=EVIL)
    page = Page(make_diagram([event], plan, outcome, history.get_operations(), [EVIL]))
    assert len(page.scripts) == 2
    assert page.data["strings"] == [EVIL]
    assert page.data["operations"][0]["client"] == EVIL


def test_operations_of_clients_are_kept_with_those_that_violate() -> None:
    plan = make_plan(1, duration_ms=100)
    tracer = Tracer()
    outcome = run(plan, None, tracer)
    history = History()
    history.invoke(1_000_000, "1", client="a", key="x", operation="write", argument=1)
    history.invoke(2_000_000, "2", client="b", key="x", operation="read")
    history.ok(3_000_000, "2", 0)
    operations = history.get_operations()
    page = Page(make_diagram(tracer.events, plan, outcome, operations, {"2"}))
    assert [
        (o["client"], o["start_ns"], o["end_ns"], o["outcome"], o["suspect"], o["label"])
        for o in page.data["operations"]
    ] == [
        ("a", 1_000_000, None, "info", False, "write x"),
        ("b", 2_000_000, 3_000_000, "ok", True, "read x"),
    ]


def test_machines_that_join_have_their_names_and_lines() -> None:
    plan = make_plan(1)
    joins = [("validator-2-twin", "twin of validator-2"), ("spare-1", "follower")]
    events = [
        Event(number=i, time_ns=0, kind="join", machine=4 + i, name=name, text=text)
        for i, (name, text) in enumerate(joins)
    ]
    events.append(Event(number=2, time_ns=0, kind="fault", machine=4, name="traitor"))
    outcome = run(make_plan(1, duration_ms=100))
    machines = Page(make_diagram(events, plan, outcome)).data["machines"]
    assert [(m["name"], m["short"], m["follower"], m["traitor"]) for m in machines[3:]] == [
        ("validator-3", "v3", False, False),
        ("validator-2-twin", "v2-t", False, True),
        ("spare-1", "s1", True, False),
    ]


def test_run_without_events_makes_a_page(failing: tuple[list[Event], Plan, Outcome]) -> None:
    _, plan, outcome = failing
    assert Page(make_diagram([], plan, outcome)).data["columns"]["kind"] == []
