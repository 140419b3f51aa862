"""Every method over the real ledger: transfers, a contract, logs, reverts, proofs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.chain import ACCOUNTS, CHAIN_ID, CONTRACT, FUNDS, KEYS, SLOT_7, genesis, transaction
from quorate._kernel import Ledger, keccak256, verify_proof
from quorate.rpc.settings import NAMESPACES, Settings
from rpc.conftest import send
from rpc.fakes import Node, running
from rpc.mill import Mill

STRANGER = b"\x77" * 20
TOPIC = b"\x05" * 32
# Logs 32 bytes of calldata under one topic.
LOGGER = bytes.fromhex("60206000600037" + "7f" + TOPIC.hex() + "60206000a100")
# Reverts with Error("no").
REVERTER = bytes.fromhex(
    "7f08c379a0" + "00" * 28 + "600052602060045260026024527f6e6f" + "00" * 30 + "60445260646000fd"
)
LOGGER_AT, REVERTER_AT = b"\xc1" * 20, b"\xc2" * 20


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def make_genesis() -> bytes:
    file = json.loads(genesis())
    for place, code in ((LOGGER_AT, LOGGER), (REVERTER_AT, REVERTER)):
        file["alloc"][place.hex()] = {"balance": "0x0", "code": hexed(code)}
    return json.dumps(file).encode()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Blocks: 1 a transfer, 2 a stored value, 3 a log, 4 a failed call."""
    folder: Path = tmp_path_factory.mktemp("node")
    ledger = Ledger.open(None, make_genesis())
    mill = Mill(ledger)
    with running(folder, Settings(namespaces=NAMESPACES), ledger.view(), mill) as found:
        for raw in (
            transaction(KEYS[0], 0, STRANGER, 5),
            transaction(KEYS[0], 1, CONTRACT, 0, SLOT_7 + (9).to_bytes(32, "big")),
            transaction(KEYS[0], 2, LOGGER_AT, 0, b"\x42" * 32),
            transaction(KEYS[0], 3, REVERTER_AT, 0),
        ):
            body = call_body("eth_sendRawTransaction", hexed(raw))
            assert "result" in json.loads(send(found, body)[2])
        yield found


def call_body(method: str, *params: Any) -> bytes:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    return json.dumps(request).encode()


@pytest.fixture
def ask(node: Node) -> Callable[..., Any]:
    def call(method: str, *params: Any) -> Any:
        answer = json.loads(send(node, call_body(method, *params))[2])
        return answer["result"] if "result" in answer else answer["error"]

    return call


Ask = Callable[..., Any]


def test_head_and_chain(ask: Ask) -> None:
    assert ask("eth_blockNumber") == "0x4"
    assert ask("eth_chainId") == hex(CHAIN_ID)
    assert ask("net_version") == str(CHAIN_ID)


def test_state_at_every_kind_of_block(ask: Ask) -> None:
    block = ask("eth_getBlockByNumber", "0x1", False)["hash"]
    who = hexed(STRANGER)
    at: list[Any] = ["earliest", "0x0", "0x1", block, {"blockHash": block}, {"blockNumber": "0x1"}]
    at += ["latest", "safe", "finalized", "pending", None]
    found = [int(ask("eth_getBalance", who, where), 16) for where in at]
    assert found == [0, 0] + [5] * 9
    assert ask("eth_getCode", hexed(CONTRACT)) != "0x"
    assert ask("eth_getStorageAt", hexed(CONTRACT), "0x7") == hexed((9).to_bytes(32, "big"))
    assert ask("eth_getStorageAt", hexed(CONTRACT), "0x7", "0x1") == hexed((5).to_bytes(32, "big"))
    assert ask("eth_getTransactionCount", hexed(ACCOUNTS[0])) == "0x4"
    assert ask("eth_getTransactionCount", hexed(ACCOUNTS[0]), "0x2") == "0x2"
    assert int(ask("eth_getBalance", hexed(ACCOUNTS[1])), 16) == FUNDS


