"""A network for development with the tools that were made for Anvil and Hardhat."""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from web3 import Web3

from clients.conftest import require_node_package
from clients.network import JS, Endpoint, account_at, start_network, stop_network

pytestmark = pytest.mark.network

KNOWN = account_at(8)
TYPED = {
    "types": {
        "EIP712Domain": [{"name": "name", "type": "string"}],
        "Vote": [{"name": "yes", "type": "bool"}],
    },
    "primaryType": "Vote",
    "domain": {"name": "Board"},
    "message": {"yes": True},
}
SOMEONE = "0x00000000000000000000000000000000Cafe0009"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("dev")
    try:
        yield start_network(folder, "--dev")
    finally:
        stop_network(folder)


def ask(url: str, method: str, *params: object) -> dict[str, Any]:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def run_node(file: str, package: str, dev: Endpoint) -> None:
    places = {"QUORATE_RPC": dev.http[0], "QUORATE_OTHERS": ",".join(dev.http[1:])}
    result = subprocess.run(
        [
            require_node_package(package),
            "--test",
            "--test-timeout=230000",
            "--test-reporter=spec",
            file,
        ],
        cwd=JS,
        env=os.environ | places,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "fail 0" in result.stdout
    assert "skipped 0" in result.stdout


def test_viem_test_client(dev: Endpoint) -> None:
    run_node("dev.test.mjs", "viem", dev)


def test_hardhat_network_helpers(dev: Endpoint) -> None:
    run_node("hardhat-helpers.test.mjs", "@nomicfoundation/hardhat-network-helpers", dev)


def test_it_says_what_it_is(dev: Endpoint) -> None:
    version = ask(dev.http[0], "web3_clientVersion")["result"]
    assert version.startswith("anvil-compatible/dev/quorate/v")


def test_commands_of_several_nodes_at_once_all_take_effect(dev: Endpoint) -> None:
    before = [ask(url, "evm_increaseTime", 0)["result"] for url in dev.http]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(ask, url, "evm_increaseTime", 10) for url in dev.http * 3]
        assert all("result" in job.result() for job in jobs)
    assert ask(dev.http[0], "evm_increaseTime", 0)["result"] == max(before) + 120


def test_gas_is_estimated_at_the_time_of_the_next_block(dev: Endpoint) -> None:
    url, lock = dev.http[0], "0x00000000000000000000000000000000cafe000a"
    # Reverts before the time in slot 0.
    ask(url, "anvil_setCode", lock, "0x6000544210600957005b60006000fd")
    block = ask(url, "eth_getBlockByNumber", "latest", False)["result"]
    unlock = int(block["timestamp"], 16) + 10**6
    ask(url, "anvil_setStorageAt", lock, "0x0", hex(unlock))
    call = {"from": ask(url, "eth_accounts")["result"][0], "to": lock}
    assert "reverted" in ask(url, "eth_estimateGas", call)["error"]["message"]
    ask(url, "evm_setNextBlockTimestamp", unlock)
    assert int(ask(url, "eth_estimateGas", call)["result"], 16) > 21_000
    assert "error" in ask(url, "eth_call", call, "latest")
    assert ask(url, "eth_call", call, "pending")["result"] == "0x"
    transaction = ask(url, "eth_sendTransaction", call)["result"]
    receipt = ask(url, "eth_getTransactionReceipt", transaction)["result"]
    assert receipt["status"] == "0x1"


def test_known_accounts_sign(dev: Endpoint) -> None:
    url, text = dev.http[1], "0x" + b"who pays?".hex()
    signed = ask(url, "eth_sign", KNOWN.address, text)["result"]
    assert signed == ask(url, "personal_sign", text, KNOWN.address)["result"]
    assert Account.recover_message(encode_defunct(hexstr=text), signature=signed) == KNOWN.address
    typed = ask(url, "eth_signTypedData_v4", KNOWN.address, json.dumps(TYPED))["result"]
    message = encode_typed_data(full_message=TYPED)
    assert Account.recover_message(message, signature=typed) == KNOWN.address


