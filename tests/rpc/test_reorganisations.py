"""What clients see of a chain whose latest blocks are replaced, in the words and order of geth."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from kernel.chain import ACCOUNTS, FUNDS, KEYS, envelope_of, genesis, payload, transaction
from quorate._kernel import Block, Ledger, keccak256
from quorate.consensus.pow_difficulty import compute_reversal_probability
from quorate.rpc.settings import NAMESPACES, Settings
from rpc.conftest import send
from rpc.fakes import Node, running
from rpc.mill import Mill

LOGGER = b"\xc1" * 20
# Logs the call's first word as topic.
LOGGER_CODE = bytes.fromhex("60003560006000a1")
STRANGER = b"\x77" * 20
ONE, TWO, THREE = (bytes(31) + bytes([n]) for n in (1, 2, 3))


class Switch(Mill):
    """Makes blocks over any block, and shows any branch."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.payloads: dict[bytes, bytes] = {}

    def grow(self, parent: Block, *raws: bytes, late_ms: int = 1000) -> Block:
        body = payload(parent, *raws, timestamp_ms=parent.timestamp_ms + late_ms)
        block = self.ledger.execute(parent.hash, [body], envelope_of(parent))
        assert block.transactions == len(raws)
        self.payloads[block.hash] = body
        return block

    def show(self, tip: Block, safe: int = 0, final: Block | None = None) -> None:
        """Let clients see a branch, of which the blocks up to `final` are so."""
        assert self.server is not None
        self.ledger.adopt(tip.hash, safe)
        if final is not None:
            body = self.payloads[final.hash]
            self.ledger.finalize(final.hash, envelope_of(final), b"certificate", [body])
        self.ledger.commit()
        self.pool.settle(tip.hash)
        self.server.tell_pending(self.pool.readmit())
        self.server.tell_committed(tip.number)


