"""The key-value ledger as an application: the kernel's store and pool behind the one interface.

Operations (`operations.py`) put, delete and compare keys, or call an application's own code
(`machine.py`). Every change gets the next revision; an entry knows the revisions of its creation
and of its last change, as in etcd. The state is a Merkle Patricia trie, and a block's hash covers
its root, so `prove` convinces whoever trusts a certificate of the block after it.

A client is answered when its height is final, before the store has it. That is sound because what
is final can be executed again: the engine's journal holds the payload durably on a quorum, is cut
only at heights that the store holds durably (`Interpreter.cut`), and `start` delivers from there
on; the same payloads give the same blocks.

Members are those of genesis.
"""

import json
from typing import Any

from quorate._kernel import KeyValue, KeyValueBlock, KeyValueRun
from quorate.base.errors import Invalid, Unavailable
from quorate.base.plugins import load_class
from quorate.base.types import Address, Hash, Height, Member, Milliseconds
from quorate.crypto.hashes import HEAD_BYTES, keccak256
from quorate.ledger.application import Beginning, Executed, Snapshot
from quorate.ledger.machine import Context, Machine, Refused
from quorate.ledger.operations import Entry, get_identity
from quorate.ledger.payload import compose
from quorate.ledger.portable import Portable

__all__ = [
    "ETHEREUM",
    "KEYVALUE",
    "Answer",
    "Event",
    "Fate",
    "KeyValueLedger",
    "get_genesis_hash",
    "make_genesis",
    "open_keyvalue",
    "open_machine",
    "open_store",
    "read_genesis",
]

ETHEREUM, KEYVALUE = "ethereum", "keyvalue"
"""Names of the applications that come with Quorate; others are `package.module:Class`."""
MAX_MEMBERS = 1024
MEMBER_BYTES = 28
ALL = 1 << 32
"""More operations than any pool holds."""

Answer = tuple[bytes, int, int, bytes]
"""(identity of the operation, outcome, revision, detail)"""
Fate = tuple[bytes, tuple[int, int, bytes] | str]
"""(identity of an operation, its outcome, revision and detail, or why it will never have any)"""
Event = tuple[bytes, int, tuple[bytes, int, int, int] | None]
"""(key, revision, entry or None where it was deleted)"""


