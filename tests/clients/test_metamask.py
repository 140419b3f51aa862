"""What MetaMask asks of a node, in its order, from adding the network to a mined transfer.

The calls are in metamask.json, as the extension's controllers make them: network detection, the
account tracker, fees by `eth_feeHistory`, and the transaction controller with its watcher.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from clients.network import CHAIN_ID, Endpoint, account_at, network_of

pytestmark = pytest.mark.network

# The account of escrow's buyer; files of one network take their turns.
ALICE = account_at(7)
TO = Web3.to_checksum_address("0x" + "4a" * 20)
SEQUENCE: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("metamask.json").read_text(encoding="utf-8")
)
QUANTITY = re.compile(r"0x(0|[1-9a-f][0-9a-f]*)")
HASH = re.compile(r"0x[0-9a-f]{64}")


def matches(expected: Any, found: Any) -> bool:
    """Whether an answer has the form that is expected: a kind, an exact text, or fields."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            matches(form, found.get(field)) for field, form in expected.items()
        )
    if expected in ("quantities", "numbers", "rewards", "list"):
        kinds = {"quantities": is_quantity, "numbers": is_number, "rewards": is_row}
        return isinstance(found, list) and all(map(kinds.get(expected, bool), found))
    if expected == "number":
        return is_number(found)
    if not isinstance(found, str):
        return False
    forms = {
        "quantity": is_quantity(found),
        "price": is_quantity(found),
        "chain": found == hex(CHAIN_ID),
        "decimal": found == str(CHAIN_ID),
        "hash": HASH.fullmatch(found) is not None,
        "empty": found == "0x",
        "text": found != "",
    }
    return forms.get(expected, found == expected)


def is_quantity(found: Any) -> bool:
    return isinstance(found, str) and QUANTITY.fullmatch(found) is not None


def is_number(found: Any) -> bool:
    return isinstance(found, int | float)


def is_row(found: Any) -> bool:
    return isinstance(found, list) and all(map(is_quantity, found))


def fill(value: Any, known: dict[str, Any]) -> Any:
    """Return parameters with what earlier answers said in place of `$names`."""
    if isinstance(value, list):
        return [fill(item, known) for item in value]
    if isinstance(value, dict):
        return {name: fill(item, known) for name, item in value.items()}
    return known[value[1:]] if isinstance(value, str) and value.startswith("$") else value


def suggest_fees(history: Any) -> dict[str, str]:
    """Return fees as the extension computes them: the base fee with room, the median reward."""
    rewards = sorted(int(row[1], 16) for row in history["reward"])
    tip = rewards[len(rewards) // 2] if rewards else 0
    return {"tip": hex(tip), "maxFee": hex(2 * int(history["baseFeePerGas"][-1], 16) + tip)}


def replay(web3: Web3) -> dict[str, Any]:
    """Ask the sequence; every answer must have its form. Return what was learnt."""
    known: dict[str, Any] = {"from": ALICE.address, "to": TO}
    for call in SEQUENCE:
        if "$raw" in call["params"]:
            known["raw"] = sign(web3, known)
        what = f"{call['step']}: {call['method']}"
        answer = ask(web3, call, known)
        if "error" in call:
            assert answer["error"]["code"] == call["error"], what
            continue
        assert "error" not in answer, (what, answer)
        result = answer["result"]
        assert matches(call["result"], result), (what, result)
        match call["method"]:
            case "eth_getBlockByNumber":
                known |= {"block": result["number"], "gasLimit": result["gasLimit"]}
            case "eth_feeHistory" if "reward" in call["result"]:
                known |= suggest_fees(result)
            case "eth_gasPrice":
                known["gasPrice"] = result
        if call.get("keep") == "hash":
            known["hash"] = result
        elif call.get("keep") == "receipt":
            known |= {"blockHash": result["blockHash"], "price": result["effectiveGasPrice"]}
    return known


def ask(web3: Web3, call: dict[str, Any], known: dict[str, Any]) -> Any:
    end = time.monotonic() + 120
    while True:
        parameters = fill(call["params"], known)
        answer: Any = web3.provider.make_request(call["method"], parameters)  # type: ignore[arg-type]
        if not call.get("wait") or answer.get("result") is not None or time.monotonic() > end:
            return answer
        time.sleep(0.02)


def sign(web3: Web3, known: dict[str, Any]) -> str:
    body = {
        "chainId": CHAIN_ID,
        "nonce": web3.eth.get_transaction_count(ALICE.address, "pending"),
        "to": TO,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": int(known["maxFee"], 16),
        "maxPriorityFeePerGas": int(known["tip"], 16),
    }
    return ALICE.sign_transaction(body).raw_transaction.to_0x_hex()


def test_wallet_adds_the_network_and_pays(web3: Web3) -> None:
    known = replay(web3)
    assert int(known["price"], 16) <= int(known["maxFee"], 16)


@pytest.fixture(scope="module")
def free_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Four validators that ask for no fees."""
    yield from network_of(tmp_path_factory.mktemp("free"), "--gas", "free", of="QUORATE_TEST_FREE")


def test_wallet_pays_nothing_where_gas_is_free(free_network: Endpoint) -> None:
    web3 = Web3(Web3.HTTPProvider(free_network.http[0], request_kwargs={"timeout": 30}))
    before = web3.eth.get_balance(ALICE.address)
    known = replay(web3)
    assert (known["maxFee"], known["price"]) == ("0x0", "0x0")
    # Anvil suggests 1 gwei to those who ask by the old method, even so.
    if free_network.folder is not None:
        assert known["gasPrice"] == "0x0"
    assert web3.eth.get_balance(ALICE.address) == before - 1
