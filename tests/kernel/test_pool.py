"""What waits for a block: admission, order, replacement, bounds, and following the chain."""

import json

import pytest

from kernel.chain import (
    ACCOUNTS,
    COINBASE,
    CONTRACT,
    FUNDS,
    KEYS,
    envelope_of,
    extend,
    genesis,
    integer,
    payload,
    rlp,
    tip,
    transaction,
)
from quorate._kernel import Block, Ledger, Pool, keccak256, sign
from quorate.ledger.payload import compose

STRANGER = b"\x77" * 20
POOR = bytes([9]) * 32
GAS_LIMIT = 30_000_000


@pytest.fixture
def ledger() -> Ledger:
    return Ledger.open(None, genesis())


@pytest.fixture
def pool(ledger: Ledger) -> Pool:
    return Pool(ledger)


def priced(key: bytes, nonce: int, fee: int, tip: int, gas: int = 21_000) -> bytes:
    """Return a transfer with these prices in wei per gas."""
    fields: list[object] = [
        *map(integer, (31337, nonce, tip, fee, gas)),
        STRANGER,
        integer(1),
        b"",
        [],
    ]
    signature = sign(key, keccak256(b"\x02" + rlp(fields)))
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
    return b"\x02" + rlp([*fields, *map(integer, (signature[64], r, s))])


def refusals(pool: Pool, *raws: bytes) -> list[str | None]:
    return [reason for _, reason in pool.add(list(raws))]


def taken(pool: Pool, ledger: Ledger, gas: int = GAS_LIMIT, size: int = 1 << 20) -> bytes:
    return pool.take(tip(ledger).hash, size, gas)


def build(pool: Pool, ledger: Ledger) -> Block:
    """Make a block of what the pool gives, final; the pool follows."""
    parent = tip(ledger)
    body = compose(parent.hash, parent.timestamp_ms + 1000, COINBASE, taken(pool, ledger))
    block = ledger.execute(parent.hash, [body], envelope_of(parent))
    ledger.finalize(block.hash, envelope_of(block), b"", [body])
    return block


def test_an_empty_pool_gives_an_empty_list(pool: Pool, ledger: Ledger) -> None:
    assert taken(pool, ledger) == rlp([])
    assert not pool.ready()
    assert pool.counts() == (0, 0, 0)


def test_admitted_transactions_are_executable_in_order_of_nonces(
    pool: Pool, ledger: Ledger
) -> None:
    raws = [transaction(KEYS[0], nonce, STRANGER) for nonce in range(3)]
    answers = pool.add([raws[2], raws[0], raws[1], raws[1]])
    hashes = [keccak256(raw) for raw in raws]
    assert answers == [
        (hashes[2], None),
        (hashes[0], None),
        (hashes[1], None),
        (hashes[1], "already known"),
    ]
    assert pool.ready()
    assert pool.counts() == (3, 0, sum(map(len, raws)))
    assert taken(pool, ledger) == rlp(list(raws))
    assert pool.raw(2) == raws[:2]
    assert pool.get(hashes[1]) == raws[1]
    assert pool.nonce(ACCOUNTS[0]) == 3
    assert pool.nonce(ACCOUNTS[1]) == 0


def test_a_gap_keeps_the_rest_waiting(pool: Pool, ledger: Ledger) -> None:
    later = transaction(KEYS[0], 1, STRANGER)
    assert refusals(pool, later) == [None]
    assert (pool.ready(), pool.counts()[:2], pool.nonce(ACCOUNTS[0])) == (False, (0, 1), 0)
    assert taken(pool, ledger) == rlp([])
    first = transaction(KEYS[0], 0, STRANGER)
    assert refusals(pool, first) == [None]
    assert taken(pool, ledger) == rlp([first, later])


def test_the_better_tip_goes_first_and_arrival_decides_ties(pool: Pool, ledger: Ledger) -> None:
    fee = 10 * 10**9
    cheap, rich = priced(KEYS[0], 0, fee, 1), priced(KEYS[1], 0, fee, 5)
    early, late = priced(KEYS[2], 0, fee, 3), priced(KEYS[3], 0, fee, 3)
    assert refusals(pool, cheap, early, late, rich) == [None] * 4
    assert taken(pool, ledger) == rlp([rich, early, late, cheap])
    assert taken(pool, ledger, gas=42_000) == rlp([rich, early])
    assert taken(pool, ledger, size=9 + 2 * len(rich) + 4) == rlp([rich, early])


def test_a_replacement_must_pay_more(pool: Pool, ledger: Ledger) -> None:
    old, low, high = (priced(KEYS[0], 0, f * 10**9, f * 10**9) for f in (10, 10, 11))
    low = priced(KEYS[0], 0, 10_900_000_000, 10_900_000_000)
    assert refusals(pool, old, low, high) == [
        None,
        "replacement transaction underpriced",
        None,
    ]
    assert taken(pool, ledger) == rlp([high])
    assert pool.get(keccak256(old)) is None
    assert pool.counts() == (1, 0, len(high))


def test_refusals_have_the_conventional_words(pool: Pool, ledger: Ledger) -> None:
    extend(ledger, transaction(KEYS[0], 0, STRANGER))
    pool.settle(tip(ledger).hash)
    wrong = {
        transaction(KEYS[0], 0, STRANGER): "nonce too low: next nonce 1, tx nonce 0",
        transaction(POOR, 0, STRANGER): "insufficient funds for gas * price + value: balance 0",
        transaction(KEYS[1], 0, STRANGER, FUNDS): "insufficient funds for gas * price + value",
        transaction(KEYS[1], 0, STRANGER, gas=20_999): "intrinsic gas too low",
        transaction(KEYS[1], 0, STRANGER, gas=1 << 24 | 1): "transaction gas limit too high",
        priced(KEYS[1], 0, 1, 2): "max priority fee per gas higher than max fee per gas",
        b"\x03\x01": "transaction type not supported",
        b"\x02\x01": "rlp: ",
        b"": "typed transaction too short",
        b"\x02" * 140_000: "oversized data: transaction size 140000, limit 131072",
    }
    for raw, expected in wrong.items():
        [reason] = refusals(pool, raw)
        assert reason is not None
        assert reason.startswith(expected), reason
    assert pool.counts() == (0, 0, 0)


