"""A disk with a page cache that loses, tears, lies, rots and fails, as real ones do.

Sources: Rebello and others, "Can Applications Recover from fsync Failures?", ATC 2020 (a failed
sync drops dirty pages and the next one reports success); Alagappan and others, "Protocol-Aware
Recovery for Consensus-Based Storage", FAST 2018; Pillai and others, "All File Systems Are Not
Created Equal", OSDI 2014 (which operations a crash may undo or reorder); Bairavasundaram and
others, "An Analysis of Data Corruption in the Storage Stack", FAST 2008 (rot, misdirected writes).

Model. Files are only appended to. Of each there are two: the cache, which every process sees, and
the platter, which is all that a crash of the machine leaves. `sync` copies what is dirty from one
to the other; the operating system does so whenever it likes as well, which shows at a crash: any of
the dirty sectors may be there, torn anywhere, with zeros or the blocks of a removed file between.
The folder is likewise in the cache and on the platter, so that creations, renames and removals
that were not made durable may be undone, each on its own. A process that ends leaves the cache as
it is, and what is clean there may be dropped before the next one reads it.

Faults come by script, at rates, or both; what a crash or a failed sync leaves is one choice of the
tape, of which zero keeps everything and one only what was synced. Each fault has an effect, which
says what the best storage layer can make of it:

    harmless   a correct one survives it without a loss
    stops      it is noticed, at once or at the next start, and the node goes no further
    loses      acknowledged data may vanish without a trace: to others, amnesia
"""

import errno
from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final, Literal

from quorate.base.errors import Invalid
from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.base.types import Nanoseconds
from quorate.simulator.tape import Choices

__all__ = ["EFFECTS", "Effect", "Pace", "PowerCut", "Shape", "SimulatedDisk"]

SECTOR_BYTES: Final = 512
MAX_PIECES: Final = 32
"""Parts that the sectors of one file are torn into; larger appends tear in larger parts."""
MAX_STARTS: Final = 64
"""Appends to one file whose places are remembered, for writes that go astray."""
HOWS: Final = 1 << 24
"""Numbers that say what a crash or a failed sync leaves."""
FRESH_BLOCK: Final = b"\xa5"
"""What a block that never belonged to a file holds."""

Effect = Literal["harmless", "stops", "loses"]
EFFECTS: dict[str, Effect] = {
    "torn write": "harmless",
    "undone entry": "harmless",
    "dropped cache": "harmless",
    "stall": "harmless",
    "read error": "stops",
    "append error": "stops",
    "full disk": "stops",
    "sync error": "stops",
    "commit error": "stops",
    "bit rot": "stops",
    "bit rot at the end": "loses",
    "lost sync": "loses",
    "lost commit": "loses",
    "misdirected write": "loses",
}
"""What each kind of fault comes to. Rot in what the last sync of a file made durable cannot be told
from a torn write, so it has a name of its own."""
OPERATION_OF = {
    "read error": "read",
    "append error": "append",
    "full disk": "append",
    "sync error": "sync",
    "lost sync": "sync",
    "misdirected write": "sync",
    "commit error": "commit",
    "lost commit": "commit",
}
"""The faults that befall an operation, and which."""

Shape = Literal["whole", "nothing", "prefix", "zeros", "stale", "sectors"]
SHAPES: tuple[Shape, ...] = ("whole", "nothing", "prefix", "zeros", "stale", "sectors")
"""What a crash leaves of dirty bytes: all, none, the first, the first and then zeros or old blocks,
or any sectors."""


class PowerCut(Exception):
    """The machine stopped in the middle of an operation of its disk."""