def test_blocks_and_their_transactions(ask: Ask) -> None:
    block = ask("eth_getBlockByNumber", "0x1", True)
    (sent,) = block["transactions"]
    by_hash = ask("eth_getBlockByHash", block["hash"], False)
    assert by_hash["transactions"] == [sent["hash"]]
    assert by_hash["parentHash"] == ask("eth_getBlockByNumber", "earliest", False)["hash"]
    assert ask("eth_getTransactionByHash", sent["hash"]) == sent
    assert ask("eth_getTransactionByBlockNumberAndIndex", "0x1", "0x0") == sent
    assert ask("eth_getTransactionByBlockHashAndIndex", block["hash"], "0x0") == sent
    assert ask("eth_getTransactionByBlockNumberAndIndex", "0x1", "0x1") is None
    assert ask("eth_getBlockTransactionCountByNumber", "0x1") == "0x1"
    assert ask("eth_getBlockTransactionCountByHash", block["hash"]) == "0x1"
    assert ask("eth_getUncleCountByBlockNumber", "0x1") == "0x0"
    assert (sent["from"], sent["to"]) == (hexed(ACCOUNTS[0]), hexed(STRANGER))
    raw = ask("eth_getRawTransactionByHash", sent["hash"])
    assert hexed(keccak256(bytes.fromhex(raw[2:]))) == sent["hash"]
    assert ask("eth_getRawTransactionByBlockNumberAndIndex", "0x1", "0x0") == raw
    assert ask("eth_getRawTransactionByBlockHashAndIndex", block["hash"], "0x0") == raw
    assert ask("eth_getRawTransactionByBlockNumberAndIndex", "0x1", "0x1") is None
    assert ask("eth_getRawTransactionByBlockNumberAndIndex", "0x99", "0x0") is None


def test_receipts(ask: Ask) -> None:
    receipts = [ask("eth_getBlockReceipts", hex(height))[0] for height in range(1, 5)]
    for receipt in receipts:
        assert ask("eth_getTransactionReceipt", receipt["transactionHash"]) == receipt
    assert [receipt["status"] for receipt in receipts] == ["0x1", "0x1", "0x1", "0x0"]
    assert receipts[0]["gasUsed"] == "0x5208"
    (log,) = receipts[2]["logs"]
    assert (log["address"], log["topics"]) == (hexed(LOGGER_AT), [hexed(TOPIC)])
    assert ask("eth_getBlockReceipts", "0x99") is None


def test_logs_by_range_block_address_and_topic(ask: Ask) -> None:
    everything = {"fromBlock": "earliest", "toBlock": "latest"}
    (log,) = ask("eth_getLogs", everything)
    assert (log["blockNumber"], log["data"], log["removed"]) == ("0x3", "0x" + "42" * 32, False)
    assert ask("eth_getLogs", {"blockHash": log["blockHash"]}) == [log]
    assert ask("eth_getLogs", everything | {"address": hexed(LOGGER_AT)}) == [log]
    assert ask("eth_getLogs", everything | {"topics": [[hexed(TOPIC), "0x" + "11" * 32]]}) == [log]
    assert ask("eth_getLogs", everything | {"topics": [None]}) == [log]
    assert ask("eth_getLogs", everything | {"topics": [None, None]}) == []
    assert ask("eth_getLogs", everything | {"address": [hexed(CONTRACT)]}) == []
    assert ask("eth_getLogs", {"fromBlock": "0x4"}) == []
    assert ask("eth_getLogs", {"blockHash": "0x" + "11" * 32})["message"] == "unknown block"


def test_calls_and_their_failures(ask: Ask) -> None:
    assert ask("eth_call", {"to": hexed(CONTRACT)}, "latest") == "0x"
    error = ask("eth_call", {"to": hexed(REVERTER_AT)})
    assert (error["code"], error["message"]) == (3, "execution reverted: no")
    assert error["data"].startswith("0x08c379a0")
    error = ask("eth_estimateGas", {"to": hexed(REVERTER_AT)})
    assert (error["code"], error["message"]) == (3, "execution reverted: no")
    poor = {"from": hexed(b"\x99" * 20), "to": hexed(STRANGER), "value": "0x1"}
    assert ask("eth_call", poor)["code"] == -32000
    assert "insufficient funds" in ask("eth_call", poor)["message"]
    assert ask("eth_call", {"to": hexed(CONTRACT)}, "0x99")["message"] == "header not found"
    code = ask("eth_call", {"to": 5})["code"]
    assert code == -32602


