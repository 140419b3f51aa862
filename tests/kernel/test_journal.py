"""Records of the journal as the kernel makes and reads them, against the layout."""

import struct
import sys
import zlib
from random import Random
from typing import Any

import pytest

from quorate._kernel import Invalid, are_equal, make_records, read_records

SEED, SEGMENT, OFFSET, FIRST = 0x12345678, 7, 36, 100
LIMIT = 1000


def make_plainly(batch: int, bodies: list[bytes]) -> bytes:
    """Return the same, field by field."""
    made, offset = b"", OFFSET
    for sequence, body in enumerate(bodies, FIRST):
        header = struct.pack(
            "<4sIQQQII",
            b"QREC",
            len(body),
            SEGMENT,
            offset,
            sequence,
            sequence - batch,
            zlib.crc32(body, SEED),
        )
        made += header + struct.pack("<I", zlib.crc32(header, SEED)) + body
        offset = OFFSET + len(made)
    return made


def make(bodies: list[bytes], batch: int = FIRST) -> bytes:
    return make_records(b"", SEED, SEGMENT, OFFSET, FIRST, batch, bodies)


def read(raw: bytes, offset: int = OFFSET, limit: int = LIMIT) -> tuple[list[bytes], int]:
    return read_records(raw, SEED, SEGMENT, offset, FIRST, limit)


BODIES = [Random(n).randbytes(n) for n in (*range(20), 63, 64, 65, 255, 999)]


@pytest.mark.parametrize("batch", [FIRST, 90, 0])
def test_records_have_the_layout(batch: int) -> None:
    assert make(BODIES, batch) == make_plainly(batch, BODIES)
    assert make([], batch) == b""


def test_the_head_stands_before_them() -> None:
    made = make_records(b"head", SEED, SEGMENT, OFFSET, FIRST, FIRST, BODIES)
    assert made == b"head" + make_plainly(FIRST, BODIES)


def test_what_was_made_is_read() -> None:
    raw = bytes(OFFSET) + make(BODIES)
    assert read(raw) == (BODIES, len(raw))
    assert read(raw, limit=998) == (BODIES[:-1], len(raw) - 44 - 999)
    assert read(raw, len(raw)) == ([], len(raw))
    assert read(raw, len(raw) + 1) == ([], len(raw) + 1)
    assert read(b"") == ([], OFFSET)


def test_reading_ends_before_what_is_damaged() -> None:
    bodies = [b"one", b"second", b"the third"]
    whole = bytes(OFFSET) + make(bodies)
    starts = [OFFSET, OFFSET + 44 + 3, OFFSET + 88 + 9]
    for at in range(OFFSET, len(whole)):
        index = max(i for i, start in enumerate(starts) if start <= at)
        for changed in (whole[:at], whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]):
            # The magic is covered by the check alone.
            assert read(changed) == (bodies[:index], starts[index])


@pytest.mark.parametrize(
    ("seed", "segment", "sequence"),
    [(SEED + 1, SEGMENT, FIRST), (SEED, SEGMENT + 1, FIRST), (SEED, SEGMENT, FIRST + 1)],
)
def test_records_of_another_place_are_none(seed: int, segment: int, sequence: int) -> None:
    raw = bytes(OFFSET) + make([b"body"])
    assert read_records(raw, seed, segment, OFFSET, sequence, LIMIT) == ([], OFFSET)
    assert read(bytes(1) + raw, OFFSET + 1) == ([], OFFSET + 1)


@pytest.mark.parametrize(("sequence", "batch"), [(5, 6), (2**32, 0)])
def test_a_distance_of_more_than_32_bits_is_refused(sequence: int, batch: int) -> None:
    with pytest.raises(Invalid, match=f"record {sequence} of 1 bytes"):
        make_records(b"", SEED, SEGMENT, OFFSET, sequence, batch, [b"x"])


def test_equal_records_are_equal_bytes_at_the_same_places() -> None:
    records = [b"", b"one", bytes(300)]
    copies = [bytes(bytearray(record)) for record in records]
    assert are_equal([], [])
    assert are_equal(records, records)
    assert are_equal(records, copies)
    for other in (records[:2], [*records, b""], records[::-1], [b"", b"onE", bytes(300)], []):
        assert not are_equal(records, other)
        assert not are_equal(other, records)
    # What is not bytes at all is nobody's record.
    mixed: Any = [1, "one", None]
    assert not are_equal(mixed, [1.0, "one", None])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        are_equal(tuple(records), records)  # type: ignore[arg-type]


def test_a_comparison_counts_no_references() -> None:
    record = bytes(range(200))
    before = sys.getrefcount(record)
    for _ in range(100):
        assert are_equal([record], [bytes(range(200))])
    assert sys.getrefcount(record) == before
