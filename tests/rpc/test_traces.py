"""Parity's traces over many blocks and calls: what is found, and what they are bounded by."""

import json
from typing import Any

import pytest

from kernel.chain import ACCOUNTS, CONTRACT, KEYS, extend, genesis, transaction
from quorate._kernel import Ledger, Rejected
from quorate.rpc.debug import MAX_CALLS, Trace, parse_calls, parse_filter
from quorate.rpc.errors import BadArgument, RpcError
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store

FRIEND = b"\x77" * 20


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


@pytest.fixture(scope="module")
def store() -> Store:
    ledger = Ledger.open(None, genesis())
    for height in range(3):
        extend(
            ledger,
            transaction(KEYS[0], 2 * height, FRIEND, height),
            transaction(KEYS[0], 2 * height + 1, CONTRACT, 0, bytes(64)),
            transaction(KEYS[1], height, CONTRACT, 0, bytes(64)),
        )
    ledger.commit()
    return Store("", ledger.view())


def search(store: Store, settings: Settings = Settings(), **wanted: Any) -> Any:  # noqa: B008
    filters = {"fromBlock": "0x1", "toBlock": "latest"} | wanted
    return json.loads(Trace(settings, store).filter(parse_filter(filters)))


def test_filters_choose_by_sender_and_receiver(store: Store) -> None:
    assert len(search(store)) == 9
    found = search(store, toAddress=[hexed(FRIEND)])
    assert [int(trace["action"]["value"], 16) for trace in found] == [0, 1, 2]
    found = search(store, fromAddress=[hexed(ACCOUNTS[1])], toBlock="0x2")
    assert [trace["blockNumber"] for trace in found] == [1, 2]


def test_filters_give_pages(store: Store) -> None:
    whole = search(store)
    assert search(store, after=2, count=3) == whole[2:5]
    assert search(store, after=8) == whole[8:]
    assert search(store, after=9) == search(store, count=0) == []


def test_a_long_answer_is_refused_before_it_is_made(store: Store) -> None:
    size = len(json.dumps(search(store)[:2]))
    with pytest.raises(RpcError, match="response too large"):
        search(store, Settings(max_response_bytes=size))
    assert len(search(store, Settings(max_response_bytes=size), after=8)) == 1


def test_calls_share_one_gas_cap(store: Store) -> None:
    call = [{"to": hexed(CONTRACT), "data": "0x" + "00" * 64}, ["trace"]]
    found = json.loads(Trace(Settings(), store).call_many(parse_calls([call] * 3), 1))
    assert [len(one["trace"]) for one in found] == [1, 1, 1]
    with pytest.raises(Rejected, match="exceeds the gas limit"):
        Trace(Settings(gas_cap=42_000), store).call_many(parse_calls([call] * 3), 1)
    with pytest.raises(BadArgument, match=f"{MAX_CALLS + 1} calls, expected at most {MAX_CALLS}"):
        parse_calls([call] * (MAX_CALLS + 1))
