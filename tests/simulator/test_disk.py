"""The simulated disk keeps the promises of `storage/disk.py`, and breaks them only as it says."""

import errno
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.base.errors import Invalid
from quorate.simulator.disk import (
    EFFECTS,
    SECTOR_BYTES,
    Pace,
    PowerCut,
    Shape,
    SimulatedDisk,
)
from quorate.simulator.tape import Choices, Replayed, Stream
from quorate.storage.disk import Disk

SHAPES: tuple[Shape, ...] = get_args(Shape)
ALL_ENTRIES, NO_ENTRIES, SOME_ENTRIES = 0, 6, 12
"""What a crash leaves of the folder, as the tape says it."""


class Notes(list[tuple[str, str]]):
    """The faults that a disk reported."""

    def __call__(self, kind: str, detail: str) -> None:
        assert kind in EFFECTS
        self.append((kind, detail))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self]


def make_disk(*tear: int, errors: Choices | None = None) -> tuple[SimulatedDisk, Notes]:
    """Return a disk that tears by these numbers, and what it will report."""
    notes = Notes()
    return SimulatedDisk(Replayed(list(tear)), errors or Replayed([]), notes), notes


def write(disk: Disk, name: str, *parts: bytes) -> None:
    for part in parts:
        disk.append(name, part)
        disk.sync(name)


# ---- what holds


def test_synced_bytes_survive_every_crash() -> None:
    for shape in SHAPES:
        disk, notes = make_disk()
        write(disk, "a", b"one ", b"two")
        disk.crash(shape)
        assert (disk.names(), disk.read("a"), notes) == (["a"], b"one two", [])


def test_disk_without_choices_loses_nothing_and_reports_nothing() -> None:
    disk, notes = make_disk()
    disk.append("a", b"written")
    disk.crash()
    disk.open()
    assert (disk.read("a"), notes) == (b"written", [])


def test_missing_file_is_an_error_of_the_world() -> None:
    disk, _ = make_disk()
    for call in (disk.read, disk.sync, disk.remove, lambda name: disk.rename(name, "b")):
        with pytest.raises(FileNotFoundError):
            call("a")


def test_renamed_file_replaces_the_other_at_once_and_for_good() -> None:
    disk, _ = make_disk(1, 1, 1)
    write(disk, "a", b"new")
    write(disk, "b", b"old")
    disk.rename("a", "b")
    disk.crash()
    assert (disk.names(), disk.read("b")) == (["b"], b"new")


def test_entry_that_was_not_made_durable_may_be_undone() -> None:
    for how, names in ((ALL_ENTRIES, ["b"]), (NO_ENTRIES, ["a"])):
        disk, notes = make_disk(how)
        write(disk, "a", b"one")
        disk.move("a", "b")
        disk.crash()
        assert disk.names() == names
        assert disk.read(names[0]) == b"one"
        assert notes.kinds == ["undone entry"] * (how != ALL_ENTRIES)
    disk, _ = make_disk(NO_ENTRIES)
    disk.append("a", b"one")
    disk.crash()
    assert disk.names() == []


def test_removal_without_its_rename_leaves_neither() -> None:
    disk, _ = make_disk(SOME_ENTRIES)
    write(disk, "new", b"new")
    write(disk, "old", b"old")
    disk.move("new", "base")
    disk.unlink("old")
    # The rename is undone, the removal is not.
    disk.crash(details=Replayed([1, 0]))
    assert disk.names() == ["new"]


@pytest.mark.parametrize(
    ("shape", "tear", "left"),
    [
        ("whole", [], b"abcdef"),
        ("nothing", [], b""),
        ("prefix", [4], b"abcd"),
        ("zeros", [4], b"abcd\0\0"),
        ("stale", [4], b"abcd\xa5\xa5"),
        ("sectors", [1], bytes(6)),
        ("sectors", [3, 2], b"ab\0\0\0\0"),
        ("sectors", [0, 1], b""),
    ],
)
def test_unsynced_bytes_are_torn_as_chosen(shape: Shape, tear: list[int], left: bytes) -> None:
    disk, notes = make_disk()
    write(disk, "a", b"synced")
    disk.append("a", b"abcdef")
    disk.crash(shape, Replayed(tear))
    assert disk.read("a") == b"synced" + left
    assert notes.kinds == ([] if left == b"abcdef" else ["torn write"])


def test_later_sectors_may_be_there_without_earlier_ones() -> None:
    disk, _ = make_disk()
    write(disk, "a", b"x" * 500)
    disk.append("a", b"y" * (2 * SECTOR_BYTES))
    disk.crash("sectors", Replayed([1, 0, 1]))
    # The first piece ends with its sector.
    data = disk.read("a")
    assert data[:500] == b"x" * 500
    assert data[500:512] == bytes(12)
    assert data[512:1024] == b"y" * 512
    assert not any(data[1024:])


