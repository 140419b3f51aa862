"""`quorate scenario`: what is listed, and that both sides are played and judged."""

import json
from pathlib import Path

import pytest

from quorate.cli.main import run
from quorate.simulator.scenarios import SCENARIOS


def test_list_has_all_scenarios_with_what_is_expected(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scenario", "list"]) == 0
    out = capsys.readouterr().out
    for found in SCENARIOS.values():
        assert f"{found.name} " in out
        assert f"false ({found.breaks})" in out
    assert run(["scenario", "list", "-o", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed] == list(SCENARIOS)


def test_both_sides_are_played_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "split.html"
    assert run(["scenario", "run", "S4", "--story", "--diagram", str(page)]) == 0
    out = capsys.readouterr().out
    assert "partition: v0 v1 | v2 v3" in out
    assert "\n  true, as expected\n" in out
    assert "\n  false, as expected\n    agreement at " in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "split-with.html",
        "split-without.html",
    ]


def test_one_side_alone_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scenario", "run", "split-brain", "--without-mitigation", "-o", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["mitigated"], row["verdict"], row["as_expected"]) == (False, "false", True)
    assert row["findings"][0]["property"] == "agreement"


def test_surprise_is_told_by_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from quorate.simulator.scenarios.registry import Scenario

    monkeypatch.setattr(Scenario, "get_expected", lambda self, mitigated: "true")
    assert run(["scenario", "run", "split-brain", "--without-mitigation"]) == 1
    assert "false, expected true" in capsys.readouterr().out


def test_unknown_scenario_comes_with_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scenario", "run", "splitbrain"]) == 2
    assert "did you mean split-brain" in capsys.readouterr().err
    assert run(["scenario", "run", "S4", "--with-mitigation", "--without-mitigation"]) == 2
    assert "give one of them" in capsys.readouterr().err
