"""A ledger of opaque items, in memory: for work on protocols and for large simulations.

An item is any bytes. Its identity is its keccak256, and it is executed at most once; an item that
comes again is skipped. An item that begins with `MEMBER_PREFIX` changes who agrees: 20 bytes of
address and 8 bytes of power (big-endian; 0 removes) follow, and the change holds two heights later.

The body of a payload is a msgpack list of items. A block's hash covers its parent's hash, the
envelope hash before it, the payloads, and the members that it leaves, so replicas that compare
blocks compare everything that execution decides.
"""

import msgspec

from quorate.base.errors import Invalid, Unavailable
from quorate.base.native import mypyc_attr
from quorate.base.types import Address, Hash, Height, Member, Milliseconds
from quorate.crypto.hashes import HEAD_BYTES, keccak256
from quorate.ledger.application import Executed, Snapshot
from quorate.ledger.opaque_blocks import Branch, Final, Start, State, decode_state
from quorate.ledger.payload import compose, parse_head

MEMBER_PREFIX = b"\x00member"
MEMBER_BYTES = len(MEMBER_PREFIX) + 28
MAX_ITEM_BYTES = 128 << 10
MAX_POOL_ITEMS = 1 << 16
MAX_POOL_BYTES = 64 << 20
MAX_AHEAD_MS = 10_000
"""How far a payload's time may lie before the wall clock."""
ITEM_OVERHEAD = 5
"""Bytes of an item's header in a body, at most."""

IDENTITY_BYTES = 40
"""Of an item that is included, in a chunk, about."""

HASHED: dict[bytes, Hash] = {}
"""Of blocks that were executed last, by what they are about."""
MAX_HASHED = 256
MAX_HASHED_BYTES = 1024
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[bytes])


class OpaqueStore:
    """What survives a crash. Given from one ledger object to the next."""

    __slots__ = ("base", "final", "genesis", "included", "kept", "snapshot")

    def __init__(self, genesis: Executed) -> None:
        self.genesis = genesis
        self.base = Start(b"", b"", [], {}, None)
        self.final = [Final(genesis, genesis.block, b"", [])]
        """The height at which the store begins, and all above it."""
        self.snapshot: Snapshot | None = None
        self.kept: dict[int, bytes] = {}
        """Chunks of the snapshot, by number."""
        self.included: dict[Hash, Height] = {}
        """Items in blocks up to the last height, from the lowest height on: an index over what the
        store holds, so that whoever opens it need not read it.
        """

    def append(self, final: Final) -> None:
        """Hold the next height."""
        self.final.append(final)
        self.index(final)

    def index(self, final: Final) -> None:
        for item in get_items(final.payloads):
            self.included.setdefault(keccak256(item), final.executed.height)

    def begin(self, base: Start, final: list[Final]) -> None:
        """Hold these heights over what is known of those below."""
        self.base, self.final = base, final
        self.included = dict(base.included)
        for held in final:
            self.index(held)

    def get(self, height: Height) -> Final | None:
        place = height - self.final[0].executed.height
        return self.final[place] if 0 <= place < len(self.final) else None

    def find(self, height: Height) -> Final | None:
        """Return what the store held of a height, also of what it gave up when it jumped."""
        base, found = self.base, self.get(height)
        while found is None and base.before is not None:
            base, finals = base.before
            place = height - finals[0].executed.height
            found = finals[place] if 0 <= place < len(finals) else None
        return found

    @property
    def height(self) -> Height:
        return self.final[-1].executed.height

    def forget(self, height: Height) -> None:
        """Lose everything above a height, as a disk does that never wrote it."""
        while self.final[0].executed.height > height and self.base.before is not None:
            self.begin(*self.base.before)
        del self.final[height - self.final[0].executed.height + 1 :]
        while len(self.included) > len(self.base.included):
            identity, at = self.included.popitem()
            if at <= height:
                self.included[identity] = at
                break


def make_genesis(name: bytes, members: list[Member]) -> Executed:
    """Return the start of a chain of this name, agreed on by these members."""
    members = sorted(members)
    block = keccak256(b"opaque" + _ENCODER.encode((name, members)))
    return Executed(0, block, 0, 0, members, [])


