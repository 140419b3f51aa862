"""The Ethereum ledger as an application: the kernel's ledger and pool behind one interface.

Membership. The validator set lies in the storage of the contract at `VALIDATORS` (layout in
`ledger/genesis.py`). It is read after a block that executed transactions and changed the contract's
storage root; the set after block N agrees on N + 2. A set that nobody could agree with (none, too
many, a member twice or without power) is not taken over: the one before stays. The contract does
not let that happen; this rule keeps every node on the same set should a bug in it do so.
"""

import json

import msgspec

from quorate._kernel import Block, Ledger, Pool, View
from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.base.types import Address, Hash, Height, Member, Milliseconds
from quorate.crypto.hashes import HEAD_BYTES, keccak256
from quorate.ledger.application import Beginning, Executed, Snapshot
from quorate.ledger.genesis import VALIDATORS
from quorate.ledger.payload import compose, get_largest_item
from quorate.ledger.portable import Portable

MAX_MEMBERS = 1024
"""Of a validator set."""
COUNT_SLOT = bytes(32)
FIRST_SLOT = int.from_bytes(keccak256(COUNT_SLOT), "big")
KEPT_FINAL = 8
"""Final heights whose validator set is remembered by height."""
MAX_HEADS = 257
"""That come with a state: BLOCKHASH sees 256 ancestors."""
NOTHING = b"\xc0"
"""The body of an empty payload."""
MAX_SETS = 256
"""Executed blocks whose validator set is remembered; others are read again."""

SETS = msgspec.msgpack.Decoder(dict[Height, list[Member]])


