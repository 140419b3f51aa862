"""The ledger of opaque items."""

import msgspec
import pytest

from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Member
from quorate.crypto.hashes import HEAD_BYTES, keccak256
from quorate.ledger import opaque
from quorate.ledger.application import Snapshot
from quorate.ledger.opaque import (
    OpaqueLedger,
    OpaqueStore,
    make_genesis,
    make_member_change,
)
from quorate.ledger.payload import compose, parse_head

ALICE, BOB = b"\x0a" * 20, b"\x0b" * 20
GENESIS = make_genesis(b"test", [Member(ALICE, 1)])
ENVELOPE = b"\xe0" * 32


def make_ledger() -> OpaqueLedger:
    return OpaqueLedger(OpaqueStore(GENESIS), ALICE)


def advance(ledger: OpaqueLedger, *items: bytes, now_ms: int = 1000) -> None:
    """Make a block of these items final and durable."""
    ledger.add(list(items))
    parent = ledger.last.block
    payload = ledger.build(parent, now_ms, 1 << 20)
    assert ledger.check(parent, payload, now_ms) is None
    executed = ledger.execute(parent, [payload], ENVELOPE)
    ledger.finalize(executed, ENVELOPE, b"proof", [payload])
    ledger.commit()


def test_same_payloads_give_the_same_blocks_on_any_replica() -> None:
    one, other = make_ledger(), make_ledger()
    advance(one, b"a", b"b")
    _, certificate, payloads = one.decision(1)
    executed = other.execute(GENESIS.block, payloads, ENVELOPE)
    other.finalize(executed, ENVELOPE, certificate, payloads)
    assert one.last == other.last
    assert one.last.items == 2


def test_block_hash_covers_parent_envelope_payloads_and_members() -> None:
    ledger = make_ledger()
    empty = ledger.build(GENESIS.block, 1000, 1 << 20)
    ledger.add([b"a"])
    full = ledger.build(GENESIS.block, 1000, 1 << 20)
    blocks = [
        ledger.execute(GENESIS.block, [payload], envelope).block
        for payload in (empty, full)
        for envelope in (ENVELOPE, bytes(32))
    ]
    assert len(set(blocks)) == 4


def test_what_fits_no_payload_is_no_work_and_keeps_nobody_waiting() -> None:
    ledger = make_ledger()
    ledger.add([b"a" * 300])
    assert not ledger.has_work(300)
    assert ledger.has_work(1000)
    ledger.add([b"b"])
    assert ledger.has_work(300)
    assert b"b" in ledger.build(GENESIS.block, 1000, 300)[64:]


def test_item_is_executed_once_and_then_skipped() -> None:
    ledger = make_ledger()
    advance(ledger, b"a")
    assert [error for _, error in ledger.add([b"a"])] == ["already known"]
    _, _, payloads = ledger.decision(1)
    again = compose(ledger.last.block, 5000, BOB, payloads[0][64:])
    executed = ledger.execute(ledger.last.block, [again], ENVELOPE)
    assert executed.items == 0
    assert [reason for _, reason in executed.skipped] == ["already known"]


def test_branch_sees_the_items_of_its_own_ancestors() -> None:
    ledger = make_ledger()
    ledger.add([b"a"])
    first = ledger.build(GENESIS.block, 1000, 1 << 20)
    left = ledger.execute(GENESIS.block, [first], ENVELOPE)
    child = compose(left.block, 2000, ALICE, first[64:])
    assert ledger.execute(left.block, [child], ENVELOPE).items == 0
    assert left.items == 1


def test_time_grows_even_if_the_clock_does_not() -> None:
    ledger = make_ledger()
    advance(ledger, b"a", now_ms=1000)
    advance(ledger, b"b", now_ms=10)
    assert parse_head(ledger.decision(2)[2][0])[1] == 1001


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"short", "payload: 5 bytes, expected at least 64"),
        (compose(b"\x01" * 32, 1000, ALICE, b"\x90"), "parent block 0x01"),
        (compose(GENESIS.block, 0, ALICE, b"\x90"), "timestamp 0 ms, expected 1 to 11000"),
        (compose(GENESIS.block, 11_001, ALICE, b"\x90"), "timestamp 11001 ms"),
        (compose(GENESIS.block, 1000, ALICE, b"\x91\xc4\x00"), "wrong size"),
        (compose(GENESIS.block, 1000, ALICE, b"\xc1"), "MessagePack|valid|Expected"),
    ],
)
def test_unacceptable_payload_is_refused_with_the_reason(payload: bytes, problem: str) -> None:
    reason = make_ledger().check(GENESIS.block, payload, 1000)
    assert reason is not None
    with pytest.raises(Invalid, match=problem):
        raise Invalid(reason)


