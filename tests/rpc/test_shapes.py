"""Answers have exactly the fields that the Ethereum JSON-RPC specification's examples have.

The examples come from another chain, so names and the form of values are compared, not values.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from kernel.chain import CHAIN_ID, KEYS
from quorate._kernel import Ledger
from quorate.rpc.settings import NAMESPACES, Settings
from rpc.conftest import send
from rpc.fakes import Node, running
from rpc.mill import Mill
from rpc.test_methods import LOGGER_AT, call_body, hexed, make_genesis

Ask = Callable[..., Any]

FEES = {"maxFeePerGas": 4 * 10**9, "maxPriorityFeePerGas": 1}
COMMON = {"to": LOGGER_AT, "value": 0, "data": "0x" + "42" * 32, "gas": 100_000}
ACCESS = [{"address": hexed(LOGGER_AT), "storageKeys": ["0x" + "00" * 32]}]
KINDS: dict[str, dict[str, Any]] = {
    "legacy": {"gasPrice": 4 * 10**9, "chainId": CHAIN_ID},
    "access-list": {"gasPrice": 4 * 10**9, "chainId": CHAIN_ID, "accessList": ACCESS, "type": 1},
    "dynamic-fee": {**FEES, "chainId": CHAIN_ID, "accessList": ACCESS, "type": 2},
    "setcode": {**FEES, "chainId": CHAIN_ID, "type": 4},
}
TRANSACTIONS = {
    "legacy": "get-legacy-input",
    "access-list": "get-access-list",
    "dynamic-fee": "get-dynamic-fee",
    "setcode": "get-setcode-tx",
}


def sign_all() -> dict[str, bytes]:
    """Return a raw transaction of every kind, signed by an independent implementation."""
    signer = Account.from_key(KEYS[0])
    raws = {}
    for nonce, (kind, fields) in enumerate(KINDS.items()):
        if kind == "setcode":
            permit = {"chainId": CHAIN_ID, "address": hexed(LOGGER_AT), "nonce": 0}
            allowed = Account.from_key(KEYS[1]).sign_authorization(permit)
            fields = fields | {"authorizationList": [allowed]}
        signed = signer.sign_transaction(COMMON | fields | {"nonce": nonce})
        raws[kind] = bytes(signed.raw_transaction)
    return raws


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder: Path = tmp_path_factory.mktemp("node")
    ledger = Ledger.open(None, make_genesis())
    with running(folder, Settings(namespaces=NAMESPACES), ledger.view(), Mill(ledger)) as found:
        yield found


@pytest.fixture(scope="module")
def ask(node: Node) -> Ask:
    def call(method: str, *params: Any) -> Any:
        answer = json.loads(send(node, call_body(method, *params))[2])
        assert "result" in answer, answer
        return answer["result"]

    return call


@pytest.fixture(scope="module")
def hashes(ask: Ask) -> dict[str, str]:
    return {kind: ask("eth_sendRawTransaction", hexed(raw)) for kind, raw in sign_all().items()}


@pytest.fixture
def example(vectors: Path) -> Callable[[str], Any]:
    """Return the result of an example, named as `<method>/<case>`."""

    def load(name: str) -> Any:
        file = vectors / "execution-apis" / "tests" / f"{name}.io"
        answers = [line[3:] for line in file.read_text().splitlines() if line.startswith("<<")]
        return json.loads(answers[0])["result"]

    return load


def describe(value: Any) -> Any:
    """Return the shape of a value: names of fields, kinds of hex strings, shapes of items."""
    if isinstance(value, dict):
        return {name: describe(item) for name, item in value.items()}
    if isinstance(value, list):
        return [describe(value[0])] if value else []
    if isinstance(value, str):
        if re.fullmatch("0x(0|[1-9a-f][0-9a-f]{0,63})", value):
            return "quantity"
        if re.fullmatch("0x([0-9a-f]{2})*", value):
            return f"{len(value) // 2 - 1} bytes" if len(value) in (42, 66, 514) else "data"
        return "text"
    return type(value).__name__


def fit(found: Any, wanted: Any, place: str = "result") -> None:
    """Fail where names differ, or the kind of a value; lists may be empty on one side."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), place
        assert sorted(found) == sorted(wanted), place
        for name in wanted:
            fit(found[name], wanted[name], f"{place}.{name}")
    elif isinstance(wanted, list):
        assert isinstance(found, list), place
        if found and wanted:
            fit(found[0], wanted[0], f"{place}[0]")
    elif {found, wanted} <= {"quantity", "data", "20 bytes", "32 bytes", "NoneType"}:
        # A short number and short data look alike; `to` is null where something is created.
        assert (found == "data") <= (wanted in ("data", "quantity")), place
    else:
        assert found == wanted, place


@pytest.mark.parametrize("kind", KINDS)
def test_transaction_of_every_kind(
    ask: Ask, hashes: dict[str, str], example: Callable[[str], Any], kind: str
) -> None:
    found = ask("eth_getTransactionByHash", hashes[kind])
    wanted = example(f"eth_getTransactionByHash/{TRANSACTIONS[kind]}")
    if kind == "legacy":
        # The example is older than EIP-155.
        assert int(found.pop("chainId"), 16) == CHAIN_ID
    fit(describe(found), describe(wanted))


@pytest.mark.parametrize("kind", KINDS)
def test_receipt_of_every_kind(
    ask: Ask, hashes: dict[str, str], example: Callable[[str], Any], kind: str
) -> None:
    found = ask("eth_getTransactionReceipt", hashes[kind])
    assert found["status"] == "0x1"
    # Older examples have a state root in place of a status.
    wanted = example("eth_getTransactionReceipt/get-dynamic-fee")
    fit(describe(found), describe(wanted))
    assert ask("eth_getBlockReceipts", found["blockNumber"]) == [found]


def test_block_and_header(ask: Ask, hashes: dict[str, str], example: Callable[[str], Any]) -> None:
    # Its transactions are of other kinds, and compared above.
    wanted = describe(example("eth_getBlockByNumber/get-latest") | {"transactions": []})
    found = ask("eth_getBlockByNumber", "latest", True)
    assert found["transactions"][0]["hash"] in hashes.values()
    fit(describe(found), wanted)
    fit(describe(ask("eth_getBlockByNumber", "0x0", True)), wanted)


def test_log(ask: Ask, hashes: dict[str, str], example: Callable[[str], Any]) -> None:
    logs = ask("eth_getLogs", {"fromBlock": "0x0"})
    assert len(logs) == len(hashes)
    fit(describe(logs), describe(example("eth_getLogs/contract-addr")))


def test_proof(ask: Ask, example: Callable[[str], Any]) -> None:
    found = ask("eth_getProof", hexed(LOGGER_AT), ["0x00"], "latest")
    fit(describe(found), describe(example("eth_getProof/get-account-proof-with-storage")))


def test_fee_history(ask: Ask, hashes: dict[str, str], example: Callable[[str], Any]) -> None:
    assert hashes
    found = ask("eth_feeHistory", "0x1", "latest", [95, 99])
    wanted = example("eth_feeHistory/fee-history")
    assert sorted(found) == sorted(wanted)
    assert [len(found[name]) for name in sorted(found) if isinstance(found[name], list)] == [
        len(wanted[name]) for name in sorted(wanted) if isinstance(wanted[name], list)
    ]


def test_pool(ask: Ask, example: Callable[[str], Any]) -> None:
    assert sorted(ask("txpool_status")) == sorted(example("txpool_status/get-status"))
    assert sorted(ask("txpool_content")) == sorted(example("txpool_content/get-content"))
