"""`quorate history`: histories recorded anywhere, judged."""

import json
from pathlib import Path

import pytest

from quorate.cli.main import run
from quorate.simulator.history import encode_events
from simulator.histories import make_history


def write(path: Path, *lines: str, key: str = "x") -> str:
    path.write_bytes(b"".join(encode_events(make_history(*lines, key=key).events)))
    return str(path)


STALE = ("a write 1", "a ok", "a write 2", "a ok", "b read", "b ok 1")


def test_history_with_an_order_is_linearizable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "h", "a write 1", "b read", "b ok 1", "a ok")
    assert run(["history", file]) == 0
    assert capsys.readouterr().out == "linearizable: 2 operations on 1 key, 4 events\n"


def test_contradiction_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", write(tmp_path / "h", *STALE), "--model", "register"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "key 'x': read() = 1 by b (4.000 ms to 5.000 ms) fits no order: before it the state is 2",
        "these contradict each other, whatever all others did:",
        "  write(1) by a (0.000 ms to 1.000 ms)",
        "  write(2) by a (2.000 ms to 3.000 ms)",
        "  read() = 1 by b (4.000 ms to 5.000 ms)",
        "not linearizable: 3 operations on 1 key, 6 events",
    ]


def test_files_of_several_observers_are_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write(tmp_path / "one", *STALE)
    other = tmp_path / "other"
    lines = (tmp_path / "one").read_text().replace('"id":"', '"id":"z').replace('"x"', '"y"')
    other.write_text(lines)
    assert run(["history", one, str(other), "-o", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "false"
    assert [key["key"] for key in report["keys"]] == ["x", "y"]


def test_what_takes_too_long_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"c{i} add {2 << i}" for i in range(20)]
    lines += ["r read", "r ok 7", *[f"c{i} ok" for i in range(20)]]
    file = write(tmp_path / "h", *lines)
    assert run(["history", file, "--model", "counter", "--seconds", "0.1"]) == 2
    printed = capsys.readouterr()
    assert "key 'x': not judged: 21 operations, limit reached after" in printed.out
    assert "more time may help: --seconds" in printed.err


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b'{"kind":"ok"}', "line 1: Object missing required field `time_ns`"),
        (b'{"kind":"ok","time_ns":1,"id":"a"}', "event 1: ok of operation 'a', which was never"),
        (
            b'{"kind":"invoke","time_ns":1,"id":"a","operation":"pop"}\n'
            b'{"kind":"ok","time_ns":1,"id":"a"}',
            "operation 'pop' of a register, expected read, write or cas",
        ),
    ],
)
def test_bad_history_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes, error: str
) -> None:
    (tmp_path / "h").write_bytes(text)
    assert run(["history", str(tmp_path / "h")]) == 78
    printed = capsys.readouterr().err
    assert error in printed
    assert printed.count("\n") == 1


def test_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", str(tmp_path / "nothing")]) == 78
    assert capsys.readouterr().err == f"error: {tmp_path / 'nothing'}: No such file or directory\n"


def test_clients_of_a_simulated_run_see_a_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "run.jsonl")
    assert run(["replay", "7", "--history", file]) == 0
    assert f"history {file} --model log" in capsys.readouterr().err
    assert run(["history", file, "--model", "log"]) == 0
    assert "linearizable: " in capsys.readouterr().out
