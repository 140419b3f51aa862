"""What journals and stores owe: nothing that was acknowledged is lost or changed in silence.

A machine remembers the records that its journal acknowledged, and compares them with what the next
opening gives back. That must be what was written, in order, from the beginning: all that was
acknowledged, and possibly some that was not. The alternative is a loud refusal, and only a disk
that damaged what it had kept excuses that.

What excuses a loss is judged by the disk's own report alone. A disk that lies about a sync, rots or
sends a write astray in the very last append leaves nothing by which a journal could tell; as soon
as something is durable behind it, it can, and the excuse is gone.
"""

from typing import TYPE_CHECKING, Final

from quorate._kernel import are_equal
from quorate.base.types import Height
from quorate.consensus.tendermint_types import Decided
from quorate.node.wire import get_tag

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["DAMAGE", "KeptHeights", "Promises"]

DECIDED: Final = Decided.__struct_config__.tag
DAMAGE = frozenset({"bit rot", "bit rot at the end", "lost sync", "misdirected write"})
"""Kinds of fault after which a refusal to open is right."""


class Promises:
    """What one journal owes. Tell it of every call and fault; `judge` says what is wrong."""

    __slots__ = (
        "acknowledged",
        "begun",
        "cut",
        "damaged",
        "floor",
        "is_end_damaged",
        "last",
        "void",
    )

    def __init__(self) -> None:
        self.acknowledged: list[bytes] = []
        self.begun: list[bytes] = []
        """Written, and not acknowledged yet."""
        self.cut: list[bytes] | None = None
        """What is to replace everything."""
        self.floor = 0
        """How many of the acknowledged must come back."""
        self.last = 0
        """How many were owed before the last acknowledgement."""
        self.void = False
        """Whether the disk did not do what the coming acknowledgement will say."""
        self.damaged = False
        self.is_end_damaged = False
        """Whether the last append, which proves that those before it were durable, is rotten."""

    def on_append(self, records: list[bytes]) -> None:
        """Records are being written."""
        self.begun += records

    def on_cut(self, records: list[bytes]) -> None:
        """These records are about to replace all others."""
        self.cut = records

    def on_kept(self) -> None:
        """The journal says that what was begun is durable."""
        if self.cut is not None:
            # A base is complete or refused, so that no damage to it can go unseen.
            self.acknowledged, self.cut = list(self.cut), None
            self.floor = self.last = len(self.acknowledged)
        else:
            self.acknowledged += self.begun
            if not self.void:
                self.last, self.floor = self.floor, len(self.acknowledged)
        self.begun = []
        self.void = self.is_end_damaged = False

    def on_fault(self, kind: str) -> None:
        """The disk did something, see `quorate.simulator.disk.EFFECTS`."""
        if kind not in DAMAGE:
            return
        self.damaged = True
        if kind == "bit rot at the end":
            self.floor = min(self.floor, self.last)
            self.is_end_damaged = True
        elif kind == "bit rot" and self.is_end_damaged:
            # Nothing sound behind it shows that it is not a part of the same torn end.
            self.floor = self.last = 0
        elif kind == "lost sync":
            self.void = True
        elif kind == "misdirected write":
            # It may have hit any number of the appends right before it.
            self.void = True
            self.floor = self.last = 0

    def judge(self, records: list[bytes]) -> str:
        """Return what is wrong with what an opening gave back, or nothing. It is owed from now."""
        problem = self.compare(records)
        if not are_equal(records, self.acknowledged):
            self.acknowledged = list(records)
        self.begun, self.cut = [], None
        self.floor = self.last = len(records)
        self.void = self.is_end_damaged = False
        return problem

    def compare(self, records: list[bytes]) -> str:
        if are_equal(records, self.acknowledged if self.cut is None else self.cut):
            return ""
        written = self.acknowledged + self.begun
        for i, record in enumerate(records):
            if i == len(written):
                return f"record {i} is {show(record)}, which was never written"
            if record != written[i]:
                return f"record {i} is {show(record)}, expected {show(written[i])}"
        if len(records) < self.floor:
            return (
                f"{len(records)} records came back, {self.floor} were acknowledged; "
                f"the first that is lost is {show(written[len(records)])}"
            )
        return ""

    def judge_refusal(self, reason: str) -> str:
        """Return what is wrong with a refusal to open, or nothing."""
        return "" if self.damaged else f"nothing was damaged, but: {reason}"


class KeptHeights:
    """A decision that is in the journal is never forgotten: at every moment the journal or the
    store holds it, so that every restart knows it from the disk alone.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.heights: dict[int, Height] = {}
        """The highest durable decision of each machine."""
        self.cutting: set[int] = set()
        """Machines that are replacing their journal."""
        world.on_cut.append(self.on_cut)
        world.on_kept.append(self.on_kept)
        world.on_started.append(self.on_started)

    def on_cut(self, machine: "Machine") -> None:
        self.cutting.add(machine.index)

    def on_kept(self, machine: "Machine", records: list[bytes]) -> None:
        world, index = self.world, machine.index
        height = 0
        for data in records:
            if get_tag(data) == DECIDED:
                height = world.decode_record(data).height
        if index in self.cutting:
            self.cutting.discard(index)
            self.judge_cut(machine, height)
        if height > self.heights.get(index, 0):
            self.heights[index] = height

    def judge_cut(self, machine: "Machine", height: Height) -> None:
        """A journal was replaced by records that know decisions up to a height."""
        stored = self.world.stores.get_height(machine.store)
        known = self.heights.get(machine.index, 0)
        if max(height, stored) < known and machine.is_honest:
            self.world.find(
                "durability",
                f"{machine.name} cut its journal while its store holds height {stored}, "
                f"expected {known}",
                machine,
            )

    def on_started(self, machine: "Machine") -> None:
        """A node has read what its disk holds, and has heard from nobody yet."""
        self.cutting.discard(machine.index)
        if machine.node is None or machine.promises.damaged or not machine.is_honest:
            return
        height, known = machine.node.execution.delivered, self.heights.get(machine.index, 0)
        if height < known:
            self.world.find(
                "durability",
                f"{machine.name} knows height {height} after a restart, expected {known}",
                machine,
            )


def show(record: bytes) -> str:
    return f"{len(record)} bytes 0x{record[:12].hex()}"
