"""`quorate scenario`: what is listed, and that both sides are played and judged."""

import json
from pathlib import Path

import pytest

from quorate.base.errors import Invalid
from quorate.cli.main import run
from quorate.simulator.plan import MS
from quorate.simulator.scenarios import SCENARIOS
from quorate.simulator.scenarios.stage import Stage
from quorate.simulator.timing import PartiallySynchronous

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "simulator.md"


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


def get_example() -> str:
    """Return the file that the guide shows."""
    text = GUIDE.read_text()
    return text[text.index("### A script of your own") :].split("```python\n")[1].split("```")[0]


def test_script_of_the_guide_is_played(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = dict(SCENARIOS)
    path = tmp_path / "mine.py"
    path.write_text(get_example())
    try:
        assert run(["scenario", "run", str(path), "--story"]) == 0
        assert run(["scenario", "run", "half-deaf", "--without-mitigation"]) == 2
    finally:
        for name in SCENARIOS.keys() - known:
            del SCENARIOS[name]
    out, err = capsys.readouterr()
    assert "the network: rates, loss 100, duplicate 20" in out
    assert "validator-3: full disk" in out
    assert "\n  true, as expected\n" in out
    assert "half-deaf has no such side" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "it registers no scenario"),
        ("x =", "SyntaxError: invalid syntax"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_file_without_scenarios_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert run(["scenario", "run", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_all_are_played_one_after_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {name: SCENARIOS[name] for name in ("four-outcomes", "split-brain")}
    monkeypatch.setattr("quorate.cli.scenario.SCENARIOS", some)
    assert run(["scenario", "run", "all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "name", "prevented", "not", "prevented"]
    assert lines[2].split() == ["S4", "split-brain", "true", "false"]
    assert lines[-1] == "2 scenarios, 0 not as expected"
    assert run(["scenario", "run", "all", "-o", "json", "--with-mitigation"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(some)
    assert run(["scenario", "run", "all", "--story"]) == 2
    assert "name one scenario" in capsys.readouterr().err


def test_script_sets_only_rates_that_there_are() -> None:
    play = Stage(True, 1, PartiallySynchronous(delta_ns=MS, gst_ns=0)).build(2, start=False)
    play.faults.set_rates(loss=100, bandwidth=5)
    assert (play.world.network.rates.loss, play.world.network.rates.bandwidth) == (100, 5)
    for wrong in ({"loss": 1001}, {"loss": -1}, {"luck": 1}):
        with pytest.raises(Invalid, match="expected one of loss to 1000"):
            play.faults.set_rates(**wrong)
    play.faults.heal()
    assert (play.world.network.rates.loss, play.world.network.rates.bandwidth) == (0, 0)
