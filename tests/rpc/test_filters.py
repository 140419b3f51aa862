"""Filters that are polled."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quorate.rpc.settings import NAMESPACES, Settings
from rpc.conftest import send
from rpc.fakes import RICH, Node, hash_of, running

Call = Callable[..., Any]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Node]:
    settings = Settings(namespaces=NAMESPACES, max_filters=3)
    with running(tmp_path, settings) as node:
        yield node


@pytest.fixture
def call(live: Node) -> Call:
    def send_one(method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = json.loads(send(live, json.dumps(body).encode())[2])
        return answer["result"] if "result" in answer else answer["error"]

    return send_one


def test_block_filter_tells_each_hash_once(live: Node, call: Call) -> None:
    name = call("eth_newBlockFilter")
    assert call("eth_getFilterChanges", name) == []
    live.commit(5)
    assert call("eth_getFilterChanges", name) == ["0x" + hash_of(h).hex() for h in (4, 5)]
    assert call("eth_getFilterChanges", name) == []


def test_log_filter_tells_new_logs_and_all_of_its_range(live: Node, call: Call) -> None:
    name = call("eth_newFilter", {"fromBlock": "0x1", "address": "0x" + RICH.hex()})
    assert call("eth_getFilterChanges", name) == []
    live.commit(4)
    assert [log["blockNumber"] for log in call("eth_getFilterChanges", name)] == ["0x4"]
    assert len(call("eth_getFilterLogs", name)) == 4


def test_log_filter_without_a_range_means_what_came_since(live: Node, call: Call) -> None:
    name = call("eth_newFilter", {})
    assert call("eth_getFilterLogs", name) == []
    live.commit(5)
    assert [log["blockNumber"] for log in call("eth_getFilterLogs", name)] == ["0x4", "0x5"]


def test_log_filter_that_begins_later_is_silent_before(live: Node, call: Call) -> None:
    name = call("eth_newFilter", {"fromBlock": "0x6", "toBlock": "0x6"})
    live.commit(5)
    assert call("eth_getFilterChanges", name) == []
    live.commit(8)
    assert [log["blockNumber"] for log in call("eth_getFilterChanges", name)] == ["0x6"]


def test_pending_filter_tells_hashes(live: Node, call: Call) -> None:
    name = call("eth_newPendingTransactionFilter")
    call("eth_getTransactionCount", "0x" + RICH.hex(), "pending")
    transaction = call("eth_sendRawTransaction", "0x42")
    found: list[str] = []
    while not found:
        found = call("eth_getFilterChanges", name)
    assert found == [transaction]


def test_filters_are_bounded_until_one_is_removed(call: Call) -> None:
    names = [call("eth_newBlockFilter") for _ in range(3)]
    assert call("eth_newBlockFilter")["code"] == -32005
    assert call("eth_uninstallFilter", names[0]) is True
    assert isinstance(call("eth_newBlockFilter"), str)


def test_unused_filter_is_forgotten(tmp_path: Path) -> None:
    settings = Settings(filter_seconds=-1.0, max_filters=1)
    with running(tmp_path, settings) as node:
        body = b'{"jsonrpc":"2.0","id":1,"method":"eth_newBlockFilter"}'
        names = [json.loads(send(node, body)[2])["result"] for _ in range(3)]
        ask = {"jsonrpc": "2.0", "id": 1, "method": "eth_getFilterChanges", "params": names[:1]}
        error = json.loads(send(node, json.dumps(ask).encode())[2])["error"]
        assert error == {"code": -32000, "message": "filter not found"}