def test_a_balance_covers_all_that_waits(pool: Pool) -> None:
    half = transaction(KEYS[0], 0, STRANGER, FUNDS // 2)
    [first, second] = refusals(pool, half, transaction(KEYS[0], 1, STRANGER, FUNDS // 2))
    assert first is None
    assert second is not None
    assert "queued cost" in second


def test_fees_below_the_base_fee_wait(pool: Pool, ledger: Ledger) -> None:
    assert refusals(pool, priced(KEYS[0], 0, 5, 1)) == [None]
    assert not pool.ready()
    assert taken(pool, ledger) == rlp([])
    assert pool.counts()[:2] == (1, 0)


def test_settle_drops_what_is_included_and_what_became_impossible(
    pool: Pool, ledger: Ledger
) -> None:
    mine, other = transaction(KEYS[0], 0, STRANGER), transaction(KEYS[1], 0, STRANGER)
    next_one, dear = (
        transaction(KEYS[0], 1, STRANGER),
        transaction(KEYS[2], 1, STRANGER, FUNDS // 2),
    )
    assert refusals(pool, mine, other, next_one, dear) == [None] * 4
    replaced = transaction(KEYS[1], 0, CONTRACT, 0)
    spent = transaction(KEYS[2], 0, STRANGER, FUNDS * 2 // 3)
    block = extend(ledger, mine, replaced, spent)
    assert block.transactions == 3
    dropped = dict(pool.settle(block.hash))
    assert dropped.keys() == {keccak256(other), keccak256(dear)}
    assert dropped[keccak256(other)].startswith("nonce too low")
    assert dropped[keccak256(dear)].startswith("insufficient funds")
    assert pool.counts()[:2] == (1, 0)
    assert build(pool, ledger).transactions == 1


def test_settle_may_skip_blocks(pool: Pool, ledger: Ledger) -> None:
    raws = [transaction(KEYS[0], nonce, STRANGER) for nonce in range(3)]
    pool.add(raws)
    extend(ledger, raws[0])
    block = extend(ledger, raws[1])
    pool.settle(block.hash)
    assert taken(pool, ledger) == rlp([raws[2]])


def test_take_over_another_block_looks_at_its_state(pool: Pool, ledger: Ledger) -> None:
    root = tip(ledger)
    raws = [transaction(KEYS[0], nonce, STRANGER) for nonce in range(3)]
    pool.add(raws)
    block = ledger.execute(root.hash, [payload(root, raws[0])], bytes(32))
    assert pool.take(block.hash, 1 << 20, GAS_LIMIT) == rlp([*raws[1:]])


def test_the_pool_is_bounded_and_the_worst_goes(ledger: Ledger) -> None:
    pool = Pool(ledger, max_transactions=4, account_slots=3)
    raws = [priced(KEYS[0], nonce, 10**10, 1) for nonce in range(4)]
    answers = refusals(pool, *raws)
    assert answers == [None] * 3 + ["account limit exceeded: 3 waiting, limit 3"]
    assert refusals(pool, priced(KEYS[1], 0, 10**10, 2)) == [None]
    assert refusals(pool, priced(KEYS[2], 0, 10**10, 1)) == ["txpool is full"]
    assert refusals(pool, priced(KEYS[2], 0, 10**10, 3)) == [None]
    assert pool.get(keccak256(raws[2])) is None
    assert sum(pool.counts()[:2]) <= 4
    small = Pool(ledger, max_bytes=150)
    assert refusals(small, raws[0], priced(KEYS[1], 0, 10**10, 1)) == [None, "txpool is full"]


def test_a_full_pool_of_blocks_of_its_own_making(pool: Pool, ledger: Ledger) -> None:
    raws = [transaction(KEYS[i % 4], i // 4, STRANGER, gas=21_000) for i in range(64)]
    assert refusals(pool, *raws) == [None] * 64
    while pool.ready():
        block = build(pool, ledger)
        assert not block.skipped
        pool.settle(block.hash)
    assert pool.counts() == (0, 0, 0)
    ledger.commit()
    assert ledger.view().balance(ledger.durable(), STRANGER) == 64


def test_content_is_shown_by_account_and_nonce(pool: Pool) -> None:
    first, gap = transaction(KEYS[0], 0, STRANGER), transaction(KEYS[0], 5, STRANGER)
    pool.add([first, gap])
    content = json.loads(pool.content_json(None))
    [(sender, pending)] = content["pending"].items()
    assert sender.lower() == "0x" + ACCOUNTS[0].hex()
    assert list(pending) == ["0"]
    assert pending["0"]["hash"] == "0x" + keccak256(first).hex()
    assert pending["0"]["blockHash"] is None
    assert list(content["queued"][sender]) == ["5"]
    own = json.loads(pool.content_json(ACCOUNTS[0]))
    assert (list(own["pending"]), list(own["queued"])) == (["0"], ["5"])
    assert json.loads(pool.content_json(STRANGER)) == {"pending": {}, "queued": {}}
    shown = pool.transaction_json(keccak256(gap))
    assert shown is not None
    assert json.loads(shown)["nonce"] == "0x5"
    assert pool.transaction_json(bytes(32)) is None