def test_overrides_hold_for_one_call(ask: Ask) -> None:
    # Returns the word at slot 7.
    reader = "0x60075460005260206000f3"
    call = {"to": hexed(CONTRACT)}
    found = ask("eth_call", call, "latest", {hexed(CONTRACT): {"code": reader}})
    assert int(found, 16) == 9
    assert ask("eth_call", call, "latest") == "0x"


def test_a_call_may_find_another_block(ask: Ask) -> None:
    # Return number, timestamp and prevRandao.
    teller = {hexed(CONTRACT): {"code": "0x43600052426020524460405260606000f3"}}
    call, random = {"to": hexed(CONTRACT)}, "0x" + "07" * 32
    changes = {"number": "0x500", "time": "0x70000000", "random": random}
    expected = f"0x{0x500:064x}{0x70000000:064x}{random[2:]}"
    for at in ("latest", "pending"):
        assert ask("eth_call", call, at, teller, changes) == expected
    timestamp = {"timestamp": "0x70000000"}
    assert ask("eth_call", call, "latest", teller, timestamp)[66:130] == expected[66:130]
    # Only at that time it does not revert.
    picky = {hexed(CONTRACT): {"code": "0x63700000004214600d575f5ffd5b00"}}
    assert ask("eth_estimateGas", call, "latest", picky)["code"] == 3
    assert int(ask("eth_estimateGas", call, "latest", picky, timestamp), 16) > 21_000
    # Without overrides of the state, too.
    assert ask("eth_call", call, "latest", None, changes) == "0x"
    for wrong, words in (([], "override.BlockOverrides"), ({"number": "ten"}, "overrides: ")):
        error = ask("eth_call", call, "latest", None, wrong)
        assert error["code"] == -32602
        assert words in error["message"]


def test_estimate_is_what_a_transfer_needs(ask: Ask) -> None:
    transfer = {"from": hexed(ACCOUNTS[0]), "to": hexed(STRANGER), "value": "0x1"}
    assert ask("eth_estimateGas", transfer) == "0x5208"
    store = transfer | {"value": "0x0", "to": hexed(CONTRACT), "data": hexed(bytes(63) + b"\x01")}
    assert 43_000 < int(ask("eth_estimateGas", store), 16) < 70_000