class KeyValueLedger(Portable):
    """An `Application` over a `KeyValue`; `machine` None: the built-in operations alone."""

    __slots__ = ("agreed", "fates", "genesis", "machine", "proposer", "store")

    def __init__(
        self, store: KeyValue, proposer: Address, members: list[Member], machine: Machine | None
    ) -> None:
        super().__init__(store)
        self.store, self.proposer, self.machine = store, proposer, machine
        self.agreed = members
        self.genesis: Hash = store.genesis_hash
        self.fates: list[Fate] = []
        """Of operations that waited when the state was last replaced and do no longer; for whoever
        answers clients to take.
        """

    # ---- the chain

    def durable(self) -> Executed:
        return self.describe(self.get_block(self.store.durable()))

    def decision(self, height: Height) -> tuple[Hash, bytes, list[bytes]] | None:
        return self.store.decision(height) if height else None

    def members(self, height: Height) -> list[Member]:
        return self.agreed

    def get_block(self, block: Hash | Height) -> KeyValueBlock:
        found = self.store.block(block)
        if found is None:
            name = f"0x{block.hex()}" if isinstance(block, bytes) else str(block)
            raise Unavailable(f"block {name} is not known")
        return found

    def describe(self, block: KeyValueBlock) -> Executed:
        return Executed(
            block.number, block.hash, block.timestamp_ms, block.items, self.agreed, block.skipped
        )

    # ---- what waits

    def add(self, items: list[bytes]) -> list[tuple[Hash, str | None]]:
        return self.store.add(items)

    def settle(self) -> list[Hash]:
        return self.store.settle()

    def has_work(self, max_bytes: int) -> bool:
        # What fits no payload was refused when it came.
        return self.store.ready()

    def counts(self) -> tuple[int, int, int]:
        waiting, size = self.store.counts()
        return waiting, 0, size

    def waiting(self, limit: int) -> list[bytes]:
        return self.store.waiting(limit)

    def admitted(self, limit: int) -> list[bytes]:
        return self.store.waiting(limit)

    # ---- payloads

    def build(self, parent: Hash, now_ms: Milliseconds, max_bytes: int) -> bytes:
        block = self.get_block(parent)
        time = max(now_ms, block.timestamp_ms + 1)
        body = self.store.take(parent, max_bytes - HEAD_BYTES, time)
        return compose(parent, time, self.proposer, body)

    def check(self, parent: Hash, payload: bytes, now_ms: Milliseconds) -> str | None:
        try:
            self.store.check(parent, payload, now_ms)
        except Invalid as error:
            return str(error)
        return None

    def execute(self, parent: Hash, payloads: list[bytes], parent_envelope: Hash) -> Executed:
        if self.machine is None:
            return self.describe(self.store.execute(parent, payloads, parent_envelope))
        known = self.store.executed(parent, payloads, parent_envelope)
        if known is not None:
            return self.describe(known)
        run = self.store.begin(parent, payloads, parent_envelope, self.machine.direct)
        carry_out(self.machine, run)
        return self.describe(run.finish())

    def finalize(
        self, executed: Executed, envelope: Hash, certificate: bytes, payloads: list[bytes]
    ) -> None:
        self.store.finalize(executed.block, envelope, certificate, payloads)

    def adopt(self, tip: Hash, safe: Height) -> None:
        self.store.adopt(tip)

    def commit(self) -> Height:
        return self.store.commit()

    def first_held(self) -> Height:
        return max(self.store.history()[1], 1)

    def prune(self, states: int, blocks: int) -> bool:
        return False

    # ---- the state as a whole

    def begin_description(self, height: Height) -> tuple[Hash, list[list[Member]], Beginning]:
        block, decision = self.get_block(height), self.store.decision(height)
        if not height or decision is None:
            raise Unavailable("its block is not held")
        return block.hash, [self.agreed] * 3, Beginning([block.header], decision[2])

    def import_state(self, snapshot: Snapshot, envelope: Hash, certificate: bytes) -> Executed:
        """The block is proved by its header, payloads and state by what is in it."""
        height = snapshot.height
        try:
            if any(members != self.agreed for members in snapshot.members):
                raise Invalid("snapshot: of other members than those of genesis")
            beginning, runs = self.read_kept(snapshot)
            header = beginning.heads[-1] if beginning.heads else b""
            found = keccak256(header)
            if found != snapshot.block:
                raise Invalid(f"snapshot: block 0x{found.hex()}, expected 0x{snapshot.block.hex()}")
            loading = self.store.start_import(height)
            for run in runs:
                loading.add(run)
            waited = self.store.waiting(ALL)
            loading.finish(header, envelope, certificate, beginning.payloads)
        except Invalid:
            self.forget_kept()
            raise
        self.fates = self.list_fates(waited)
        return self.describe(self.get_block(height))

    def list_fates(self, waited: list[bytes]) -> list[Fate]:
        """Return what became of operations that wait no longer, as far as the state tells."""
        still = {get_identity(operation) for operation in self.store.waiting(ALL)}
        gone = [operation for operation in waited if get_identity(operation) not in still]
        fates: list[Fate] = []
        for operation, (_, reason) in zip(gone, self.store.add(gone), strict=True):
            if reason is not None:
                identity = get_identity(operation)
                sequence = int.from_bytes(identity[16:], "big")
                fates.append((identity, self.store.result(identity[:16], sequence) or reason))
        return fates

    # ---- reading

    def get(self, key: bytes, height: Height | None = None) -> tuple[Height, int, Entry | None]:
        """Return height, revision and the entry of a key, as readers see it or saw it then."""
        at, revision, (entry,) = self.store.get([key], height)
        return at, revision, None if entry is None else Entry(*entry)

    def read(self, keys: list[bytes]) -> tuple[Height, int, list[Any]]:
        """Return height, revision and the entries of keys after the last final block: what is told
        to readers who must not see what another branch may take back.
        """
        return self.store.get(keys, self.store.final())

    def get_answers(self, block: Hash) -> list[Answer]:
        """Return what clients are told of a block that became final lately."""
        return self.get_block(block).answers

    def get_events(self, height: Height) -> list[Event]:
        """Slow: return what a final height changed, by executing it again if it is old."""
        block = self.get_block(height)
        if height == 0 or not block.items:
            return []
        if block.events:
            return block.events
        run = self.store.begin_again(height, self.machine is None or self.machine.direct)
        carry_out(self.machine or Machine(), run)
        return run.events()

    def find_height(self, revision: int) -> Height:
        """Slow: return the height whose block made a revision. Raises Unavailable for none."""
        low, high = self.store.history()[0], self.store.final()
        first, last = self.get_block(low).revision + 1, self.get_block(high).revision
        if not first <= revision <= last:
            raise Unavailable(f"revision {revision}: not here, expected {first} to {last}")
        while high - low > 1:
            middle = (low + high) // 2
            if self.get_block(middle).revision < revision:
                low = middle
            else:
                high = middle
        return high