class EthereumLedger(Portable):
    """An `Application` over a `Ledger` and its `Pool`.

    `proposer` is written into the payloads that this node builds, and receives their fees.
    """

    __slots__ = (
        "after",
        "genesis",
        "is_open",
        "ledger",
        "longest",
        "pool",
        "proposer",
        "sets",
        "settled",
        "tip",
    )

    def __init__(self, ledger: Ledger, pool: Pool, proposer: Address) -> None:
        super().__init__(ledger)
        self.ledger, self.pool, self.proposer = ledger, pool, proposer
        self.genesis: Hash = ledger.genesis_hash
        self.sets: dict[Hash, tuple[Hash, list[Member]]] = {}
        """Storage root of the contract and the set, by block."""
        self.after: dict[Height, list[Member]] = {}
        """The sets after the last final heights; asked for at every height, on the node's loop."""
        note = ledger.note()
        if note is not None:
            # The states that these sets were read from did not come with the one that is here.
            self.after.update(decode_sets(note))
        last = self.get_block(ledger.final())
        self.tip: Hash = last.hash
        """The latest block: the last final one, or the one that was adopted since."""
        self.is_open = False
        """Whether a tip was adopted since the start."""
        self.settled: Hash = self.genesis
        """The block that the pool followed last."""
        self.longest = 0
        """Bytes of the longest item that an abandoned block gave back, while anything waits."""
        self.settle()

    # ---- the chain

    def durable(self) -> Executed:
        return self.describe(self.get_block(self.ledger.durable()))

    def decision(self, height: Height) -> tuple[Hash, bytes, list[bytes]] | None:
        return self.ledger.decision(height) if height else None

    def members(self, height: Height) -> list[Member]:
        base = max(height - 2, 0)
        known = self.after.get(base)
        return known if known is not None else self.get_set(self.get_block(base))[1]

    def get_block(self, block: Hash | Height) -> Block:
        found = self.ledger.block(block)
        if found is None:
            name = f"0x{block.hex()}" if isinstance(block, bytes) else str(block)
            raise Unavailable(f"block {name} is not known")
        return found

    def describe(self, block: Block) -> Executed:
        return Executed(
            block.number,
            block.hash,
            block.timestamp_ms,
            block.transactions,
            self.get_set(block)[1],
            block.skipped,
        )

    def get_set(self, block: Block) -> tuple[Hash, list[Member]]:
        """Return the contract's storage root and the validator set after a block."""
        known = self.sets.get(block.hash)
        if known is not None:
            return known
        before = self.sets.get(block.parent) if block.number else None
        if before is not None and not block.transactions:
            found = before
        else:
            root = self.ledger.storage_root(block.hash, VALIDATORS)
            found = before if before is not None and before[0] == root else self.read_set(block)
        while len(self.sets) >= MAX_SETS:
            del self.sets[next(iter(self.sets))]
        self.sets[block.hash] = found
        return found

    def read_set(self, block: Block) -> tuple[Hash, list[Member]]:
        """Read the set from the contract's storage, or from the last block whose set is sound."""
        while True:
            members = read_members(self.ledger, block.hash) or self.after.get(block.number)
            if members is not None:
                return self.ledger.storage_root(block.hash, VALIDATORS), members
            if not block.number:
                raise Corrupt(f"genesis: no sound validator set at 0x{VALIDATORS.hex()}")
            block = self.get_block(block.parent)

    # ---- what waits

    def add(self, items: list[bytes]) -> list[tuple[Hash, str | None]]:
        if self.is_open:
            # Nobody settles an empty pool after a block without transactions, but it paid a reward.
            self.follow(self.tip)
        return self.pool.add(items)

    def settle(self) -> list[Hash]:
        self.follow(self.tip)
        if not self.is_open:
            return []
        returned = self.pool.readmit()
        if self.longest and self.counts() == (0, 0, 0):
            self.longest = 0
        for identity in returned:
            self.longest = max(self.longest, len(self.pool.get(identity) or b""))
        return returned

    def follow(self, block: Hash) -> None:
        """Let the pool follow a block, unless it has."""
        if self.settled != block:
            self.pool.settle(block)
            self.settled = block

    def has_work(self, max_bytes: int) -> bool:
        ready = self.pool.ready()
        if not ready or self.longest <= get_largest_item(max_bytes):
            return ready
        # What a client or a peer sent fits a payload of this node. What an abandoned block held,
        # with more room than this node gives, need not.
        limit = self.get_block(self.settled).gas_limit
        return self.pool.take(self.settled, max_bytes - HEAD_BYTES, limit) != NOTHING

    def counts(self) -> tuple[int, int, int]:
        return self.pool.counts()

    def waiting(self, limit: int) -> list[bytes]:
        return self.pool.raw(limit)

    def admitted(self, limit: int) -> list[bytes]:
        executable = self.pool.raw(limit)
        accounts = json.loads(self.pool.content_json(None))["queued"].values()
        hashes = [bytes.fromhex(tx["hash"][2:]) for queue in accounts for tx in queue.values()]
        queued = (self.pool.get(found) for found in hashes)
        return [*executable, *(raw for raw in queued if raw is not None)][:limit]

    # ---- payloads

    def build(self, parent: Hash, now_ms: Milliseconds, max_bytes: int) -> bytes:
        if parent == self.tip:
            self.follow(parent)
        block = self.get_block(parent)
        body = self.pool.take(parent, max_bytes - HEAD_BYTES, block.gas_limit)
        return compose(parent, max(now_ms, block.timestamp_ms + 1), self.proposer, body)

    def check(self, parent: Hash, payload: bytes, now_ms: Milliseconds) -> str | None:
        try:
            self.ledger.check(parent, payload, now_ms)
        except Invalid as error:
            return str(error)
        return None

    def execute(self, parent: Hash, payloads: list[bytes], parent_envelope: Hash) -> Executed:
        return self.describe(self.ledger.execute(parent, payloads, parent_envelope))

    def finalize(
        self, executed: Executed, envelope: Hash, certificate: bytes, payloads: list[bytes]
    ) -> None:
        self.ledger.finalize(executed.block, envelope, certificate, payloads)
        self.tip = self.ledger.latest() if self.is_open else executed.block
        self.after[executed.height] = executed.members
        self.after.pop(executed.height - KEPT_FINAL, None)

    def adopt(self, tip: Hash, safe: Height) -> None:
        self.ledger.adopt(tip, safe)
        self.tip, self.is_open = tip, True

    def commit(self) -> Height:
        return self.ledger.commit()

    # ---- what is kept

    def first_held(self) -> Height:
        return max(self.ledger.view().history()[1], 1)

    def prune(self, states: int, blocks: int) -> bool:
        return self.ledger.prune(states or None, blocks or None)

    # ---- the state as a whole

    def begin_description(self, height: Height) -> tuple[Hash, list[list[Member]], Beginning]:
        block, decision = self.get_block(height), self.ledger.decision(height)
        if not height or decision is None:
            raise Unavailable("its block is not held")
        view = self.ledger.view()
        first = max(height + 1 - MAX_HEADS, view.history()[2], 1)
        heads = [record for h in range(first, height + 1) if (record := view.head_record(h))]
        # Not through the sets by block that are remembered: those are another lane's.
        note = self.ledger.note()
        known = {**(decode_sets(note) if note else {}), **self.after}
        bases = [max(height - back, 0) for back in (2, 1, 0)]
        members = [known.get(b) or self.read_set(self.get_block(b))[1] for b in bases]
        return block.hash, members, Beginning(heads, decision[2])

    def import_state(self, snapshot: Snapshot, envelope: Hash, certificate: bytes) -> Executed:
        """The block is proved by its header, and the state by the root in it; who agrees on the
        next heights is what the certificates name.
        """
        height = snapshot.height
        sets = {
            max(height - back, 0): m for back, m in zip((2, 1, 0), snapshot.members, strict=True)
        }
        try:
            beginning, runs = self.read_kept(snapshot)
            heads = beginning.heads
            if not heads or heads[-1][:32] != snapshot.block:
                found = heads[-1][:32].hex() if heads else ""
                raise Invalid(f"snapshot: block 0x{found}, expected 0x{snapshot.block.hex()}")
            loading = self.ledger.start_import(height)
            for run in runs:
                loading.add(run)
            loading.finish(heads, envelope, certificate, beginning.payloads, encode_sets(sets))
        except Invalid:
            self.forget_kept()
            raise
        # Sets from before stay for those who still ask about the heights that were left.
        before = dict(list(self.after.items())[-KEPT_FINAL:])
        self.after = {**before, **sets}
        block = self.get_block(height)
        root = self.ledger.storage_root(block.hash, VALIDATORS)
        self.sets = {block.hash: (root, snapshot.members[2])}
        self.tip = block.hash
        self.follow(block.hash)
        # The pool takes over what a next block changed, and of one that was not executed here
        # nothing is known. Told again, it reads its accounts anew.
        self.pool.settle(block.hash)
        return self.describe(block)


