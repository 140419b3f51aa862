"""A disk in memory that forgets what was not synced, tears what was being written, and can fail."""

import errno
from collections.abc import Callable


class Crash(Exception):
    """The machine stopped in the middle of an operation."""


class MemoryDisk:
    """Implements `quorate.storage.disk.Disk`.

    `before(operation, name)` is called at each operation that changes something and may raise.
    """

    def __init__(self) -> None:
        self.durable: dict[str, bytes] = {}
        self.files: dict[str, bytearray] = {}
        self.operations = 0
        self.before: Callable[[str, str], None] = lambda operation, name: None

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        return bytes(self.files[name])

    def append(self, name: str, data: bytes) -> None:
        # The data may have reached the disk in part when the operation is cut short.
        self.files.setdefault(name, bytearray()).extend(data)
        self.enter("append", name)

    def sync(self, name: str) -> None:
        self.enter("sync", name)
        self.durable[name] = bytes(self.files[name])

    def truncate(self, name: str, size: int) -> None:
        self.enter("truncate", name)
        del self.files[name][size:]

    def rename(self, old: str, new: str) -> None:
        self.enter("rename", new)
        self.files[new] = self.files.pop(old)
        self.durable[new] = self.durable.pop(old)

    def remove(self, name: str) -> None:
        self.enter("remove", name)
        del self.files[name]
        self.durable.pop(name, None)

    def enter(self, operation: str, name: str) -> None:
        self.operations += 1
        self.before(operation, name)

    def crash(self, tear: Callable[[bytes, bytes], bytes]) -> None:
        """Keep what was synced, and of each file what `tear(synced, unsynced)` returns besides."""
        files: dict[str, bytearray] = {}
        for name, data in self.files.items():
            synced = self.durable.get(name, b"")
            if bytes(data[: len(synced)]) == synced:
                left = tear(synced, bytes(data[len(synced) :]))
            else:
                # A truncation that was not synced may be undone.
                left = b""
            if name in self.durable or left:
                files[name] = bytearray(synced + left)
        self.files = files
        self.durable = {name: bytes(data) for name, data in files.items()}
        self.before = lambda operation, name: None


def no_space(operation: str, name: str) -> None:
    """A `before` of a full disk."""
    if operation == "append":
        raise OSError(errno.ENOSPC, f"No space left on device: {name}")