def carry_out(machine: Machine, run: KeyValueRun) -> None:
    """Let an application's own code answer the calls of a block."""
    height, time = run.height, run.timestamp_ms
    while (call := run.next_call()) is not None:
        client, body = call
        try:
            answer = machine.apply(run, body, Context(height, time, client))
            if not isinstance(answer, bytes):
                raise TypeError
            run.answer(answer)
        except Refused as refusal:
            run.refuse(str(refusal) or "refused")
        except MemoryError:
            # Another replica may have more: this one must not answer differently, so it stops.
            raise
        except Exception as error:
            run.refuse(f"the application failed: {type(error).__name__}")


def open_machine(application: str) -> Machine | None:
    """Return the application's own code, None for the built-in application. Raises Invalid."""
    if application == KEYVALUE:
        return None
    if ":" not in application:
        raise Invalid(
            f"application: found {application!r}, "
            f"expected {ETHEREUM}, {KEYVALUE} or package.module:Class"
        )
    found = load_class("application", application, Machine)
    try:
        return found()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise Invalid(f"application {application!r}: making it fails: {reason}") from None


# ---- genesis


def make_genesis(
    *,
    application: str,
    chain_id: int,
    engine: str,
    members: list[Member],
    timestamp: int,
    rules: dict[str, Any] | None = None,
) -> bytes:
    """Return the genesis file of a key-value network; `timestamp` is Unix seconds."""
    validators = [
        {"address": "0x" + member.address.hex(), "power": member.power}
        for member in sorted(members)
    ]
    settings: dict[str, Any] = {
        "engine": engine,
        "application": application,
        "validators": validators,
        **(rules or {}),
    }
    config = {"chainId": chain_id, "quorate": settings}
    return json.dumps({"config": config, "timestamp": hex(timestamp)}, indent=2).encode() + b"\n"


def read_genesis(genesis: bytes) -> tuple[str, list[Member], Hash, Milliseconds]:
    """Return application, members, identity and time of a genesis file. Raises Invalid."""
    try:
        fields: Any = json.loads(genesis)
        settings = fields["config"]["quorate"]
        application = settings["application"]
        members = sorted(
            Member(bytes.fromhex(v["address"].removeprefix("0x")), int(v["power"]))
            for v in settings["validators"]
        )
        time_ms = int(str(fields["timestamp"]), 0) * 1000
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid(
            "genesis: expected config.quorate with application and validators, and a timestamp "
            f"({type(error).__name__}: {error})"
        ) from None
    addresses = {member.address for member in members}
    sound = all(len(m.address) == 20 and 0 < m.power < 1 << 63 for m in members)
    if not (1 <= len(members) <= MAX_MEMBERS and len(addresses) == len(members) and sound):
        raise Invalid(
            f"genesis: {len(members)} validators with {len(addresses)} addresses, expected 1 to "
            f"{MAX_MEMBERS} different ones with a power each"
        )
    identity = keccak256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())
    return str(application), members, identity, time_ms


def open_keyvalue(
    path: str | None,
    genesis: bytes,
    proposer: Address,
    *,
    map_bytes: int = 1 << 40,
    max_items: int = 1 << 16,
    max_bytes: int = 64 << 20,
) -> KeyValueLedger:
    """Open or create the ledger at a path (None: in memory), with its pool.

    Raises Invalid, Corrupt, Unavailable.
    """
    machine = open_machine(read_genesis(genesis)[0])
    store, members = open_store(
        path, genesis, map_bytes=map_bytes, max_items=max_items, max_bytes=max_bytes
    )
    return KeyValueLedger(store, proposer, members, machine)


def open_store(path: str | None, genesis: bytes, **bounds: int) -> tuple[KeyValue, list[Member]]:
    """Open or create the store of a genesis file; who agrees in it."""
    _, members, identity, time_ms = read_genesis(genesis)
    encoded = b"".join(m.address + m.power.to_bytes(8, "big") for m in members)
    return KeyValue.open(path, identity, encoded, time_ms, **bounds), members


def get_genesis_hash(genesis: bytes) -> Hash:
    """Return the hash of the block that a genesis file describes. Raises Invalid."""
    store, _ = open_store(None, genesis)
    try:
        return store.genesis_hash
    finally:
        store.close()