def test_member_change_is_part_of_the_block() -> None:
    ledger = make_ledger()
    advance(ledger, make_member_change(BOB, 3))
    assert ledger.members(2) == [Member(ALICE, 1)]
    assert ledger.members(3) == [Member(ALICE, 1), Member(BOB, 3)]
    advance(ledger, make_member_change(ALICE, 0))
    advance(ledger, make_member_change(BOB, 0))
    # Somebody has to be left.
    assert ledger.members(5) == [Member(BOB, 3)]
    with pytest.raises(Unavailable, match="members of height 9: known up to 5"):
        ledger.members(9)


def test_what_was_not_committed_is_lost_and_the_rest_is_not() -> None:
    store = OpaqueStore(GENESIS)
    ledger = OpaqueLedger(store, ALICE)
    advance(ledger, b"a")
    ledger.add([b"b"])
    payload = ledger.build(ledger.last.block, 2000, 1 << 20)
    executed = ledger.execute(ledger.last.block, [payload], ENVELOPE)
    ledger.finalize(executed, ENVELOPE, b"proof", [payload])
    assert ledger.decision(2) is not None
    again = OpaqueLedger(store, ALICE)
    assert again.durable().height == 1
    assert again.decision(2) is None
    assert [error for _, error in again.add([b"a", b"b"])] == ["already known", None]


def test_a_ledger_knows_from_the_store_what_is_included() -> None:
    first = make_ledger()
    advance(first, b"a", b"b")
    advance(first, b"b", b"c")
    store = first.store
    for _ in range(2):
        again = OpaqueLedger(store, ALICE)
        assert again.get_included() == first.get_included()
        assert again.add_one(b"c")[1] == "already known"
    store.forget(1)
    shorter = OpaqueLedger(store, ALICE)
    assert list(shorter.get_included().values()) == [1, 1]
    assert shorter.add_one(b"c")[1] is None
    advance(shorter, b"d")
    assert OpaqueLedger(store, ALICE).get_included() == shorter.get_included()


def grow(ledger: OpaqueLedger, parent: bytes, *items: bytes) -> bytes:
    """Execute a block of these items over another one."""
    at_ms = ledger.get_executed(parent).timestamp_ms + 1
    payload = compose(parent, at_ms, ALICE, msgspec.msgpack.encode(list(items)))
    assert ledger.check(parent, payload, at_ms) is None
    return ledger.execute(parent, [payload], ENVELOPE).block


def test_items_of_an_abandoned_branch_wait_again_in_their_order() -> None:
    ledger = make_ledger()
    ledger.add([b"a", b"b", b"c", b"d"])
    first = grow(ledger, GENESIS.block, b"a", b"b")
    ledger.adopt(grow(ledger, first, b"c"), 0)
    assert list(ledger.pool.values()) == [b"d"]
    assert ledger.add([b"a"])[0][1] == "already known"
    assert ledger.settle() == []
    ledger.adopt(grow(ledger, GENESIS.block, b"b"), 0)
    assert list(ledger.pool.values()) == [b"d", b"a", b"c"]
    assert ledger.settle() == [keccak256(b"a"), keccak256(b"c")]
    assert ledger.settle() == []
    assert ledger.pool_bytes == 3


def test_a_payload_over_any_block_holds_what_that_branch_lacks() -> None:
    ledger = make_ledger()
    ledger.add([b"a", b"b"])
    left, right = grow(ledger, GENESIS.block, b"a"), grow(ledger, GENESIS.block, b"b")
    ledger.adopt(left, 0)
    assert b"b" in ledger.build(left, 1000, 1 << 20)[HEAD_BYTES:]
    assert ledger.build(right, 1000, 1 << 20)[HEAD_BYTES:] == b"\x90"


def test_what_is_final_drops_the_branches_beside_it() -> None:
    ledger = make_ledger()
    left, right = grow(ledger, GENESIS.block, b"a"), grow(ledger, GENESIS.block, b"b")
    above, lost = grow(ledger, left, b"c"), grow(ledger, right, b"d")
    ledger.adopt(above, 0)
    ledger.finalize(ledger.get_executed(left), ENVELOPE, b"proof", [])
    assert list(ledger.branches) == [above]
    assert (ledger.adopted, list(ledger.shown)) == (above, [keccak256(b"c")])
    with pytest.raises(Unavailable, match="not known"):
        ledger.adopt(lost, 0)
    assert ledger.commit() == 1


def test_what_is_final_elsewhere_takes_the_adopted_branch_away() -> None:
    ledger = make_ledger()
    left, right = grow(ledger, GENESIS.block, b"a"), grow(ledger, GENESIS.block, b"b")
    ledger.adopt(grow(ledger, left, b"c"), 0)
    ledger.finalize(ledger.get_executed(right), ENVELOPE, b"proof", [])
    assert ledger.adopted == right
    assert ledger.settle() == [keccak256(b"a"), keccak256(b"c")]


