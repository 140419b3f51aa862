"""`quorate compare`: tables, files, exit codes, and one line for what is wrong."""

import json
from pathlib import Path

import pytest

from quorate.cli.main import run

QUICK = ["--workload", "opaque", "--max-rate", "0", "--no-trials", "--seconds", "1"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUORATE_PROGRAM", raising=False)


def test_tables_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, path = tmp_path / "page.html", tmp_path / "all.json"
    words = ["--faults", "none", "--page", str(page), "--json", str(path), "--rate", "30"]
    assert run(["compare", *QUICK, "--engines", "raft,tendermint", *words]) == 0
    out, err = capsys.readouterr()
    assert "4 members, opaque at 30/s for 1 s from 4 clients, latency lan" in out
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("raft ", "tendermint "))] == [
        "raft",
        "tendermint",
    ]
    assert "the members trust each other" in out
    assert str(page) in err
    document = json.loads(path.read_text())
    assert document["format"] == "quorate compare"
    assert document["command"] == (
        "quorate compare --engines raft,tendermint --workload opaque --rate 30 --seconds 1 "
        "--faults none --max-rate 0 --no-trials"
    )
    assert page.read_text().startswith("<!doctype html>")


def test_json_repeats_to_the_byte(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for _ in range(2):
        assert run(["compare", *QUICK, "--engines", "raft", "-o", "json"]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert json.loads(shown[0])["engines"][0]["quiet"]["verdict"] == "true"


def test_files_of_latency_and_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latency = tmp_path / "offices.csv"
    latency.write_text("a,b\n1,40\n40,1\n")
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "pause"\nat_ms = 200\nfor_ms = 300\nwho = 1\n')
    words = ["--latency", str(latency), "--faults", str(faults), "--cost", "sync_us=2000"]
    assert run(["compare", *QUICK, "--engines", "raft", *words]) == 0
    out = capsys.readouterr().out
    assert "sync_us 2000" in out
    assert "member 1 stops as under SIGSTOP, 0.3 s" in out


def test_faults_that_the_load_does_not_outlast_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = tmp_path / "faults.toml"
    times = ((100, 300), (700, 400), (1000, 100))
    faults.write_text(
        "".join(f'[[fault]]\nkind = "pause"\nat_ms = {a}\nfor_ms = {b}\n' for a, b in times)
    )
    words = ["--faults", str(faults), "-o", "json"]
    assert run(["compare", *QUICK, "--engines", "raft", *words]) == 0
    out, err = capsys.readouterr()
    assert "leaves out what ends after the load: pause at 0.7 s, pause at 1 s" in err
    recoveries = json.loads(out)["engines"][0]["faulty"]["recoveries"]
    assert [recovery["at_ms"] for recovery in recoveries] == [100]


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--engines", "paxos"], 2, "--engines: 'paxos', expected some of tendermint"),
        (["--engines", ","], 2, "--engines: ',', expected"),
        (["--workload", "nonsense"], 2, "--workload nonsense: expected transfers"),
        (["--faults", "nonsense"], 2, "--faults nonsense: expected none, standard"),
        (["--latency", "nonsense"], 2, "--latency nonsense: expected lan"),
        (["--cost", "luck=3"], 2, "--cost luck=3: expected sync_us"),
        (["--cost", "link_mbit=0"], 2, "--cost link_mbit=0: expected at least 1"),
        (["--setting", "pow.luck=1"], 2, "--setting pow.luck=1: expected pow.NAME=N with"),
        (["--setting", "raft.heartbeat_ms=0"], 2, "--setting: raft: "),
        (["--workload", "keyvalue", "--seconds", "500"], 2, "expected at most 400 for keyvalue"),
        (["--rate", "10000", "--seconds", "3600"], 2, "expected at most 2000000 items"),
        (["--rate", "0"], 2, "--rate"),
        (["nowhere.toml"], 2, "nowhere.toml"),
    ],
)
def test_bad_words_are_refused_in_one_line(
    words: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *words]) == code
    out, err = capsys.readouterr()
    assert not out
    assert expected in err


def test_bad_files_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("places = 7")
    for flag in ("--latency", "--faults"):
        assert run(["compare", flag, str(bad)]) == 78
        assert capsys.readouterr().err.count("\n") == 1
    items = tmp_path / "items.txt"
    items.write_text("zz")
    assert run(["compare", "--workload", str(items)]) == 2
    assert "need the network's genesis" in capsys.readouterr().err


def test_help_shows_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "--help"]) == 0
    out = capsys.readouterr().out
    assert "quorate compare --latency continents --page out.html" in out
    assert "QUORATE_ENGINES" in out