class Pace:
    """How long operations take; `stall_permille` of them take `stall_factor` times as long."""

    __slots__ = ("append_ns", "bytes_per_us", "stall_factor", "stall_permille", "sync_ns")

    def __init__(
        self,
        *,
        append_ns: Nanoseconds = 2_000,
        sync_ns: Nanoseconds = 500_000,
        bytes_per_us: int = 500,
        stall_permille: int = 0,
        stall_factor: int = 200,
    ) -> None:
        self.append_ns, self.sync_ns, self.bytes_per_us = append_ns, sync_ns, bytes_per_us
        self.stall_permille, self.stall_factor = stall_permille, stall_factor


class File:
    """One file, in the cache and on the platter."""

    __slots__ = ("cache", "dirty", "own", "settled", "starts")

    def __init__(self) -> None:
        self.cache = bytearray()
        self.own: bytearray | None = None
        """The platter, once it holds or may hold anything else than what is clean in the cache."""
        self.dirty = 0
        """What is in the cache from here on has yet to be written."""
        self.settled = 0
        """Where the last sync that had something to write began."""
        self.starts: deque[int] = deque(maxlen=MAX_STARTS)
        """Where recent appends began."""

    @property
    def platter(self) -> bytearray:
        """What the disk holds, to be read and changed."""
        own = self.own
        if own is None:
            own = self.own = self.cache[: self.dirty]
        return own

    @property
    def size(self) -> int:
        """How many bytes the disk holds."""
        return self.dirty if self.own is None else len(self.own)

    def copy(self) -> "File":
        other = File()
        other.cache[:] = self.cache
        if self.own is not None:
            other.own = bytearray(self.own)
        other.dirty, other.settled = self.dirty, self.settled
        other.starts.extend(self.starts)
        return other


class Entry:
    """A change of the folder that is not durable: the file is now called `name`, or nothing."""

    __slots__ = ("file", "name", "old")

    def __init__(self, name: str, file: File | None, old: str = "") -> None:
        self.name, self.file, self.old = name, file, old


class Script:
    """A fault to come: at the n-th operation of its kind from now, for so many operations."""

    __slots__ = ("kind", "nth", "times")

    def __init__(self, kind: str, nth: int, times: int) -> None:
        self.kind, self.nth, self.times = kind, nth, times


