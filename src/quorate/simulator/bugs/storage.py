"""Known bugs of storage layers (catalogue D1-D6).

Sources: Rebello and others, "Can Applications Recover from fsync Failures?", ATC 2020; Alagappan
and others, "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018; Pillai and others,
"All File Systems Are Not Created Equal", OSDI 2014; ZOOKEEPER-582.

Each replaces the journal, the way it is opened, the disk below it or the node above it. They need
no engine, so all but D6 are found by trials of the journal alone as well.
"""

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quorate._kernel import make_records
from quorate.base.errors import Corrupt
from quorate.ledger.application import Executed
from quorate.simulator.bugs import Bug, register
from quorate.simulator.disk import SimulatedDisk
from quorate.storage.contents import Recovered
from quorate.storage.disk import Disk
from quorate.storage.journal import (
    CHECK,
    DEFAULT_RECORD_BYTES,
    DEFAULT_SEGMENT_BYTES,
    RECORD_HEADER,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Journal,
    list_segments,
    open_journal,
    parse_segment_header,
    read_segment,
)

if TYPE_CHECKING:
    from quorate.simulator.trial import StorageParts
    from quorate.simulator.world import World

__all__ = ["get_journal_bugs"]

JOURNAL_STATE = (
    "batch",
    "current",
    "disk",
    "failed",
    "max_record_bytes",
    "number",
    "seed",
    "segment_bytes",
    "segments",
    "sequence",
    "size",
)
"""What one journal takes over from another."""


class AckBeforeSync(Journal):
    """D1: what was written is acknowledged before it is durable."""

    def sync(self) -> None:
        self.check_usable()
        self.batch = self.sequence


class RetrySync(Journal):
    """D5: a sync that fails is made again, and its success believed."""

    def sync(self) -> None:
        try:
            super().sync()
        except OSError:
            self.failed = ""
            super().sync()


def open_truncating(
    disk: Disk,
    identity: bytes = b"",
    *,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
    max_record_bytes: int = DEFAULT_RECORD_BYTES,
) -> tuple[Journal, Recovered]:
    """D2: the journal ends at the first bad check, wherever it is, and the rest is thrown away."""
    journal = Journal(disk, identity, segment_bytes, max_record_bytes)
    segments, _, journal.number = list_segments(disk)
    records: list[bytes] = []
    for i, segment in enumerate(segments):
        first = journal.sequence if i else None
        found = read_segment(journal, segment, disk.read(segment.name), first)
        records += found.bodies
        journal.sequence = journal.batch = found.sequence
        if found.damage is not None:
            journal.segments = segments
            journal.replace(records)
            break
    return open_journal(
        disk, identity, segment_bytes=segment_bytes, max_record_bytes=max_record_bytes
    )


class FolderNotSynced(SimulatedDisk):
    """D3: renames and removals are not made durable in the folder."""

    __slots__ = ()

    def rename(self, old: str, new: str) -> None:
        self.get(old)
        self.enter("rename", new)
        self.move(old, new)

    def remove(self, name: str) -> None:
        self.get(name)
        self.enter("remove", name)
        self.unlink(name)


class Relabelled:
    """A disk whose records say that they belong where they are: what is seen by a journal whose
    checks do not cover segment, offset and sequence."""

    def __init__(self, disk: Disk, identity: bytes) -> None:
        self.disk, self.seed = disk, zlib.crc32(identity)
        self.names, self.append, self.sync = disk.names, disk.append, disk.sync
        self.rename, self.remove = disk.rename, disk.remove

    def read(self, name: str) -> bytes:
        raw = bytearray(self.disk.read(name))
        number = int(name.partition(".")[0])
        header = parse_segment_header(self.seed, number, bytes(raw))
        if not isinstance(header, tuple):
            return bytes(raw)
        sequence, offset = header[0], SEGMENT_HEADER_BYTES
        while len(raw) >= offset + RECORD_HEADER_BYTES:
            packed = bytes(raw[offset : offset + RECORD_HEADER.size])
            (check,) = CHECK.unpack_from(raw, offset + RECORD_HEADER.size)
            _, length, _, _, _, back, body_check = RECORD_HEADER.unpack(packed)
            end = offset + RECORD_HEADER_BYTES + length
            body = bytes(raw[end - length : end])
            if (zlib.crc32(packed, self.seed), zlib.crc32(body, self.seed)) != (check, body_check):
                break
            first = sequence - back
            raw[offset:end] = make_records(b"", self.seed, number, offset, sequence, first, [body])
            offset, sequence = end, sequence + 1
        return bytes(raw)


