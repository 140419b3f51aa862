"""Execution as blocks see it: transaction types, skips, several payloads, fees, bad input."""

import json
import os
import subprocess
import sys

import pytest

from kernel.chain import (
    ACCOUNTS,
    CHAIN_ID,
    COINBASE,
    CONTRACT,
    FUNDS,
    KEYS,
    envelope_of,
    extend,
    genesis,
    payload,
    rlp,
    tip,
    transaction,
)
from quorate._kernel import Invalid, Ledger, Pool, keccak256
from quorate.ledger.payload import compose

STRANGER = b"\x77" * 20
HISTORY = bytes.fromhex("0000F90827F1C53a10cb7A02335B175320002935")
HISTORY_CODE = (
    "0x3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff814303"
    "11604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger.open(None, genesis())


def by_account(**fields: object) -> bytes:
    """Return a transaction of the first account, signed by eth-account."""
    account = pytest.importorskip("eth_account", reason="eth-account signs these").Account
    signed = account.sign_transaction(
        {"chainId": CHAIN_ID, "to": STRANGER, "value": 1} | fields, KEYS[0]
    )
    return bytes(signed.raw_transaction)


def authorization(nonce: int, target: bytes) -> object:
    account = pytest.importorskip("eth_account", reason="eth-account signs these").Account
    return account.sign_authorization(
        {"chainId": CHAIN_ID, "address": target, "nonce": nonce}, KEYS[1]
    )


def test_every_transaction_type_executes(ledger: Ledger) -> None:
    price, fee = {"gasPrice": 2 * 10**9}, {"maxFeePerGas": 4 * 10**9, "maxPriorityFeePerGas": 1}
    listed = [{"address": "0x" + STRANGER.hex(), "storageKeys": ["0x" + "00" * 32]}]
    block = extend(
        ledger,
        by_account(nonce=0, gas=21_000, **price),
        by_account(nonce=1, gas=40_000, accessList=listed, type=1, **price),
        by_account(nonce=2, gas=21_000, **fee),
        by_account(nonce=3, gas=90_000, authorizationList=[authorization(0, CONTRACT)], **fee),
    )
    assert (block.transactions, block.skipped) == (4, [])
    ledger.commit()
    view = ledger.view()
    receipts = json.loads(view.block_receipts_json(1) or b"")
    assert [r["type"] for r in receipts] == ["0x0", "0x1", "0x2", "0x4"]
    assert [r["status"] for r in receipts] == ["0x1"] * 4
    assert [r["gasUsed"] for r in receipts[:3]] == ["0x5208", hex(21_000 + 2_400 + 1_900), "0x5208"]
    assert view.code(1, ACCOUNTS[1]) == bytes.fromhex("ef0100") + CONTRACT
    assert view.nonce(1, ACCOUNTS[1]) == 1
    shown = json.loads(view.block_json(1, True) or b"")["transactions"]
    assert [tx["type"] for tx in shown] == ["0x0", "0x1", "0x2", "0x4"]
    assert shown[3]["authorizationList"][0]["address"] == "0x" + CONTRACT.hex()


def test_what_does_not_apply_is_skipped_with_its_reason(ledger: Ledger) -> None:
    poor = bytes([99]) * 32
    block = extend(
        ledger,
        transaction(KEYS[0], 1, STRANGER),
        transaction(KEYS[0], 0, STRANGER),
        transaction(KEYS[0], 0, STRANGER),
        transaction(poor, 0, STRANGER),
        transaction(KEYS[1], 0, STRANGER, gas=20_000),
        b"\x03blob",
        b"\xff",
    )
    assert block.transactions == 1
    beginnings = [
        "nonce too high: address 0x",
        "nonce too low: address 0x",
        "insufficient funds for gas * price + value: address 0x",
        "intrinsic gas too low: have 20000, want 21000",
        "transaction type not supported",
        "rlp: ",
    ]
    assert len(block.skipped) == len(beginnings)
    for (_, reason), beginning in zip(block.skipped, beginnings, strict=True):
        assert reason.startswith(beginning), reason


@pytest.mark.parametrize(
    "value", [(1 << 256) - 1, (1 << 256) - 4 * 10**14], ids=["greatest", "wraps"]
)
def test_amounts_that_overflow_move_nothing(value: int) -> None:
    """Bug N5 (CVE-2010-5139): a value that wraps together with its fees costs next to nothing."""
    ledger = Ledger.open(None, genesis())
    raw = transaction(KEYS[0], 0, STRANGER, value=value)
    [(_, reason)] = Pool(ledger).add([raw])
    assert reason is not None
    assert reason.startswith("insufficient funds")
    block = extend(ledger, raw)
    assert (block.transactions, len(block.skipped)) == (0, 1)
    ledger.commit()
    view = ledger.view()
    assert (view.balance(1, ACCOUNTS[0]), view.balance(1, STRANGER)) == (FUNDS, 0)


def test_several_payloads_make_one_block(ledger: Ledger) -> None:
    parent = tip(ledger)
    both = transaction(KEYS[0], 0, STRANGER)
    parts = [
        payload(parent, both, timestamp_ms=9_000),
        payload(parent, both, transaction(KEYS[1], 0, STRANGER), timestamp_ms=2_000),
        payload(parent, transaction(KEYS[2], 0, STRANGER), timestamp_ms=3_000),
    ]
    block = ledger.execute(parent.hash, parts, bytes(32))
    assert (block.transactions, len(block.skipped), block.timestamp_ms) == (3, 1, 3_000)
    two = ledger.execute(parent.hash, parts[:2], bytes(32))
    assert two.timestamp_ms == 2_000


def test_fees_reach_the_proposer_and_the_base_fee_is_burnt(ledger: Ledger) -> None:
    extend(ledger, transaction(KEYS[0], 0, STRANGER, value=7))
    ledger.commit()
    view = ledger.view()
    header = json.loads(view.header_json(1) or b"")
    base_fee = int(header["baseFeePerGas"], 16)
    assert base_fee == 10**9 * 7 // 8
    assert view.balance(1, COINBASE) == 21_000
    assert view.balance(1, STRANGER) == 7
    assert view.balance(0, ACCOUNTS[0]) - view.balance(1, ACCOUNTS[0]) == 7 + 21_000 * (
        base_fee + 1
    )


def test_free_gas_takes_nothing() -> None:
    config = {"chainId": CHAIN_ID, "quorate": {"engine": "raft", "gas": "free", "validators": []}}
    ledger = Ledger.open(None, genesis(config=config, baseFeePerGas="0x0"))
    raw = by_account(nonce=0, gas=21_000, gasPrice=0)
    assert Pool(ledger).add([raw])[0][1] is None
    block = extend(ledger, raw)
    assert (block.transactions, block.base_fee) == (1, 0)
    ledger.commit()
    view = ledger.view()
    assert view.balance(0, ACCOUNTS[0]) - view.balance(1, ACCOUNTS[0]) == 1
    assert view.suggest_tip() == 0


def test_block_hashes_reach_the_history_contract() -> None:
    alloc = {
        HISTORY.hex(): {"balance": "0x0", "nonce": "0x1", "code": HISTORY_CODE},
        ACCOUNTS[0].hex(): {"balance": hex(10**24)},
    }
    ledger = Ledger.open(None, genesis(alloc=alloc))
    extend(ledger)
    extend(ledger)
    ledger.commit()
    view = ledger.view()
    assert view.storage(2, HISTORY, (1).to_bytes(32, "big")) == view.block_hash(1)


def test_header_follows_the_envelope(ledger: Ledger) -> None:
    first = extend(ledger)
    extend(ledger)
    ledger.commit()
    header = json.loads(ledger.view().header_json(2) or b"")
    assert header["parentHash"] == "0x" + first.hash.hex()
    assert header["parentBeaconBlockRoot"] == "0x" + envelope_of(first).hex()
    assert header["mixHash"] == "0x" + keccak256(envelope_of(first)).hex()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "payload body"),
        (b"\xc1", "payload body"),
        (b"\xc0\xc0", "payload body: 2 bytes, expected one RLP list"),
        (b"\x80", "payload body: 1 bytes, expected one RLP list"),
        (b"\xf9\xff\xff" + bytes(10), "payload body"),
        (b"\xfb\xff\xff\xff\xff" + bytes(10), "payload body"),
        (b"\xc1\xc0", "payload body: transaction 0"),
        (b"\xc3\xb8\x01\x00", "payload body: transaction 0"),
    ],
)
def test_a_malformed_body_is_invalid(ledger: Ledger, body: bytes, words: str) -> None:
    parent = tip(ledger)
    bad = compose(parent.hash, parent.timestamp_ms + 1, COINBASE, body)
    with pytest.raises(Invalid, match=words):
        ledger.check(parent.hash, bad, parent.timestamp_ms)
    with pytest.raises(Invalid, match=words):
        ledger.execute(parent.hash, [bad], bytes(32))


