"""What is found in the files of a journal, as values."""

from msgspec import Struct


class Recovered(Struct, frozen=True):
    """What `open_journal` found."""

    records: list[bytes]
    notes: list[str]
    """What was cut off or removed, one line each for people; empty after a clean stop."""


class Segment(Struct, frozen=True):
    """A file of the journal, as its name says."""

    number: int
    base: bool
    name: str


class Found(Struct, frozen=True):
    """A good record in a segment."""

    offset: int
    sequence: int
    batch: int
    """The sequence of the first record of its append."""
    body: bytes
    end: int
    """Where the next one would begin."""


class Damage(Struct, frozen=True):
    """Where a segment stops making sense, and why."""

    offset: int
    found: str
    expected: str


class Contents(Struct, frozen=True):
    """What a segment holds."""

    bodies: list[bytes]
    """Of the good records from the start."""
    end: int
    """Of the last of them, in bytes."""
    sequence: int
    """Of the record that would follow."""
    base_end: int
    """Where the base ends, 0 if it is none."""
    damage: Damage | None
    """Why the reading stopped before the end of the file."""