def test_blocks_of_a_removed_file_show_up_in_a_torn_one() -> None:
    disk, _ = make_disk()
    write(disk, "secret", b"0123456789")
    disk.remove("secret")
    write(disk, "a", b"ok")
    disk.append("a", b"......")
    disk.crash("stale", Replayed([]))
    assert disk.read("a") == b"ok234567"


def test_power_is_cut_in_the_middle_of_a_chosen_operation() -> None:
    disk, _ = make_disk()
    write(disk, "a", b"one")
    disk.power_until = disk.operations + 2
    disk.append("a", b"two")
    with pytest.raises(PowerCut):
        disk.sync("a")
    disk.crash("nothing")
    write(disk, "a", b"three")
    assert disk.read("a") == b"onethree"


# ---- faults


def test_failed_sync_drops_the_dirty_bytes_and_the_next_one_reports_success() -> None:
    disk, notes = make_disk()
    write(disk, "a", b"one")
    disk.append("a", b"two")
    disk.script("sync error")
    with pytest.raises(OSError, match="Input/output error") as raised:
        disk.sync("a")
    assert raised.value.errno == errno.EIO
    disk.sync("a")
    # Whoever reads sees the cache.
    assert disk.read("a") == b"onetwo"
    disk.crash()
    assert disk.read("a") == b"one"
    assert notes.kinds == ["sync error"]


def test_process_that_starts_anew_may_find_that_the_cache_was_dropped() -> None:
    disk, notes = make_disk(1)
    write(disk, "a", b"one")
    disk.append("a", b"two")
    disk.script("sync error")
    with pytest.raises(OSError, match="Input/output error"):
        disk.sync("a")
    disk.open()
    assert disk.read("a") == b"one" + bytes(3)
    assert notes.kinds == ["sync error", "dropped cache"]


def test_lost_sync_reports_success_and_a_later_one_makes_it_good() -> None:
    for later, left in ((False, b"one"), (True, b"onetwothree")):
        disk, notes = make_disk()
        write(disk, "a", b"one")
        disk.script("lost sync")
        write(disk, "a", b"two")
        if later:
            write(disk, "a", b"three")
        disk.crash("nothing")
        assert disk.read("a") == left
        assert notes.kinds == ["lost sync", *([] if later else ["torn write"])]


def test_rot_shows_when_the_cache_is_dropped_and_says_whether_it_can_be_noticed() -> None:
    disk, notes = make_disk()
    write(disk, "a", b"\0\0", b"\0\0")
    assert disk.rot("a", 1)
    assert disk.rot("a", 2)
    assert disk.read("a") == bytes(4)
    disk.drop_cache()
    assert disk.read("a") == b"\0\1\1\0"
    assert notes.kinds == ["bit rot", "bit rot at the end", "dropped cache"]
    assert not make_disk()[0].rot()


def test_misdirected_write_lands_on_an_earlier_append() -> None:
    disk, notes = make_disk()
    write(disk, "a", b"one.", b"two.")
    disk.script("misdirected write")
    write(disk, "a", b"lost")
    assert disk.read("a") == b"one.two.lost"
    disk.crash()
    assert disk.read("a")[:8] == b"one.lost"
    assert disk.read("a")[8:] != b"lost"
    assert notes == [("misdirected write", "a: 4 bytes at 8 went to a at 4")]


def test_misdirected_write_waits_for_an_append_of_the_same_size() -> None:
    disk, notes = make_disk()
    write(disk, "a", b"one")
    disk.script("misdirected write")
    write(disk, "a", b"three")
    assert notes == []
    write(disk, "a", b"two")
    assert notes == [("misdirected write", "a: 3 bytes at 8 went to a at 0")]


def test_full_disk_takes_what_fits() -> None:
    disk, notes = make_disk()
    write(disk, "a", b"one")
    disk.fill(2)
    with pytest.raises(OSError, match="No space left") as raised:
        disk.append("a", b"two")
    assert raised.value.errno == errno.ENOSPC
    assert disk.read("a") == b"onetw"
    disk.calm()
    write(disk, "a", b"!")
    assert notes.kinds == ["full disk"]


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("read error", lambda disk: disk.read("a")),
        ("append error", lambda disk: disk.append("a", b"x")),
        ("full disk", lambda disk: disk.append("a", b"x")),
        ("sync error", lambda disk: disk.sync("a")),
    ],
)
def test_scripted_error_comes_at_its_turn_and_goes(
    kind: str, call: Callable[[SimulatedDisk], object]
) -> None:
    disk, notes = make_disk()
    write(disk, "a", b"one")
    disk.script(kind, nth=3, times=2)
    for turn in range(1, 7):
        if turn in (3, 4):
            with pytest.raises(OSError, match=r"error|space"):
                call(disk)
        else:
            call(disk)
    assert notes.kinds == [kind] * 2
    assert not disk.watched


