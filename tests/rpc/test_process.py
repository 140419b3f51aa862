"""The process: starts, reads a ledger that another process writes, says what is wrong, and ends."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kernel.chain import KEYS, extend, genesis, transaction
from quorate._kernel import Ledger

ROOT = Path(__file__).resolve().parents[2]
STRANGER = b"\x77" * 20


def command(folder: Path, *options: str) -> list[str]:
    places = ["--ledger", str(folder / "ledger"), "--socket", str(folder / "node.sock")]
    return [sys.executable, "-m", "quorate.rpc", *places, "--port", "0", *options]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src")}


@contextmanager
def server(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the process; (process, port)."""
    process = subprocess.Popen(
        command(folder, *options), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"JSON-RPC at http://127\.0\.0\.1:(\d+)\n", line)
        assert found, line
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait(60)


def ask(port: int, method: str, *params: Any) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["result"] if "result" in answer else answer["error"]


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except OSError:
        return False
    return True


def test_what_the_writer_commits_is_read_at_once(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path / "ledger"), genesis())
    with server(tmp_path) as (_, port):
        assert ask(port, "eth_blockNumber") == "0x0"
        for height in range(1, 4):
            extend(ledger, transaction(KEYS[0], height - 1, STRANGER, 5))
            ledger.commit()
            assert ask(port, "eth_blockNumber") == hex(height)
            assert ask(port, "eth_getBalance", "0x" + STRANGER.hex(), "latest") == hex(5 * height)


def test_reader_does_not_hinder_the_writer_from_opening_again(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path / "ledger"), genesis())
    with server(tmp_path) as (_, port):
        assert ask(port, "eth_blockNumber") == "0x0"
        ledger.close()
        ledger = Ledger.open(str(tmp_path / "ledger"), genesis())
        extend(ledger, transaction(KEYS[0], 0, STRANGER, 5))
        ledger.commit()
        assert ask(port, "eth_blockNumber") == "0x1"


def test_ledger_that_is_not_there_yet_is_opened_once_it_is(tmp_path: Path) -> None:
    with server(tmp_path) as (_, port):
        error = ask(port, "eth_blockNumber")
        assert error["code"] == -32002
        assert error["message"].startswith("the ledger is not ready")
        Ledger.open(str(tmp_path / "ledger"), genesis())
        assert ask(port, "eth_blockNumber") == "0x0"


def test_without_a_validator_a_transaction_is_refused_clearly(tmp_path: Path) -> None:
    Ledger.open(str(tmp_path / "ledger"), genesis())
    with server(tmp_path) as (_, port):
        error = ask(port, "eth_sendRawTransaction", "0x01")
        assert error["code"] == -32002
        assert "validator is not running" in error["message"]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_it_serves_at_a_lower_priority_in_a_session_of_its_own(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path / "ledger"), genesis())
    extend(ledger, transaction(KEYS[0], 0, STRANGER, 5))
    ledger.commit()
    expected = min(os.nice(0) + 3, 19)
    for options, leads in ((("--nice", "3"), False), (("--nice", "3", "--own-session"), True)):
        with server(tmp_path, *options) as (process, port):
            assert ask(port, "eth_call", {"to": "0x" + STRANGER.hex()}, "latest") == "0x"
            stats = [path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/stat")]
            # The 19th field, counted behind the name, which may hold anything.
            found = {int(stat.rpartition(")")[2].split()[16]) for stat in stats}
            assert found == {expected}
            assert (os.getsid(process.pid) == process.pid) is leads


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_in_order(tmp_path: Path, end: signal.Signals) -> None:
    Ledger.open(str(tmp_path / "ledger"), genesis())
    with server(tmp_path) as (process, port):
        assert ask(port, "eth_blockNumber") == "0x0"
        process.send_signal(end)
        assert process.wait(60) in (0, -end, 128 + end)
        with pytest.raises(ConnectionRefusedError):
            ask(port, "eth_blockNumber")


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    Ledger.open(str(tmp_path / "ledger"), genesis())
    parent = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([*sys.argv[1:], '--parent', str(os.getpid())])\n"
        "sys.stdin.read()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent, *command(tmp_path)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().rsplit(":", 1)[1])
    assert ask(port, "eth_blockNumber") == "0x0"
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while is_listening(port):
        assert time.monotonic() < deadline
    process.stdout.close()


def test_port_in_use_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = subprocess.run(
            command(tmp_path, "--port", str(port)),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert found.returncode == 1
    message = "Address already in use; choose another with --port"
    assert found.stderr == f"Error: cannot listen on 127.0.0.1:{port}: {message}\n"


def test_unknown_namespace_is_named(tmp_path: Path) -> None:
    found = subprocess.run(
        command(tmp_path, "--api", "eth,personal"),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 2
    assert "'personal' is not one of eth, net, web3, quorate, txpool" in found.stderr
