"""One process per folder: a locked file that holds the process's id.

The lock decides, not the number: a lock dies with its process, so neither a crash nor a number that
another program has got since leaves a folder that cannot be started.
"""

import fcntl
import os
import time
from pathlib import Path

from quorate.base.errors import Unavailable

__all__ = ["PidFile", "read_holder"]

LOCK_ATTEMPTS = 20
LOCK_PAUSE_S = 0.01


class PidFile:
    """Holds the folder of a file for this process until `release`, or until the process ends."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        """Take the file. Raises Unavailable naming the process that holds it."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not take_lock(self._descriptor):
            found = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise Unavailable(
                f"{path.parent}: in use by process {found or '(starting)'}, "
                "expected no other; stop that one first"
            )
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the folder free. The file stays, empty: removing it would race with a new holder."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def take_lock(descriptor: int) -> bool:
    """Return whether a file could be locked.

    `read_holder` locks it too, for microseconds; hence more than one attempt.
    """
    for _ in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)
        else:
            return True
    return False


def read_holder(path: Path) -> int | None:
    """Return the id of the process that holds a pid file; None if none does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        found = os.pread(descriptor, 32, 0).strip()
        return int(found) if found.isdigit() else None
    finally:
        os.close(descriptor)
    return None