def compute_room(max_bytes: int) -> int:
    """Return what a payload of so many bytes has for items, with their headers."""
    return max_bytes - HEAD_BYTES - ITEM_OVERHEAD


@mypyc_attr(allow_interpreted_subclasses=True)
class OpaqueLedger:
    """An `Application` over an `OpaqueStore`; `proposer` is written into the payloads it builds."""

    __slots__ = (
        "adopted",
        "branches",
        "described",
        "encoded",
        "final",
        "genesis",
        "included",
        "last",
        "pool",
        "pool_bytes",
        "proposer",
        "returned",
        "shown",
        "store",
    )

    def __init__(self, store: OpaqueStore, proposer: Address) -> None:
        self.store, self.proposer = store, proposer
        self.genesis: Hash = store.genesis.block
        self.final: dict[Height, Final] = {}
        """Final and not durable yet."""
        self.last: Executed = store.final[-1].executed
        """The last final one."""
        self.included: dict[Hash, Height] = {}
        """Items in blocks that became final since the store was opened; it has those before."""
        self.branches: dict[Hash, Branch] = {}
        """Executed blocks above the last final one, oldest first."""
        self.adopted: Hash = self.last.block
        """The latest block as readers see it: the last final one, or a tip above it."""
        self.shown: dict[Hash, None] = {}
        """Items in the blocks above the last final one, up to the adopted tip."""
        self.returned: list[Hash] = []
        """Items of abandoned blocks that wait again, since the last `settle`."""
        self.pool: dict[Hash, bytes] = {}
        self.pool_bytes = 0
        self.encoded: tuple[list[Member], bytes] = ([], _ENCODER.encode([]))
        """The last members that went into a block, and their bytes: they change rarely."""
        self.described: tuple[Snapshot, list[bytes]] | None = None
        """What others are offered, and its chunks."""

    # ---- the chain

    def get_final(self, height: Height) -> Final | None:
        return self.store.get(height) or self.final.get(height)

    def durable(self) -> Executed:
        return self.store.final[-1].executed

    def decision(self, height: Height) -> tuple[Hash, bytes, list[bytes]] | None:
        final = self.get_final(height) if height else None
        if final is None:
            return None
        return final.envelope, final.certificate, final.payloads

    def members(self, height: Height) -> list[Member]:
        final = self.get_final(max(height - 2, 0))
        place = height - self.store.final[0].executed.height
        if final is None and 0 <= place < len(self.store.base.members):
            return self.store.base.members[place]
        if final is None:
            latest = self.last.height + 2
            raise Unavailable(f"members of height {height}: known up to {latest}")
        return final.executed.members

    # ---- what waits

    def add(self, items: list[bytes]) -> list[tuple[Hash, str | None]]:
        return [self.add_one(item) for item in items]

    def add_one(self, item: bytes) -> tuple[Hash, str | None]:
        identity = keccak256(item)
        if identity in self.pool or identity in self.shown or self.is_final(identity):
            return identity, "already known"
        if not 0 < len(item) <= MAX_ITEM_BYTES:
            return identity, f"item of {len(item)} bytes, expected 1 to {MAX_ITEM_BYTES}"
        if item.startswith(MEMBER_PREFIX) and len(item) != MEMBER_BYTES:
            return identity, f"member change of {len(item)} bytes, expected {MEMBER_BYTES}"
        if len(self.pool) >= MAX_POOL_ITEMS or self.pool_bytes + len(item) > MAX_POOL_BYTES:
            return identity, "txpool is full"
        self.pool[identity] = item
        self.pool_bytes += len(item)
        return identity, None

    def settle(self) -> list[Hash]:
        """Say what waits again; `finalize` and `adopt` take out what they include."""
        returned, self.returned = self.returned, []
        return returned

    def has_work(self, max_bytes: int) -> bool:
        room = compute_room(max_bytes)
        return any(len(item) + ITEM_OVERHEAD <= room for item in self.pool.values())

    def counts(self) -> tuple[int, int, int]:
        return len(self.pool), 0, self.pool_bytes

    def waiting(self, limit: int) -> list[bytes]:
        return list(self.pool.values())[:limit]

    def admitted(self, limit: int) -> list[bytes]:
        return self.waiting(limit)

    # ---- payloads

    def build(self, parent: Hash, now_ms: Milliseconds, max_bytes: int) -> bytes:
        previous = self.get_executed(parent)
        items: list[bytes] = []
        room = left = compute_room(max_bytes)
        is_tip = parent == self.adopted
        for identity, item in list(self.pool.items()):
            # Over another block than the latest, part of what waits may be included already.
            if not is_tip and self.is_included(identity, parent):
                continue
            size = len(item) + ITEM_OVERHEAD
            if size > room:
                # No payload of this node ever holds it; others may have room, and must not wait.
                continue
            left -= size
            if left < 0:
                break
            items.append(item)
        time = max(now_ms, previous.timestamp_ms + 1)
        return compose(parent, time, self.proposer, _ENCODER.encode(items))

    def check(self, parent: Hash, payload: bytes, now_ms: Milliseconds) -> str | None:
        previous = self.get_executed(parent)
        try:
            block, time, _ = parse_head(payload)
            items = _DECODER.decode(payload[HEAD_BYTES:])
        except (Invalid, msgspec.MsgspecError) as error:
            return str(error)
        if block != parent:
            return f"parent block 0x{block.hex()}, expected 0x{parent.hex()}"
        if not previous.timestamp_ms < time <= now_ms + MAX_AHEAD_MS:
            latest = now_ms + MAX_AHEAD_MS
            return f"timestamp {time} ms, expected {previous.timestamp_ms + 1} to {latest}"
        if any(not 0 < len(item) <= MAX_ITEM_BYTES for item in items):
            return "an item of the wrong size"
        return None

    def execute(self, parent: Hash, payloads: list[bytes], parent_envelope: Hash) -> Executed:
        previous = self.get_executed(parent)
        skipped: list[tuple[Hash, str]] = []
        fresh: dict[Hash, bytes] = {}
        changes: list[bytes] = []
        for item in get_items(payloads):
            identity = keccak256(item)
            if identity in fresh or self.is_included(identity, parent):
                skipped.append((identity, "already known"))
                continue
            fresh[identity] = item
            if item.startswith(MEMBER_PREFIX):
                changes.append(item)
        after = change_members(previous.members, changes)
        if after is not self.encoded[0]:
            self.encoded = (after, _ENCODER.encode(after))
        time = max([previous.timestamp_ms + 1, *[parse_head(p)[1] for p in payloads]])
        block = hash_block(
            b"".join((parent, parent_envelope, self.encoded[1], _ENCODER.encode(payloads)))
        )
        executed = Executed(previous.height + 1, block, time, len(fresh), after, skipped)
        self.branches[block] = Branch(executed, parent, fresh)
        return executed

    def finalize(
        self, executed: Executed, envelope: Hash, certificate: bytes, payloads: list[bytes]
    ) -> None:
        branch = self.branches[executed.block]
        if branch.parent != self.last.block:
            raise Invalid(f"height {executed.height}: its parent is not the last final block")
        is_line = self.is_line()
        if self.adopted == self.last.block:
            self.adopted = executed.block
        elif not is_line and not self.descends(self.adopted, executed.block):
            self.adopt(executed.block, executed.height)
        for identity in branch.fresh:
            self.included[identity] = executed.height
            self.shown.pop(identity, None)
            item = self.pool.pop(identity, b"")
            self.pool_bytes -= len(item)
        self.final[executed.height] = Final(executed, envelope, certificate, payloads)
        self.last = executed
        if is_line:
            del self.branches[executed.block]
        else:
            self.forget_losers()

    def adopt(self, tip: Hash, safe: Height) -> None:
        self.get_executed(tip)
        left, entered = self.find_fork(self.adopted, tip)
        for branch in reversed(left):
            for identity, item in branch.fresh.items():
                self.shown.pop(identity, None)
                self.put_back(identity, item)
        for branch in entered:
            for identity in branch.fresh:
                self.shown[identity] = None
                self.pool_bytes -= len(self.pool.pop(identity, b""))
        self.returned = [identity for identity in self.returned if identity in self.pool]
        self.adopted = tip

    def put_back(self, identity: Hash, item: bytes) -> None:
        """Let an item of an abandoned block wait again."""
        if len(self.pool) < MAX_POOL_ITEMS and self.pool_bytes + len(item) <= MAX_POOL_BYTES:
            self.pool[identity] = item
            self.pool_bytes += len(item)
            self.returned.append(identity)

    def first_held(self) -> Height:
        return 1

    def prune(self, states: int, blocks: int) -> bool:
        return False

    def commit(self) -> Height:
        # More may become final while this runs: it takes the heights that are there now.
        for height in list(self.final):
            self.store.append(self.final[height])
            del self.final[height]
        return self.store.height

    # ---- the state as a whole

    def describe_state(self, height: Height, chunk_bytes: int) -> Snapshot | None:
        store = self.store
        final = store.get(height) if height else None
        if final is None:
            raise Unavailable(f"state of height {height}: not held")
        members = [self.members(height + i) for i in range(3)]
        if self.described is not None:
            last = self.described[0]
            if (last.height, last.block) == (height, final.executed.block):
                return last
        below, base = store.get(height - 1), store.base
        parent, envelope = base.parent, base.parent_envelope
        if below is not None:
            parent, envelope = below.executed.block, below.envelope
        known = [(identity, at) for identity, at in self.get_included().items() if at <= height]
        state = State(final.executed, parent, envelope, final.payloads)
        chunks = [_ENCODER.encode(state)]
        step = max(chunk_bytes // IDENTITY_BYTES, 1)
        chunks += [_ENCODER.encode(known[i : i + step]) for i in range(0, len(known), step)]
        hashes = [keccak256(chunk) for chunk in chunks]
        self.described = (Snapshot(height, final.executed.block, members, hashes), chunks)
        return self.described[0]

    def export_state(self, snapshot: Snapshot, number: int) -> bytes | None:
        if self.described is None or self.described[0] != snapshot:
            return None
        return self.described[1][number] if number < len(snapshot.chunks) else None

    def list_kept(self, snapshot: Snapshot) -> list[int]:
        store = self.store
        if store.snapshot != snapshot:
            store.snapshot, store.kept = snapshot, {}
        return sorted(n for n, c in store.kept.items() if keccak256(c) == snapshot.chunks[n])

    def keep_chunk(self, snapshot: Snapshot, number: int, chunk: bytes) -> None:
        if self.store.snapshot == snapshot:
            self.store.kept[number] = chunk

    def import_state(self, snapshot: Snapshot, envelope: Hash, certificate: bytes) -> Executed:
        """The block's hash covers what is in the block, and its members; of older items there are
        the identities alone, for which whoever told the hashes of the chunks stands.
        """
        store = self.store
        kept, store.kept = store.kept, {}
        state, included = decode_state(snapshot, kept)
        executed = state.executed
        block = compute_block(state.parent, state.parent_envelope, executed.members, state.payloads)
        if (executed.height, executed.block, block) != (
            snapshot.height,
            snapshot.block,
            snapshot.block,
        ):
            raise Invalid(f"snapshot: block 0x{block.hex()}, expected 0x{snapshot.block.hex()}")
        members = [*snapshot.members[:2], executed.members]
        base = Start(
            state.parent, state.parent_envelope, members, included, (store.base, store.final)
        )
        store.begin(base, [Final(executed, envelope, certificate, state.payloads)])
        self.final, self.branches, self.shown, self.returned = {}, {}, {}, []
        self.last, self.adopted, self.included = executed, executed.block, {}
        for identity in [identity for identity in self.pool if self.is_final(identity)]:
            self.pool_bytes -= len(self.pool.pop(identity))
        return executed

    # ---- the tree

    def get_executed(self, block: Hash) -> Executed:
        if block == self.last.block:
            return self.last
        branch = self.branches.get(block)
        if branch is None:
            raise Unavailable(f"block 0x{block.hex()} is not known")
        return branch.executed

    def get_included(self) -> dict[Hash, Height]:
        """Return the items in final blocks, from the lowest height on."""
        return {**self.store.included, **self.included}

    def is_final(self, identity: Hash) -> bool:
        """Whether an item is in a final block."""
        return identity in self.included or identity in self.store.included

    def is_included(self, identity: Hash, parent: Hash) -> bool:
        """Whether an item is in a final block or in a branch down from `parent`."""
        if self.is_final(identity):
            return True
        if parent == self.adopted:
            return identity in self.shown
        branch = self.branches.get(parent)
        while branch is not None:
            if identity in branch.fresh:
                return True
            branch = self.branches.get(branch.parent)
        return False

    def find_fork(self, old: Hash, new: Hash) -> tuple[list[Branch], list[Branch]]:
        """Return the blocks that only one of two branches has, highest first."""
        left: list[Branch] = []
        entered: list[Branch] = []
        while old != new:
            one, other = self.branches.get(old), self.branches.get(new)
            if one is None and other is None:
                break
            if one is not None and (other is None or one.executed.height >= other.executed.height):
                left.append(one)
                old = one.parent
                if other is None or one.executed.height > other.executed.height:
                    continue
            if other is not None:
                entered.append(other)
                new = other.parent
        return left, entered

    def is_line(self) -> bool:
        """Whether all executed blocks are those from the last final one up to the adopted tip."""
        tip = self.branches.get(self.adopted)
        return tip is not None and len(self.branches) == tip.executed.height - self.last.height

    def descends(self, block: Hash, ancestor: Hash) -> bool:
        """Whether a tentative block lies over another one, or is it."""
        while block != ancestor:
            branch = self.branches.get(block)
            if branch is None:
                return False
            block = branch.parent
        return True

    def forget_losers(self) -> None:
        """Keep what lies over the last final block; parents were executed before children."""
        living = {self.last.block}
        kept: dict[Hash, Branch] = {}
        for block, branch in self.branches.items():
            if branch.parent in living:
                living.add(block)
                kept[block] = branch
        self.branches = kept


def hash_block(data: bytes) -> Hash:
    """Return the hash of what a block is about. All nodes of a simulated network ask for the same,
    so the last small ones are remembered.
    """
    found = HASHED.get(data)
    if found is None:
        found = keccak256(data)
        if len(data) <= MAX_HASHED_BYTES:
            if len(HASHED) >= MAX_HASHED:
                HASHED.clear()
            HASHED[data] = found
    return found


def compute_block(
    parent: Hash, parent_envelope: Hash, members: list[Member], payloads: list[bytes]
) -> Hash:
    """Return the identity of a block."""
    parts = (parent, parent_envelope, _ENCODER.encode(members), _ENCODER.encode(payloads))
    return keccak256(b"".join(parts))


def get_items(payloads: list[bytes]) -> list[bytes]:
    """Return the items of payloads in order. Raises Invalid."""
    try:
        return [item for p in payloads for item in _DECODER.decode(p[HEAD_BYTES:])]
    except msgspec.MsgspecError as error:
        raise Invalid(f"payload: {error}") from None


def change_members(before: list[Member], changes: list[bytes]) -> list[Member]:
    """Return who agrees after items that change it; the last member stays.

    Without changes the very same list, so that who keeps something about it need not compare.
    """
    if not changes:
        return before
    powers = {m.address: m.power for m in before}
    for item in changes:
        if len(item) != MEMBER_BYTES:
            continue
        address = item[len(MEMBER_PREFIX) : -8]
        power = int.from_bytes(item[-8:], "big")
        if power:
            powers[address] = power
        elif len(powers) > 1:
            powers.pop(address, None)
    return [Member(address, power) for address, power in sorted(powers.items())]


def make_member_change(address: Address, power: int) -> bytes:
    """Return the item that gives a member this power; 0 removes it."""
    return MEMBER_PREFIX + address + power.to_bytes(8, "big")
