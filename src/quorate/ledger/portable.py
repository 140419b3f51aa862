"""States in chunks, for applications whose state lies in a store of the kernel.

The chunks of a snapshot are cut from two things, one after the other: the *beginning*, which is its
length (4 bytes, big-endian) and what the application says of the block (`write_beginning`), and the
state itself, in pieces that the kernel cuts alike everywhere. What a chunk holds is made anew when
it is asked for, so that a state of any size costs a few bytes for each chunk.

What was downloaded is kept in the store, in whatever order it came, and read back in order when all
is there: one run of chunks is in memory at a time.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import msgspec

from quorate._kernel import Chunks, Rejected, StateExport
from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Hash, Height, Member
from quorate.crypto.hashes import keccak256
from quorate.ledger.application import Beginning, Snapshot

__all__ = ["Portable", "Source"]

KEPT = 3
"""Snapshots that were described and can be told; a newer one takes the place of the oldest."""
LENGTH_BYTES = 4
MAX_BEGINNING_BYTES = 64 << 20
RUN_BYTES = 4 << 20
"""Chunks are loaded together up to this size, so that few writes are waited for."""


class Source(Protocol):
    """A store of the kernel whose state can be told."""

    def start_export(self, height: int, limit: int) -> StateExport: ...
    def chunks(self) -> Chunks: ...


class Described:
    """A snapshot that is being described, or was."""

    __slots__ = ("beginning", "block", "chunk_bytes", "export", "members", "snapshot")

    def __init__(
        self,
        block: Hash,
        members: list[list[Member]],
        beginning: bytes,
        export: StateExport,
        chunk_bytes: int,
    ) -> None:
        self.block, self.members, self.export = block, members, export
        self.chunk_bytes = chunk_bytes
        full = len(beginning).to_bytes(LENGTH_BYTES, "big") + beginning
        self.beginning = [full[i : i + chunk_bytes] for i in range(0, len(full), chunk_bytes)]
        self.snapshot: Snapshot | None = None


class Portable(ABC):
    """The part of an application that tells its state in chunks and keeps those of others."""

    __slots__ = ("described", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.described: dict[Height, Described] = {}

    # ---- what is told

    @abstractmethod
    def begin_description(self, height: Height) -> tuple[Hash, list[list[Member]], Beginning]:
        """Return the block of a height, who agrees on it and on the two after it, and what the
        state rests on. Raises Unavailable.
        """

    def describe_state(self, height: Height, chunk_bytes: int) -> Snapshot | None:
        found = self.described.get(height)
        try:
            if found is None or found.chunk_bytes != chunk_bytes:
                block, members, beginning = self.begin_description(height)
                export = self.source.start_export(height, chunk_bytes)
                encoded = msgspec.msgpack.encode(beginning)
                found = Described(block, members, encoded, export, chunk_bytes)
                self.described[height] = found
                while len(self.described) > KEPT:
                    del self.described[next(iter(self.described))]
            if found.snapshot is None and not found.export.step():
                hashes = [*map(keccak256, found.beginning), *found.export.hashes()]
                found.snapshot = Snapshot(height, found.block, found.members, hashes)
        except (Rejected, Unavailable) as error:
            self.described.pop(height, None)
            raise Unavailable(f"state of height {height}: {error}") from None
        return found.snapshot

    def export_state(self, snapshot: Snapshot, number: int) -> bytes | None:
        found = self.described.get(snapshot.height)
        if found is None or found.snapshot != snapshot:
            return None
        if number < len(found.beginning):
            return found.beginning[number]
        try:
            return found.export.piece(number - len(found.beginning))
        except (Rejected, Unavailable):
            # Pruned since.
            del self.described[snapshot.height]
            return None

    # ---- what is taken over

    def list_kept(self, snapshot: Snapshot) -> list[int]:
        return self.source.chunks().begin(identify(snapshot))

    def keep_chunk(self, snapshot: Snapshot, number: int, chunk: bytes) -> None:
        self.source.chunks().put(identify(snapshot), number, chunk)

    def read_kept(self, snapshot: Snapshot) -> tuple[Beginning, Iterator[bytes]]:
        """Return what the chunks begin with, and runs of the state. Raises Invalid."""
        chunks = self.source.chunks()

        def read(number: int) -> bytes:
            chunk = chunks.get(number)
            if chunk is None:
                raise Invalid(f"snapshot: chunk {number} is not here")
            return chunk

        count, full = 1, read(0)
        length = int.from_bytes(full[:LENGTH_BYTES], "big")
        if length > MAX_BEGINNING_BYTES:
            raise Invalid(
                f"snapshot: begins with {length} bytes, expected at most {MAX_BEGINNING_BYTES}"
            )
        parts = [full]
        size = len(full)
        while size < LENGTH_BYTES + length and count < len(snapshot.chunks):
            parts.append(read(count))
            size += len(parts[-1])
            count += 1
        full = b"".join(parts)
        if len(full) != LENGTH_BYTES + length:
            raise Invalid(
                f"snapshot: begins with {len(full) - LENGTH_BYTES} bytes, expected {length}"
            )
        return decode_beginning(full[LENGTH_BYTES:]), join_runs(
            read(number) for number in range(count, len(snapshot.chunks))
        )

    def forget_kept(self) -> None:
        self.source.chunks().forget()


def identify(snapshot: Snapshot) -> Hash:
    """Return what tells a snapshot from all others."""
    return keccak256(msgspec.msgpack.encode(snapshot))


def decode_beginning(data: bytes) -> Beginning:
    """Return what `msgspec` made of a `Beginning`. Raises Invalid."""
    try:
        return msgspec.msgpack.decode(data, type=Beginning)
    except msgspec.MsgspecError as error:
        raise Invalid(f"snapshot: {error}") from None


def join_runs(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return consecutive chunks joined up to `RUN_BYTES`."""
    run: list[bytes] = []
    size = 0
    for chunk in chunks:
        run.append(chunk)
        size += len(chunk)
        if size >= RUN_BYTES:
            yield b"".join(run)
            run, size = [], 0
    if run:
        yield b"".join(run)