def open_without_positions(
    disk: Disk, identity: bytes = b"", **settings: Any
) -> tuple[Journal, Recovered]:
    """D4: the check of a record does not say where it belongs."""
    journal, recovered = open_journal(Relabelled(disk, identity), identity, **settings)
    journal.disk = disk
    return journal, recovered


def open_refusing(disk: Disk, identity: bytes = b"", **settings: Any) -> tuple[Journal, Recovered]:
    """A torn tail is taken for damage."""
    journal, recovered = open_journal(disk, identity, **settings)
    for note in recovered.notes:
        if "cut off" in note:
            raise Corrupt(note)
    return journal, recovered


def use_journal(kind: type[Journal]) -> Callable[["StorageParts"], None]:
    """Return what makes all journals be of this kind."""

    def install(parts: "StorageParts") -> None:
        def open_as(
            disk: Disk, identity: bytes = b"", **settings: Any
        ) -> tuple[Journal, Recovered]:
            opened, recovered = open_journal(disk, identity, **settings)
            journal = kind(disk, identity, opened.segment_bytes, opened.max_record_bytes)
            for name in JOURNAL_STATE:
                setattr(journal, name, getattr(opened, name))
            return journal, recovered

        parts.open_journal = open_as

    return install


def use_opening(opening: Callable[..., Any]) -> Callable[["StorageParts"], None]:
    """Return what makes all journals be opened in this way."""

    def install(parts: "StorageParts") -> None:
        parts.open_journal = opening

    return install


def use_disk(kind: type[SimulatedDisk]) -> Callable[["StorageParts"], None]:
    """Return what makes all disks be of this kind."""

    def install(parts: "StorageParts") -> None:
        parts.disk = kind

    return install


def cut_before_commit(world: "World") -> None:
    """D6: the journal is cut at a height that is final, and not durable yet."""
    sound = world.make_node

    class CutBeforeCommit(sound):  # type: ignore[misc, valid-type]
        """Takes what is final for durable."""

        def on_final(self, executed: Executed) -> None:
            self.interpreter.durable = executed.height
            super().on_final(executed)

    world.make_node = CutBeforeCommit


JOURNAL_BUGS = (
    Bug(
        "d1-ack-before-sync",
        "records are acknowledged before they are durable",
        "ZOOKEEPER-4646; ZOOKEEPER-582",
        "durability",
        use_journal(AckBeforeSync),
    ),
    Bug(
        "d2-truncate-anywhere",
        "the journal is cut at the first bad check, wherever it is",
        "Alagappan and others, FAST 2018",
        "durability",
        use_opening(open_truncating),
    ),
    Bug(
        "d3-folder-not-synced",
        "a rename is not made durable in its folder",
        "Pillai and others, OSDI 2014",
        "durability",
        use_disk(FolderNotSynced),
    ),
    Bug(
        "d4-check-without-position",
        "the check of a record does not say where it belongs",
        "Alagappan and others, FAST 2018",
        "durability",
        use_opening(open_without_positions),
    ),
    Bug(
        "d5-retry-sync",
        "a sync that fails is made again, and its success believed",
        "Rebello and others, ATC 2020",
        "durability",
        use_journal(RetrySync),
    ),
)

register(
    *JOURNAL_BUGS,
    Bug(
        "refuse-torn-tail",
        "a journal whose last write was torn is refused as damaged",
        "Alagappan and others, FAST 2018",
        "durability",
        use_opening(open_refusing),
    ),
    Bug(
        "d6-cut-before-commit",
        "the journal is cut at a height that the store does not hold yet",
        "ZOOKEEPER-582 (a snapshot from another epoch than the log)",
        "durability",
        cut_before_commit,
    ),
)


def get_journal_bugs() -> list[str]:
    """Return the names of the bugs that a trial of the journal alone can show."""
    return [bug.name for bug in JOURNAL_BUGS]