class Stage:
    """A server over two branches: `left` of two blocks and `right` of three."""

    def __init__(self, node: Node, switch: Switch, root: Block) -> None:
        self.node, self.switch = node, switch
        self.lost = transaction(KEYS[0], 0, LOGGER, 0, ONE)
        self.shared = transaction(KEYS[1], 0, LOGGER, 0, TWO)
        self.fresh = transaction(KEYS[2], 0, LOGGER, 0, THREE)
        first = switch.grow(root, self.lost)
        self.left = [first, switch.grow(first, self.shared)]
        other = switch.grow(root, self.shared, late_ms=2000)
        middle = switch.grow(other, self.fresh)
        self.right = [other, middle, switch.grow(middle)]

    def show(self, tip: Block, safe: int = 0, final: Block | None = None) -> None:
        self.node.do(lambda: self.switch.show(tip, safe, final))

    def ask(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = json.loads(send(self.node, json.dumps(body).encode())[2])
        return answer["result"] if "result" in answer else answer["error"]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    alloc: dict[str, object] = {a.hex(): {"balance": hex(FUNDS)} for a in ACCOUNTS}
    alloc[LOGGER.hex()] = {"balance": "0x0", "code": "0x" + LOGGER_CODE.hex()}
    ledger = Ledger.open(str(tmp_path / "ledger"), genesis(alloc=alloc))
    root = ledger.block(0)
    assert root is not None
    switch = Switch(ledger)
    with running(tmp_path, Settings(namespaces=NAMESPACES), ledger.view(), switch) as node:
        yield Stage(node, switch, root)
    ledger.close()


def text(data: bytes) -> str:
    return "0x" + data.hex()


def describe(logs: list[dict[str, Any]]) -> list[tuple[int, str, bool]]:
    """Return (height, last digit of the topic, removed) of each."""
    return [(int(log["blockNumber"], 16), log["topics"][0][-1], log["removed"]) for log in logs]


LEFT = [(1, "1", False), (2, "2", False)]
ALL = [(1, "1", True), (2, "2", True), (1, "2", False), (2, "3", False)]


def test_tags_tell_what_may_still_change(stage: Stage) -> None:
    stage.show(stage.right[2], safe=2, final=stage.right[0])
    numbers = {
        tag: int(stage.ask("eth_getBlockByNumber", tag, False)["number"], 16)
        for tag in ("latest", "safe", "finalized", "earliest")
    }
    assert numbers == {"latest": 3, "safe": 2, "finalized": 1, "earliest": 0}
    nonces = [
        stage.ask("eth_getTransactionCount", text(ACCOUNTS[2]), tag)
        for tag in ("latest", "safe", "finalized", "pending")
    ]
    assert nonces == ["0x1", "0x1", "0x0", "0x1"]
    logs = stage.ask("eth_getLogs", {"fromBlock": "0x0", "toBlock": "finalized"})
    assert describe(logs) == [(1, "2", False)]
    assert stage.ask("eth_getProof", text(ACCOUNTS[2]), [], "latest")["nonce"] == "0x1"
    assert stage.ask("quorate_getCertificate", "latest") is None
    assert stage.ask("quorate_getCertificate")["blockNumber"] == "0x1"


def test_transactions_and_blocks_of_an_abandoned_branch_are_gone_from_the_chain(
    stage: Stage,
) -> None:
    stage.show(stage.left[1])
    lost, shared = (text(keccak256(raw)) for raw in (stage.lost, stage.shared))
    assert stage.ask("eth_getTransactionReceipt", lost)["blockNumber"] == "0x1"
    assert stage.ask("eth_getTransactionReceipt", shared)["blockNumber"] == "0x2"
    stage.show(stage.right[2])
    assert stage.ask("eth_getTransactionReceipt", lost) is None
    assert stage.ask("eth_getTransactionReceipt", shared)["blockNumber"] == "0x1"
    # It waits again, and that is how it is shown.
    waiting = stage.ask("eth_getTransactionByHash", lost)
    assert (waiting["hash"], waiting["blockHash"]) == (lost, None)
    assert stage.ask("eth_getTransactionCount", text(ACCOUNTS[0]), "latest") == "0x0"
    assert stage.ask("eth_getTransactionCount", text(ACCOUNTS[0]), "pending") == "0x1"
    gone = text(stage.left[1].hash)
    assert stage.ask("eth_getBlockByHash", gone, False) is None
    assert stage.ask("eth_getLogs", {"blockHash": gone})["message"] == "unknown block"
    assert stage.ask("eth_getBalance", text(STRANGER), {"blockHash": gone})["message"] == (
        "header for hash not found"
    )
    assert stage.ask("eth_getBlockReceipts", gone) is None


def test_log_filter_tells_removed_logs_and_then_those_of_the_other_branch(stage: Stage) -> None:
    name = stage.ask("eth_newFilter", {"fromBlock": "0x0"})
    narrow = stage.ask("eth_newFilter", {"topics": [text(ONE)]})
    stage.show(stage.left[1])
    assert describe(stage.ask("eth_getFilterChanges", name)) == LEFT
    stage.show(stage.right[2])
    assert describe(stage.ask("eth_getFilterChanges", name)) == ALL
    assert stage.ask("eth_getFilterChanges", name) == []
    # What was never told is not told as removed either.
    assert stage.ask("eth_getFilterChanges", narrow) == []
    assert describe(stage.ask("eth_getFilterLogs", name)) == [(1, "2", False), (2, "3", False)]


def test_filter_follows_several_moves_between_two_polls(stage: Stage) -> None:
    name = stage.ask("eth_newFilter", {"fromBlock": "0x0"})
    stage.show(stage.left[0])
    assert describe(stage.ask("eth_getFilterChanges", name)) == LEFT[:1]
    # Another client's polls make the server look each time.
    other = stage.ask("eth_newBlockFilter")
    for tip in (stage.left[1], stage.right[2], stage.left[0], stage.left[1]):
        stage.show(tip)
        stage.ask("eth_getFilterChanges", other)
    # Block 1 went and came back, which the client may know; block 2 was never gone for it.
    expected = [(1, "1", True), (1, "1", False), (2, "2", False)]
    assert describe(stage.ask("eth_getFilterChanges", name)) == expected
    stage.show(stage.left[0])
    assert describe(stage.ask("eth_getFilterChanges", name)) == [(2, "2", True)]


def test_block_filter_tells_the_hashes_of_the_other_branch(stage: Stage) -> None:
    name = stage.ask("eth_newBlockFilter")
    stage.show(stage.left[1])
    stage.show(stage.right[2])
    assert stage.ask("eth_getFilterChanges", name) == [text(b.hash) for b in stage.right]
    stage.show(stage.left[1], final=stage.left[0])
    assert stage.ask("eth_getFilterChanges", name) == [text(b.hash) for b in stage.left]


def listen(stage: Stage, kinds: list[list[Any]], act: Callable[[], None], count: int) -> list[Any]:
    """Subscribe, act, and return so many notifications in order."""
    with connect(f"ws://127.0.0.1:{stage.node.port}", compression=None) as client:
        for i, kind in enumerate(kinds):
            body = {"jsonrpc": "2.0", "id": i, "method": "eth_subscribe", "params": kind}
            client.send(json.dumps(body))
            json.loads(client.recv(timeout=60))
        # The validator tells what waits only from when it was asked; a round trip later it was.
        body = {"jsonrpc": "2.0", "id": 9, "method": "net_peerCount", "params": []}
        client.send(json.dumps(body))
        client.recv(timeout=60)
        act()
        return [json.loads(client.recv(timeout=60))["params"]["result"] for _ in range(count)]


def test_subscribers_hear_of_removed_logs_before_the_new_ones(stage: Stage) -> None:
    stage.show(stage.left[1])
    logs = listen(stage, [["logs", {}]], lambda: stage.show(stage.right[2]), 4)
    assert describe(logs) == ALL
    narrow = [["logs", {"topics": [text(THREE)]}]]
    logs = listen(stage, narrow, lambda: stage.show(stage.left[1]), 1)
    assert describe(logs) == [(2, "3", True)]


def test_new_heads_are_those_of_the_other_branch(stage: Stage) -> None:
    stage.show(stage.left[1])
    heads = listen(stage, [["newHeads"]], lambda: stage.show(stage.right[2]), 3)
    assert [head["hash"] for head in heads] == [text(block.hash) for block in stage.right]


def test_transactions_that_wait_again_are_told(stage: Stage) -> None:
    stage.show(stage.left[1])
    kinds = [["newPendingTransactions"]]
    hashes = listen(stage, kinds, lambda: stage.show(stage.right[2]), 1)
    assert hashes == [text(keccak256(stage.lost))]


def test_a_restarted_server_knows_what_may_still_be_removed(stage: Stage, tmp_path: Path) -> None:
    stage.show(stage.left[1])
    other = tmp_path / "other"
    other.mkdir()
    switch = stage.switch
    view = switch.ledger.view()
    with running(other, Settings(namespaces=NAMESPACES), view, switch) as node:
        again = Stage.__new__(Stage)
        again.node, again.switch = node, switch
        logs = listen(again, [["logs", {}]], lambda: again.show(stage.right[2]), 4)
        assert describe(logs) == ALL


def test_finality_counts_confirmations_and_says_what_they_are_worth(stage: Stage) -> None:
    assert "reversal" not in stage.ask("quorate_getFinality", "latest")
    stage.show(stage.right[2], safe=2, final=stage.right[0])
    found = stage.ask("quorate_getFinality", "0x2", 0.3)
    assert (found["confirmations"], found["safe"], found["final"]) == ("0x2", True, False)
    assert found["reversal"] == [
        {"share": 0.3, "probability": compute_reversal_probability(2, 0.3)}
    ]
    assert stage.ask("quorate_getFinality", "finalized")["final"] is True
    latest = stage.ask("quorate_getFinality")
    assert [entry["share"] for entry in latest["reversal"]] == [0.1, 0.25, 0.4]
    assert stage.ask("quorate_getFinality", text(stage.left[0].hash)) is None
    assert "expected 0 to 1" in stage.ask("quorate_getFinality", "latest", 2)["message"]
