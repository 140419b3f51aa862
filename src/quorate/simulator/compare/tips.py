"""What clients see above the last final block, where an engine lets blocks be taken back.

Applications tell which blocks they execute and which of them is the tip that readers shall see. Of
each member the branch that it shows is kept, by height; a block that was once in a shown branch and
is not in the one that all end with was lost to a reorganisation.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from quorate.base.errors import Invalid
from quorate.base.types import Hash, Height
from quorate.crypto.hashes import HEAD_BYTES
from quorate.ledger.application import Executed
from quorate.ledger.opaque import get_items
from quorate.light.rlp import decode_list

if TYPE_CHECKING:
    from quorate.simulator.plan import Plan

__all__ = ["Shown", "Tips"]


class Seen(msgspec.Struct, frozen=True):
    """A block that some member executed."""

    height: Height
    parent: Hash
    payloads: list[bytes]


class Shown:
    """The branch that one member shows, and how deep it is called safe."""

    __slots__ = ("path", "safe", "safe_told", "tip", "tip_told")

    def __init__(self) -> None:
        self.path: dict[Height, Hash] = {}
        """As far as it was ever above the last final block."""
        self.tip: Hash = b""
        self.safe: Height = 0
        self.tip_told: Hash = b""
        """What clients were told of last."""
        self.safe_told: Height = 0


class Tips:
    """The tree of executed blocks of one world, and what each member shows of it."""

    def __init__(self, plan: "Plan", identify: Callable[[bytes], bytes]) -> None:
        self.is_opaque, self.identify = plan.application == "opaque", identify
        self.blocks: dict[Hash, Seen] = {}
        self.identities: dict[Hash, list[bytes]] = {}
        self.shown = [Shown() for _ in plan.machines]
        self.once: dict[Hash, None] = {}
        """Blocks that were ever in a branch that somebody showed."""

    def on_executed(self, executed: Executed, parent: Hash, payloads: list[bytes]) -> None:
        if executed.block not in self.blocks:
            self.blocks[executed.block] = Seen(executed.height, parent, payloads)

    def on_adopted(self, machine: int, tip: Hash, safe: Height) -> None:
        """A member's application was told which branch readers shall see."""
        shown = self.shown[machine]
        shown.tip, shown.safe = tip, max(safe, shown.safe)

    def tell(self, machine: int) -> tuple[list[Hash], list[Hash]]:
        """Return the blocks that a member's clients see newly, and those that are newly safe."""
        shown = self.shown[machine]
        fresh: list[Hash] = []
        block = shown.tip
        if block != shown.tip_told:
            last = self.get_height(block)
            for height in [h for h in shown.path if h > last]:
                del shown.path[height]
            while (seen := self.blocks.get(block)) and shown.path.get(seen.height) != block:
                shown.path[seen.height] = block
                self.once[block] = None
                fresh.append(block)
                block = seen.parent
            shown.tip_told = shown.tip
        heights = range(shown.safe_told + 1, shown.safe + 1)
        safe = [shown.path[height] for height in heights if height in shown.path]
        shown.safe_told = max(shown.safe, shown.safe_told)
        return fresh, safe

    def get_height(self, block: Hash) -> Height:
        seen = self.blocks.get(block)
        return 0 if seen is None else seen.height

    def get_top(self) -> Height:
        """Return the highest height that somebody shows."""
        return max((self.get_height(shown.tip_told) for shown in self.shown), default=0)

    def count_lost(self) -> int:
        """Return how many blocks somebody showed that are not in the longest branch now."""
        best = max(self.shown, key=lambda shown: self.get_height(shown.tip_told))
        kept = set(best.path.values())
        return sum(block not in kept for block in self.once)

    def list_items(self, block: Hash) -> list[bytes]:
        """Return the identities of what a block's payloads hold."""
        found = self.identities.get(block)
        if found is None:
            found = self.identities[block] = self.read_items(self.blocks[block].payloads)
        return found

    def read_items(self, payloads: list[bytes]) -> list[bytes]:
        try:
            if self.is_opaque:
                return get_items(payloads)
            raws = [raw for p in payloads for raw in decode_list(p[HEAD_BYTES:], "payload")]
        except Invalid:
            return []
        return [self.identify(raw) for raw in raws]
