"""The journal: an append-only log of records that survives crashes and notices damage.

Source of the rules: Alagappan and others, "Protocol-Aware Recovery for Consensus-Based Storage",
FAST 2018 (a torn tail may be cut off, damage in the middle must never be); Rebello and others, "Can
Applications Recover from fsync Failures?", ATC 2020 (after a failed sync the cache lies: stop).

Files. `00000007.log` is a segment that continues the one before it; `00000007.base` is a segment
that replaces everything before it (a cut). A `.base` is written under another name, synced and then
renamed, so it is there completely or not at all; what it replaces is removed afterwards, and again
at the next start if a crash came between. `.new` files are leftovers of such a crash.

A segment begins with a header of 36 bytes:

    magic 4 | version u32 | segment u64 | first sequence u64 | end of the base u32 | identity u32
    | check u32

and goes on with records, each a header of 44 bytes and the body:

    magic 4 | length u32 | segment u64 | offset u64 | sequence u64 | back u32 | body u32 | check u32

Integers are little-endian. `check` is the CRC-32 of the header before it, `body` that of the body;
`identity` is the CRC of the journal's identity, and both checks of a record start from it, so that
a file of another journal does not pass. Segment, offset and sequence say where the record belongs:
a write that landed elsewhere is found out. `back` is the distance to the first record of the same
append: whatever precedes that one was durable when this record was written.

Torn or damaged? An append that was never synced may leave anything behind: a part, zeros, later
pages without earlier ones. So a bad record in the last segment is a torn tail, and is cut off and
reported, unless a good record behind it proves by its `back` that the bad one had been durable.
That, and any damage in an earlier segment or in a base, is `Corrupt`, with file and offset, and
nothing is changed. What cannot be told apart: damage to the very last append after it was synced
looks torn. Zeros up to the end of a segment are nothing at all: a disk may have made room in
advance, and what follows in the next segment shows whether something is missing.

Opening ends with a cut to what was found, unless that is one whole base and nothing else. What a
process reads may be in the cache alone: a killed one left it there before the sync, or a sync
failed, whose pages are then taken for clean. Only writing it anew makes it durable before anybody
acts on it. Where nothing is written anew, the first append begins a segment. Its number, as any new
one, is above all that are there, even of drafts, and so disowns whatever blocks of a torn tail a
later crash may dig up.
"""

import struct
from collections.abc import Iterator
from typing import Final
from zlib import crc32

from quorate._kernel import make_records, read_records
from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.base.native import mypyc_attr
from quorate.storage.contents import Contents, Damage, Found, Recovered, Segment
from quorate.storage.disk import Disk

VERSION: Final = 1
SEGMENT_MAGIC: Final = b"QSEG"
RECORD_MAGIC: Final = b"QREC"
SEGMENT_HEADER: Final = struct.Struct("<4sIQQII")
RECORD_HEADER: Final = struct.Struct("<4sIQQQII")
CHECK: Final = struct.Struct("<I")
SEGMENT_HEADER_BYTES: Final = SEGMENT_HEADER.size + CHECK.size
RECORD_FIELDS_BYTES: Final = 40
"""Of a record's header without its check."""
RECORD_HEADER_BYTES: Final = 44
assert (RECORD_HEADER.size, CHECK.size) == (RECORD_FIELDS_BYTES, 4)
# What every record takes, bound once: a compiled module finds such names without a look.
_crc32: Final = crc32
_unpack_header: Final = RECORD_HEADER.unpack
_unpack_check: Final = CHECK.unpack_from
DEFAULT_SEGMENT_BYTES: Final = 16 << 20
DEFAULT_RECORD_BYTES: Final = 64 << 20
MAX_BASE_BYTES = (1 << 32) - 1


