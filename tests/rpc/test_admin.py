"""admin_, eth_fillTransaction and txpool_inspect, over the real ledger and pool."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from web3 import Web3

from kernel.chain import ACCOUNTS, CHAIN_ID, CONTRACT, KEYS, SLOT_7, genesis, transaction
from quorate._kernel import Ledger
from quorate.rpc.admin import REFUSED
from quorate.rpc.settings import NAMESPACES, Settings
from rpc.conftest import send
from rpc.fakes import Node, running
from rpc.mill import Mill

Ask = Callable[..., Any]
STRANGER = "0x" + "ab" * 20


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


@pytest.fixture
def mill() -> Mill:
    return Mill(Ledger.open(None, genesis()))


@pytest.fixture
def node(mill: Mill, tmp_path: Path) -> Iterator[Node]:
    settings = Settings(namespaces=NAMESPACES)
    with running(tmp_path, settings, mill.ledger.view(), mill) as found:
        yield found


@pytest.fixture
def ask(node: Node) -> Ask:
    def call(method: str, *params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = json.loads(send(node, json.dumps(request).encode())[2])
        return answer["result"] if "result" in answer else answer["error"]

    return call


def test_who_the_node_is_and_whom_it_knows(ask: Ask) -> None:
    info = ask("admin_nodeInfo")
    fields = {"id", "name", "enode", "enr", "ip", "ports", "listenAddr", "protocols"}
    assert set(info) == fields
    assert info["name"] == ask("web3_clientVersion")
    eth = info["protocols"]["eth"]
    genesis_hash = ask("eth_getBlockByNumber", "0x0", False)["hash"]
    assert (eth["network"], eth["genesis"], eth["head"]) == (CHAIN_ID, genesis_hash, genesis_hash)
    assert info["protocols"]["quorate"]["engine"] == "tendermint"
    (peer,) = ask("admin_peers")
    assert set(peer) == {"id", "name", "enode", "caps", "network", "protocols"}
    network = {"localAddress", "remoteAddress", "inbound", "trusted", "static"}
    assert set(peer["network"]) == network
    assert ask("admin_datadir") == "", "this ledger lies in memory"


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_changes_the_node_is_refused(ask: Ask, name: str) -> None:
    error = ask(name, "enode://somebody")
    assert (error["code"], error["message"]) == (-32000, f"{name} is refused: {REFUSED[name]}")


def test_a_filled_transaction_can_be_signed_and_sent(ask: Ask) -> None:
    data = hexed(SLOT_7 + (9).to_bytes(32, "big"))
    wanted = {"from": hexed(ACCOUNTS[0]), "to": hexed(CONTRACT), "input": data}
    filled = ask("eth_fillTransaction", wanted)
    tx = filled["tx"]
    assert {tx[name] for name in ("r", "s", "v", "yParity", "nonce", "value")} == {"0x0"}
    assert (tx["type"], int(tx["chainId"], 16), tx["input"]) == ("0x2", CHAIN_ID, data)
    assert filled["raw"].startswith("0x02f8")
    tip = int(ask("eth_maxPriorityFeePerGas"), 16)
    base_fee = int(ask("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    assert int(tx["maxPriorityFeePerGas"], 16) == tip
    assert int(tx["maxFeePerGas"], 16) == 2 * base_fee + tip
    assert tx["gas"] == ask("eth_estimateGas", wanted)

    names = ("nonce", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "value", "chainId", "type")
    fields = {name: int(tx[name], 16) for name in names}
    fields |= {"to": Web3.to_checksum_address(tx["to"]), "data": tx["input"]}
    raw = Account.from_key(KEYS[0]).sign_transaction(fields).raw_transaction
    sent = ask("eth_sendRawTransaction", hexed(raw))
    assert ask("eth_getTransactionReceipt", sent)["status"] == "0x1"
    assert ask("eth_fillTransaction", wanted)["tx"]["nonce"] == "0x1", "the next one"


def test_what_is_named_stays(ask: Ask) -> None:
    prices = {"gasPrice": hex(10**10), "gas": "0x5208", "nonce": "0x7", "value": "0x3"}
    filled = ask("eth_fillTransaction", {"to": STRANGER} | prices)
    assert filled["tx"]["type"] == "0x0"
    assert {name: filled["tx"][name] for name in prices} == prices
    assert filled["raw"].endswith("808080"), "no signature, as geth encodes it"
    most = {"maxFeePerGas": "0x5", "gas": "0x5208", "nonce": "0x0"}
    tx = ask("eth_fillTransaction", {"to": STRANGER} | most)["tx"]
    assert (tx["maxFeePerGas"], tx["maxPriorityFeePerGas"]) == ("0x5", "0x5")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gasPrice": "0x1", "maxFeePerGas": "0x1", "to": STRANGER}, "both gasPrice and"),
        (
            {"maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x2", "to": STRANGER},
            "maxFeePerGas (1) <",
        ),
        ({"chainId": "0x1", "to": STRANGER}, f"not match node's (have=1, want={CHAIN_ID})"),
        ({}, "contract creation without any data provided"),
        ({"to": STRANGER, "nonce": "7"}, "hex string without 0x prefix"),
        ({"to": STRANGER, "gas": "0x5208", "value": "lots"}, "invalid"),
        ({"to": STRANGER, "input": "0x01", "data": "0x02"}, 'both "data" and "input" are set'),
    ],
)
def test_what_contradicts_itself_is_refused(ask: Ask, fields: dict[str, str], message: str) -> None:
    assert message in ask("eth_fillTransaction", fields)["message"]


def test_what_waits_is_told_in_a_line_each(ask: Ask, mill: Mill) -> None:
    mill.holds = True
    to = bytes.fromhex(STRANGER[2:])
    raws = (transaction(KEYS[1], 0, to, 5), transaction(KEYS[1], 2, b"", 0, b"\x00"))
    for raw in raws:
        ask("eth_sendRawTransaction", hexed(raw))
    name = Web3.to_checksum_address(ACCOUNTS[1])
    transfer = f"{Web3.to_checksum_address(STRANGER)}: 5 wei + 100000 gas × 4000000000 wei"
    assert ask("txpool_inspect") == {
        "pending": {name: {"0": transfer}},
        "queued": {name: {"2": "contract creation: 0 wei + 100000 gas × 4000000000 wei"}},
    }