def test_known_accounts_sign_transactions(dev: Endpoint) -> None:
    url = dev.http[0]
    fields = {"from": KNOWN.address, "to": SOMEONE, "value": "0x1"}
    signed = ask(url, "eth_signTransaction", fields)["result"]
    assert Account.recover_transaction(signed["raw"]) == KNOWN.address
    assert int(signed["tx"]["chainId"], 16) == 31337
    sent = ask(url, "eth_sendTransaction", fields)["result"]
    raw = ask(url, "eth_getRawTransactionByHash", sent)["result"]
    assert Account.recover_transaction(raw) == KNOWN.address
    legacy = ask(url, "eth_sendTransaction", {**fields, "gasPrice": hex(10**10)})["result"]
    found = ask(url, "eth_getTransactionByHash", legacy)["result"]
    assert (found["type"], found["from"]) == ("0x0", KNOWN.address.lower())
    made = ask(url, "eth_sendTransaction", {"from": KNOWN.address, "data": "0x6000"})["result"]
    receipt = ask(url, "eth_getTransactionReceipt", made)["result"]
    assert receipt["contractAddress"] is not None


def await_that(url: str, holds: Callable[[Any], bool], method: str, *params: object) -> None:
    """Wait until a node has heard of what another one was told."""
    deadline = time.monotonic() + 60
    while not holds(found := ask(url, method, *params)["result"]):
        assert time.monotonic() < deadline, f"{method} at {url}: {found}"
        time.sleep(0.05)


def await_answer(url: str, method: str, expected: object) -> None:
    """Wait until this node has executed what another one has answered."""
    await_that(url, lambda found: found == expected, method)


def test_no_block_comes_that_nobody_asked_for(dev: Endpoint) -> None:
    ask(dev.http[0], "anvil_setBalance", SOMEONE, "0x7")
    height = ask(dev.http[0], "eth_blockNumber")["result"]
    # Elsewhere an empty block certifies the last state after half a second.
    time.sleep(1.5)
    assert ask(dev.http[0], "eth_blockNumber")["result"] == height


def test_what_waits_for_a_block_can_be_replaced(dev: Endpoint) -> None:
    url, other = dev.http[0], dev.http[2]
    assert ask(url, "evm_setAutomine", False)["result"] is True
    try:
        height = ask(url, "eth_blockNumber")["result"]
        nonce = ask(url, "eth_getTransactionCount", KNOWN.address, "latest")["result"]
        fields = {"from": KNOWN.address, "to": SOMEONE, "value": "0x1", "nonce": nonce}
        fees = [{"maxFeePerGas": hex(n * 10**9), "maxPriorityFeePerGas": hex(n)} for n in (5, 9)]
        first, second = (ask(url, "eth_sendTransaction", fields | fee)["result"] for fee in fees)
        assert ask(url, "eth_getTransactionByHash", first)["result"] is None
        assert ask(url, "eth_getTransactionByHash", second)["result"]["blockHash"] is None
        assert ask(url, "eth_blockNumber")["result"] == height
        # Every validator keeps to it, and anybody may ask for the block and propose it.
        await_answer(other, "hardhat_getAutomine", False)
        for each in dev.http:
            await_that(each, lambda found: found is not None, "eth_getTransactionByHash", second)
        ask(other, "evm_mine")
        receipt = ask(other, "eth_getTransactionReceipt", second)["result"]
        assert int(receipt["blockNumber"], 16) == int(height, 16) + 1
    finally:
        ask(url, "evm_setAutomine", True)
    await_answer(other, "anvil_getAutomine", True)


