"""What is agreed on: the same items for every engine, on time."""

import json
from itertools import pairwise

import pytest

from quorate._kernel import Ledger, Pool, inspect_transaction
from quorate.base.errors import Invalid
from quorate.simulator.compare.workload import (
    ACCOUNTS,
    MAX_ITEMS,
    TOKEN,
    Signer,
    list_arrivals,
    make_default_genesis,
    open_workload,
    prepare_genesis,
    read_items,
)
from quorate.simulator.plan import SECOND
from quorate.simulator.tape import Tape
from simulator.networks import make_plan

GENESIS = make_default_genesis(make_plan(0, "none"))


def test_arrivals_are_open_independent_and_repeat() -> None:
    due = list_arrivals(Tape(3).stream("arrivals"), 500, 20 * SECOND)
    assert due == list_arrivals(Tape(3).stream("arrivals"), 500, 20 * SECOND)
    assert due == sorted(due)
    assert 9500 < len(due) < 10_500
    gaps = [b - a for a, b in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    # Of exponential pauses the deviation is as large as the mean.
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert 0.9 < deviation / mean < 1.1


def test_zero_on_the_tape_is_the_longest_pause() -> None:
    assert len(list_arrivals(Tape(0, {}).stream("arrivals"), 10, SECOND)) <= 1


@pytest.mark.parametrize("name", ["transfers", "erc20"])
def test_items_apply_in_a_genesis_that_was_prepared_for_them(name: str) -> None:
    genesis = prepare_genesis(GENESIS, "raft", name)
    assert json.loads(genesis)["config"]["quorate"]["engine"] == "raft"
    ledger = Ledger.open(None, genesis)
    pool = Pool(ledger)
    items = open_workload(name, GENESIS).get_items(ACCOUNTS + 3)
    results = pool.add([item.raw for item in items])
    assert [identity for identity, _ in results] == [item.identity for item in items]
    assert all(refusal is None for _, refusal in results)


def test_token_pays_whom_it_is_told_to() -> None:
    ledger = Ledger.open(None, prepare_genesis(GENESIS, "tendermint", "erc20"))
    address = Signer(GENESIS).addresses[1]
    call = bytes.fromhex("70a08231") + bytes(12) + address
    request = json.dumps({"to": "0x" + TOKEN.hex(), "data": "0x" + call.hex()}).encode()
    assert int.from_bytes(ledger.view().call(0, request, None, 10**6), "big") == 10**24


def test_opaque_items_differ() -> None:
    items = open_workload("opaque", b"").get_items(1000)
    assert len({item.raw for item in items}) == 1000
    assert {len(item.raw) for item in items} == {256}


def test_file_keeps_the_order_of_each_sender() -> None:
    made = open_workload("transfers", GENESIS).get_items(ACCOUNTS + 1)
    chosen = [made[0], made[1], made[ACCOUNTS]]
    text = "# comment\n" + "\n".join("0x" + item.raw.hex() for item in chosen)
    items = open_workload("f.txt", GENESIS, read_items(text, "f.txt")).get_items(3)
    assert [item.identity for item in items] == [item.identity for item in chosen]
    assert [item.account for item in items] == [0, 1, 0]


def test_bad_items_are_refused_in_one_line() -> None:
    for text, expected in (
        ("", "f: no items"),
        ("12\nxy", "f, line 2: 'xy', expected hexadecimal"),
        ("ab" * (129 << 10), "expected at most 131072"),
    ):
        with pytest.raises(Invalid, match=expected):
            read_items(text, "f")
    with pytest.raises(Invalid, match="f, transaction 1: "):
        open_workload("f", GENESIS, [b"nonsense"])
    raw = open_workload("transfers", GENESIS).get_items(1)[0].raw
    single = open_workload("f", GENESIS, [raw])
    with pytest.raises(Invalid, match="1 items, expected at least 2"):
        single.get_items(2)
    with pytest.raises(Invalid, match="expected one of transfers"):
        open_workload("nonsense", GENESIS)
    with pytest.raises(Invalid, match=f"expected at most {MAX_ITEMS}"):
        list_arrivals(Tape(0).stream("arrivals"), 1e6, 10 * SECOND)


def test_transactions_are_signed_for_the_network() -> None:
    item = open_workload("transfers", GENESIS).get_items(1)[0]
    identity, sender, _ = inspect_transaction(item.raw, "Osaka", 31337)
    assert identity == item.identity
    assert sender == Signer(GENESIS).addresses[0]
