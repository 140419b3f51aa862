"""Filters that clients poll: new blocks, waiting transactions, logs. Unused ones are forgotten."""

import secrets
import time

from msgspec import Struct

from quorate.base.types import Hash, Height
from quorate.rpc.dispatch import Kind, Method, required
from quorate.rpc.encoding import FALSE, TRUE, to_hex
from quorate.rpc.errors import LIMIT, SERVER, UNAVAILABLE, RpcError
from quorate.rpc.events import Events
from quorate.rpc.logs import Criteria, Logs, parse_criteria
from quorate.rpc.parameters import parse_string
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store
from quorate.rpc.validator import Validator
from quorate.rpc.workers import Workers

MAX_ATTEMPTS = 5
"""How often a report is begun again because blocks were replaced while it was read."""
MAX_BLOCK_HASHES = 10_000
MAX_PENDING_HASHES = 20_000
"""What one answer of eth_getFilterChanges may hold; older ones are lost to a slow client."""


class Filter(Struct):
    """What one client has not yet seen."""

    criteria: Criteria | None
    """Of logs; None: hashes of blocks or of transactions."""
    since: Height
    """The first height after its making."""
    next: Height
    """The first height that was not reported."""
    removals: int
    """How many reorganisations there had been at the last report."""
    deadline: float
    pending: list[Hash] | None = None
    """Waiting transactions since the last poll."""


