"""The Ethereum ledger as an application, over the real kernel in memory."""

import json

import pytest

from kernel.chain import ACCOUNTS, CHAIN_ID, CODE, COINBASE, KEYS, rlp, transaction
from quorate.base.errors import Corrupt, Unavailable
from quorate.base.types import Member
from quorate.crypto.hashes import keccak256
from quorate.ledger.application import Executed
from quorate.ledger.ethereum import COUNT_SLOT, FIRST_SLOT, EthereumLedger, open_ethereum
from quorate.ledger.genesis import VALIDATORS, make_genesis
from quorate.ledger.payload import compose, parse_head

ENVELOPE = b"\xe0" * 32
STRANGER = b"\x77" * 20
NOW_MS = 1_700_000_000_000
MEMBERS = sorted(Member(a, 1) for a in ACCOUNTS[:3])


def genesis(members: list[Member] = MEMBERS) -> bytes:
    return make_genesis(
        chain_id=CHAIN_ID,
        engine="tendermint",
        gas="fees",
        members=members,
        balances=dict.fromkeys(ACCOUNTS, 10**24),
        gas_limit=30_000_000,
        timestamp=1_600_000_000,
    )


@pytest.fixture
def ledger() -> EthereumLedger:
    return open_ethereum(None, genesis(), COINBASE)


def advance(ledger: EthereumLedger, *raws: bytes) -> Executed:
    """Admit transactions and make a block of what waits."""
    assert [error for _, error in ledger.add(list(raws))] == [None] * len(raws)
    payload = ledger.build(ledger.tip, NOW_MS, 1 << 20)
    assert ledger.check(ledger.tip, payload, NOW_MS) is None
    executed = ledger.execute(ledger.tip, [payload], ENVELOPE)
    ledger.finalize(executed, ENVELOPE, b"proof", [payload])
    ledger.settle()
    return executed


def vote(key: bytes, nonce: int, candidate: bytes, power: int) -> bytes:
    data = keccak256(b"vote(address,uint256)")[:4] + candidate.rjust(32, b"\0")
    return transaction(key, nonce, VALIDATORS, 0, data + power.to_bytes(32, "big"), gas=1_000_000)


def test_genesis_is_durable_and_names_the_members(ledger: EthereumLedger) -> None:
    start = ledger.durable()
    assert (start.height, start.block, start.items) == (0, ledger.genesis, 0)
    assert start.members == ledger.members(1) == ledger.members(2) == MEMBERS
    assert ledger.decision(0) is None
    with pytest.raises(Unavailable, match="block 1 is not known"):
        ledger.members(3)


def test_block_is_built_checked_executed_and_kept(ledger: EthereumLedger) -> None:
    executed = advance(ledger, transaction(KEYS[0], 0, STRANGER, 5))
    assert (executed.height, executed.items, executed.skipped) == (1, 1, [])
    assert ledger.durable().height == 0
    assert ledger.commit() == 1
    assert ledger.durable() == executed
    envelope, certificate, payloads = ledger.decision(1) or (b"", b"", [])
    assert (envelope, certificate) == (ENVELOPE, b"proof")
    assert parse_head(payloads[0]) == (ledger.genesis, NOW_MS, COINBASE)
    assert not ledger.has_work(1 << 20)
    assert ledger.counts() == (0, 0, 0)


def test_another_replica_executes_the_same_block(ledger: EthereumLedger) -> None:
    executed = advance(ledger, transaction(KEYS[0], 0, STRANGER, 5))
    payloads = (ledger.decision(1) or (b"", b"", []))[2]
    other = open_ethereum(None, genesis(), STRANGER)
    assert other.execute(other.genesis, payloads, ENVELOPE) == executed


def test_unacceptable_payload_is_refused_with_the_reason(ledger: EthereumLedger) -> None:
    payload = compose(b"\x01" * 32, NOW_MS, COINBASE, rlp([]))
    assert "parent" in (ledger.check(ledger.genesis, payload, NOW_MS) or "")
    payload = compose(ledger.genesis, NOW_MS, COINBASE, b"\xff\xff")
    assert ledger.check(ledger.genesis, payload, NOW_MS) is not None
    payload = compose(ledger.genesis, NOW_MS + 60_000, COINBASE, rlp([]))
    assert ledger.check(ledger.genesis, payload, NOW_MS) is not None


def test_transaction_that_does_not_apply_is_skipped_and_named(ledger: EthereumLedger) -> None:
    raw = transaction(KEYS[0], 7, STRANGER, 5)
    payload = compose(ledger.genesis, NOW_MS, COINBASE, rlp([raw]))
    executed = ledger.execute(ledger.genesis, [payload], ENVELOPE)
    assert executed.items == 0
    assert [(h, r.split(":")[0]) for h, r in executed.skipped] == [
        (keccak256(raw), "nonce too high")
    ]


