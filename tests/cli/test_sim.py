"""`quorate sim`: exit codes, what is told, and that its own lines can be typed."""

import json
import shlex
from pathlib import Path

import click
import pytest

from quorate.cli.main import run
from quorate.cli.sim import sim
from quorate.cli.simulated import Setup, build_plan
from quorate.simulator.bugs import BUGS
from quorate.simulator.campaign.coordinator import CANARIES
from quorate.simulator.run import run as run_plan

QUICK = ["--jobs", "1", "--duration-ms", "1500"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUORATE_PROGRAM", raising=False)


def test_clean_network_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "--seeds", "6", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "4 validators, tendermint, light application" in out
    assert "6 seeds from 0 on in " in out
    assert f"canary: {CANARIES['tendermint']} was found by seed 0" in out
    assert "audit: 1 run repeated with another hash seed, all events equal" in out
    assert "\ntrue: 6 true\n" in out


def test_failing_seed_comes_with_the_line_that_replays_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bug = CANARIES["tendermint"]
    words = ["--faults", "network", "--bug", bug, "--duration-ms", "1500"]
    assert run(["sim", "--from", "40", "--to", "45", "--jobs", "1", *words]) == 1
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("  quorate replay "))
    _, command, seed, *setup = shlex.split(line)
    assert command == "replay"
    found: list[Setup] = []
    # What is replayed takes the same words as `sim`.
    with sim.make_context("sim", list(setup)) as context:
        names = Setup.__struct_fields__
        found.append(Setup(**{name: context.params[name] for name in names}))
    outcome = run_plan(build_plan(found[0], int(seed)))
    assert f"\n{outcome.get_class()}: {outcome.findings[0].message}" in out


def test_lone_validator_leaves_the_verdict_open(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "--validators", "1", "--faults", "network", "--seeds", "2", *QUICK]) == 2
    assert "\nunknown: 2 true\n  the canary" in capsys.readouterr().out


def test_json_says_all_of_it_and_results_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert run(["sim", "--seeds", "4", *QUICK, "-o", "json", "--report", str(folder)]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["verdict"], document["runs"], document["classes"]) == ("true", 4, [])
    assert document == json.loads((folder / "summary.json").read_text())
    assert len(list(folder.glob("runs.*"))) == 1
    assert "report.html" in captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "3", "--to", "5"], "--to and --seeds: give one of them"),
        (["--from", "9", "--to", "5"], "--to 5: before --from 9"),
        (["--bug", "t1"], "did you mean t1-never-unlock or t1-unlock-without-polka? --bug ? lists"),
        (["--bug", "meteor"], "--bug meteor: unknown; --bug ? lists all"),
        (["--bug", "r9-two-votes"], "--bug r9-two-votes: one of raft, found --engine tendermint"),
        (["--faults", "meteor"], "'meteor' is not one of"),
        (["--branches", "3"], "3 branches, expected one of 1, 2, 4"),
        (["--branches", "-16"], "-16 branches, expected one of 1, 2, 4"),
        (["--branches", "1000000000000"], "expected one of 1, 2, 4"),
        (["--branches", "x"], "'x' is not a valid integer"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sim", *words]) == 2
    assert message in capsys.readouterr().err


def test_bugs_are_listed_with_what_they_break(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "--bug", "?"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = next(line for line in lines if line.startswith("r9-two-votes "))
    assert [" ".join(found.split())] == [
        "r9-two-votes raft one vote a member votes twice in a term"
    ]
    assert len(lines) == 1 + len(BUGS)


def test_faults_are_told_with_what_links_and_traitors_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["sim", "--faults", "byzantine", "--seeds", "8", *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("faults "))
    faults = lines[begin + 1 : lines.index("", begin)]
    names = {line.rsplit(maxsplit=3)[0] for line in faults}
    assert {"frame lost", "frame doubled", "partition"} <= names
    assert any(name.startswith("traitor ") for name in names)
    assert not {"heal", "mend", "lost"} & names


def test_what_cannot_be_judged_is_no_broken_promise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 is for what was found."""
    path = tmp_path / "run.json"
    path.write_text('{"format": "quorate run", "version": 9}')
    for words in (
        ["replay", str(path)],
        ["sim", "--application", "nowhere:Nothing"],
        ["judge", "--dir", str(tmp_path)],
    ):
        assert run(words) == 2, words
        assert capsys.readouterr().err.startswith("error: ")


def test_every_option_of_sim_is_explained() -> None:
    for parameter in sim.params:
        if isinstance(parameter, click.Option):
            assert parameter.help


def test_timing_and_detector_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--timing", "partial:50,1000", "--detector", "heartbeat"]
    assert run(["sim", "--seeds", "3", *QUICK, *words]) == 0
    out = capsys.readouterr().out
    assert "faults: default, timing: within 50 ms from 1000 ms on\n" in out
    assert "\ndetector heartbeat: " in out


def test_seeds_that_share_a_beginning_are_told_with_what_was_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--branches", "4", "--faults", "network", "--bug", "small-quorum"]
    asked = ["--seeds", "8", "--jobs", "1", "--duration-ms", "1500", "--audit", "100", *words]
    assert run(["sim", *asked]) == 1
    out = capsys.readouterr().out
    assert "\n4 seeds share a beginning: " in out
    assert "audit: 8 runs repeated with another hash seed" in out
    line = next(line for line in out.splitlines() if line.startswith("  quorate replay "))
    _, command, seed, *setup = shlex.split(line)
    assert setup == ["--faults", "network", "--bug", "small-quorum", *asked[4:6], *words[:2]]
    folder = tmp_path / "out"
    assert run(["sim", *asked, "-o", "json", "--report", str(folder)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["network"]["branches"] == 4
    assert 0 < document["executed"] < document["events"]
    assert "4 seeds share a beginning" in (folder / "report.html").read_text()
    kept = tmp_path / "run.json"
    assert run([command, seed, *setup, "--record", str(kept), "-o", "json"]) == 1
    outcome = json.loads(capsys.readouterr().out)
    [failure] = [f for f in document["failures"] if f["seed"] == int(seed)]
    assert (outcome["digest"], outcome["seed"]) == (failure["digest"], int(seed))
    test = tmp_path / "test_found.py"
    assert run(["replay", str(kept), "--strict", "--export-test", str(test)]) == 1
    assert run(["diagram", str(kept), "--out", str(tmp_path / "run.html")]) == 0
    assert "put_back" not in test.read_text()
    assert str(kept.name) not in test.read_text()
