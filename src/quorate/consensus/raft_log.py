"""Raft's log in memory: a suffix of all entries above a base that is decided."""

from quorate.base.errors import Corrupt
from quorate.consensus.raft_types import Entry

__all__ = ["Log"]


class Log:
    """Entries above the base, by index. The base is decided, and its entry's term is known.

    `height` of the base is that of the last payload up to it.
    """

    __slots__ = ("base_height", "base_index", "base_term", "entries", "stray")

    def __init__(self, index: int, term: int, height: int) -> None:
        self.base_index, self.base_term, self.base_height = index, term, height
        self.entries: list[Entry] = []
        self.stray = False
        """While a journal is read: the last record of the base's index held another entry there, so
        what followed it is none of this log.
        """

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.base_term

    @property
    def last_height(self) -> int:
        """Of the last payload in the log."""
        return self.entries[-1].height if self.entries else self.base_height

    def get(self, index: int) -> Entry | None:
        """Return the entry at an index above the base."""
        at = index - self.base_index - 1
        return self.entries[at] if 0 <= at < len(self.entries) else None

    def get_term(self, index: int) -> int | None:
        """Return the term of the entry at an index, None where that is not known."""
        if index == self.base_index:
            return self.base_term
        entry = self.get(index)
        return None if entry is None else entry.term

    def get_height(self, index: int) -> int:
        """Return the height of the last payload up to an index of this log."""
        entry = self.get(index)
        return self.base_height if entry is None else entry.height

    def find_payload(self, height: int) -> Entry | None:
        """Return the entry that holds the payload of a height."""
        for entry in self.entries:
            if entry.height == height and entry.envelope:
                return entry
        return None

    def find_first(self, index: int) -> int:
        """Return the first index of the run of equal terms that `index` is in (section 5.3)."""
        term = self.get_term(index)
        while index - 1 > self.base_index and self.get_term(index - 1) == term:
            index -= 1
        return index

    def read(self, start: int, max_entries: int, max_bytes: int) -> list[Entry]:
        """Return entries from an index on, within bounds but at least one."""
        found: list[Entry] = []
        size = 0
        for entry in self.entries[start - self.base_index - 1 :][:max_entries]:
            size += len(entry.payload)
            if found and size > max_bytes:
                break
            found.append(entry)
        return found

    def truncate(self, index: int) -> None:
        """Forget what follows an index at or above the base."""
        del self.entries[index - self.base_index :]

    def append(self, entries: list[Entry]) -> None:
        self.entries += entries

    def restore(self, previous: int, entries: list[Entry]) -> None:
        """Take up entries that a journal holds behind an index; they may be older than the base,
        which is the application's, and may contradict it. Raises Corrupt.
        """
        base = self.base_index
        if previous < base:
            self.entries = []
            at = base - previous - 1
            self.stray = at < len(entries) and entries[at].term != self.base_term
            entries = [] if self.stray else entries[at + 1 :]
            previous = base
        elif self.stray:
            return
        if (entries and entries[0].index != previous + 1) or previous > self.last_index:
            raise Corrupt(
                f"journal: entries after index {previous}, expected at most {self.last_index}"
            )
        self.truncate(previous)
        self.append(entries)

    def settle(self, index: int) -> None:
        """While a journal is read: it knew here that what the log held up to an index is decided,
        and had given up what contradicted it.
        """
        self.stray = self.stray and index < self.base_index

    def rebase(self, index: int, term: int, height: int) -> None:
        """Let a decided entry be the base: what matches it is kept, anything else is forgotten."""
        if index <= self.base_index:
            return
        if self.get_term(index) == term:
            del self.entries[: index - self.base_index]
        else:
            self.entries = []
        self.base_index, self.base_term, self.base_height = index, term, height
        self.stray = False

    def forget(self, index: int, kept: int) -> None:
        """Move the base up, but leave some entries up to a decided index for slow followers."""
        base = index - kept
        term = self.get_term(base)
        if base > self.base_index and term is not None:
            self.rebase(base, term, self.get_height(base))
