"""A proof-of-work network that splits and heals, as wallets see it."""

import json
import os
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from clients.conftest import require_node_package
from clients.network import JS, account_at
from e2e.stage import CHAIN_ID, Stage, poll
from quorate.runtime.config import load_network

pytestmark = pytest.mark.network

# Logs the call's first word as topic: the code, and what deploys it.
CODE = bytes.fromhex("60003560006000a1")
DEPLOY = b"\x67" + CODE + bytes.fromhex("60005260086018f3")
LEFT, RIGHT = "0x" + "0" * 63 + "1", "0x" + "0" * 63 + "2"
PATIENCE_S = 120
DEEP = 6
"""Blocks above one that nodes do not take back any more, save after a partition."""


class Ear:
    """Hears a subscription until it is closed."""

    def __init__(self, stage: Stage, index: int, *kind: Any) -> None:
        self.told: list[Any] = []
        self.stack = ExitStack()
        self.socket = self.stack.enter_context(
            connect(f"ws://127.0.0.1:{stage.rpc + index}", compression=None)
        )
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": list(kind)}
        self.socket.send(json.dumps(body))
        assert "result" in json.loads(self.socket.recv(timeout=60))
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self) -> None:
        try:
            for message in self.socket:
                self.told.append(json.loads(message)["params"]["result"])
        except ConnectionClosed:
            pass

    def close(self) -> None:
        self.stack.close()
        self.thread.join(20)


def ban(stage: Stage, word: str, of: int, *others: int) -> None:
    """Let a node talk to others no more, or again."""
    validators = load_network(stage.folder / "network.toml", {}).validators
    for other in others:
        stage.do("peers", word, "0x" + validators[other].pin[:20].hex(), "--of", str(of))


def log(stage: Stage, index: int, sender: int, topic: str, to: str) -> str:
    """Send a call that logs a topic."""
    account = account_at(sender)
    signed = account.sign_transaction(
        {
            "chainId": CHAIN_ID,
            "nonce": 0,
            "to": bytes.fromhex(to[2:]),
            "data": topic,
            "gas": 60_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
        }
    )
    raw = "0x" + bytes(signed.raw_transaction).hex()
    found = stage.call(index, "eth_sendRawTransaction", raw)
    assert isinstance(found, str)
    return found


def deploy(stage: Stage) -> str:
    """Deploy the contract that logs; return its address once all nodes keep it."""
    account = account_at(0)
    signed = account.sign_transaction(
        {
            "chainId": CHAIN_ID,
            "nonce": 0,
            "data": DEPLOY,
            "gas": 200_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**9,
        }
    )
    raw = "0x" + bytes(signed.raw_transaction).hex()
    found = stage.call(0, "eth_sendRawTransaction", raw)
    wait_deep(stage, found)
    address = stage.call(0, "eth_getTransactionReceipt", found)["contractAddress"]
    assert stage.call(0, "eth_getCode", address, "latest") == "0x" + CODE.hex()
    assert isinstance(address, str)
    return address


def wait_deep(stage: Stage, *transactions: str) -> None:
    """Wait until all nodes have transactions in the same blocks, so deep that they stay there."""

    def are_deep() -> bool:
        places: dict[str, set[str]] = {}
        for transaction in transactions:
            for index in range(stage.validators):
                receipt = stage.call(index, "eth_getTransactionReceipt", transaction)
                if receipt is None:
                    return False
                if stage.height(index) < int(receipt["blockNumber"], 16) + DEEP:
                    return False
                places.setdefault(transaction, set()).add(receipt["blockHash"])
        return all(len(found) == 1 for found in places.values())

    poll(are_deep, f"{DEEP} blocks over {transactions} on all nodes", PATIENCE_S)


def get_heads(stage: Stage) -> set[str | None]:
    """Return the blocks that the nodes have at the lowest of their heights, less one."""
    height = min(stage.height(index) for index in range(stage.validators)) - 1
    return {stage.block(index, height) for index in range(stage.validators)}