def test_blocks_at_an_interval(dev: Endpoint) -> None:
    url, other = dev.http[0], dev.http[3]
    try:
        assert "error" not in ask(url, "evm_setIntervalMining", 3600)
        sent = ask(url, "eth_sendTransaction", {"from": KNOWN.address, "to": SOMEONE})["result"]
        assert ask(url, "eth_getTransactionReceipt", sent)["result"] is None
        assert "error" not in ask(url, "evm_setIntervalMining", 1)
        await_answer(other, "anvil_getIntervalMining", 1)
        web3 = Web3(Web3.HTTPProvider(other, request_kwargs={"timeout": 30}))
        receipt = web3.eth.wait_for_transaction_receipt(sent, timeout=120, poll_latency=0.05)
        assert receipt["status"] == 1
        # Empty ones come, too.
        height, deadline = web3.eth.block_number, time.monotonic() + 60
        while web3.eth.block_number < height + 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "error" not in ask(other, "evm_setIntervalMining", 0)
        await_answer(url, "anvil_getIntervalMining", None)
    finally:
        ask(url, "evm_setAutomine", True)


def test_web3_reads_the_blocks_of_commands(dev: Endpoint) -> None:
    web3 = Web3(Web3.HTTPProvider(dev.http[1], request_kwargs={"timeout": 30}))
    web3.provider.make_request("anvil_setBalance", [SOMEONE, hex(5)])  # type: ignore[arg-type]
    assert web3.eth.get_balance(Web3.to_checksum_address(SOMEONE)) == 5
    block = web3.eth.get_block("latest", full_transactions=True)
    (command,) = block["transactions"]
    assert not isinstance(command, bytes)
    assert int(command["to"], 16) == 0x1001


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("hardhat_setBalance", ["0x1", "0x1"], "hex string has length 1, want 40"),
        ("hardhat_setBalance", [SOMEONE], "missing value for required argument 1"),
        ("anvil_setBalance", [SOMEONE, hex(1 << 256)], "expected 0 to 2^256 - 1"),
        ("anvil_setBalance", [SOMEONE, "ten"], "expected a number"),
        ("anvil_setCode", [SOMEONE, "0x0"], "odd length"),
        ("anvil_setBalance", ["0x" + "0" * 36 + "1000", "0x1"], "says who agrees"),
        ("evm_increaseTime", [-1], "expected 0 to 2^64 - 1"),
        ("anvil_mine", ["0x2000"], "expected 1 to 4096"),
        ("evm_mine", [{"block": 1}], "expected timestamp and blocks"),
        ("anvil_reorg", [1, []], "final"),
        ("anvil_setIntervalMining", [90_000], "expected at most 86400"),
        ("eth_sign", [SOMEONE, "0x00"], "unknown account"),
        ("eth_signTransaction", [{"from": SOMEONE}], "unknown account"),
        ("eth_signTypedData_v4", [SOMEONE, "{}"], "expected types"),
        ("hardhat_setPrevRandao", ["0x1"], "agreed on"),
        ("eth_sendTransaction", [{"to": SOMEONE}], "from not specified"),
        ("eth_sendTransaction", [{"from": SOMEONE, "to": SOMEONE}], "unknown account"),
    ],
)
def test_bad_input_and_refusals(dev: Endpoint, method: str, params: list[Any], words: str) -> None:
    assert words in ask(dev.http[0], method, *params)["error"]["message"]


def test_elsewhere_every_helper_says_where_it_belongs(network: Endpoint) -> None:
    for method, params in (
        ("evm_snapshot", []),
        ("hardhat_setBalance", [SOMEONE, "0x1"]),
        ("anvil_reorg", []),
    ):
        error = ask(network.http[0], method, *params)["error"]
        assert error["code"] == -32601
        assert "is for development networks: `quorate up --dev`" in error["message"]
    for method, params in (
        ("eth_sendTransaction", [{"from": KNOWN.address}]),
        ("eth_signTransaction", [{"from": KNOWN.address}]),
        ("eth_sign", [KNOWN.address, "0x00"]),
        ("personal_sign", ["0x00", KNOWN.address]),
        ("eth_signTypedData_v4", [KNOWN.address, TYPED]),
    ):
        error = ask(network.http[0], method, *params)["error"]
        assert error["message"] == f"the method {method} does not exist/is not available"
    assert ask(network.http[0], "eth_accounts")["result"] == []
