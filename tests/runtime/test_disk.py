"""The real disk keeps the promises of `storage/disk.py`."""

import os
from pathlib import Path

import pytest

from quorate.base.errors import Invalid
from quorate.runtime import disk as module
from quorate.runtime.disk import SPARES, FileDisk
from quorate.storage.disk import Disk


def test_appended_bytes_are_read_back_and_survive_reopening(tmp_path: Path) -> None:
    disk: Disk = FileDisk(tmp_path / "journal")
    disk.append("b", b"one ")
    disk.append("b", b"two")
    disk.append("a", b"")
    disk.sync("b")
    assert disk.names() == ["a", "b"]
    disk.close()
    again = FileDisk(tmp_path / "journal")
    assert again.read("b") == b"one two"


def test_files_and_folder_are_for_the_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir(mode=0o755)
    disk = FileDisk(tmp_path / "journal")
    disk.append("a", b"x")
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "journal" / "a").stat().st_mode & 0o777 == 0o600


def test_rename_and_remove(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "journal")
    disk.append("a", b"0123x")
    disk.append("b", b"old")
    disk.rename("a", "b")
    disk.append("b", b"y")
    assert disk.read("b") == b"0123xy"
    disk.remove("b")
    assert disk.names() == []
    with pytest.raises(FileNotFoundError):
        disk.read("b")


def test_many_files_stay_within_the_bound_of_open_ones(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "journal")
    before = len(os.listdir("/proc/self/fd"))
    for i in range(100):
        disk.append(f"{i:03}", b"x")
        disk.sync(f"{i:03}")
    assert len(os.listdir("/proc/self/fd")) <= before + 16
    disk.append("000", b"y")
    assert disk.read("000") == b"xy"


def test_file_whose_sync_failed_is_refused_from_then_on(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "journal")
    disk.append("a", b"x")
    os.close(disk._open["a"].descriptor)  # the next sync fails with EBADF
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.sync("a")
    with pytest.raises(OSError, match="an earlier sync failed"):
        disk.sync("a")


def test_room_is_made_ahead_and_goes_with_the_file(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "journal")
    path = tmp_path / "journal" / "a"
    disk.append("a", b"one")
    assert path.stat().st_size == 3
    disk.append("a", b"two")
    assert path.stat().st_size > 1 << 20
    assert disk.read("a") == b"onetwo"
    # As a process that was killed leaves it.
    assert FileDisk(tmp_path / "journal").read("a").rstrip(b"\0") == b"onetwo"
    disk.append("a", bytes(3 << 20))
    disk.append("a", b"three")
    disk.close()
    assert path.read_bytes() == b"onetwo" + bytes(3 << 20) + b"three"


def test_disk_that_makes_no_room_is_appended_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    disk = FileDisk(tmp_path / "journal")
    for part in (b"one", b"two", b"three"):
        disk.append("a", part)
    disk.sync("a")
    assert (tmp_path / "journal" / "a").read_bytes() == b"onetwothree"


def test_a_removed_file_becomes_the_next_one_with_zeros_behind_its_end(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "journal")
    folder = tmp_path / "journal"
    for part in (b"old one", b"old two"):
        disk.append("a", part)
    inode = (folder / "a").stat().st_ino
    disk.remove("a")
    assert disk.names() == []
    disk.append("b", b"new")
    disk.sync("b")
    assert disk.names() == ["b"]
    assert disk.read("b") == b"new"
    if (folder / "b").stat().st_ino != inode:
        pytest.skip("this file system cannot turn a file into zeros")
    # As a process that was killed leaves it.
    assert (folder / "b").read_bytes().rstrip(b"\0") == b"new"
    # A file that is renamed keeps its room, and can be removed in its turn.
    disk.rename("b", "c")
    disk.append("c", b"er")
    disk.append("d", b"x")
    disk.rename("c", "d")
    assert disk.read("d") == b"newer"
    assert (folder / "d").stat().st_ino == inode
    disk.close()
    assert sorted(os.listdir(folder)) == ["d"]
    assert (folder / "d").read_bytes() == b"newer"


def test_removed_files_that_are_set_aside_are_few_and_go(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "journal")
    for i in range(8):
        disk.append(f"{i}", b"x")
    for i in range(8):
        disk.remove(f"{i}")
    assert len(os.listdir(tmp_path / "journal")) <= len(SPARES)
    # Somebody tidied up, which is no harm.
    for name in os.listdir(tmp_path / "journal"):
        (tmp_path / "journal" / name).unlink()
    disk.append("a", b"x")
    assert disk.read("a") == b"x"
    disk.remove("a")
    for name in os.listdir(tmp_path / "journal"):
        (tmp_path / "journal" / name).unlink()
    disk.close()
    # One that this process does not hold, as a process that was killed leaves it.
    (tmp_path / "journal" / SPARES[0]).write_bytes(b"old")
    again = FileDisk(tmp_path / "journal")
    assert os.listdir(tmp_path / "journal") == []
    again.append("a", b"y")
    assert (tmp_path / "journal" / "a").read_bytes() == b"y"


@pytest.mark.parametrize("missing", ["call", "mode"])
def test_a_file_that_cannot_be_turned_into_zeros_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(module, "FALLOCATE", None if missing == "call" else lambda *_: -1)
    disk = FileDisk(tmp_path / "journal")
    disk.append("a", b"old")
    disk.remove("a")
    assert os.listdir(tmp_path / "journal") == []
    disk.append("a", b"new")
    assert disk.read("a") == b"new"


def test_a_file_whose_sync_failed_is_not_used_again(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "journal")
    disk.append("a", b"x")
    disk._failed.add("a")
    disk.remove("a")
    assert os.listdir(tmp_path / "journal") == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/x", SPARES[0]])
def test_names_with_separators_are_refused(tmp_path: Path, name: str) -> None:
    disk = FileDisk(tmp_path / "journal")
    with pytest.raises(Invalid, match="expected one without separators"):
        disk.append(name, b"x")


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "journal")
    (tmp_path / "journal" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):  # noqa: PT011  (ELOOP, worded by the system)
        disk.append("a", b"x")
    assert not (tmp_path / "elsewhere").exists()
