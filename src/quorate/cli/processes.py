"""Validator processes on this machine: start, look, stop, kill. A signal never goes to a stranger.

A validator holds the lock on its pid file as long as it lives, so the number in a locked file is
the number of the process that wrote it. A process is pinned (by a pidfd where the system has them)
before that is checked, and the signal goes through the pin: a number that is given to another
process in between hits nothing.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from quorate.cli.output import fail
from quorate.runtime.folder import Folder
from quorate.runtime.pidfile import read_holder

PROC = Path("/proc")
POLL_S = 0.05
STOP_S = 40.0
"""How long a validator may take to flush and leave after SIGTERM."""
KILL_S = 10.0


def find(folder: Folder) -> int | None:
    """Return the id of the process that runs a validator's folder; None if none does."""
    return read_holder(folder.pid)


def spawn(folder: Folder, network: Path) -> "subprocess.Popen[bytes]":
    """Start the validator of a folder in a session of its own; it writes to the folder's log.

    What gets past its logging (a traceback, the words of a library) lands in the same file.
    """
    command = [sys.executable, "-m", "quorate.cli", "run"]
    command += ["--network", str(network.resolve()), "--folder", str(folder.path.resolve())]
    command += ["--log-file", str(folder.log.resolve())]
    descriptor = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def send(folder: Folder, number: signal.Signals) -> int | None:
    """Signal the validator of a folder; return its process id, None if none runs.

    SIGKILL also goes to the processes that it started, as a machine that loses power would.
    """
    pid = find(folder)
    if pid is None:
        return None
    pin = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    try:
        if find(folder) != pid:
            return None
        if number == signal.SIGKILL and leads_session(pid):
            os.killpg(pid, number)
            kill_readers(folder)
        elif pin is not None:
            signal.pidfd_send_signal(pin, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return None
    finally:
        if pin is not None:
            os.close(pin)
    return pid


def leads_session(pid: int) -> bool:
    """Whether a process was started by `spawn`, so that its whole group belongs to it."""
    try:
        return os.getsid(pid) == pid and os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def is_gone(folder: Folder, pid: int) -> bool:
    """Whether a validator's process has ended, and all that it started."""
    return find(folder) != pid and not find_group(pid) and not find_readers(folder)


def find_readers(folder: Folder) -> list[int]:
    """Return the JSON-RPC processes of a folder, which may live in a session of their own."""
    mark = str(Folder(folder.path.resolve()).socket).encode()
    found = []
    for entry in PROC.glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in words and b"quorate.rpc" in words:
            found.append(int(entry.parent.name))
    return found


def kill_readers(folder: Folder) -> None:
    for pid in find_readers(folder):
        try:
            pin = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if pid in find_readers(folder):
                signal.pidfd_send_signal(pin, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(pin)


def find_group(pid: int) -> list[int]:
    """Return the living processes of a group; those that only wait to be collected are dead."""
    if not PROC.is_dir():
        try:
            os.killpg(pid, 0)
        except (ProcessLookupError, PermissionError):
            return []
        return [pid]
    found = []
    for entry in PROC.glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything; after it: state, parent, group.
            state, _, group, *_ = entry.read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if int(group) == pid and state not in "ZX":
            found.append(int(entry.parent.name))
    return found


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Poll until something is so; return whether it was in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def terminate(folders: list[Folder], seconds: float = STOP_S) -> list[Folder]:
    """Stop validators in good order, all at once; return those that had to be killed."""
    pids = {folder.path: pid for folder in folders if (pid := send(folder, signal.SIGTERM))}
    left = [folder for folder in folders if folder.path in pids]

    def all_gone() -> bool:
        left[:] = [folder for folder in left if not is_gone(folder, pids[folder.path])]
        return not left

    wait_until(all_gone, seconds)
    killed = list(left)
    for folder in killed:
        kill(folder, pids[folder.path])
    return killed


def kill(folder: Folder, pid: int | None = None) -> int | None:
    """Kill a validator at once and wait until it is gone; return its process id if it ran.

    With `pid`, also what is left of the group of a validator that has already ended.
    """
    found = send(folder, signal.SIGKILL)
    if found is None and pid is not None:
        if find_group(pid):
            # A group keeps its number as long as it has members: it is still the validator's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        kill_readers(folder)
        found = pid
    if found is not None and not wait_until(lambda: is_gone(folder, found), KILL_S):
        fail(f"process {found} did not end within {KILL_S:.0f} s of SIGKILL; look at it with ps")
    return found


def read_memory(pid: int) -> int | None:
    """Return the resident bytes of a process; None where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def is_listening(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def read_tail(log: Path, lines: int, limit_bytes: int = 1 << 20) -> list[str]:
    """Return the last lines of a log, of at most its last `limit_bytes`."""
    if lines <= 0:
        return []
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes))
            content = file.read(limit_bytes)
    except FileNotFoundError:
        return []
    return content.decode(errors="replace").splitlines()[-lines:]
