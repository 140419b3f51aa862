"""Which blocks were told to clients, and which of them were abandoned since.

Final blocks are told once. Where blocks are seen before they are final, the store may show another
branch at any moment, and no longer holds what it showed before: what was told of blocks that are
not final is therefore kept here, so that their logs can be told once more, as removed.
"""

from collections import deque

from msgspec import Struct

from quorate._kernel import Unavailable
from quorate.base.types import Address, Hash, Height
from quorate.rpc.logs import Criteria
from quorate.rpc.store import Store

MAX_CATCH_UP = 1024
"""Heights told after an absence; a subscriber that needs older ones reads them."""
MAX_LOG_BYTES = 64 << 20
"""Of all logs that are kept; beyond it the oldest are forgotten, and never told as removed."""
MAX_REMOVALS = 1024
"""Reorganisations that are remembered for clients who poll."""

Log = tuple[Address, list[Hash], bytes]
"""Address, topics and JSON."""


class Told(Struct):
    """A block that was told."""

    height: Height
    block: Hash
    logs: list[Log] | None = None
    """None of a block that is final: the store has them."""

    def count_bytes(self) -> int:
        return sum(len(log) for _, _, log in self.logs or ())

    def find(self, criteria: Criteria | None) -> list[bytes]:
        """Return the JSON of its logs that are asked for, as removed."""
        return [
            log.replace(b'"removed":false', b'"removed":true')
            for address, topics, log in self.logs or ()
            if criteria is None or criteria.match(address, topics)
        ]


class News(Struct):
    """What a look at the store brought."""

    removed: list[Told]
    """Abandoned blocks, ascending."""
    added: list[Told]
    """Blocks that were not told before, ascending."""


class Trail:
    """Follows what the store shows."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.next: Height | None = None
        """The first height that was not told; None before the first look."""
        self.blocks: deque[Told] = deque()
        """Told and not final, up to the latest."""
        self.removals: deque[list[Told]] = deque()
        """What was abandoned, by reorganisation; the newest last."""
        self.removal_count = 0
        """How many there ever were."""
        self.log_bytes = 0

    def follow(self) -> News:
        """Look at the store. Raises RpcError while there is none."""
        view = self.store.view
        if self.next is None:
            _, _, last, _ = view.tips()
            self.next = last + 1
            self.look(view.branch(self.next, MAX_CATCH_UP))
            return News([], [])
        if not self.blocks:
            # Where another state was taken over, there are no blocks on the way to it.
            first = view.history()[1]
            self.next = max(self.next, view.head() + 1 - MAX_CATCH_UP, first)
        return self.look(view.branch(self.get_base(), len(self.blocks) + MAX_CATCH_UP))

    def look(self, shown: tuple[Height, list[Hash]]) -> News:
        """Take in the branch that is shown from the lowest block that was not final on."""
        last, hashes = shown
        assert self.next is not None
        base = self.get_base()
        fork = 0
        while fork < min(len(self.blocks), len(hashes)) and self.blocks[fork].block == hashes[fork]:
            fork += 1
        removed = self.cut(fork)
        added = []
        for height, block in enumerate(hashes[fork:], base + fork):
            told = Told(height, block)
            if height > last and not self.load(told):
                # Abandoned already: the next look sees what is there instead.
                break
            added.append(told)
            self.next = height + 1
            if height > last:
                self.blocks.append(told)
        while self.blocks and self.blocks[0].height <= last:
            self.log_bytes -= self.blocks.popleft().count_bytes()
        return News(removed, added)

    def get_base(self) -> Height:
        """The lowest height that is not final, as far as it was told."""
        assert self.next is not None
        return self.next - len(self.blocks)

    def cut(self, fork: int) -> list[Told]:
        """Take note that all blocks from a place on were abandoned."""
        removed: list[Told] = []
        while len(self.blocks) > fork:
            removed.append(self.blocks.pop())
        removed.reverse()
        if removed:
            self.next = removed[0].height
            self.removals.append(removed)
            self.removal_count += 1
            while len(self.removals) > MAX_REMOVALS:
                self.forget_removal()
        return removed

    def load(self, told: Told) -> bool:
        """Read the logs of a block that may be abandoned; whether it is still there."""
        try:
            told.logs = self.store.view.block_logs(told.block)
        except Unavailable:
            return False
        self.log_bytes += told.count_bytes()
        while self.log_bytes > MAX_LOG_BYTES and self.removals:
            self.forget_removal()
        for old in self.blocks:
            if self.log_bytes <= MAX_LOG_BYTES:
                break
            self.log_bytes -= old.count_bytes()
            old.logs = []
        return True

    def forget_removal(self) -> None:
        for told in self.removals.popleft():
            self.log_bytes -= told.count_bytes()

    def get_removals(self, since: int) -> list[list[Told]]:
        """Return what was abandoned since there had been so many reorganisations."""
        missed = min(self.removal_count - since, len(self.removals))
        return list(self.removals)[len(self.removals) - missed :]

    def get_hash(self, height: Height) -> Hash | None:
        """Return the hash of a block that was told and is not final; None for others."""
        place = height - self.get_base() if self.next is not None else -1
        return self.blocks[place].block if 0 <= place < len(self.blocks) else None