def test_check_names_what_a_payload_may_not_hold(ledger: Ledger) -> None:
    parent = tip(ledger)
    good = transaction(KEYS[0], 0, STRANGER)
    for raw, words in [
        (b"\x03blob", "transaction 0 .*: transaction type not supported"),
        (good[:-1], "transaction 0 .*: rlp: "),
        (transaction(KEYS[0], 0, STRANGER, gas=20_999), "intrinsic gas too low"),
        (transaction(KEYS[0], 0, STRANGER, gas=1 << 25), "transaction gas limit too high"),
        (high_s(good), "invalid sender"),
    ]:
        with pytest.raises(Invalid, match=words):
            ledger.check(parent.hash, payload(parent, raw), 10_000)
    for at in (parent.timestamp_ms, 20_001):
        with pytest.raises(Invalid, match=f"timestamp {at} ms, expected above"):
            ledger.check(parent.hash, payload(parent, timestamp_ms=at), 10_000)


def high_s(raw: bytes) -> bytes:
    """Return the other form of a signature with 32-byte r and s."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = int.from_bytes(raw[-32:], "big")
    parity_at = raw.rindex(b"\xa0" + raw[-65:-33]) - 1
    flipped = b"\x80" if raw[parity_at] == 1 else b"\x01"
    return raw[:parity_at] + flipped + raw[parity_at + 1 : -32] + (order - s).to_bytes(32, "big")


def test_no_truncation_or_flip_panics(ledger: Ledger) -> None:
    pool, parent = Pool(ledger), tip(ledger)
    good = transaction(KEYS[0], 0, CONTRACT, data=bytes(range(64)))
    broken = [good[:cut] for cut in range(len(good))]
    broken += [good[:i] + bytes([good[i] ^ 0xFF]) + good[i + 1 :] for i in range(len(good))]
    assert len(pool.add(broken)) == len(broken)
    block = ledger.execute(parent.hash, [payload(parent, *broken)], bytes(32))
    assert block.transactions + len(block.skipped) == len(broken)
    whole = payload(parent, good)
    for cut in range(len(whole)):
        with pytest.raises(Invalid):
            ledger.check(parent.hash, whole[:cut], 10_000)


def test_a_list_of_many_empty_items_is_refused_quickly(ledger: Ledger) -> None:
    parent = tip(ledger)
    many = compose(parent.hash, 1_000, COINBASE, rlp([b""] * 200_000))
    block = ledger.execute(parent.hash, [many], bytes(32))
    assert (block.transactions, len(block.skipped)) == (0, 200_000)


DETERMINISM = """
import sys
sys.path[:0] = ["src", "tests"]
from kernel.chain import *
from quorate._kernel import Ledger
ledger = Ledger.open(None, genesis())
raws = [transaction(KEYS[i % 4], i // 4, CONTRACT if i % 3 else keccak(i)[:20],
        data=keccak(i) + keccak(i + 1)) for i in range(300)]
print(extend(ledger, *raws).hash.hex())
"""


def test_any_thread_count_gives_the_same_block() -> None:
    script = DETERMINISM.replace(
        "from quorate._kernel import Ledger",
        "from quorate._kernel import Ledger, keccak256\n"
        "keccak = lambda i: keccak256(i.to_bytes(4, 'big'))",
    )
    found = set()
    for threads in ("1", "2", "7"):
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            check=True,
            text=True,
        )
        found.add(done.stdout)
    assert len(found) == 1
