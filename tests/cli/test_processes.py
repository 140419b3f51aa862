"""Signals reach the validator of a folder and nobody else."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.cli import processes
from quorate.runtime.folder import Folder

HOLD = """
import subprocess, sys
from pathlib import Path
from quorate.runtime.pidfile import PidFile
held = PidFile(Path(sys.argv[1]))
if sys.argv[2:]:
    # A child of the same group, as the JSON-RPC process is.
    subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", sys.argv[2]])
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that holds a folder's pid file as a validator does."""

    def __init__(self, folder: Folder, *more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder.pid), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"held\n"

    def end(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def holder(folder: Folder) -> Iterator[Holder]:
    made = Holder(folder)
    yield made
    made.end()


def test_finds_the_process_that_holds_the_folder(folder: Folder, holder: Holder) -> None:
    assert processes.find(folder) == holder.process.pid
    holder.end()
    assert processes.find(folder) is None


def test_empty_folder_has_no_process(folder: Folder) -> None:
    assert processes.find(folder) is None
    assert processes.send(folder, signal.SIGTERM) is None
    assert processes.terminate([folder]) == []
    assert processes.kill(folder) is None


def test_number_without_its_lock_is_not_signalled(folder: Folder) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder.pid.write_text(f"{bystander.pid}\n")
    assert processes.kill(folder) is None
    assert bystander.poll() is None
    bystander.communicate(b"\n", timeout=30)
    assert bystander.returncode == 0


def test_terminate_waits_until_the_process_is_gone(folder: Folder, holder: Holder) -> None:
    assert processes.terminate([folder]) == []
    assert processes.find(folder) is None
    assert holder.process.wait(30) in (-signal.SIGTERM, 0)


def test_kill_takes_what_the_validator_started_along(folder: Folder) -> None:
    holder = Holder(folder, str(folder.path))
    pid = holder.process.pid
    assert len(processes.find_group(pid)) == 2
    assert processes.kill(folder) == pid
    assert processes.find_group(pid) == []
    holder.end()


@pytest.mark.skipif(not processes.PROC.is_dir(), reason="needs /proc")
def test_kill_takes_a_reader_in_a_session_of_its_own_along(folder: Folder, holder: Holder) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)", "quorate.rpc"]
    socket = str(Folder(folder.path.resolve()).socket)
    reader = subprocess.Popen([*command, socket], start_new_session=True)
    stranger = subprocess.Popen([*command, socket + "2"], start_new_session=True)
    try:
        assert processes.find_readers(folder) == [reader.pid]
        processes.send(folder, signal.SIGKILL)
        processes.kill(folder, holder.process.pid)
        assert reader.wait(30) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        reader.kill()
        stranger.kill()
        reader.wait()
        stranger.wait()


def test_second_validator_of_one_folder_is_refused(folder: Folder, holder: Holder) -> None:
    second = subprocess.run(
        [sys.executable, "-c", HOLD, str(folder.pid)], capture_output=True, check=False, timeout=60
    )
    assert second.returncode != 0
    assert f"in use by process {holder.process.pid}".encode() in second.stderr


def test_tail_reads_the_end_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert processes.read_tail(log, 3) == []
    log.write_text("".join(f"line {i}\n" for i in range(1000)))
    assert processes.read_tail(log, 2) == ["line 998", "line 999"]
    assert processes.read_tail(log, 0) == []
    assert len(processes.read_tail(log, 10**6, limit_bytes=100)) < 20