@mypyc_attr(allow_interpreted_subclasses=True)
class Journal:
    """The writing side; made by `open_journal`.

    Any error of the disk is final: the journal then refuses everything until it is opened anew.
    """

    __slots__ = (
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

    def __init__(
        self, disk: Disk, identity: bytes, segment_bytes: int, max_record_bytes: int
    ) -> None:
        self.disk = disk
        self.seed = crc32(identity)
        self.segment_bytes, self.max_record_bytes = segment_bytes, max_record_bytes
        self.segments: list[Segment] = []
        self.current: Segment | None = None
        """What is appended to; None: the next append begins a segment."""
        self.number = 0
        """Of the last segment or draft; none is used twice."""
        self.size = 0
        """Of the current segment, in bytes."""
        self.sequence = 0
        """Of the next record."""
        self.batch = 0
        """Of the first record that is not synced."""
        self.failed = ""

    def append(self, records: list[bytes]) -> None:
        """Append records; they are durable on return. Raises OSError, Unavailable, Invalid."""
        self.write(records)
        self.sync()

    def write(self, records: list[bytes]) -> None:
        """Append records that become durable together, with the next `sync`."""
        self.check_records(records)
        self.check_usable()
        head = b""
        current, size, sequence = self.current, self.size, self.sequence
        if current is None or (size >= self.segment_bytes and self.batch == sequence):
            number = self.number + 1
            current, size = Segment(number, False, f"{number:08}.log"), SEGMENT_HEADER_BYTES
            head = make_segment_header(self.seed, number, sequence, 0)
        data = make_records(head, self.seed, current.number, size, sequence, self.batch, records)
        try:
            self.disk.append(current.name, data)
        except OSError as error:
            self.failed = f"{current.name}: {error}"
            raise
        if current is not self.current:
            self.segments.append(current)
            self.current, self.number = current, current.number
        self.size = size + len(data) - len(head)
        self.sequence = sequence + len(records)

    def sync(self) -> None:
        """Make everything written durable."""
        self.check_usable()
        if self.current is None or self.batch == self.sequence:
            return
        try:
            self.disk.sync(self.current.name)
        except OSError as error:
            # Never tried again: the kernel may have dropped the pages and would report success.
            self.failed = f"{self.current.name}: {error}"
            raise
        self.batch = self.sequence

    def get_unsynced(self) -> str:
        """Return the file whose sync makes everything written durable, for whoever has a better
        place to wait for that; `end_sync` then comes before anything else is asked of the journal.
        """
        self.check_usable()
        return "" if self.current is None else self.current.name

    def end_sync(self, error: OSError | None) -> None:
        """That file was synced, or could not be. Raises the error."""
        if error is not None:
            self.failed = f"{self.get_unsynced()}: {error}"
            raise error
        self.batch = self.sequence

    def replace(self, records: list[bytes]) -> None:
        """Let the journal consist of these records alone; atomic and durable on return."""
        self.check_records(records)
        self.check_usable()
        number = self.number + 1
        first = self.sequence
        size = SEGMENT_HEADER_BYTES + sum(RECORD_HEADER_BYTES + len(record) for record in records)
        if size > MAX_BASE_BYTES:
            raise Invalid(f"journal: a base of {size} bytes, expected at most {MAX_BASE_BYTES}")
        header = make_segment_header(self.seed, number, first, size)
        data = make_records(header, self.seed, number, SEGMENT_HEADER_BYTES, first, first, records)
        segment = Segment(number, True, f"{number:08}.base")
        try:
            draft = f"{number:08}.new"
            self.disk.append(draft, data)
            self.disk.sync(draft)
            self.disk.rename(draft, segment.name)
            for old in self.segments:
                self.disk.remove(old.name)
        except OSError as error:
            self.failed = f"{segment.name}: {error}"
            raise
        self.segments, self.current, self.size = [segment], segment, size
        self.number = number
        self.sequence = self.batch = first + len(records)

    def check_records(self, records: list[bytes]) -> None:
        limit = self.max_record_bytes
        for record in records:
            if len(record) > limit:
                raise Invalid(f"journal: a record of {len(record)} bytes, expected at most {limit}")

    def check_usable(self) -> None:
        if self.failed:
            raise Unavailable(f"journal: not usable after an error of the disk: {self.failed}")


def open_journal(
    disk: Disk,
    identity: bytes = b"",
    *,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
    max_record_bytes: int = DEFAULT_RECORD_BYTES,
) -> tuple[Journal, Recovered]:
    """Open or create the journal in a folder of its own and return what survived.

    Raises Corrupt when something that was durable is damaged or missing; nothing is changed then.
    """
    journal = Journal(disk, identity, segment_bytes, max_record_bytes)
    segments, leftovers, journal.number = list_segments(disk)
    notes: list[str] = []
    records: list[bytes] = []
    is_whole = not segments
    for i, segment in enumerate(segments):
        if i and segment.number != segments[i - 1].number + 1:
            raise Corrupt(
                f"journal: {segment.name} follows {segments[i - 1].name}, "
                f"expected segment {segments[i - 1].number + 1:08}"
            )
        raw = disk.read(segment.name)
        first = journal.sequence if i else None
        is_last = i == len(segments) - 1
        found = read_segment(journal, segment, raw, first)
        if found.damage is not None:
            judge_damage(journal, segment, raw, found.damage, found.sequence, is_last)
            torn = max(len(raw.rstrip(b"\0")) - found.end, 1)
            notes.append(
                f"{segment.name}: cut off {torn} bytes at offset {found.end}, an "
                f"append that was never synced ({found.damage.found}, "
                f"expected {found.damage.expected})"
            )
        is_whole = segment.base and found.base_end == found.end and found.damage is None
        records += found.bodies
        journal.sequence = found.sequence
    journal.segments, journal.batch = segments, journal.sequence
    notes += [f"{name}: removed, left behind by a cut" for name in leftovers]
    # The highest number must stay known until there is a higher one; all else gives way before
    # something is written, so that a full disk does not fill with drafts.
    for name in leftovers[:-1]:
        disk.remove(name)
    if leftovers or not is_whole:
        journal.replace(records)
    for name in leftovers[-1:]:
        disk.remove(name)
    return journal, Recovered(records, notes)


def list_segments(disk: Disk) -> tuple[list[Segment], list[str], int]:
    """Return the segments from the last base on, what may be removed, both in order of their
    numbers, and the highest number of all.
    """
    found: list[Segment] = []
    leftovers: list[str] = []
    highest = 0
    for name in disk.names():
        stem, _, kind = name.partition(".")
        if kind not in ("log", "base", "new") or not stem.isdecimal():
            raise Corrupt(f"journal: found the file {name!r}, expected only segments")
        highest = max(highest, int(stem))
        if kind == "new":
            leftovers.append(name)
        else:
            found.append(Segment(int(stem), kind == "base", name))
    found.sort(key=lambda s: (s.number, s.base))
    bases = [i for i, segment in enumerate(found) if segment.base]
    start = bases[-1] if bases else 0
    if not bases and found and found[0].number != 1:
        raise Corrupt(f"journal: the first file is {found[0].name}, expected 00000001.log")
    leftovers += [segment.name for segment in found[:start]]
    leftovers.sort(key=lambda name: int(name.partition(".")[0]))
    return found[start:], leftovers, highest


def read_segment(journal: Journal, segment: Segment, raw: bytes, first: int | None) -> Contents:
    """Return what a segment holds.

    `first` is the sequence that the segment has to start with, None if any will do. Raises Corrupt
    for damage in a base.
    """
    header = parse_segment_header(journal.seed, segment.number, raw)
    if isinstance(header, Damage):
        if segment.base:
            raise make_corrupt(segment, header)
        return Contents([], 0, first or 0, 0, header)
    sequence, base_end = header
    if first is not None and sequence != first:
        raise make_corrupt(segment, Damage(0, f"first sequence {sequence}", str(first)))
    limit, number = journal.max_record_bytes, segment.number
    bodies, offset = read_records(raw, journal.seed, number, SEGMENT_HEADER_BYTES, sequence, limit)
    sequence += len(bodies)
    if offset < len(raw) and (offset < base_end or raw[offset:].strip(b"\0")):
        record = parse_record(journal, number, raw, offset)
        if isinstance(record, Found):
            record = Damage(offset, f"sequence {record.sequence}", str(sequence))
        if offset < base_end:
            raise make_corrupt(segment, record)
        return Contents(bodies, offset, sequence, base_end, record)
    if offset < base_end:
        raise make_corrupt(segment, Damage(offset, f"{offset} bytes", f"at least {base_end}"))
    return Contents(bodies, offset, sequence, base_end, None)


def judge_damage(
    journal: Journal, segment: Segment, raw: bytes, damage: Damage, sequence: int, is_last: bool
) -> None:
    """Raise Corrupt unless the damage, at the record of this sequence, can be a torn tail."""
    if not is_last:
        raise make_corrupt(segment, damage)
    for record in find_records(journal, segment.number, raw, damage.offset):
        if record.batch > sequence:
            raise make_corrupt(segment, damage)


def find_records(journal: Journal, number: int, raw: bytes, start: int) -> Iterator[Found]:
    """Yield the good records of a segment from an offset on, whatever lies between them."""
    offset = raw.find(RECORD_MAGIC, start)
    while offset >= 0:
        record = parse_record(journal, number, raw, offset)
        if isinstance(record, Found):
            yield record
            offset = raw.find(RECORD_MAGIC, record.end)
        else:
            offset = raw.find(RECORD_MAGIC, offset + 1)


def make_corrupt(segment: Segment, damage: Damage) -> Corrupt:
    return Corrupt(
        f"journal: {segment.name} at offset {damage.offset}: found {damage.found}, "
        f"expected {damage.expected}"
    )


def make_segment_header(seed: int, number: int, sequence: int, base_end: int) -> bytes:
    header = SEGMENT_HEADER.pack(SEGMENT_MAGIC, VERSION, number, sequence, base_end, seed)
    return header + CHECK.pack(crc32(header))


def parse_segment_header(seed: int, number: int, raw: bytes) -> tuple[int, int] | Damage:
    """Return (first sequence, end of the base), or what is wrong with the header."""
    if len(raw) < SEGMENT_HEADER_BYTES:
        return Damage(0, f"{len(raw)} bytes", f"a header of {SEGMENT_HEADER_BYTES}")
    header = raw[: SEGMENT_HEADER.size]
    (check,) = CHECK.unpack_from(raw, SEGMENT_HEADER.size)
    expected = crc32(header)
    if check != expected:
        return Damage(0, f"header check {check:08x}", f"{expected:08x}")
    magic, version, found, sequence, base_end, identity = SEGMENT_HEADER.unpack(header)
    if magic != SEGMENT_MAGIC:
        return Damage(0, f"magic {magic.hex()}", SEGMENT_MAGIC.hex())
    if identity != seed:
        raise Corrupt(
            f"journal: found segment {found} of the journal {identity:08x}, expected {seed:08x}: "
            "the file belongs to another validator or network"
        )
    if version != VERSION:
        raise Invalid(f"journal: version {version}, expected {VERSION}")
    if found != number:
        return Damage(0, f"the header of segment {found}", f"that of {number}")
    return sequence, base_end


def parse_record(journal: Journal, number: int, raw: bytes, offset: int) -> Found | Damage:
    """Return the record at an offset, or what is wrong there."""
    left = len(raw) - offset
    if left < RECORD_HEADER_BYTES:
        return Damage(offset, f"{left} bytes", f"a record header of {RECORD_HEADER_BYTES}")
    header = raw[offset : offset + RECORD_FIELDS_BYTES]
    (check,) = _unpack_check(raw, offset + RECORD_FIELDS_BYTES)
    expected = _crc32(header, journal.seed)
    if check != expected:
        return Damage(offset, f"record header check {check:08x}", f"{expected:08x}")
    _, length, segment, at, sequence, back, body_check = _unpack_header(header)
    if segment != number or at != offset:
        return Damage(
            offset,
            f"a record of segment {segment}, offset {at}",
            f"one of segment {number}, offset {offset}",
        )
    if length > journal.max_record_bytes:
        return Damage(offset, f"length {length}", f"at most {journal.max_record_bytes}")
    if length > left - RECORD_HEADER_BYTES:
        return Damage(offset, f"{left - RECORD_HEADER_BYTES} bytes of body", str(length))
    start = offset + RECORD_HEADER_BYTES
    body = raw[start : start + length]
    actual = _crc32(body, journal.seed)
    if actual != body_check:
        return Damage(offset, f"body check {actual:08x}", f"{body_check:08x}")
    return Found(offset, sequence, sequence - back, body, offset + RECORD_HEADER_BYTES + length)
