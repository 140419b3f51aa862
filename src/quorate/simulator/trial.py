"""Trials of the journal alone over a simulated disk: hundreds of crash points a second.

A trial is a few lives of one journal. In each it is opened, records are appended, it is cut now and
then, and the machine crashes in the middle of some operation of the disk, or the process alone
ends. Everything is chosen by the tape, so that a trial is replayed and shrunk as a run is.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from quorate.base.errors import Corrupt, Unavailable
from quorate.simulator.bugs import get_bug
from quorate.simulator.disk import PowerCut, SimulatedDisk
from quorate.simulator.durability import Promises
from quorate.simulator.tape import Tape
from quorate.storage.journal import open_journal

__all__ = ["AT_REST", "ERRORS", "LIES", "JournalTrial", "StorageParts"]

ERRORS = ("read error", "append error", "full disk", "sync error")
"""What a disk says of itself."""
LIES = ("lost sync", "misdirected write")
"""What it does not."""
AT_REST = ("bit rot",)
LIVES = 8
STEPS = 12
SEGMENT_BYTES = 1500
"""So small that a trial has many segments."""
IDENTITY = b"journal trial"


class StorageParts(Protocol):
    """What a storage bug replaces, in a trial and in a world alike."""

    open_journal: Callable[..., Any]
    disk: type[SimulatedDisk]


class JournalTrial:
    """One journal, its disk and what it owes. `bug` names one of `quorate.simulator.bugs`."""

    def __init__(self, tape: Tape, faults: Sequence[str] = (), bug: str = "") -> None:
        self.open_journal: Callable[..., Any] = open_journal
        self.disk: type[SimulatedDisk] = SimulatedDisk
        if bug:
            parts: Any = self
            get_bug(bug).install(parts)
        self.faults = faults
        self.promises = Promises()
        self.counters: dict[str, int] = {}
        self.do = tape.stream("trial do")
        self.when, self.what = tape.stream("trial when"), tape.stream("trial what")
        self.drive = self.disk(tape.stream("disk tear"), tape.stream("disk errors"), self.on_fault)
        self.journal: Any = None
        self.number = 0
        """Of the last record made."""

    def run(self) -> str:
        """Return what is wrong, or nothing."""
        for _ in range(LIVES):
            problem = self.live()
            if problem or self.counters.get("refused"):
                return problem
        self.drive.calm()
        return self.open()

    def live(self) -> str:
        """Open the journal, use it, end; return what was wrong with the opening."""
        drive = self.drive
        drive.power_until = drive.operations + 1 + self.when.choose(3 * STEPS)
        problem = ""
        try:
            problem = self.open()
            if not problem and self.journal is not None:
                for _ in range(STEPS):
                    self.step()
        except PowerCut:
            self.count("crashes in an operation")
            drive.crash()
        except (OSError, Unavailable):
            self.count("errors")
        drive.power_until = 0
        self.journal = None
        if self.when.choose(2):
            drive.crash()
        return problem

    def open(self) -> str:
        self.drive.open()
        try:
            self.journal, recovered = self.open_journal(
                self.drive, IDENTITY, segment_bytes=SEGMENT_BYTES, max_record_bytes=1 << 16
            )
        except Corrupt as error:
            self.count("refused")
            return self.promises.judge_refusal(str(error))
        self.count("opened")
        return self.promises.judge(recovered.records)

    def step(self) -> None:
        """Append most of the time; cut or let a fault come now and then."""
        choice = self.do.choose(12)
        if choice == 10:
            records = self.make_records()
            self.promises.on_cut(records)
            self.journal.replace(records)
            self.promises.on_kept()
            self.count("cuts")
            return
        if choice == 11 and self.faults:
            kind = self.faults[self.what.choose(len(self.faults))]
            if kind in AT_REST:
                self.drive.rot()
            else:
                self.drive.script(kind, 1 + self.when.choose(3))
        records = self.make_records()
        self.promises.on_append(records)
        self.journal.append(records)
        self.promises.on_kept()
        self.count("appends")

    def make_records(self) -> list[bytes]:
        """Return one to three records: mostly of one size, as votes are."""
        records = []
        for _ in range(1 + self.what.choose(3)):
            self.number += 1
            size = 1 << 4 + self.what.choose(8) if self.what.choose(4) == 3 else 40
            records.append(b"%08d" % self.number + b"v" * size)
        return records

    def on_fault(self, kind: str, detail: str) -> None:
        self.count(kind)
        self.promises.on_fault(kind)

    def count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