def test_errors_come_at_their_rates_too() -> None:
    disk = SimulatedDisk(Replayed([]), Stream(1, "errors"), rates={"read error": 300})
    write(disk, "a", b"x")
    failed = 0
    for _ in range(1000):
        try:
            disk.read("a")
        except OSError:
            failed += 1
    assert 200 < failed < 400


@pytest.mark.parametrize("seed", range(30))
def test_platter_that_is_shared_with_the_cache_is_as_good_as_one_of_its_own(seed: int) -> None:
    """One disk copies everything at every step, the other only where the two differ."""
    shared, own = Notes(), Notes()
    rates = {"sync error": 30, "lost sync": 30, "misdirected write": 20, "append error": 20}

    def make(notes: Notes) -> SimulatedDisk:
        return SimulatedDisk(Stream(seed, "tear"), Stream(seed, "errors"), notes, rates=rates)

    disks = make(shared), make(own)
    steps = Stream(seed, "steps")
    for number in range(250):
        step, name = steps.choose(12), "ab"[steps.choose(2)]
        shape = SHAPES[steps.choose(len(SHAPES))]
        data = bytes([number]) * steps.choose(700)
        found = []
        for disk in disks:
            try:
                if step < 5:
                    disk.append(name, data)
                elif step < 8:
                    disk.sync(name)
                elif step == 8:
                    disk.crash(shape)
                elif step == 9:
                    disk.open()
                elif step == 10:
                    disk.rot()
                else:
                    disk.remove(name)
            except OSError as error:
                found.append(error.errno)
            for file in disks[1].files.values():
                # Asked for, it is copied.
                assert file.platter is file.own
        assert found[:1] == found[1:]
        assert shared == own
        held = [
            {
                n: (bytes(f.cache), bytes(f.copy().platter), f.size, f.dirty)
                for n, f in d.files.items()
            }
            for d in disks
        ]
        assert held[0] == held[1]
    assert shared.kinds


def test_unknown_fault_is_refused() -> None:
    with pytest.raises(Invalid, match="disk fault 'fire': expected one of append error"):
        make_disk()[0].script("fire")


def test_operations_take_their_time_and_stall_now_and_then() -> None:
    notes = Notes()
    pace = Pace(append_ns=10, sync_ns=1000, bytes_per_us=1, stall_permille=500, stall_factor=7)
    disk = SimulatedDisk(Replayed([]), Replayed([0, 1]), notes, pace=pace)
    assert disk.latency_ns("append", 3) == 3010
    assert disk.latency_ns("sync", 3) == 4010 * 7
    assert notes == [("stall", "sync: 28070 ns")]


# ---- against a plain model


Step = tuple[str, int, int]


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["append", "append", "sync", "rename", "remove", "crash", "open"]),
            st.integers(0, 2),
            st.integers(0, 1500),
        ),
        max_size=30,
    ),
    tear=st.lists(st.integers(0, 1 << 24), max_size=30),
)
def test_disk_keeps_what_its_contract_says(steps: list[Step], tear: list[int]) -> None:
    """Without faults: of each file at least what was synced, under its last durable name."""
    disk, notes = make_disk(*tear)
    synced: dict[str, bytes] = {}
    cache: dict[str, bytes] = {}
    for number, (action, which, size) in enumerate(steps):
        name = f"file {which}"
        if action == "append":
            data = bytes([number + 1]) * size
            disk.append(name, data)
            cache[name] = cache.get(name, b"") + data
        elif action == "crash":
            disk.crash()
            for durable, data in synced.items():
                assert disk.read(durable)[: len(data)] == data
            for left in disk.names():
                assert len(disk.read(left)) <= len(cache[left])
            cache = {left: disk.read(left) for left in disk.names()}
            synced = {left: cache[left] for left in synced}
        elif action == "open":
            disk.open()
        elif name in cache:
            if action == "sync":
                disk.sync(name)
                synced[name] = cache[name]
            elif action == "rename":
                disk.rename(name, "new")
                disk.rename("new", "file 0")
                cache["file 0"] = cache.pop(name)
                kept = synced.pop(name, b"")
                synced["file 0"] = kept
            else:
                disk.remove(name)
                del cache[name]
                synced.pop(name, None)
        assert {left: disk.read(left) for left in disk.names()} == cache
    assert set(notes.kinds) <= {"torn write", "undone entry"}
