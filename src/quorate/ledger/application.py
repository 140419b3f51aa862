"""What a node needs of the thing that is agreed on: a ledger, a key-value store, opaque bytes.

Methods marked *slow* may take milliseconds to seconds; the node calls them through lanes of its
port, never on the path of a vote: `build`, `check`, `execute` on one, `add`, `settle`, `has_work`
and `waiting` on another, `commit`, `prune`, `keep_chunk`, `list_kept` and `import_state` on a
third, `decision`, `describe_state` and `export_state` on a fourth. Lanes run beside each other.
They must be deterministic except `build` and `add`, and must not look at a clock.

Executed blocks form a tree over the last final one. `finalize` takes its next step for good;
`adopt` names the tip that readers see meanwhile, which may move sideways.
"""

from typing import Protocol

from msgspec import Struct

from quorate.base.types import Hash, Height, Member, Milliseconds


class Executed(Struct, frozen=True, gc=False):
    """What the node keeps of an executed height."""

    height: Height
    block: Hash
    """Identity of the result; the next payload carries it, so replicas compare it at every
    height.
    """
    timestamp_ms: Milliseconds
    items: int
    """How many transactions (operations) it holds; 0 means that nothing is left to certify."""
    members: list[Member]
    """Who agrees on `height + 2`."""
    skipped: list[tuple[Hash, str]]


class Beginning(Struct, frozen=True, array_like=True):
    """What a state rests on: the block's header, with those before it that execution may name, and
    the payloads that it was executed from.
    """

    heads: list[bytes]
    payloads: list[bytes]


class Snapshot(Struct, frozen=True, array_like=True, gc=False):
    """The state after a height, as a list of what its chunks hash to."""

    height: Height
    block: Hash
    members: list[list[Member]]
    """Who agrees on the height itself, on the next one, and on the one after that."""
    chunks: list[Hash]
    """keccak256 of each chunk, in order. All replicas cut one state into the same chunks."""


class Application(Protocol):
    """One ledger and its pool."""

    genesis: Hash

    def durable(self) -> Executed:
        """The last height that survives a crash, genesis at first."""
        ...

    def decision(self, height: Height) -> tuple[Hash, bytes, list[bytes]] | None:
        """Slow: (envelope hash, certificate, payloads) of a final height, durable or not.

        None if it is not (or no longer) held.
        """
        ...

    def first_held(self) -> Height:
        """Slow: the first height whose decision is held; 1 unless blocks were pruned."""
        ...

    def members(self, height: Height) -> list[Member]:
        """Who agrees on `height`, which is at most two above the last final one and not older."""
        ...

    def add(self, items: list[bytes]) -> list[tuple[Hash, str | None]]:
        """Slow: admit items from clients or peers; (identity, None or why not) of each, in
        order.
        """
        ...

    def settle(self) -> list[Hash]:
        """Slow: judge what waits anew, over the block that readers see as the latest.

        Returns what waits again because the block that held it was abandoned.
        """
        ...

    def has_work(self, max_bytes: int) -> bool:
        """Slow: whether a payload of so many bytes built over the last settled block would hold
        something, or is asked for in any case. What fits in none must not count: the network would
        make empty blocks for it without end.
        """
        ...

    def counts(self) -> tuple[int, int, int]:
        """(executable, queued, bytes) of what waits."""
        ...

    def waiting(self, limit: int) -> list[bytes]:
        """Slow: up to `limit` items to tell a peer that has just connected."""
        ...

    def admitted(self, limit: int) -> list[bytes]:
        """Slow: up to `limit` items for the next start, those too that wait for another one."""
        ...

    def build(self, parent: Hash, now_ms: Milliseconds, max_bytes: int) -> bytes:
        """Slow: a payload over the executed block `parent`, empty where nothing waits."""
        ...

    def check(self, parent: Hash, payload: bytes, now_ms: Milliseconds) -> str | None:
        """Slow: None if the payload may follow the executed block `parent`, otherwise why not."""
        ...

    def execute(self, parent: Hash, payloads: list[bytes], parent_envelope: Hash) -> Executed:
        """Slow: execute (idempotent; may be speculative, of several children of one parent).

        The parent is any executed block from the last final one on. Raises Unavailable for one that
        is not (or no longer) held; what was executed long ago on branches may be dropped.
        """
        ...

    def finalize(
        self, executed: Executed, envelope: Hash, certificate: bytes, payloads: list[bytes]
    ) -> None:
        """The executed child of the last final block is final."""
        ...

    def adopt(self, tip: Hash, safe: Height) -> None:
        """Let the branch that ends in an executed block be what readers see beyond what is final.

        It may leave another branch, whose items wait again after the next `settle`. `safe` is the
        height that readers may call safe. Called only for engines that are open; without it the
        last final block is the latest. Raises Unavailable for a block that is not held.
        """
        ...

    def commit(self) -> Height:
        """Slow: make everything final durable at once, and what readers see with it; the durable
        height.
        """
        ...

    def prune(self, states: int, blocks: int) -> bool:
        """Slow: take one bounded step of forgetting all but the last so many states and blocks
        before the durable height (0: keep all); whether there is more to do.
        """
        ...

    # ---- the state as a whole, for those who are far behind

    def describe_state(self, height: Height, chunk_bytes: int) -> Snapshot | None:
        """Slow: take one bounded step towards the snapshot of the state after a durable height, in
        chunks of about this size. None: there is more to do, call again.

        Raises Unavailable where the state is no longer held, or cannot be told in chunks: then
        others execute their way there.
        """
        ...

    def export_state(self, snapshot: Snapshot, number: int) -> bytes | None:
        """Slow: a chunk of a snapshot that was described here lately; None if it is not held."""
        ...

    def list_kept(self, snapshot: Snapshot) -> list[int]:
        """Slow: the numbers of the chunks of a snapshot that are kept here; what was kept of any
        other snapshot is forgotten.
        """
        ...

    def keep_chunk(self, snapshot: Snapshot, number: int, chunk: bytes) -> None:
        """Slow: keep a chunk durably, whose hash is right. The state stays as it is."""
        ...

    def import_state(self, snapshot: Snapshot, envelope: Hash, certificate: bytes) -> Executed:
        """Slow: let the state be that of a snapshot of which all chunks are kept, durably and at
        once: a crash leaves the old state or the new one. Nothing else is executed meanwhile.

        Executed blocks above the old state are forgotten, and older blocks may be. Raises Invalid
        if the chunks do not give the block; the state is then as before, and no chunk is kept.
        """
        ...