def test_pool_follows_what_is_final(ledger: EthereumLedger) -> None:
    ledger.add([transaction(KEYS[0], 1, STRANGER, 5)])
    assert not ledger.has_work(1 << 20)
    ledger.add([transaction(KEYS[0], 0, STRANGER, 5)])
    assert ledger.has_work(1 << 20)
    assert len(ledger.waiting(10)) == 2
    assert ledger.counts()[0] == 2
    assert advance(ledger).items == 2
    assert not ledger.has_work(1 << 20)
    assert ledger.add([transaction(KEYS[0], 0, STRANGER, 5)])[0][1] is not None


def test_votes_change_the_members_of_the_height_after_next(ledger: EthereumLedger) -> None:
    newcomer = ACCOUNTS[3]
    assert advance(ledger, vote(KEYS[0], 0, newcomer, 2)).members == MEMBERS
    changed = advance(ledger, vote(KEYS[1], 0, newcomer, 2)).members
    assert changed == sorted([*MEMBERS, Member(newcomer, 2)])
    assert ledger.members(3) == MEMBERS
    assert ledger.members(4) == changed
    # Blocks without transactions keep the set and do not read it again.
    assert advance(ledger).members == changed
    ledger.sets.clear()
    assert ledger.members(5) == changed


def store(slot: bytes, value: int, nonce: int) -> bytes:
    """A transaction that writes the storage of the stand-in for the contract."""
    return transaction(KEYS[0], nonce, VALIDATORS, 0, slot + value.to_bytes(32, "big"))


def test_set_that_nobody_could_agree_with_is_not_taken_over() -> None:
    file = json.loads(genesis())
    file["alloc"][VALIDATORS.hex()]["code"] = "0x" + CODE.hex()
    ledger = open_ethereum(None, json.dumps(file).encode(), COINBASE)
    first = FIRST_SLOT.to_bytes(32, "big")
    second = (FIRST_SLOT + 1).to_bytes(32, "big")
    address = int.from_bytes(STRANGER, "big")
    unsound = [
        (COUNT_SLOT, 0),
        (COUNT_SLOT, 5000),
        (COUNT_SLOT, 4),
    ]
    for nonce, (slot, value) in enumerate(unsound):
        assert advance(ledger, store(slot, value, nonce)).members == MEMBERS
        ledger.sets.clear()
        assert ledger.members(ledger.ledger.final() + 2) == MEMBERS
    # Twice the same member, and then one of them without power, and then a sound set.
    assert advance(ledger, store(COUNT_SLOT, 2, 3)).members == MEMBERS[:2]
    assert advance(ledger, store(first, 1 << 160 | address, 4)).members[0].address != MEMBERS[0]
    before = ledger.members(ledger.ledger.final() + 2)
    assert advance(ledger, store(second, 1 << 160 | address, 5)).members == before
    assert advance(ledger, store(second, address + 1, 6)).members == before
    sound = advance(ledger, store(second, 9 << 160 | (address + 1), 7)).members
    assert Member((address + 1).to_bytes(20, "big"), 9) in sound


def test_genesis_without_a_sound_set_is_refused() -> None:
    file = json.loads(genesis())
    file["alloc"][VALIDATORS.hex()]["storage"] = {}
    with pytest.raises(Corrupt, match="genesis: no sound validator set at 0x"):
        open_ethereum(None, json.dumps(file).encode(), COINBASE).durable()


def test_admitted_are_also_those_that_wait_for_another(ledger: EthereumLedger) -> None:
    first, gap = transaction(KEYS[0], 0, STRANGER), transaction(KEYS[1], 5, STRANGER)
    assert [error for _, error in ledger.add([gap, first])] == [None, None]
    assert ledger.waiting(9) == [first]
    assert ledger.admitted(9) == [first, gap]
    assert ledger.admitted(1) == [first]


def test_what_an_abandoned_block_held_and_no_own_payload_can_is_no_work(
    ledger: EthereumLedger,
) -> None:
    """Others may put more into a block; what they did not keep waits here, too."""
    large = transaction(KEYS[0], 0, STRANGER, 1, b"x" * 400, gas=1_000_000)
    other = open_ethereum(None, genesis(), COINBASE)
    other.add([large])
    start, limit = ledger.genesis, 300

    def adopt(payload: bytes) -> Executed:
        executed = ledger.execute(parse_head(payload)[0], [payload], ENVELOPE)
        ledger.adopt(executed.block, 0)
        return executed

    adopt(other.build(start, NOW_MS, 1 << 20))
    first = adopt(compose(start, NOW_MS, STRANGER, b"\xc0"))
    adopt(compose(first.block, NOW_MS + 1000, STRANGER, b"\xc0"))
    assert ledger.settle() == [keccak256(large)]
    assert (ledger.has_work(limit), ledger.has_work(1 << 20)) == (False, True)
    assert ledger.build(ledger.tip, NOW_MS + 2000, limit)[64:] == b"\xc0"
    ledger.add([transaction(KEYS[1], 0, STRANGER, 1)])
    assert ledger.has_work(limit)
    # When others have mined it, all is as before.
    executed = adopt(ledger.build(ledger.tip, NOW_MS + 3000, 1 << 20))
    ledger.settle()
    assert (executed.items, ledger.counts(), ledger.longest) == (2, (0, 0, 0), 0)
