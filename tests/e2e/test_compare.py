"""`quorate compare --real`: a leader of real processes is killed, and nothing is left behind."""

import json
from pathlib import Path

import pytest

from e2e.stage import make_environment
from quorate.cli.main import run

pytestmark = pytest.mark.network

FAULTS = """
[[fault]]
kind = "crash"
at_ms = 1500
for_ms = 1500

[[fault]]
kind = "isolate"
who = "follower"
at_ms = 4500
for_ms = 1000

[[fault]]
kind = "lose"
at_ms = 6000
for_ms = 100
"""


def find_processes(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if mark in command:
            found.append(command)
    return found


def test_real_processes_under_a_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", make_environment()["PYTHONPATH"])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    faults = tmp_path / "faults.toml"
    faults.write_text(FAULTS)
    words = ["--engines", "raft", "--validators", "3", "--rate", "20", "--seconds", "7"]
    quick = ["--max-rate", "0", "--no-trials", "-o", "json", "--faults", str(faults)]
    assert run(["compare", *words, *quick, "--real"]) == 0
    real = json.loads(capsys.readouterr().out)["real"]
    (found,) = real["engines"]
    assert found["engine"] == "raft"
    assert found["answered"] == found["offered"] > 90
    assert [row["kind"] for row in found["recoveries"]] == ["crash", "isolate"]
    assert "100 of 1000 messages lost everywhere" in real["text"]
    assert list(tmp_path.glob("quorate-compare-*")) == []
    assert find_processes(str(tmp_path)) == []


@pytest.mark.parametrize("workload", ["transfers", "keyvalue"])
def test_proof_of_work_on_real_processes(
    workload: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", make_environment()["PYTHONPATH"])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    faults = tmp_path / "faults.toml"
    faults.write_text(FAULTS)
    words = ["--engines", "pow", "--validators", "3", "--rate", "10", "--seconds", "4"]
    for name, value in (("interval_ms", 250), ("final_depth", 3), ("safe_depth", 1)):
        words += ["--setting", f"pow.{name}={value}"]
    quick = ["--max-rate", "0", "--no-trials", "-o", "json", "--faults", str(faults)]
    run(["compare", *words, *quick, "--workload", workload, "--real"])
    real = json.loads(capsys.readouterr().out)["real"]
    (found,) = real["engines"]
    assert found["answered"] == found["offered"] > 20
    # Nodes find each other past the relays, so that no link can be cut.
    assert [row["kind"] for row in found["recoveries"]] == ["crash"]
    assert "without delays and faults of links" in real["text"]
    assert list(tmp_path.glob("quorate-compare-*")) == []
    assert find_processes(str(tmp_path)) == []


def test_what_real_processes_cannot_do_is_refused_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, expected in (
        (["--workload", "opaque"], "only simulated nodes run it"),
        (["--setting", "pow.final_depth=200"], "pow takes 1000 s until a block is final"),
        (["--validators", "17"], "17 validators, expected at most 16"),
        (["--faults", "gentle"], "a profile is simulated"),
    ):
        assert run(["compare", "--real", *words]) == 2
        assert expected in capsys.readouterr().err