def test_fees(ask: Ask) -> None:
    history = ask("eth_feeHistory", "0x4", "latest", [0, 50, 100])
    assert history["oldestBlock"] == "0x1"
    assert len(history["baseFeePerGas"]) == 5
    assert len(history["gasUsedRatio"]) == len(history["reward"]) == 4
    assert ask("eth_feeHistory", 1, "latest")["oldestBlock"] == "0x4"
    base = int(ask("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    tip = int(ask("eth_maxPriorityFeePerGas"), 16)
    assert int(ask("eth_gasPrice"), 16) == base + tip
    assert ask("eth_blobBaseFee") == "0x1"
    error = ask("eth_feeHistory", "0x1", "latest", [50, 40])
    assert error["message"].startswith("invalid reward percentile")


def test_proof_leads_to_the_state_root(ask: Ask) -> None:
    proof = ask("eth_getProof", hexed(CONTRACT), ["0x7"], "latest")
    root = bytes.fromhex(ask("eth_getBlockByNumber", "latest", False)["stateRoot"][2:])
    nodes = [bytes.fromhex(item[2:]) for item in proof["accountProof"]]
    assert verify_proof(root, CONTRACT, nodes) is not None
    (slot,) = proof["storageProof"]
    nodes = [bytes.fromhex(item[2:]) for item in slot["proof"]]
    storage = bytes.fromhex(proof["storageHash"][2:])
    assert verify_proof(storage, SLOT_7, nodes) == b"\x09"


@pytest.mark.parametrize(
    ("method", "who"), [("eth_getTransactionByHash", 2), ("eth_getRawTransactionByHash", 3)]
)
def test_transaction_between_pool_and_store_is_not_unknown(
    node: Node, ask: Ask, method: str, who: int
) -> None:
    mill: Mill = node.questions
    mill.writes_late = True
    try:
        raw = transaction(KEYS[who], 0, STRANGER, 1)
        name = ask("eth_sendRawTransaction", hexed(raw))
        assert ask("txpool_status") == {"pending": "0x0", "queued": "0x0"}
        assert ask("eth_getTransactionReceipt", name) is None
        found = ask(method, name)
        assert (found if isinstance(found, str) else found["hash"]) in (hexed(raw), name)
        assert ask("eth_getTransactionReceipt", name)["status"] == "0x1"
    finally:
        mill.writes_late = False


def test_waiting_transactions_are_shown(node: Node, ask: Ask) -> None:
    mill: Mill = node.questions
    mill.holds = True
    try:
        raw = transaction(KEYS[1], 0, STRANGER, 7)
        name = ask("eth_sendRawTransaction", hexed(raw))
        assert name == hexed(keccak256(raw))
        assert ask("eth_getTransactionCount", hexed(ACCOUNTS[1]), "pending") == "0x1"
        assert ask("eth_getTransactionCount", hexed(ACCOUNTS[1]), "latest") == "0x0"
        waiting = ask("eth_getTransactionByHash", name)
        assert (waiting["blockHash"], waiting["value"]) == (None, "0x7")
        assert ask("eth_getRawTransactionByHash", name) == hexed(raw)
        assert ask("eth_getTransactionReceipt", name) is None
        block = ask("eth_getBlockByNumber", "pending", False)
        assert (block["hash"], block["transactions"]) == (None, [name])
        assert ask("eth_getBlockByNumber", "pending", True)["transactions"] == [waiting]
        assert ask("eth_getBlockTransactionCountByNumber", "pending") == "0x1"
        assert ask("txpool_status") == {"pending": "0x1", "queued": "0x0"}
        content = ask("txpool_content")["pending"]
        assert [list(nonces) for nonces in content.values()] == [["0"]]
        assert ask("txpool_contentFrom", hexed(ACCOUNTS[1]))["pending"]["0"] == waiting
        assert ask("eth_sendRawTransaction", hexed(raw))["message"] == "already known"
    finally:
        mill.holds = False


def test_refusals_of_the_pool_keep_their_words(ask: Ask) -> None:
    error = ask("eth_sendRawTransaction", hexed(transaction(KEYS[0], 0, STRANGER)))
    assert error["code"] == -32000
    assert error["message"].startswith("nonce too low")
    error = ask("eth_sendRawTransaction", hexed(transaction(KEYS[0], 9, STRANGER, FUNDS)))
    assert error["message"].startswith("insufficient funds for gas * price + value")
    error = ask("eth_sendRawTransaction", hexed(transaction(KEYS[0], 9, STRANGER, gas=20_000)))
    assert error["message"].startswith("intrinsic gas too low")
    for junk in ("0x", "0x01", "0xc0", "0x02c0", "0x7f" + "00" * 40):
        assert ask("eth_sendRawTransaction", junk)["code"] == -32000


def test_validators_come_from_the_ledger(ask: Ask) -> None:
    assert ask("quorate_getValidators", "latest") == []
    assert ask("quorate_getValidators", "0x99")["message"] == "header not found"


def test_certificate_shows_what_verifies_it(ask: Ask) -> None:
    shown = ask("quorate_getCertificate", "0x2")
    block = ask("eth_getBlockByNumber", "0x2", False)
    assert (shown["blockNumber"], shown["blockHash"]) == ("0x2", block["hash"])
    (content,) = shown["payloads"]
    head, body = (bytes.fromhex(content[name][2:]) for name in ("head", "bodyHash"))
    assert hexed(keccak256(head + body)) == content["hash"]
    assert content["parentBlockHash"] == block["parentHash"]
    assert shown["raw"] == hexed(b"certificate")
    assert ask("quorate_getCertificate", "0x0") is None
    assert ask("quorate_getCertificate", "0x99") is None