def test_a_partition_heals_into_one_chain_and_no_transaction_is_lost(three: Stage) -> None:
    stage = three
    # However long the partition lasts, neither side shall hold its own branch for final.
    stage.up_with({"final_depth": 5000}, "--engine", "pow", "--block-time", "500")
    poll(lambda: all(row.get("peers") == 2 for row in stage.status()), "all are connected")
    contract = deploy(stage)
    common = min(stage.height(i) for i in range(3))
    sides = (0, 2)
    # Two miners on one side, one on the other.
    ban(stage, "ban", 2, 0, 1)
    for index in (0, 1):
        ban(stage, "ban", index, 2)
    poll(lambda: stage.status()[2].get("peers") == 0, "the network is split")
    filters = [stage.call(i, "eth_newFilter", {"fromBlock": hex(common)}) for i in sides]
    ears = [Ear(stage, i, "logs", {"address": contract}) for i in sides]
    heads = [Ear(stage, i, "newHeads") for i in sides]
    sent = [log(stage, 0, 1, LEFT, contract), log(stage, 2, 2, RIGHT, contract)]
    for index, transaction in zip(sides, sent, strict=True):
        stage.settle(index, transaction, PATIENCE_S)
        assert stage.call(index, "eth_getTransactionReceipt", transaction)["status"] == "0x1"
    assert not stage.has_receipt(0, sent[1])
    assert not stage.has_receipt(2, sent[0])

    def get_changes() -> list[list[Any]]:
        asked = zip(sides, filters, strict=True)
        return [stage.call(index, "eth_getFilterChanges", name) for index, name in asked]

    polled = get_changes()
    # On a side of two miners a block may have been taken back already, and its log told again.
    topics = [{entry["topics"][0] for entry in told} for told in polled]
    assert topics == [{LEFT}, {RIGHT}]
    for index in range(3):
        ban(stage, "unban", index, *(i for i in range(3) if i != index and (i == 2 or index == 2)))
    poll(lambda: len(get_heads(stage)) == 1, "one chain again", PATIENCE_S)

    # Both transactions are in it, wherever they were sent.
    wait_deep(stage, *sent)
    changes = [
        stage.call(i, "eth_getFilterChanges", f) for i, f in zip(sides, filters, strict=True)
    ]
    told = [[*before, *after] for before, after in zip(polled, changes, strict=True)]
    loser = check_views(stage, sides, told, ears, heads)
    counters = stage.status()[sides[loser]]["counters"]
    assert counters["reorgs"] >= 1
    assert counters["transactions_returned"] >= 1
    assert int(stage.call(0, "quorate_getFinality", hex(common))["confirmations"], 16) > 3
    finality = stage.call(0, "quorate_getFinality", "latest", 0.1)
    assert 0 < finality["reversal"][0]["probability"] < 0.3


def check_views(
    stage: Stage, sides: tuple[int, int], polled: list[Any], ears: list[Ear], heads: list[Ear]
) -> int:
    """Follow what clients were told on both sides; return the place of the side that lost."""
    removed = []
    for place, topic in enumerate((LEFT, RIGHT)):
        index = sides[place]
        told = [(entry["topics"][0], entry["removed"]) for entry in polled[place]]
        # Told once, and perhaps taken back and told again, the other side's as well.
        state: set[str] = set()
        for found, is_removed in told:
            assert is_removed == (found in state), told
            state ^= {found}
        assert state == {LEFT, RIGHT}, told
        ears[place].close()
        heads[place].close()
        heard: set[tuple[str, str]] = set()
        for entry in ears[place].told:
            name = (entry["topics"][0], entry["blockHash"])
            assert entry["removed"] == (name in heard), ears[place].told
            heard ^= {name}
        assert {found for found, _ in heard} == {LEFT, RIGHT}
        assert len(heard) == 2
        check_heads(stage, index, heads[place].told)
        removed.append((topic, True) in told)
    assert any(removed), "neither side lost its block"
    return removed.index(True)


def check_heads(stage: Stage, index: int, told: list[dict[str, Any]]) -> None:
    """Each head follows one that was told or known, and the last told of each height counts."""
    latest = {int(head["number"], 16): head["hash"] for head in told}
    # A moment ago the end may have been another one; what lies below has settled.
    for height in sorted(latest)[:-DEEP]:
        assert stage.block(index, height) == latest[height]
    # A branch that begins where the subscription had not begun yet has a parent that was not told.
    hashes = {head["hash"] for head in told}
    first = int(told[0]["number"], 16)
    lost = [h for h in told[1:] if h["parentHash"] not in hashes and int(h["number"], 16) > first]
    assert not lost


def test_ethers_does_over_proof_of_work_what_it_does_elsewhere(
    single: Stage, tmp_path: Path
) -> None:
    for package in ("ethers", "solc", "@openzeppelin/contracts"):
        node = require_node_package(package)
    subprocess.run([node, str(JS / "compile.mjs"), str(tmp_path)], check=True, timeout=240)
    single.up("--engine", "pow", "--block-time", "250")
    places = {
        "QUORATE_RPC": f"http://127.0.0.1:{single.rpc}",
        "QUORATE_WS": f"ws://127.0.0.1:{single.rpc}",
        "QUORATE_ARTEFACTS": str(tmp_path),
    }
    result = subprocess.run(
        [node, "--test", "--test-timeout=230000", "--test-reporter=spec", "ethers.test.mjs"],
        cwd=JS,
        env=os.environ | places,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "skipped 0" in result.stdout