class Filters:
    """The filters of this process. They do not outlive it, as in other clients."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        validator: Validator,
        workers: Workers,
        logs: Logs,
        events: Events,
    ) -> None:
        self.settings = settings
        self.store = store
        self.validator = validator
        self.workers = workers
        self.logs = logs
        self.events = events
        self.filters: dict[str, Filter] = {}

    def methods(self) -> list[Method]:
        name, inline = required(parse_string), Kind.INLINE
        return [
            Method("eth_newFilter", inline, self.add_logs, (required(parse_criteria),)),
            Method("eth_newBlockFilter", inline, self.add_blocks),
            Method("eth_newPendingTransactionFilter", inline, self.add_pending),
            Method("eth_getFilterChanges", Kind.ASYNC, self.get_changes, (name,)),
            Method("eth_getFilterLogs", Kind.ASYNC, self.get_all, (name,)),
            Method("eth_uninstallFilter", inline, self.remove, (name,)),
        ]

    def add(self, criteria: Criteria | None, pending: list[Hash] | None = None) -> bytes:
        now = time.monotonic()
        if len(self.filters) >= self.settings.max_filters:
            self.expire(now)
        if len(self.filters) >= self.settings.max_filters:
            found = len(self.filters)
            raise RpcError(LIMIT, f"{found} filters are in use, no more are possible")
        name = "0x" + secrets.token_hex(16)
        head = self.events.catch_up()
        self.filters[name] = Filter(
            criteria,
            head + 1,
            head + 1,
            self.events.trail.removal_count,
            now + self.settings.filter_seconds,
            pending,
        )
        return b'"%b"' % name.encode()

    def add_logs(self, criteria: Criteria) -> bytes:
        if criteria.first >= 0 and 0 <= criteria.last < criteria.first:
            raise RpcError(SERVER, "invalid block range params")
        return self.add(criteria)

    def add_blocks(self) -> bytes:
        return self.add(None)

    def add_pending(self) -> bytes:
        self.validator.watch_pending()
        return self.add(None, [])

    def on_pending(self, hashes: list[Hash]) -> None:
        """Take transactions that were admitted to the pool."""
        for found in list(self.filters.values()):
            if found.pending is not None:
                found.pending += hashes
                del found.pending[:-MAX_PENDING_HASHES]

    def expire(self, now: float) -> None:
        """Forget the filters that nobody asks for."""
        for name in [name for name, found in self.filters.items() if found.deadline < now]:
            del self.filters[name]

    def find(self, name: str) -> Filter:
        now = time.monotonic()
        found = self.filters.get(name)
        if found is None or found.deadline < now:
            self.filters.pop(name, None)
            raise RpcError(SERVER, "filter not found")
        found.deadline = now + self.settings.filter_seconds
        return found

    async def get_changes(self, name: str) -> bytes:
        """Return what is new since the last call, as an array."""
        found = self.find(name)
        if found.pending is not None:
            hashes, found.pending = found.pending, []
            return encode_hashes(hashes)
        for _ in range(MAX_ATTEMPTS):
            changes = await self.read_changes(found)
            if changes is not None:
                return changes
        raise RpcError(UNAVAILABLE, "the latest blocks are being replaced, try again")

    async def read_changes(self, found: Filter) -> bytes | None:
        """Return what is new; None where blocks were replaced while it was read."""
        trail = self.events.trail
        head = self.events.catch_up()
        before, seen = found.next, found.removals
        removed = self.take_removals(found)
        first, found.next = found.next, head + 1
        criteria = found.criteria
        changes: bytes | None = None
        try:
            if criteria is None:
                changes = self.read_hashes(first, head)
            else:
                first = max(first, criteria.first)
                last = head if criteria.last < 0 else min(head, criteria.last)
                changes = b"[]"
                if first <= last:
                    arguments = (criteria, first, last, trail.get_hash(last))
                    changes = await self.workers.run(self.read_logs, arguments) or None
        finally:
            if changes is None:
                # Not told, so the next call has to tell it.
                found.next, found.removals = min(found.next, before), min(found.removals, seen)
        if changes is None or not removed:
            return changes
        rest = [changes[1:-1]] if changes != b"[]" else []
        return b"[%b]" % b",".join(removed + rest)

    def take_removals(self, found: Filter) -> list[bytes]:
        """Go back to where the branches part that were abandoned since the last report.

        Returns the logs that were reported of abandoned blocks, as removed.
        """
        trail = self.events.trail
        removed: list[bytes] = []
        criteria = found.criteria
        for blocks in trail.get_removals(found.removals):
            for told in blocks:
                if criteria is None or told.height >= found.next:
                    continue
                if told.height >= criteria.first and not 0 <= criteria.last < told.height:
                    removed += told.find(criteria)
            found.next = min(found.next, blocks[0].height)
        found.removals = trail.removal_count
        return removed

    def read_logs(self, criteria: Criteria, first: Height, last: Height, tip: Hash | None) -> bytes:
        """Return the logs of a range that ends in this block; nothing where that is another."""
        return self.logs.read(criteria, first, last, tip) or b""

    def read_hashes(self, first: Height, head: Height) -> bytes:
        """Return the hashes of the blocks in [first, head]."""
        view, trail = self.store.view, self.events.trail
        heights = range(max(first, head + 1 - MAX_BLOCK_HASHES), head + 1)
        hashes = [trail.get_hash(height) or view.block_hash(height) for height in heights]
        return encode_hashes([block for block in hashes if block is not None])

    async def get_all(self, name: str) -> bytes:
        """Return all logs that a filter selects, as an array."""
        found = self.find(name)
        if found.criteria is None:
            raise RpcError(SERVER, "filter not found")
        return await self.workers.run(self.read_all, (found, found.criteria))

    def read_all(self, found: Filter, criteria: Criteria) -> bytes:
        head = self.store.view.head()
        if criteria.first < 0 and criteria.last < 0:
            # "From the latest block", said when the filter was made, means what came since. The
            # latest block of now is often the empty one that certifies the block with the logs.
            if found.since > head:
                return b"[]"
            return self.logs.read(criteria, found.since, head) or b"[]"
        return self.logs.get_logs(criteria)

    def remove(self, name: str) -> bytes:
        return FALSE if self.filters.pop(name, None) is None else TRUE


def encode_hashes(hashes: list[Hash]) -> bytes:
    return b"[%b]" % b",".join(b'"%b"' % to_hex(item).encode() for item in hashes)
