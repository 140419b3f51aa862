"""From a failing seed to a test of one's own: `replay`, `shrink`, `diagram`, `why`."""

import json
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from quorate.cli.main import run
from quorate.cli.output import EXIT_USAGE
from quorate.cli.simulated import Setup, build_plan
from quorate.cli.why import Dots
from quorate.simulator.replay import decode_recording
from quorate.simulator.run import run as run_plan
from quorate.simulator.why import Point

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["--bug", "never-in-doubt", "--duration-ms", "4000"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUORATE_PROGRAM", raising=False)


@cache
def find() -> str:
    """Return a seed that fails."""
    setup = Setup(bug="never-in-doubt", duration_ms=4000)
    for seed in range(200):
        if run_plan(build_plan(setup, seed)).verdict == "false":
            return str(seed)
    pytest.fail("no seed fails")


def count(told: str) -> int:
    """Return how many choices are told."""
    return int(told.split(", ")[1].split()[0].replace(",", ""))


def test_story_from_a_seed_to_a_test_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # What is advised is typed as it stands; only budgets are added, to be short.
    assert run(["replay", find(), *WORDS]) == 1
    captured = capsys.readouterr()
    assert "\nfalse\n  one proposal at " in captured.out
    commands = [line.strip() for line in captured.err.splitlines() if line.startswith("  quorate")]
    shrink = next(command for command in commands if command.startswith("quorate shrink"))
    assert run([*shlex.split(shrink)[1:], "--runs", "30", "--jobs", "1"]) in (0, 2)
    captured = capsys.readouterr()
    small = tmp_path / f"small-{find()}.json"
    before, after = captured.out.split(" had ")[1].split(f"; {small.name} has ")
    assert count(after) < count(before)
    commands = [line.strip() for line in captured.err.splitlines() if line.startswith("  quorate")]
    assert commands == [f"quorate {word} {small.name}" for word in ("replay", "diagram", "why")]
    assert run(["replay", small.name, "--strict", "--export-test", "test_found.py"]) == 1
    assert "as recorded: verdict, property and digest are the same" in capsys.readouterr().err
    assert run(["diagram", small.name]) == 0
    assert "one proposal" in small.with_suffix(".html").read_text()
    assert run(["why", small.name, "--points", "2", "--samples", "2", "--jobs", "1"]) == 0
    assert "chance of: one proposal" in capsys.readouterr().out


def test_interrupted_why_shows_what_was_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show = Dots.show

    def show_two(self: Dots, point: Point) -> None:
        show(self, point)
        if self.count == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Dots, "show", show_two)
    words = ["why", find(), *WORDS, "--points", "3", "--samples", "2", "--jobs", "1"]
    assert run(words) == 130
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert "interrupted" in captured.err
    assert run([*words, "-o", "json"]) == 130
    assert len(json.loads(capsys.readouterr().out)["points"]) == 2


def run_pytest(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path.name]
    return subprocess.run(
        command,
        cwd=path.parent,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_exported_test_fails_while_the_bug_is_there_and_passes_when_it_is_gone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "test_found.py"
    assert run(["replay", find(), *WORDS, "--export-test", str(path)]) == 1
    # With a bug that was put in on purpose: it is found, and nothing without it.
    done = run_pytest(path)
    assert "2 passed" in done.stdout, done.stdout
    # As if the bug were in the code: the same run, and a test that knows of no switch.
    source = path.read_text()
    plain = 'assert outcome.verdict == "true", outcome.findings'
    path.write_text(source.replace('assert outcome.get_class() == "one proposal"', plain))
    done = run_pytest(path)
    assert "1 failed, 1 passed" in done.stdout, done.stdout


def test_exported_test_of_a_run_without_a_bug_switch_expects_the_promise_to_hold(
    tmp_path: Path,
) -> None:
    from quorate.cli.regression import make_test
    from quorate.simulator.plan import Plan
    from quorate.simulator.replay import Expected, Recording

    plan: Plan = build_plan(Setup(duration_ms=500), 1)
    expected = Expected(verdict="false", property="byte identity")
    source = make_test(Recording(plan=plan, tape={}, expected=expected), "test_found.json")
    compile(source, "test_found.py", "exec")
    assert "def test_byte_identity_holds() -> None:" in source
    assert "replace" not in source


def test_run_file_is_written_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    assert run(["replay", "1", "--duration-ms", "500", "--record", str(path)]) == 0
    assert decode_recording(path.read_bytes()).plan.seed == 1
    capsys.readouterr()
    assert run(["replay", str(path), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "true"
    # A plan that is not the recorded one is told, and can be made an error.
    document = json.loads(path.read_text())
    document["expected"]["digest"] = "00"
    path.write_text(json.dumps(document))
    assert run(["replay", str(path), "--strict"]) == 2
    assert "not as recorded: digest" in capsys.readouterr().err


def test_until_shows_what_everybody_does_then(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", "1", "--faults", "none", "--until", "0.25s"]) == 0
    out = capsys.readouterr().out
    assert "\nat 250.000\n" in out
    assert "  validator-0: final height " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["replay", "nothing.json"], "nothing.json: expected a seed (a number) or a run file"),
        (["replay", str(1 << 70)], "expected at most 9223372036854775807"),
        (["replay", "1", "--until", "soon"], "time 'soon': expected a number and ns, us, ms, s"),
        (["shrink", "1", "--duration-ms", "300"], "seed 1: verdict true, expected a failure"),
        (["why", "1", "--duration-ms", "300"], "verdict true, expected a run that fails"),
        (["replay", "1", "--duration-ms", "300", "--export-test", "test_x.py"], "is true"),
        (["replay", "1", "--bug", "t9"], "--bug t9: unknown"),
    ],
)
def test_wrong_words_are_refused_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) in (1, 2)
    assert message in capsys.readouterr().err


def test_file_takes_no_setup_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    assert run(["replay", "1", "--duration-ms", "300", "--record", str(path)]) == 0
    assert run(["replay", str(path), "--bug", "small-quorum"]) == 2
    assert "leave out --bug small-quorum" in capsys.readouterr().err


def test_replay_tells_of_detectors_and_clocks(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--detector", "heartbeat", "--duration-ms", "1500", "--clock-bound", "1"]
    assert run(["replay", "3", *words]) == 0
    out = capsys.readouterr().out
    assert "\n  detector heartbeat\n    crashes: " in out
    faults = next(line for line in out.splitlines() if line.startswith("  faults: "))
    assert "frame lost " in faults
    assert "mend " not in faults
    assert (
        "\n  clocks: none was ahead" in out
        or "\n  clocks that were ahead by more than 1 ms:" in out
    )


def test_replay_shows_what_can_have_led_to_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["replay", "3", "--faults", "none", "--duration-ms", "1500"]
    assert run([*words, "--text", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    final = next(line for line in lines if " final block 1" in line)
    number = final.split()[0]
    assert run([*words, "--past", number]) == 0
    past = capsys.readouterr().out.splitlines()
    assert past[-1] == final
    assert 10 < len(past) < len(lines) // 2
    assert sum("Proposal" in line for line in past) >= 1
    assert sum("Precommit" in line for line in past) >= 2
    assert run([*words, "--past", "999999"]) == EXIT_USAGE
    assert "--past 999999: the run has events 0 to " in capsys.readouterr().err