@mypyc_attr(allow_interpreted_subclasses=True)
class SimulatedDisk:
    """Implements `quorate.storage.disk.Disk`.

    `tear` chooses what a crash leaves, `errors` what fails and how. `on_fault` is told the kind of
    each fault, one of `EFFECTS`, and what it befell. `before(operation, name)`, if set, is called
    at each operation that changes something.
    """

    __slots__ = (
        "before",
        "capacity_bytes",
        "entries",
        "errors",
        "files",
        "fresh",
        "on_fault",
        "operations",
        "pace",
        "pending",
        "power_until",
        "rates",
        "scripts",
        "stale",
        "tear",
        "watched",
    )

    def __init__(
        self,
        tear: Choices,
        errors: Choices,
        on_fault: Callable[[str, str], None] | None = None,
        *,
        pace: Pace | None = None,
        rates: Mapping[str, int] | None = None,
        capacity_bytes: int = 0,
    ) -> None:
        """`rates` are permilles of operations by kind of fault. A capacity of 0 has no end."""
        self.tear, self.errors = tear, errors
        self.on_fault = ignore if on_fault is None else on_fault
        self.pace = pace or Pace()
        self.capacity_bytes = capacity_bytes
        self.files: dict[str, File] = {}
        """The folder as processes see it."""
        self.entries: dict[str, File] = {}
        """The folder on the platter."""
        self.pending: list[Entry] = []
        """What the folder on the platter lacks, in order."""
        self.fresh: set[str] = set()
        """Files that were created and whose entry is not durable."""
        self.stale = b""
        """Blocks of a file that is gone, which may show up in others."""
        self.rates: dict[str, list[tuple[str, int]]] = {}
        for kind, permille in (rates or {}).items():
            check_kind(kind)
            self.rates.setdefault(OPERATION_OF[kind], []).append((kind, permille))
        self.scripts: list[Script] = []
        self.operations = 0
        self.power_until = 0
        """The operation in the middle of which a `PowerCut` is raised; 0: none."""
        self.before: Callable[[str, str], None] | None = None
        self.watched = bool(self.rates)
        """Whether operations have to look for faults."""

    # ---- the disk

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        file = self.get(name)
        if self.watched and self.strike("read"):
            raise self.fail("read error", errno.EIO, name)
        return bytes(file.cache)

    def append(self, name: str, data: bytes) -> None:
        file = self.files.get(name)
        if file is None:
            file = self.files[name] = File()
            self.pending.append(Entry(name, file))
            self.fresh.add(name)
        cache = file.cache
        file.starts.append(len(cache))
        if self.watched or self.capacity_bytes:
            self.append_some(file, name, data)
        else:
            cache += data
        # The data may have come to the disk in part when a crash ends the operation.
        self.enter("append", name)

    def append_some(self, file: File, name: str, data: bytes) -> None:
        kind = self.strike("append") if self.watched else ""
        if not kind and self.capacity_bytes:
            free = self.capacity_bytes - self.get_used()
            if free < len(data):
                file.cache += data[: max(free, 0)]
                raise self.fail("full disk", errno.ENOSPC, name)
        if kind:
            file.cache += data[: self.errors.choose(len(data) + 1)]
            raise self.fail(kind, errno.ENOSPC if kind == "full disk" else errno.EIO, name)
        file.cache += data

    def sync(self, name: str) -> None:
        file = self.get(name)
        self.enter("sync", name)
        kind = self.strike("sync") if self.watched else ""
        if kind == "lost sync":
            # The disk keeps it in a cache of its own: a later sync may still write it.
            self.on_fault(kind, f"{name}: {len(file.cache) - file.dirty} bytes")
            return
        if kind == "sync error":
            self.drop_dirty(file)
            raise self.fail(kind, errno.EIO, name)
        if kind != "misdirected write" or not self.misdirect(file, name):
            write_back(file)
        if name in self.fresh:
            self.sync_folder()

    def rename(self, old: str, new: str) -> None:
        self.get(old)
        self.enter("rename", new)
        self.move(old, new)
        self.sync_folder()

    def remove(self, name: str) -> None:
        self.get(name)
        self.enter("remove", name)
        self.unlink(name)
        self.sync_folder()

    def commit(self, store: str) -> bool:
        """A database beside the journal syncs what it wrote: return whether it is durable."""
        kind = self.strike("commit") if self.watched else ""
        if kind == "commit error":
            raise self.fail(kind, errno.EIO, store)
        if self.capacity_bytes and self.get_used() >= self.capacity_bytes:
            raise self.fail("full disk", errno.ENOSPC, store)
        if kind == "lost commit":
            self.on_fault(kind, store)
        return not kind

    # ---- what the operating system offers below

    def move(self, old: str, new: str) -> None:
        """Rename; durable with the folder."""
        file = self.files[new] = self.files.pop(old)
        self.pending.append(Entry(new, file, old))
        self.fresh.discard(old)
        # Whoever renames has synced first: no torn write explains a damage of what is there now.
        file.settled = file.dirty

    def unlink(self, name: str) -> None:
        """Remove; durable with the folder."""
        self.stale = bytes(self.files.pop(name).cache)
        self.pending.append(Entry(name, None))
        self.fresh.discard(name)

    def sync_folder(self) -> None:
        """Make the folder durable, with every name in it."""
        self.entries = dict(self.files)
        self.pending.clear()
        self.fresh.clear()

    def open(self) -> None:
        """A process begins: it syncs the folder, as `quorate.runtime.disk` does, and may find that
        what was clean in the cache has been dropped."""
        self.sync_folder()
        if self.tear.choose(2):
            self.drop_cache()

    def drop_cache(self) -> None:
        """Let the next reader see the platter, wherever nothing is dirty."""
        for name, file in self.files.items():
            if file.own is None or file.own == file.cache:
                continue
            clean = file.own[: file.dirty].ljust(file.dirty, b"\0")
            if clean != file.cache[: file.dirty]:
                file.cache[: file.dirty] = clean
                self.on_fault("dropped cache", name)

    def crash(self, shape: Shape | None = None, details: Choices | None = None) -> None:
        """The machine stops: only the platter is left, as chosen or as told."""
        how = self.tear.choose(HOWS)
        left = Tear(shape or SHAPES[how % len(SHAPES)], details or Details(how // 18), self.stale)
        self.restore_entries(how // 6 % 3, left.details)
        self.fresh.clear()
        for name, file in sorted(self.entries.items()):
            self.tear_file(name, file, left)
        self.files = dict(self.entries)
        self.power_until = 0

    def restore_entries(self, how: int, details: Choices) -> None:
        """Keep those changes to the folder that are not durable: all (0), none (1) or some."""
        undone = []
        for entry in self.pending:
            if how and (how == 1 or details.choose(2)):
                undone.append(entry.name)
                continue
            if entry.old:
                self.entries.pop(entry.old, None)
            if entry.file is None:
                self.entries.pop(entry.name, None)
            else:
                self.entries[entry.name] = entry.file
        self.pending.clear()
        if undone:
            self.on_fault("undone entry", ", ".join(undone))

    def tear_file(self, name: str, file: File, tear: "Tear") -> None:
        new = bytes(file.cache[file.dirty :])
        if new:
            left = tear.apply(file.dirty, new)
            if left == new and file.own is None:
                file.dirty = len(file.cache)
                return
            put(file, left)
            if left != new:
                self.stale = bytes(file.cache)
                words = f"{tear.shape} of {len(new)} bytes at {file.dirty}"
                self.on_fault("torn write", f"{name}: {words}")
        if file.own is not None:
            file.cache, file.own = file.own, None
        file.dirty = len(file.cache)

    # ---- faults

    def script(self, kind: str, nth: int = 1, times: int = 1) -> None:
        """Let a fault befall the n-th operation of its sort from now, and those that follow."""
        check_kind(kind)
        self.scripts.append(Script(kind, nth, times))
        self.watched = True

    def calm(self) -> None:
        """Forget all faults that are to come, by script or rate, and give all space back."""
        self.scripts.clear()
        self.rates.clear()
        self.capacity_bytes = 0
        self.watched = False
        self.power_until = 0

    def rot(self, name: str = "", offset: int = -1) -> bool:
        """Flip a bit on the platter, of a chosen file and byte unless they are given.

        Return whether there was a byte. It shows when the cache is dropped.
        """
        if not name:
            names = [n for n, file in sorted(self.files.items()) if file.size]
            if not names:
                return False
            name = names[self.errors.choose(len(names))]
        file = self.get(name)
        if offset < 0:
            if not file.size:
                return False
            offset = self.errors.choose(file.size)
        file.platter[offset] ^= 1 << self.errors.choose(8)
        late = offset >= file.settled
        self.on_fault("bit rot at the end" if late else "bit rot", f"{name}: byte {offset}")
        return True

    def fill(self, free_bytes: int = 0) -> None:
        """Let the disk have this much space left."""
        self.capacity_bytes = self.get_used() + max(free_bytes, 1)

    def cut_power(self, within: int = 6) -> None:
        """Raise `PowerCut` in the middle of one of the next operations."""
        self.power_until = self.operations + 1 + self.tear.choose(within)

    def latency_ns(self, operation: str, size_bytes: int) -> Nanoseconds:
        """Return how long an operation (`append`, `sync`, `cut`, `commit`) of this size takes."""
        pace = self.pace
        took = pace.append_ns + size_bytes * 1000 // pace.bytes_per_us
        if operation != "append":
            took += pace.sync_ns
        if pace.stall_permille and self.errors.chance(pace.stall_permille):
            took *= pace.stall_factor
            self.on_fault("stall", f"{operation}: {took} ns")
        return took

    def enter(self, operation: str, name: str) -> None:
        self.operations += 1
        if self.before is not None:
            self.before(operation, name)
        if self.operations == self.power_until:
            raise PowerCut

    def strike(self, operation: str) -> str:
        """Return the kind of fault that befalls this operation, or nothing."""
        struck = ""
        for script in self.scripts:
            if OPERATION_OF[script.kind] == operation:
                script.nth -= 1
                if script.nth <= 0:
                    script.times -= 1
                    struck = struck or script.kind
        if struck:
            self.scripts = [script for script in self.scripts if script.times > 0]
            self.watched = bool(self.scripts or self.rates)
            return struck
        for kind, permille in self.rates.get(operation, ()):
            if self.errors.chance(permille):
                return kind
        return ""

    def fail(self, kind: str, code: int, name: str) -> OSError:
        self.on_fault(kind, name)
        words = "No space left on device" if code == errno.ENOSPC else "Input/output error"
        return OSError(code, words, name)

    def drop_dirty(self, file: File) -> None:
        """A sync failed: some of the dirty bytes were written, and all are taken for clean."""
        how = self.errors.choose(HOWS)
        tear = Tear(SHAPES[1 + how % (len(SHAPES) - 1)], Details(how // 18), self.stale)
        put(file, tear.apply(file.dirty, bytes(file.cache[file.dirty :])))
        file.dirty = len(file.cache)

    def misdirect(self, file: File, name: str) -> bool:
        """Write what is dirty somewhere else; whether it was done."""
        data = bytes(file.cache[file.dirty :])
        place = self.find_victim(file, len(data)) if data else None
        if place is None:
            self.script("misdirected write")
            return False
        victim, offset = place
        target = self.files[victim]
        platter = file.platter
        platter[:] = platter.ljust(file.dirty, b"\0")
        platter += get_block(self.stale, file.dirty, len(data))
        # Only what blocks of the file there are: it is no longer for it.
        fitting = data[: max(target.size - offset, 0)]
        target.platter[offset : offset + len(fitting)] = fitting
        file.settled, file.dirty = file.dirty, len(file.cache)
        self.on_fault(
            "misdirected write",
            f"{name}: {len(data)} bytes at {file.settled} went to {victim} at {offset}",
        )
        return True

    def find_victim(self, file: File, size: int) -> tuple[str, int] | None:
        """Return the file and the offset where bytes go that are not for there: the place of an
        earlier append, or any sector. An append of the same size is the hardest to notice, so that
        half of these faults wait until there is one; then the answer is None.
        """
        places = [
            (name, start, end - start)
            for name, other in sorted(self.files.items())
            for start, end in pairwise((*other.starts, len(other.cache)))
            if other is not file or start < file.dirty
        ]
        how = self.errors.choose(4)
        if how < 2:
            places = [place for place in places if place[2] == size]
            if not places:
                return None
        if how < 3 and places:
            name, offset, _ = places[-1 - self.errors.choose(len(places))]
            return name, offset
        names = sorted(self.files)
        name = names[self.errors.choose(len(names))]
        sectors = self.files[name].size // SECTOR_BYTES + 1
        return name, self.errors.choose(sectors) * SECTOR_BYTES

    # ---- looking

    def get(self, name: str) -> File:
        file = self.files.get(name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        return file

    def get_used(self) -> int:
        """Return how many bytes all files hold."""
        return sum(len(file.cache) for file in self.files.values())

    def copy(self) -> "SimulatedDisk":
        """Return a disk with the same contents and no faults to come; it shares the choices."""
        other = type(self)(self.tear, self.errors, self.on_fault, pace=self.pace)
        twins: list[tuple[File, File]] = []

        def get_twin(file: File) -> File:
            for one, twin in twins:
                if one is file:
                    return twin
            twins.append((file, file.copy()))
            return twins[-1][1]

        other.files = {name: get_twin(file) for name, file in self.files.items()}
        other.entries = {name: get_twin(file) for name, file in self.entries.items()}
        other.pending = [
            Entry(entry.name, None if entry.file is None else get_twin(entry.file), entry.old)
            for entry in self.pending
        ]
        other.fresh = set(self.fresh)
        other.stale = self.stale
        return other


class Details(Choices):
    """The choices that one number stands for."""

    __slots__ = ("rng",)

    def __init__(self, number: int) -> None:
        self.rng = Rng(number)

    def choose(self, n: int) -> int:
        return self.rng.below(n)

    def chance(self, permille: int) -> bool:
        return self.rng.below(1000) < permille


class Tear:
    """What is left of bytes that were dirty when the machine stopped."""

    __slots__ = ("details", "shape", "stale")

    def __init__(self, shape: Shape, details: Choices, stale: bytes) -> None:
        self.shape, self.details, self.stale = shape, details, stale

    def apply(self, offset: int, new: bytes) -> bytes:
        """Return what is left of dirty bytes at an offset."""
        shape = self.shape
        if shape == "whole":
            return new
        if shape == "nothing":
            return b""
        if shape == "sectors":
            return self.tear_sectors(offset, new)
        kept = self.details.choose(len(new) + 1)
        if self.details.choose(2):
            kept = max((offset + kept) // SECTOR_BYTES * SECTOR_BYTES - offset, 0)
        if shape == "prefix":
            return new[:kept]
        rest = len(new) - kept
        if shape == "zeros":
            return new[:kept] + bytes(rest)
        return new[:kept] + get_block(self.stale, offset + kept, rest)

    def tear_sectors(self, offset: int, new: bytes) -> bytes:
        """Return any of the sectors, torn inside perhaps, in a file that may end early."""
        choose = self.details.choose
        first = SECTOR_BYTES - offset % SECTOR_BYTES
        count = max(len(new) - first + SECTOR_BYTES - 1, 0) // SECTOR_BYTES + 1
        step = SECTOR_BYTES * -(-count // MAX_PIECES)
        parts: list[bytes] = []
        at = 0
        while at < len(new):
            end = first if not at else at + step
            part = new[at:end]
            match choose(4):
                case 1:
                    part = bytes(len(part))
                case 2:
                    part = get_block(self.stale, offset + at, len(part))
                case 3:
                    kept = choose(len(part) + 1)
                    part = part[:kept] + bytes(len(part) - kept)
                case _:
                    pass
            parts.append(part)
            at += len(part)
        return b"".join(parts[: len(parts) - choose(len(parts) + 1)])


def get_block(stale: bytes, offset: int, size: int) -> bytes:
    """Return what a block held before it became part of a file."""
    return stale[offset : offset + size].ljust(size, FRESH_BLOCK)


def put(file: File, left: bytes) -> None:
    """Write what is left of dirty bytes to their place on the platter."""
    # Even if nothing is left, it is no longer what is in the cache.
    platter = file.platter
    if left:
        platter[:] = platter.ljust(file.dirty, b"\0")
        platter += left


def write_back(file: File) -> None:
    """Write what is dirty to its place on the platter."""
    start = file.dirty
    if start == len(file.cache):
        return
    own = file.own
    # Where the platter holds what is clean in the cache, nothing has to be copied.
    if own is not None:
        first = start
        if len(own) != start:
            # An earlier sync failed and left a hole; the sector that is dirty again is written
            # whole.
            first = start // SECTOR_BYTES * SECTOR_BYTES
            del own[first:]
            own[:] = own.ljust(first, b"\0")
        own += file.cache[first:]
    file.settled, file.dirty = start, len(file.cache)


def ignore(kind: str, detail: str) -> None:
    """Nobody asks for faults."""


def check_kind(kind: str) -> None:
    if kind not in OPERATION_OF:
        raise Invalid(f"disk fault {kind!r}: expected one of {', '.join(sorted(OPERATION_OF))}")