def encode_sets(sets: dict[Height, list[Member]]) -> bytes:
    """Return what a store that begins with a state remembers: validator sets after heights."""
    return msgspec.msgpack.encode(sets)


def decode_sets(note: bytes) -> dict[Height, list[Member]]:
    """Return what `encode_sets` was given. Raises Corrupt."""
    try:
        return SETS.decode(note)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the store's note: {error}, expected validator sets") from None


def read_members(ledger: Ledger, block: Hash) -> list[Member] | None:
    """Return the set in the contract's storage, sorted by address; None if it is not sound."""
    count = int.from_bytes(ledger.storage(block, VALIDATORS, [COUNT_SLOT])[0], "big")
    if not 1 <= count <= MAX_MEMBERS:
        return None
    slots = [((FIRST_SLOT + i) % (1 << 256)).to_bytes(32, "big") for i in range(count)]
    values = [int.from_bytes(v, "big") for v in ledger.storage(block, VALIDATORS, slots)]
    powers = {(v & ((1 << 160) - 1)).to_bytes(20, "big"): v >> 160 for v in values}
    if len(powers) != count or not all(powers.values()):
        return None
    return [Member(address, power) for address, power in sorted(powers.items())]


def read_view_members(view: View, height: Height) -> list[Member]:
    """Return the set in the state after a stored height. Raises Corrupt for one that is not sound.

    Where a set was not sound, agreement stayed with the one before; readers refuse instead.
    """
    count = int.from_bytes(view.storage(height, VALIDATORS, COUNT_SLOT), "big")
    if not 1 <= count <= MAX_MEMBERS:
        raise Corrupt(f"height {height}: {count} validators, expected 1 to {MAX_MEMBERS}")
    members = []
    for i in range(count):
        slot = ((FIRST_SLOT + i) % (1 << 256)).to_bytes(32, "big")
        packed = view.storage(height, VALIDATORS, slot)
        members.append(Member(packed[12:], int.from_bytes(packed[:12], "big")))
    return sorted(members)


def open_ethereum(
    path: str | None,
    genesis: bytes,
    proposer: Address,
    *,
    map_bytes: int = 1 << 40,
    max_transactions: int = 20_480,
    max_bytes: int = 64 << 20,
    account_slots: int = 64,
    min_tip: int = 0,
    allow_unprotected: bool = False,
) -> EthereumLedger:
    """Open or create the ledger at a path (None: in memory) with its pool.

    `map_bytes` bounds the store. Raises what `Ledger.open` raises: Invalid, Corrupt, Unavailable.
    """
    ledger = Ledger.open(path, genesis, map_bytes)
    pool = Pool(
        ledger,
        max_transactions=max_transactions,
        max_bytes=max_bytes,
        account_slots=account_slots,
        min_tip=min_tip,
        allow_unprotected=allow_unprotected,
    )
    return EthereumLedger(ledger, pool, proposer)
