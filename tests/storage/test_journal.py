"""The journal on a disk that crashes at every operation and byte, tears, forgets and rots."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.runtime.disk import FileDisk
from quorate.simulator.disk import PowerCut, Shape, SimulatedDisk
from quorate.simulator.tape import Replayed
from quorate.storage.contents import Recovered
from quorate.storage.journal import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Journal,
    open_journal,
)

ME = b"validator"
SMALL = 400
"""Bytes of a segment in most tests, so that they roll."""


def make_disk(*tear: int) -> SimulatedDisk:
    """Return a disk that does as it is told: what a crash leaves is chosen by these numbers."""
    return SimulatedDisk(Replayed(list(tear)), Replayed([]))


def start(disk: SimulatedDisk) -> tuple[Journal, Recovered]:
    return open_journal(disk, ME, segment_bytes=SMALL, max_record_bytes=1000)


def read(disk: SimulatedDisk) -> list[bytes]:
    return start(disk)[1].records


def make_records(first: int, count: int) -> list[bytes]:
    return [b"%04d" % i * (i % 7 + 1) for i in range(first, first + count)]


def test_empty_folder_gives_empty_journal() -> None:
    journal, recovered = start(make_disk())
    assert recovered == Recovered([], [])
    journal.append([])
    assert start(journal.disk)[1] == Recovered([], [])


def test_records_come_back_in_order_over_segments_and_reopenings() -> None:
    disk, written = make_disk(), []
    for round_ in range(8):
        journal, recovered = start(disk)
        assert recovered == Recovered(written, [])
        for batch in range(3):
            records = make_records(round_ * 100 + batch * 10, batch + 1)
            journal.append(records)
            written += records
    assert read(disk) == written


def test_records_come_back_in_order_from_many_segments() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    for i in range(0, 40, 2):
        journal.append(make_records(i, 2))
    assert len(disk.names()) > 3
    assert start(disk)[1] == Recovered(make_records(0, 40), [])


def test_what_a_file_held_before_it_was_used_again_is_no_part_of_a_segment(tmp_path: Path) -> None:
    """A disk may forget that a file which is used again was turned into zeros first."""
    written = []
    disk = FileDisk(tmp_path / "one")
    journal, _ = open_journal(disk, ME, segment_bytes=SMALL)
    while len(disk.names()) < 3:
        journal.append(make_records(len(written), 1))
        written += make_records(len(written), 1)
    journal.append(make_records(len(written), 2))
    written += make_records(len(written), 2)
    *earlier, last = disk.names()
    new, old = disk.read(last), disk.read(earlier[0])
    disk.close()
    assert len(old) > len(new)
    whole = 0
    for kept in range(0, len(new) + 1, 3):
        folder = tmp_path / f"kept {kept}"
        shutil.copytree(tmp_path / "one", folder)
        (folder / last).write_bytes(new[:kept] + old[kept:])
        again = FileDisk(folder)
        _, recovered = open_journal(again, ME, segment_bytes=SMALL)
        again.close()
        assert recovered.records == written[: len(recovered.records)]
        assert len(recovered.records) >= whole
        whole = len(recovered.records)
    assert whole > len(written) - 3


def test_opening_a_whole_base_changes_nothing() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.replace([b"base"])
    before = disk.operations
    assert read(disk) == read(disk) == [b"base"]
    assert disk.operations == before


def test_replaced_journal_holds_the_new_records_and_goes_on() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    for i in range(20):
        journal.append(make_records(i, 2))
    journal.replace([b"base one", b"base two"])
    assert disk.names() == [f"{journal.current.number:08}.base"]
    journal.append([b"after"])
    assert read(disk) == [b"base one", b"base two", b"after"]
    for i in range(20):
        journal.append(make_records(i, 1))
    journal.replace([])
    journal.append([b"more"])
    assert read(disk) == [b"more"]


def test_oversized_record_is_refused_and_nothing_is_written() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    with pytest.raises(Invalid, match="a record of 1001 bytes, expected at most 1000"):
        journal.append([b"fine", b"x" * 1001])
    journal.append([b"next"])
    assert read(disk) == [b"next"]


# ---- crashes

SHAPES: tuple[Shape, ...] = get_args(Shape)


def run_script(disk: SimulatedDisk, history: list[tuple[str, list[bytes]]]) -> None:
    """Write batches and cut now and then; `history` gets each step, begun and then durable."""
    journal, recovered = start(disk)
    state = recovered.records
    for step in range(14):
        state = [b"cut %d" % step] * (step % 3) if step % 5 == 4 else state + make_records(step, 3)
        history.append(("begun", state))
        if step % 5 == 4:
            journal.replace(state)
        else:
            journal.append(make_records(step, 3))
        history.append(("durable", state))


def count_operations() -> int:
    disk = make_disk()
    run_script(disk, [])
    return disk.operations


def crash_at(operation: int) -> tuple[SimulatedDisk, list[tuple[str, list[bytes]]]]:
    disk, history = make_disk(18 * operation), [("durable", [])]
    disk.power_until = operation
    with pytest.raises(PowerCut):
        run_script(disk, history)
    return disk, history


def check_survivors(disk: SimulatedDisk, history: list[tuple[str, list[bytes]]]) -> None:
    """All that was durable is there; what was begun is there as a prefix, or not at all."""
    records = read(disk)
    durable = [state for kind, state in history if kind == "durable"][-1]
    begun = history[-1][1]
    if begun[: len(durable)] == durable:
        assert records[: len(durable)] == durable
        assert records == begun[: len(records)]
    else:
        assert records in (durable, begun)


@pytest.mark.parametrize("shape", SHAPES)
def test_crash_at_any_operation_keeps_what_was_synced(shape: Shape) -> None:
    for operation in range(1, count_operations() + 1):
        disk, history = crash_at(operation)
        disk.crash(shape)
        check_survivors(disk, history)
        # And the journal that was found goes on.
        journal, recovered = start(disk)
        assert recovered.notes == []
        journal.append([b"again"])
        assert read(disk) == [*recovered.records, b"again"]


def test_crash_at_any_byte_of_an_append_keeps_a_prefix_of_it() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"one", b"two"])
    journal.write([b"three", b"four", b"five"])
    file = disk.get("00000001.log")
    lengths = set()
    for kept in range(len(file.cache) - file.dirty + 1):
        torn = disk.copy()
        torn.crash("prefix", Replayed([kept]))
        records = read(torn)
        assert records == [b"one", b"two", b"three", b"four", b"five"][: len(records)]
        lengths.add(len(records))
    assert lengths == {2, 3, 4, 5}


def test_second_crash_during_recovery_loses_nothing() -> None:
    for operation in range(1, 8):
        disk = make_disk()
        journal, _ = start(disk)
        durable: list[bytes] = []
        for i in range(12):
            journal.append(make_records(i, 2))
            durable += make_records(i, 2)
        journal.write([b"torn" * 20])
        disk.crash("prefix", Replayed([40]))
        disk.power_until = disk.operations + operation
        try:
            start(disk)
        except PowerCut:
            disk.crash("nothing")
        assert read(disk) == durable


def test_record_that_was_read_before_it_was_synced_is_kept_from_then_on() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"one"])
    journal.write([b"two"])
    # The process is killed: its bytes are in the cache alone, and the next process reads them.
    assert read(disk) == [b"one", b"two"]
    disk.crash("nothing")
    assert read(disk) == [b"one", b"two"]


def test_record_that_was_read_after_its_sync_failed_is_kept_from_then_on() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"one"])
    disk.script("sync error")
    with pytest.raises(OSError, match="Input/output error"):
        journal.append([b"two"])
    # Another sync would report success and write nothing.
    journal, recovered = start(disk)
    assert recovered.records == [b"one", b"two"]
    journal.append([b"three"])
    disk.crash("nothing")
    assert read(disk) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_of_a_tail_that_was_cut_off_never_come_back(shape: Shape) -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"one"])
    journal.write([b"torn", b"gone"])
    # Nothing was written of the first record: the second is cut off with it.
    file = disk.get("00000001.log")
    file.cache[file.dirty : file.dirty + 10] = bytes(10)
    disk.crash("whole")
    journal, recovered = start(disk)
    assert recovered.records == [b"one"]
    journal.write([b"next", b"last"])
    disk.crash(shape)
    records = read(disk)
    assert records == [b"one", b"next", b"last"][: len(records)]


def test_starts_on_a_full_disk_leave_few_drafts() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    for i in range(12):
        journal.append(make_records(i, 2))
    disk.fill(300)
    for _ in range(8):
        with pytest.raises(OSError, match="No space left"):
            start(disk)
        assert sum(name.endswith(".new") for name in disk.names()) <= 2
    disk.fill(2000)
    assert start(disk)[1].records == [r for i in range(12) for r in make_records(i, 2)]
    assert [name.partition(".")[2] for name in disk.names()] == ["base"]


# ---- damage


def build_long_journal() -> tuple[SimulatedDisk, list[bytes]]:
    """A base, full segments behind it, and a last segment with several appends."""
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"old"])
    state = [b"base"] * 3
    journal.replace(state)
    for i in range(16):
        records = make_records(i, 2)
        journal.append(records)
        state = state + records
    assert len(disk.names()) >= 3
    return disk, state


def each_bit(disk: SimulatedDisk) -> Iterator[tuple[str, int, int]]:
    for name in disk.names():
        for offset in range(len(disk.read(name))):
            # Every byte, its bits in turn: all bits of all bytes would only take longer.
            yield name, offset, offset % 8


def test_flipped_bit_anywhere_is_corrupt_or_in_the_very_last_append() -> None:
    pristine, state = build_long_journal()
    last = pristine.names()[-1]
    torn = 0
    for name, offset, bit in each_bit(pristine):
        disk = pristine.copy()
        disk.get(name).cache[offset] ^= 1 << bit
        before = {n: disk.read(n) for n in disk.names()}
        try:
            _, recovered = start(disk)
        except Corrupt:
            # Nothing is changed, so that a repair still finds everything.
            assert {n: disk.read(n) for n in disk.names()} == before
            continue
        torn += 1
        assert name == last
        assert len(recovered.notes) == 1
        assert len(recovered.records) >= len(state) - 2
        assert recovered.records == state[: len(recovered.records)]
    assert 0 < torn <= 2 * (RECORD_HEADER_BYTES + 28)


def test_damage_names_file_offset_found_and_expected() -> None:
    disk, _ = build_long_journal()
    name = disk.names()[1]
    disk.get(name).cache[SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES] ^= 1
    pattern = rf"journal: {name} at offset 36: found body check \w{{8}}, expected \w{{8}}"
    with pytest.raises(Corrupt, match=pattern):
        start(disk)


@pytest.mark.parametrize("room", [1, RECORD_HEADER_BYTES, 5000])
def test_room_behind_the_records_of_any_segment_is_nothing(room: int) -> None:
    pristine, state = build_long_journal()
    for name in pristine.names():
        disk = pristine.copy()
        disk.get(name).cache += bytes(room)
        journal, recovered = start(disk)
        assert recovered == Recovered(state, [])
        journal.append([b"more"])
        assert read(disk) == [*state, b"more"]


def test_room_behind_a_whole_base_is_no_reason_to_write_it_anew() -> None:
    disk = make_disk()
    start(disk)[0].replace([b"base"])
    disk.get(disk.names()[0]).cache += bytes(100)
    before = disk.operations
    assert read(disk) == [b"base"]
    assert disk.operations == before


def test_zeros_in_the_place_of_records_are_corrupt_if_a_segment_follows() -> None:
    pristine, _ = build_long_journal()
    for name in pristine.names()[:-1]:
        disk = pristine.copy()
        file = disk.get(name)
        size = len(file.cache)
        end = max(i for i in range(size) if file.cache.startswith(b"QREC", i))
        file.cache[end:] = bytes(size - end)
        with pytest.raises(Corrupt):
            start(disk)


def test_note_of_a_torn_tail_counts_no_room() -> None:
    disk, state = build_long_journal()
    disk.get(disk.names()[-1]).cache += b"QREC torn" + bytes(1 << 20)
    _, recovered = start(disk)
    assert recovered.records == state
    assert "cut off 9 bytes" in recovered.notes[0]


def test_missing_segment_is_corrupt() -> None:
    disk, _ = build_long_journal()
    gone = disk.names()[1]
    del disk.files[gone]
    with pytest.raises(Corrupt, match=r"follows .* expected segment"):
        start(disk)


def test_missing_first_segment_is_corrupt() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    for i in range(20):
        journal.append(make_records(i, 2))
    del disk.files["00000001.log"]
    with pytest.raises(Corrupt, match=r"expected 00000001\.log"):
        start(disk)


def test_unknown_file_in_the_folder_is_refused() -> None:
    disk = make_disk()
    disk.append("notes.txt", b"hello")
    with pytest.raises(Corrupt, match=r"notes\.txt"):
        start(disk)


def test_journal_of_another_validator_is_refused() -> None:
    disk = make_disk()
    open_journal(disk, b"somebody else")[0].append([b"vote"])
    with pytest.raises(Corrupt, match="belongs to another validator"):
        start(disk)


def test_record_body_that_imitates_a_record_changes_nothing() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"first"])
    imitation = disk.read("00000001.log")
    journal.append([imitation])
    journal.write([imitation, b"torn"])
    del disk.get("00000001.log").cache[-2:]
    disk.crash("whole")
    assert read(disk) == [b"first", imitation, imitation]


# ---- the known bugs of storage


def test_d1_record_is_durable_when_append_returns() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"vote"])
    disk.crash("nothing")
    assert read(disk) == [b"vote"]


def test_d2_bad_checksum_in_the_middle_is_not_cut_off() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    for body in (b"first", b"second", b"third"):
        journal.append([body])
    disk.rot("00000001.log", disk.read("00000001.log").index(b"second"))
    disk.drop_cache()
    with pytest.raises(Corrupt):
        start(disk)


def test_d3_cut_is_complete_before_the_old_segments_go() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"old"])
    order: list[tuple[str, str]] = []
    disk.before = lambda operation, name: order.append((operation, name))
    journal.replace([b"new"])
    assert order == [
        ("append", "00000002.new"),
        ("sync", "00000002.new"),
        ("rename", "00000002.base"),
        ("remove", "00000001.log"),
    ]


def test_d4_misdirected_write_is_found() -> None:
    pristine, _ = make_disk(), None
    journal, _ = start(pristine)
    for body in (b"aaaa", b"bbbb", b"cccc", b"dddd"):
        journal.append([body])
    size = RECORD_HEADER_BYTES + 4
    at = [SEGMENT_HEADER_BYTES + i * size for i in range(4)]
    for target in range(3):
        for source in range(4):
            if source == target:
                continue
            disk = pristine.copy()
            data = disk.get("00000001.log").cache
            data[at[target] : at[target] + size] = data[at[source] : at[source] + size]
            with pytest.raises(Corrupt):
                start(disk)


def test_d4_segment_under_another_name_is_found() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    for i in range(30):
        journal.append(make_records(i, 2))
    names = disk.names()
    disk.files[names[0]], disk.files[names[1]] = disk.files[names[1]], disk.files[names[0]]
    with pytest.raises(Corrupt):
        start(disk)


def test_d5_failed_sync_is_final() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"kept"])

    disk.script("sync error")
    with pytest.raises(OSError, match="Input/output error"):
        journal.append([b"lost"])
    # The second attempt would succeed, and prove nothing.
    for call in (lambda: journal.append([b"next"]), journal.sync, lambda: journal.replace([])):
        with pytest.raises(Unavailable, match="not usable after an error of the disk"):
            call()
    disk.crash("nothing")
    assert read(disk) == [b"kept"]


def test_full_disk_stops_the_journal_and_loses_nothing() -> None:
    disk = make_disk()
    journal, _ = start(disk)
    journal.append([b"kept"])
    disk.fill(20)
    with pytest.raises(OSError, match="No space left"):
        journal.append([b"lost"])
    with pytest.raises(Unavailable, match="No space left"):
        journal.append([b"lost"])
    disk.calm()
    disk.crash("whole")
    assert read(disk) == [b"kept"]
