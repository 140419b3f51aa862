"""What a campaign leaves in its folder."""

import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from quorate.simulator.campaign.report import render_report
from quorate.simulator.campaign.results import open_results
from quorate.simulator.campaign.tally import Row

ROW = Row(7, "false", "agreement", "a < b", "00ff", 12, 8, 34, 5, 6, {"lost": 3}, {"often": 1})
DOCUMENT: dict[str, Any] = {
    "version": "1",
    "verdict": "false",
    "doubts": ["something & more"],
    "command": "quorate sim",
    "network": {
        "name": "<net>",
        "validators": 4,
        "engine": "tendermint",
        "application": "opaque",
        "signatures": "simulated",
        "faults": "default",
        "bug": "",
        "branches": 16,
    },
    "runs": 10,
    "verdicts": {"true": 9, "false": 1, "unknown": 0},
    "digest": "0" * 16,
    "workers": 2,
    "seconds": 1.5,
    "seeds_per_second": 6.7,
    "events": 4000,
    "executed": 1500,
    "events_per_second": 1000.0,
    "virtual_per_real": 400.0,
    "cpu_us_per_event": 12.5,
    "counters": {"fault crash": [12, 9], "fault twist": [0, 0], "lost": [5, 5]},
    "sometimes": {"value proposed again": [0, 0], "precommit nil": [4, 2]},
    "states": 77,
    "classes": [
        {
            "failure": "agreement",
            "runs": 1,
            "verdict": "false",
            "seed": 7,
            "events": 12,
            "message": "height 1: <0xaa>",
            "replay": "quorate replay 7 'a net'",
        }
    ],
    "canary": {"bug": "small-quorum", "runs": 1, "found": [0, "polka", "false", "", "", 3]},
    "audit": {"repeated": 1, "differing": [], "differences": []},
    "deaths": [],
    "curve": [[0.1, 5, 40, 1, 0], [0.2, 10, 77, 2, 1]],
}


class Page(HTMLParser):
    """Checks that elements are closed in order and collects what is loaded from elsewhere."""

    VOID = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_complete_in_itself_and_escapes_what_it_shows() -> None:
    text = render_report(DOCUMENT)
    page = Page()
    page.feed(text)
    assert (page.open, page.loads) == ([], [])
    assert "url(" not in text
    assert "<script" not in text
    for shown in (
        "&lt;net&gt;",
        "something &amp; more",
        "height 1: &lt;0xaa&gt;",
        "quorate replay 7 &#x27;a net&#x27;",
        "twist never happened",
        "value proposed again never happened",
        "77",
    ):
        assert shown in text


def test_runs_are_written_as_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: the extra `report`")
    results = open_results(tmp_path / "out")
    for _ in range(3):
        results.add([ROW])
    results.close(DOCUMENT)
    assert results.notes == []
    table = parquet.read_table(tmp_path / "out" / "runs.parquet")
    assert table.num_rows == 3
    first = table.to_pylist()[0]
    assert (first["seed"], first["failure"], dict(first["counters"])) == (
        7,
        "agreement",
        {"lost": 3},
    )
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == DOCUMENT
    assert (tmp_path / "out" / "report.html").read_text() == render_report(DOCUMENT)


def test_without_pyarrow_runs_are_lines_of_json_and_a_hint_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    results = open_results(tmp_path)
    results.add([ROW, ROW])
    results.close(DOCUMENT)
    assert "pip install" in results.notes[0]
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["a < b"] * 2


def test_results_of_an_earlier_campaign_do_not_stay_beside_new_ones(tmp_path: Path) -> None:
    (tmp_path / "runs.parquet").write_bytes(b"old")
    (tmp_path / "runs.jsonl").write_bytes(b"old")
    open_results(tmp_path).close(DOCUMENT)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 3
    assert b"old" not in (tmp_path / left[1]).read_bytes()
