"""Otterscan's methods over the real ledger, in the shapes that its API documents."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.chain import ACCOUNTS, KEYS, extend, genesis, transaction
from kernel.test_addresses import CODES, CREATES, DELEGATES, ENDS, FORWARDS, FRIEND, make_address
from quorate._kernel import Ledger, keccak256
from quorate.rpc import addresses
from quorate.rpc.addresses import Addresses
from quorate.rpc.errors import RpcError
from quorate.rpc.settings import NAMESPACES, Settings
from quorate.rpc.store import Store
from rpc.conftest import send
from rpc.fakes import Node, running
from rpc.mill import Mill

Ask = Callable[..., Any]
REFUSES = b"\xe0" * 20
LOGS = b"\xe1" * 20
LONG = bytes.fromhex("a9059cbb") + bytes(64)


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def word(address: bytes) -> bytes:
    return address.rjust(32, b"\0")


RAWS = [
    [transaction(KEYS[0], 0, FORWARDS, 3, word(FRIEND))],
    [transaction(KEYS[0], 1, CREATES, 0), transaction(KEYS[1], 0, LOGS, 0, LONG)],
    [transaction(KEYS[0], 2, ENDS, 0, word(FRIEND)), transaction(KEYS[1], 1, REFUSES, 0, LONG)],
    [transaction(KEYS[0], 3, DELEGATES, 0, word(FORWARDS))],
    [transaction(KEYS[2], nonce, FRIEND, 1) for nonce in range(30)],
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    file = json.loads(genesis())
    for place, code in CODES.items():
        file["alloc"][place.hex()] = {"balance": "0x5", "code": "0x" + code}
    # Reverts with its input; logs it.
    file["alloc"][REFUSES.hex()] = {"balance": "0x0", "code": "0x365f5f37365ffd"}
    file["alloc"][LOGS.hex()] = {"balance": "0x0", "code": "0x365f5f37365fa0"}
    ledger = Ledger.open(None, json.dumps(file).encode())
    for raws in RAWS:
        extend(ledger, *raws)
    ledger.commit()
    folder: Path = tmp_path_factory.mktemp("node")
    settings = Settings(namespaces=NAMESPACES)
    with running(folder, settings, ledger.view(), Mill(ledger)) as found:
        yield found


@pytest.fixture
def ask(node: Node) -> Ask:
    def call(method: str, *params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = json.loads(send(node, json.dumps(request).encode())[2])
        return answer["result"] if "result" in answer else answer["error"]

    return call


def hash_of(height: int, index: int = 0) -> str:
    return hexed(keccak256(RAWS[height - 1][index]))


def test_what_the_explorer_asks_first(ask: Ask) -> None:
    assert ask("ots_getApiLevel") == 8
    assert ask("erigon_getHeaderByNumber", 1)["number"] == "0x1"
    assert ask("erigon_getHeaderByNumber", 99) is None
    assert "ots" in ask("rpc_modules")


def test_code_is_there_or_not(ask: Ask) -> None:
    made = hexed(make_address(CREATES, 0))
    assert ask("ots_hasCode", hexed(FORWARDS), "latest") is True
    assert ask("ots_hasCode", hexed(FRIEND), "latest") is False
    assert [ask("ots_hasCode", made, hex(at)) for at in (1, 2)] == [False, True]


def test_internal_operations(ask: Ask) -> None:
    moved = {"type": 0, "from": hexed(FORWARDS), "to": hexed(FRIEND), "value": "0x3"}
    assert ask("ots_getInternalOperations", hash_of(1)) == [moved]
    made = {"from": hexed(CREATES), "to": hexed(make_address(CREATES, 0)), "value": "0x0"}
    assert ask("ots_getInternalOperations", hash_of(2)) == [{"type": 2} | made]
    ended = {"type": 1, "from": hexed(ENDS), "to": hexed(FRIEND), "value": "0x5"}
    assert ask("ots_getInternalOperations", hash_of(3)) == [ended]
    assert ask("ots_getInternalOperations", hash_of(2, 1)) == []
    unknown = ask("ots_getInternalOperations", "0x" + "77" * 32)
    assert unknown["message"] == f"transaction 0x{'77' * 32} not found"


def test_traces_are_flat_with_depths(ask: Ask) -> None:
    outer, inner = ask("ots_traceTransaction", hash_of(1))
    assert outer == {
        "type": "CALL",
        "depth": 0,
        "from": hexed(ACCOUNTS[0]),
        "to": hexed(FORWARDS),
        "value": "0x3",
        "input": hexed(word(FRIEND)),
        "output": "0x",
    }
    assert (inner["type"], inner["depth"], inner["to"]) == ("CALL", 1, hexed(FRIEND))
    kinds = [[entry["type"] for entry in ask("ots_traceTransaction", hash_of(at))] for at in (2, 3)]
    assert kinds == [["CALL", "CREATE"], ["CALL", "SELFDESTRUCT"]]
    delegated = ask("ots_traceTransaction", hash_of(4))[1]
    assert (delegated["type"], delegated["value"]) == ("DELEGATECALL", None)
    assert (delegated["from"], delegated["to"]) == (hexed(DELEGATES), hexed(FORWARDS))


def test_errors_are_what_a_contract_gave_back(ask: Ask) -> None:
    assert ask("ots_getTransactionError", hash_of(3, 1)) == hexed(LONG)
    assert ask("ots_getTransactionError", hash_of(1)) == "0x"


def test_block_details(ask: Ask) -> None:
    whole = ask("eth_getBlockByNumber", "0x2", False)
    found = ask("ots_getBlockDetails", 2)
    assert ask("ots_getBlockDetailsByHash", whole["hash"]) == found
    assert ask("ots_getBlockDetails", "0x2") == found
    block = found["block"]
    assert block["transactionCount"] == len(whole.pop("transactions")) == 2
    assert block == whole | {"logsBloom": None, "transactionCount": 2}
    receipts = ask("eth_getBlockReceipts", "0x2")
    fees = sum(int(r["gasUsed"], 16) * int(r["effectiveGasPrice"], 16) for r in receipts)
    assert int(found["totalFees"], 16) == fees
    assert found["issuance"] == {"blockReward": "0x0", "uncleReward": "0x0", "issuance": "0x0"}
    assert ask("ots_getBlockDetails", 99) is None


def test_pages_of_a_block_begin_at_its_end(ask: Ask) -> None:
    def page(number: int, size: int = 12) -> list[int]:
        found = ask("ots_getBlockTransactions", 5, number, size)
        hashes = [one["hash"] for one in found["fullblock"]["transactions"]]
        assert [one["transactionHash"] for one in found["receipts"]] == hashes
        assert found["fullblock"]["transactionCount"] == 30
        return [int(one["nonce"], 16) for one in found["fullblock"]["transactions"]]

    assert page(0) == list(range(18, 30))
    assert page(2) == list(range(6))
    assert page(3) == page(1 << 60) == page(0, 0) == []
    assert ask("ots_getBlockTransactions", 5, 0, 256)["message"] == "max allowed page size: 255"


def test_pages_of_a_block_are_short(ask: Ask) -> None:
    found = ask("ots_getBlockTransactions", 2, 0, 10)
    assert [one["input"] for one in found["fullblock"]["transactions"]] == ["0x", "0xa9059cbb"]
    assert [(one["logs"], one["logsBloom"]) for one in found["receipts"]] == [(None, None)] * 2


def test_searches_by_address(ask: Ask) -> None:
    friend = hexed(FRIEND)
    found = ask("ots_searchTransactionsBefore", friend, 0, 25)
    assert len(found["txs"]) == 30, "all of the last block"
    assert (found["firstPage"], found["lastPage"]) == (True, False)
    assert found["txs"][0] == ask("eth_getTransactionByHash", hash_of(5, 29))
    receipt = ask("eth_getTransactionReceipt", hash_of(5, 29))
    block = ask("eth_getBlockByNumber", "0x5", False)
    assert found["receipts"][0] == receipt | {"timestamp": int(block["timestamp"], 16)}
    found = ask("ots_searchTransactionsBefore", friend, 5, 25)
    assert [one["hash"] for one in found["txs"]] == [hash_of(3), hash_of(1)]
    assert (found["firstPage"], found["lastPage"]) == (False, True)
    found = ask("ots_searchTransactionsAfter", friend, 0, 2)
    assert [one["hash"] for one in found["txs"]] == [hash_of(3), hash_of(1)]
    assert (found["firstPage"], found["lastPage"]) == (False, True)
    found = ask("ots_searchTransactionsAfter", friend, 1, 5)
    assert len(found["txs"]) == 31
    assert (found["firstPage"], found["lastPage"]) == (True, False)
    nobody = ask("ots_searchTransactionsBefore", "0x" + "77" * 20, 0, 25)
    assert nobody == {"txs": [], "receipts": [], "firstPage": True, "lastPage": True}
    assert ask("ots_searchTransactionsBefore", friend, 1, 25)["txs"] == []
    assert ask("ots_searchTransactionsBefore", friend, 0, 26)["code"] == -32000


def test_transactions_by_nonce_and_creators(ask: Ask) -> None:
    assert ask("ots_getTransactionBySenderAndNonce", hexed(ACCOUNTS[1]), 1) == hash_of(3, 1)
    assert ask("ots_getTransactionBySenderAndNonce", hexed(ACCOUNTS[1]), 2) is None
    made = hexed(make_address(CREATES, 0))
    assert ask("ots_getContractCreator", made) == {"hash": hash_of(2), "creator": hexed(CREATES)}
    assert ask("ots_getContractCreator", hexed(FRIEND)) is None
    assert ask("ots_getContractCreator", hexed(LOGS)) is None, "it is there since genesis"


def test_an_index_that_is_far_behind_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "MAX_BEHIND", 2)
    monkeypatch.setattr(addresses, "MAX_STEP", 1)
    monkeypatch.setattr(addresses, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(Addresses, "start", lambda _: None)
    ledger = Ledger.open(None, genesis())
    for nonce in range(4):
        extend(ledger, transaction(KEYS[0], nonce, FRIEND, 1))
    ledger.commit()
    index = Addresses(Store("", ledger.view()))
    with pytest.raises(RpcError, match="the index of addresses is not there: it is about to be"):
        index.get_index()
    assert index.follow()
    with pytest.raises(RpcError, match="the index of addresses is being built: block 1 of 4"):
        index.search(FRIEND, 0, True, 1)
    assert index.follow()
    assert index.follow()
    with pytest.raises(RpcError, match="the index of addresses is being built: block 3 of 4"):
        index.get_index()
    assert not index.follow(), "all is in"
    assert index.search(FRIEND, 0, True, 1) == ([(1, 0)], True)
    for nonce in range(4, 7):
        extend(ledger, transaction(KEYS[0], nonce, FRIEND, 1))
        ledger.commit()
        if nonce < 6:
            assert index.search(FRIEND, 0, True, 1) == ([(1, 0)], True), "nearly level"
    with pytest.raises(RpcError, match="is being built: block 4 of 7"):
        index.search(FRIEND, 0, True, 1)


def is_running(index: Addresses) -> bool:
    return index.thread is not None and index.thread.is_alive()


def test_the_index_begins_with_the_first_question_and_goes_on(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path), genesis())
    extend(ledger, transaction(KEYS[0], 0, FRIEND, 1))
    ledger.commit()
    index = Addresses(Store(str(tmp_path)))
    index.resume()
    assert not is_running(index)
    assert index.search(FRIEND, 0, True, 1) == ([(1, 0)], False)
    index.close()
    index.start()
    assert not is_running(index), "closed is closed"
    again = Addresses(Store(str(tmp_path)))
    again.resume()
    assert is_running(again)
    again.close()
    ledger.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path), genesis())
    (tmp_path / addresses.FOLDER).write_text("a file")
    index = Addresses(Store(str(tmp_path)))
    with pytest.raises(RpcError, match=r"the index of addresses is not there: store .*addresses"):
        index.get_index()
    index.close()
    ledger.close()


def test_what_is_pruned_is_said_and_not_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "ledger")
    file = json.loads(genesis())
    file["alloc"][CREATES.hex()] = {"balance": "0x5", "code": "0x" + CODES[CREATES]}
    ledger = Ledger.open(path, json.dumps(file).encode())
    extend(ledger, transaction(KEYS[0], 0, CREATES, 0))
    for nonce in range(1, 30):
        extend(ledger, transaction(KEYS[0], nonce, FRIEND, 1))
    ledger.commit()
    while ledger.prune(12, 20):
        pass
    states, blocks, _ = ledger.view().history()
    assert (states, blocks) == (18, 10)
    settings = Settings(namespaces=NAMESPACES)
    with running(tmp_path, settings, ledger.view(), Mill(ledger)) as node:

        def call(method: str, *params: Any) -> Any:
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
            return json.loads(send(node, json.dumps(request).encode())[2])

        sender, made = hexed(ACCOUNTS[0]), hexed(make_address(CREATES, 0))
        found = call("ots_searchTransactionsAfter", sender, 0, 25)["result"]
        assert [int(tx["blockNumber"], 16) for tx in found["txs"]] == list(range(30, 9, -1))
        for method, params in (
            ("ots_getContractCreator", [made]),
            ("ots_getTransactionBySenderAndNonce", [sender, 3]),
        ):
            error = call(method, *params)["error"]
            assert error["code"] == 4444
            assert error["message"].endswith("the index of addresses begins at block 10")
        late = call("ots_getTransactionBySenderAndNonce", sender, 20)["result"]
        assert call("eth_getTransactionByHash", late)["result"]["blockNumber"] == hex(21)
        assert call("ots_getTransactionBySenderAndNonce", sender, 99)["result"] is None
        there = call("eth_capabilities")["result"]
        assert (there["state"]["oldestBlock"], there["logs"]["oldestBlock"]) == (hex(18), hex(10))
    told = [record.getMessage() for record in caplog.records]
    assert "the index of addresses begins at block 10: older ones are pruned" in told
    assert any("from block 19 on" in text for text in told)
