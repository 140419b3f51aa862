"""The child process, systemd's notifications, and the folder of a validator."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quorate.base.errors import Unavailable
from quorate.runtime.pidfile import PidFile, read_holder
from quorate.runtime.supervision import Child, Notifier, prepare_command
from runtime.worlds import Recorder, drive, until

SOURCE = str(Path(__file__).resolve().parents[2] / "src")


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_child_is_started_again_and_ends_with_stop(tmp_path: Path) -> None:
    async def run() -> None:
        recorder = Recorder()
        script = "import time; print('here', flush=True); time.sleep(600)"
        output = tmp_path / "rpc.log"
        child = Child("rpc", [sys.executable, "-c", script], recorder.log, output=output)
        child.start()
        await until(lambda: output.exists() and output.read_text().strip(), "the child's line")
        assert child.process is not None
        first = child.process.pid
        child.process.kill()
        await until(
            lambda: child.process is not None and child.process.pid != first, "the second start"
        )
        second = child.process.pid
        assert recorder.find("rpc ended, starting it again")[0]["code"] == -signal.SIGKILL
        await child.stop()
        assert not is_alive(second)

    drive(run())


def test_child_that_cannot_be_started_is_reported_and_tried_again() -> None:
    async def run() -> None:
        recorder = Recorder()
        child = Child("rpc", ["/nonexistent/rpc"], recorder.log, output=None)
        child.start()
        await until(lambda: child.starts >= 2, "two attempts")
        assert recorder.find("rpc ended")
        await child.stop()

    drive(run())


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG of Linux")
def test_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    grandchild = (
        f"import os, time; open({str(told)!r} + '.new', 'w').write(str(os.getpid()));"
        f"os.rename({str(told)!r} + '.new', {str(told)!r}); time.sleep(600)"
    )
    parent = (
        f"import sys; sys.path.insert(0, {SOURCE!r}); import subprocess, time;"
        "from quorate.runtime.supervision import prepare_command;"
        f"subprocess.Popen(prepare_command([sys.executable, '-c', {grandchild!r}]));"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    try:
        deadline = time.monotonic() + 60
        while not told.exists():
            assert time.monotonic() < deadline, "the grandchild did not start"
            time.sleep(0.01)
        pid = int(told.read_text())
        assert is_alive(pid)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline, "the grandchild outlived its parent"
        time.sleep(0.01)


def test_command_of_a_child_names_this_package() -> None:
    command = prepare_command(["/bin/true"])
    assert command[0] == sys.executable
    assert SOURCE in command
    assert command[-2:] == [str(os.getpid()), "/bin/true"]


def test_systemd_hears_ready_watchdog_and_stopping(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = str(tmp_path / "notify")
        listener.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "4000000"})
        assert notifier.watchdog_s == 2.0
        notifier.ready("height 7")
        notifier.alive("height 8")
        notifier.stopping()
        got = [listener.recv(1024) for _ in range(3)]
    assert got == [b"READY=1\nSTATUS=height 7", b"WATCHDOG=1\nSTATUS=height 8", b"STOPPING=1"]
    assert Notifier({}).watchdog_s == 0.0
    Notifier({"NOTIFY_SOCKET": path}).ready("nobody listens")


def test_second_process_on_a_folder_is_refused_by_pid(tmp_path: Path) -> None:
    path = tmp_path / "validator.pid"
    path.write_text("1\n")  # left by a process that died; its number is somebody else's now
    assert read_holder(path) is None
    holder = PidFile(path)
    assert read_holder(path) == os.getpid()
    with pytest.raises(Unavailable, match=f"in use by process {os.getpid()}"):
        PidFile(path)
    holder.release()
    assert read_holder(path) is None
    PidFile(path).release()
