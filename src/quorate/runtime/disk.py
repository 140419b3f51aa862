"""The disk of a validator: one folder of real files.

Everything is for its owner alone. `sync` is fdatasync, which on Linux also makes a changed size
durable; a new or renamed entry is made durable by syncing the folder. After a failed sync the
kernel may have dropped what it could not write (Rebello and others, "Can Applications Recover from
fsync Failures?", ATC 2020), so a file that once failed is refused from then on.
"""

import os
from pathlib import Path

from quorate.base.errors import Invalid
from quorate.runtime.folder import make_private

__all__ = ["FileDisk"]

MAX_OPEN = 16


class FileDisk:
    """Implements `quorate.storage.disk.Disk`. One thread at a time."""

    __slots__ = ("_failed", "_folder", "_fresh", "_fsync", "_open", "path")

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        """`fsync=False` trusts the operating system to outlive the process: only for trials."""
        make_private(path)
        self.path, self._fsync = path, fsync
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[str, int] = {}
        """Files that are open for appending, the least recently opened first."""
        self._fresh: set[str] = set()
        """Files whose entry in the folder may not be durable yet."""
        self._failed: set[str] = set()
        # What an earlier process created or renamed last may be in the folder's cache alone.
        self._sync_folder()

    def names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.path) if entry.is_file())

    def read(self, name: str) -> bytes:
        return (self.path / check_name(name)).read_bytes()

    def append(self, name: str, data: bytes) -> None:
        descriptor = self._get(name)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, name: str) -> None:
        if name in self._failed:
            raise OSError(f"{self.path / name}: an earlier sync failed, its contents are unknown")
        if not self._fsync:
            return
        try:
            os.fdatasync(self._get(name))
            if name in self._fresh:
                self._sync_folder()
                self._fresh.discard(name)
        except OSError:
            self._failed.add(name)
            raise

    def rename(self, old: str, new: str) -> None:
        self._close(check_name(old))
        self._close(check_name(new))
        os.rename(old, new, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._fresh.discard(old)
        self._fresh.discard(new)
        self._sync_folder()

    def remove(self, name: str) -> None:
        self._close(check_name(name))
        os.unlink(name, dir_fd=self._folder)
        self._fresh.discard(name)
        self._sync_folder()

    def close(self) -> None:
        """Close all files; syncs nothing."""
        for name in list(self._open):
            self._close(name)
        os.close(self._folder)

    def _get(self, name: str) -> int:
        descriptor = self._open.get(name)
        if descriptor is not None:
            return descriptor
        if len(self._open) == MAX_OPEN:
            self._close(next(iter(self._open)))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        existed = (self.path / check_name(name)).exists()
        descriptor = os.open(name, flags, 0o600, dir_fd=self._folder)
        if not existed:
            self._fresh.add(name)
        self._open[name] = descriptor
        return descriptor

    def _close(self, name: str) -> None:
        descriptor = self._open.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def _sync_folder(self) -> None:
        if self._fsync:
            os.fsync(self._folder)


def check_name(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise Invalid(f"disk: found the name {name!r}, expected one without separators")
    return name