def take_snapshot(ledger: OpaqueLedger, height: int) -> tuple[Snapshot, dict[int, bytes]]:
    """Return a snapshot and its chunks."""
    snapshot = ledger.describe_state(height, 80)
    assert snapshot is not None
    chunks = {n: ledger.export_state(snapshot, n) for n in range(len(snapshot.chunks))}
    return snapshot, {n: chunk for n, chunk in chunks.items() if chunk is not None}


def make_chain() -> OpaqueLedger:
    ledger = make_ledger()
    for number in range(6):
        advance(ledger, b"a%d" % number, b"b%d" % number, now_ms=1000 * number + 1000)
    advance(ledger, make_member_change(BOB, 2), now_ms=9000)
    return ledger


def test_state_is_taken_over_with_what_it_knows() -> None:
    one, other = make_chain(), make_ledger()
    advance(other, b"lost")
    other.add([b"a0", b"new"])
    snapshot, chunks = take_snapshot(one, 7)
    assert len(chunks) == 8
    assert other.list_kept(snapshot) == []
    for number, chunk in chunks.items():
        other.keep_chunk(snapshot, number, chunk)
    assert OpaqueLedger(other.store, ALICE).list_kept(snapshot) == list(range(8))
    envelope, certificate, payloads = one.decision(7)
    executed = other.import_state(snapshot, envelope, certificate)
    assert executed == other.durable() == one.last
    assert other.decision(7) == one.decision(7)
    assert other.decision(1) is None
    assert [other.members(h) for h in (7, 8, 9)] == [one.members(h) for h in (7, 8, 9)]
    assert other.waiting(9) == [b"new"]
    assert dict(other.add([b"a3", b"b0"])) == {
        keccak256(b"a3"): "already known",
        keccak256(b"b0"): "already known",
    }
    for ledger in (one, other, again := OpaqueLedger(other.store, ALICE)):
        ledger.add([b"c"])
    assert again.get_included() == other.get_included() == one.get_included()
    advance(one, b"c", now_ms=20_000)
    _, certificate, payloads = one.decision(8)
    assert other.execute(executed.block, payloads, ENVELOPE) == one.last
    # What it offers itself is the same, byte for byte.
    assert take_snapshot(again, 7) == (snapshot, chunks)


def test_wrong_state_changes_nothing() -> None:
    one, other = make_chain(), make_ledger()
    advance(other, b"mine")
    before = other.durable()
    snapshot, chunks = take_snapshot(one, 6)
    for changed in (
        {**chunks, 2: chunks[2][:-1]},
        {n: chunk for n, chunk in chunks.items() if n != 3},
        {**chunks, 1: chunks[2]},
    ):
        assert len(other.list_kept(snapshot)) == 0
        for number, chunk in changed.items():
            other.keep_chunk(snapshot, number, chunk)
        assert len(other.list_kept(snapshot)) < len(chunks)
        with pytest.raises(Invalid, match=r"snapshot: chunk \d has hash"):
            other.import_state(snapshot, ENVELOPE, b"")
    foreign = Snapshot(6, bytes(32), snapshot.members, snapshot.chunks)
    other.list_kept(foreign)
    for number, chunk in chunks.items():
        other.keep_chunk(foreign, number, chunk)
    with pytest.raises(Invalid, match="snapshot: block"):
        other.import_state(foreign, ENVELOPE, b"")
    assert other.durable() == before
    assert other.store.kept == {}


def test_another_snapshot_replaces_what_was_kept() -> None:
    one, other = make_chain(), make_ledger()
    first, chunks = take_snapshot(one, 4)
    second, _ = take_snapshot(one, 5)
    other.list_kept(first)
    other.keep_chunk(first, 0, chunks[0])
    assert other.list_kept(first) == [0]
    assert other.list_kept(second) == []
    other.keep_chunk(first, 0, chunks[0])
    assert other.list_kept(second) == []


def test_disk_that_lost_the_jump_has_the_state_of_before() -> None:
    one, other = make_chain(), make_ledger()
    advance(other, b"mine")
    before = other.durable()
    snapshot, chunks = take_snapshot(one, 7)
    other.list_kept(snapshot)
    for number, chunk in chunks.items():
        other.keep_chunk(snapshot, number, chunk)
    other.import_state(snapshot, ENVELOPE, b"proof")
    other.store.forget(1)
    assert OpaqueLedger(other.store, ALICE).durable() == before


def test_hashes_of_blocks_are_remembered_within_bounds() -> None:
    for size in (1, opaque.MAX_HASHED_BYTES, opaque.MAX_HASHED_BYTES + 1):
        for number in range(opaque.MAX_HASHED + 2):
            data = number.to_bytes(4, "big") * (size // 4 + 1)
            for _ in range(2):
                assert opaque.hash_block(data) == keccak256(data)
    assert len(opaque.HASHED) <= opaque.MAX_HASHED
    assert max(map(len, opaque.HASHED)) <= opaque.MAX_HASHED_BYTES
