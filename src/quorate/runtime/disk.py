"""The disk of a validator: one folder of real files.

Everything is for its owner alone. `sync` is fdatasync, which on Linux also makes a changed size
durable; a new or renamed entry is made durable by syncing the folder. After a failed sync the
kernel may have dropped what it could not write (Rebello and others, "Can Applications Recover from
fsync Failures?", ATC 2020), so a file that once failed is refused from then on.

A file that grows by each append costs a sync a quarter more, since the new size has to be written,
too. So whoever appends again finds room that was made in advance, zeros behind the end, which go
when the file is closed. After a crash they are still there: whoever reads has to tell zeros from
contents, as after an append that a crash cut off.

To remove a file takes long where the blocks that it frees are discarded (tens of milliseconds for
16 MiB), and all syncs wait for that. So a removed file is set aside under another name, turned into
zeros without freeing its blocks, and becomes the next new file together with all its room.
"""

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from quorate.base.errors import Invalid
from quorate.runtime.folder import make_private

__all__ = ["FileDisk"]

MAX_OPEN = 16
ROOM_BYTES = 1 << 20
"""What is made at a time."""
SPARES = (".spare-0", ".spare-1")
"""Names of files that are set aside; nobody is told of them."""
MAX_SPARE_BYTES = 64 << 20
"""A larger file is removed at once."""
ZERO_RANGE = 0x10
"""FALLOC_FL_ZERO_RANGE of linux/falloc.h."""


def find_fallocate() -> Any:
    """Return Linux's fallocate, which Python has without its modes; None where there is none."""
    try:
        found = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    found.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    return found


FALLOCATE: Any = find_fallocate()


class OpenFile:
    """A file that is appended to."""

    __slots__ = ("appends", "descriptor", "end", "size")

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.end = self.size = size
        """Of what was appended, and of the file with its room."""
        self.appends = 0

    def append(self, data: bytes) -> None:
        if self.appends and self.end + len(data) > self.size:
            self.make_room(len(data))
        self.appends += 1
        view, at = memoryview(data), self.end
        while view:
            written = os.pwrite(self.descriptor, view, at)
            view, at = view[written:], at + written
        self.end = at
        self.size = max(self.size, at)

    def make_room(self, needed: int) -> None:
        try:
            os.posix_fallocate(self.descriptor, self.size, needed + ROOM_BYTES)
        except OSError:
            # A full disk, or one that cannot: appends say which.
            return
        self.size += needed + ROOM_BYTES

    def clear(self) -> bool:
        """Turn all contents into zeros and keep the room, where the file system can."""
        if FALLOCATE is None or not 0 < self.size <= MAX_SPARE_BYTES:
            return False
        if FALLOCATE(self.descriptor, ZERO_RANGE, 0, self.size) != 0:
            return False
        self.end = self.appends = 0
        return True

    def close(self) -> None:
        if self.size > self.end:
            with suppress(OSError):
                os.ftruncate(self.descriptor, self.end)
        os.close(self.descriptor)


class FileDisk:
    """Implements `quorate.storage.disk.Disk`. One thread at a time."""

    __slots__ = ("_failed", "_folder", "_fresh", "_fsync", "_open", "_spares", "path")

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        """`fsync=False` trusts the operating system to outlive the process: only for trials."""
        make_private(path)
        self.path, self._fsync = path, fsync
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[str, OpenFile] = {}
        """Files that are open for appending, the least recently opened first."""
        self._fresh: set[str] = set()
        """Files whose entry in the folder may not be durable yet."""
        self._failed: set[str] = set()
        self._spares: dict[str, OpenFile] = {}
        for name in SPARES:
            # Of an earlier process, which may not have got to clear it.
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)
        # What an earlier process created or renamed last may be in the folder's cache alone.
        self._sync_folder()

    def names(self) -> list[str]:
        return sorted(
            entry.name
            for entry in os.scandir(self.path)
            if entry.is_file() and entry.name not in SPARES
        )

    def read(self, name: str) -> bytes:
        data = (self.path / check_name(name)).read_bytes()
        file = self._open.get(name)
        return data if file is None else data[: file.end]

    def append(self, name: str, data: bytes) -> None:
        self._get(name).append(data)

    def sync(self, name: str) -> None:
        if name in self._failed:
            raise OSError(f"{self.path / name}: an earlier sync failed, its contents are unknown")
        if not self._fsync:
            return
        try:
            os.fdatasync(self._get(name).descriptor)
            if name in self._fresh:
                self._sync_folder()
                self._fresh.discard(name)
        except OSError:
            self._failed.add(name)
            raise

    def find_descriptor(self, name: str) -> int | None:
        """Return whose fdatasync is all that `sync` would do; None if there is more to it.

        It stays open until the next call that is about this file.
        """
        if not self._fsync or name in self._failed or name in self._fresh:
            return None
        file = self._open.get(name)
        return None if file is None else file.descriptor

    def give_up(self, name: str) -> None:
        """A sync of that descriptor failed: refuse the file from now on."""
        self._failed.add(name)

    def rename(self, old: str, new: str) -> None:
        self._close(check_name(new))
        self._move(check_name(old), new)
        file = self._open.pop(old, None)
        if file is not None:
            self._open[new] = file
        self._fresh.discard(old)
        self._fresh.discard(new)
        self._sync_folder()

    def remove(self, name: str) -> None:
        if not self._set_aside(check_name(name)):
            self._close(name)
            os.unlink(name, dir_fd=self._folder)
        self._fresh.discard(name)
        self._sync_folder()

    def close(self) -> None:
        """Close all files; syncs nothing."""
        for name in list(self._open):
            self._close(name)
        for name, file in self._spares.items():
            os.close(file.descriptor)
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)
        self._spares.clear()
        os.close(self._folder)

    def _set_aside(self, name: str) -> bool:
        """Keep a file that is to be removed for the next new one, if that is possible."""
        file = self._open.get(name)
        spare = next((spare for spare in SPARES if spare not in self._spares), None)
        if file is None or spare is None or name in self._failed:
            return False
        # Its name goes first: nobody finds zeros under it.
        self._move(name, spare)
        del self._open[name]
        if file.clear():
            self._spares[spare] = file
        else:
            os.unlink(spare, dir_fd=self._folder)
            os.close(file.descriptor)
        return True

    def _take_spare(self, name: str) -> bool:
        """Let a file that was set aside be a new one, if there is any."""
        while self._spares:
            spare, file = self._spares.popitem()
            try:
                self._move(spare, name)
            except FileNotFoundError:
                # Somebody tidied up.
                os.close(file.descriptor)
                continue
            self._open[name] = file
            return True
        return False

    def _move(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _get(self, name: str) -> OpenFile:
        file = self._open.get(name)
        if file is not None:
            return file
        if len(self._open) == MAX_OPEN:
            self._close(next(iter(self._open)))
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        existed = os.path.lexists(self.path / check_name(name))
        if not existed:
            self._fresh.add(name)
            if self._take_spare(name):
                return self._open[name]
        descriptor = os.open(name, flags, 0o600, dir_fd=self._folder)
        file = self._open[name] = OpenFile(descriptor, os.fstat(descriptor).st_size)
        return file

    def _close(self, name: str) -> None:
        file = self._open.pop(name, None)
        if file is not None:
            file.close()

    def _sync_folder(self) -> None:
        if self._fsync:
            os.fsync(self._folder)


def check_name(name: str) -> str:
    if not name or name in (".", "..") or name in SPARES or "/" in name or "\0" in name:
        raise Invalid(f"disk: found the name {name!r}, expected one without separators")
    return name
