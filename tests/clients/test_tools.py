"""Foundry's cast and forge, and Hardhat, as developers call them: by the command line."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from clients.conftest import require_node_package
from clients.network import CHAIN_ID, JS, Endpoint, account_at, load_artefact

pytestmark = pytest.mark.network

# The accounts of viem.test.mjs; files of one network take their turns.
ALICE, BOB = account_at(5), account_at(6)
KEY = ALICE.key.to_0x_hex()
DEEP = 150
"""Seconds that a command may take on a busy machine."""


def run(*command: str, cwd: Path = JS, ok: bool = True, **places: str) -> str:
    """Run a command; return its standard output, or what it complains of when it has to fail."""
    result = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | places,
        capture_output=True,
        text=True,
        timeout=DEEP,
        check=False,
    )
    assert (result.returncode == 0) is ok, f"{command}: {result}"
    return (result.stdout if ok else result.stderr).strip()


def find_foundry(tool: str) -> str:
    """Return the binary of a tool of Foundry among the npm packages, or skip."""
    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
    package = f"@foundry-rs/{tool}-{platform.system().lower()}-{machine}"
    require_node_package(package)
    return str(JS / "node_modules" / package / "bin" / tool)


class Cast:
    def __init__(self, url: str) -> None:
        self.url, self.path = url, find_foundry("cast")

    def __call__(self, command: str, *arguments: str, ok: bool = True) -> str:
        return run(self.path, command, "--rpc-url", self.url, *arguments, ok=ok)

    def send(self, *arguments: str) -> Any:
        receipt = json.loads(self("send", "--private-key", KEY, "--json", *arguments))
        assert receipt["status"] == "0x1"
        return receipt


@pytest.fixture(scope="module")
def cast(network: Endpoint) -> Cast:
    return Cast(network.http[0])


def test_cast_reads_the_chain(cast: Cast) -> None:
    sent = cast.send(BOB.address, "--value", "5")
    number = str(int(sent["blockNumber"], 16))
    assert cast("chain-id") == str(CHAIN_ID)
    assert int(cast("block-number")) >= int(number)
    assert int(cast("gas-price")) >= int(cast("base-fee")) >= 0
    block = json.loads(cast("block", number, "--json"))
    assert (block["hash"], block["transactions"]) == (sent["blockHash"], [sent["transactionHash"]])
    assert cast("block", number, "--field", "hash") == sent["blockHash"]
    assert cast("age", number)
    assert cast("find-block", str(int(block["timestamp"], 16)))
    assert cast("tx", sent["transactionHash"], "value") == "5"
    assert json.loads(cast("receipt", sent["transactionHash"], "--json")).items() >= sent.items()
    assert int(cast("nonce", ALICE.address)) == 1 + int(
        cast("nonce", ALICE.address, "--block", str(int(number) - 1))
    )
    assert int(cast("balance", BOB.address)) > 0
    assert cast("estimate", BOB.address, "--value", "1", "--from", ALICE.address) == "21000"
    assert cast("rpc", "eth_getBlockTransactionCountByNumber", hex(int(number))) == '"0x1"'
    raw = cast("tx", sent["transactionHash"], "--raw")
    assert Web3.keccak(hexstr=raw).to_0x_hex() == sent["transactionHash"]
    signed = cast("mktx", BOB.address, "--value", "1", "--private-key", KEY)
    assert json.loads(cast("publish", signed))["status"] == "0x1"


def test_cast_uses_a_contract(cast: Cast, artefacts: Path) -> None:
    bytecode = load_artefact(artefacts / "Probe.json")["bytecode"]
    seven = f"{7:064x}"
    place = cast.send("--create", bytecode + seven)["contractAddress"]
    assert cast("call", place, "number()(uint256)") == "7"
    assert cast("storage", place, "0") == f"0x{seven}"
    assert int(cast("codesize", place)) * 2 + 2 == len(cast("code", place))
    sent = cast.send(place, "setNumber(uint256,string)", "42", "by cast")
    assert cast("call", place, "number()(uint256)") == "42"
    before = str(int(sent["blockNumber"], 16) - 1)
    assert cast("call", place, "number()(uint256)", "--block", before) == "7"
    logs = json.loads(cast("logs", "--address", place, "--from-block", before, "--json"))
    assert [log["transactionHash"] for log in logs] == [sent["transactionHash"]]
    proof = json.loads(cast("proof", place, "0"))
    assert int(proof["storageProof"][0]["value"], 16) == 42
    listed = cast("access-list", place, "forward(uint256)", "1", "--from", ALICE.address)
    assert place.lower() in listed.lower()
    assert "not today" in cast("call", place, "failWithReason()", ok=False)
    assert "not today" in cast("estimate", place, "failWithReason()", ok=False)
    trace = json.loads(
        cast("rpc", "debug_traceTransaction", sent["transactionHash"], '{"tracer":"callTracer"}')
    )
    assert (trace["type"], trace["to"]) == ("CALL", place.lower())
    traced = cast("call", place, "number()(uint256)", "--trace")
    assert f"[Return] 0x{42:064x}" in traced


def test_forge_deploys_and_sends(network: Endpoint, tmp_path: Path) -> None:
    require_node_package("solc")
    url, forge = network.http[0], find_foundry("forge")
    folders = ("--out", str(tmp_path / "out"), "--cache-path", str(tmp_path / "cache"))
    output = run(
        *(forge, "script", "script/Deploy.s.sol", "--rpc-url", url, "--private-key", KEY),
        *("--broadcast", "--slow", *folders),
        cwd=JS / "foundry",
        FOUNDRY_BROADCAST=str(tmp_path / "broadcast"),
    )
    assert "ONCHAIN EXECUTION COMPLETE & SUCCESSFUL" in output
    (record,) = tmp_path.glob("broadcast/*/*/run-latest.json")
    receipts = json.loads(record.read_text())["receipts"]
    assert [receipt["status"] for receipt in receipts] == ["0x1"] * 4

    cast = Cast(url)
    created = json.loads(
        run(
            *(forge, "create", "src/Counter.sol:Counter", "--rpc-url", url, "--private-key", KEY),
            *("--broadcast", "--json", *folders, "--constructor-args", "3"),
            cwd=JS / "foundry",
        )
    )
    place = created["deployedTo"]
    assert cast("call", place, "number()(uint256)") == "3"
    cast.send(place, "add(uint256)", "39")
    assert cast("call", place, "number()(uint256)") == "42"


def test_hardhat_compiles_deploys_and_decodes_errors(network: Endpoint, tmp_path: Path) -> None:
    require_node_package("hardhat")
    command = str(JS / "node_modules" / ".bin" / "hardhat")
    output = run(
        *(command, "--config", "hardhat.config.cjs"),
        *("run", "scripts/deploy.cjs", "--network", "quorate"),
        cwd=JS / "hardhat",
        QUORATE_RPC=network.http[0],
        QUORATE_HARDHAT_OUT=str(tmp_path / "artifacts"),
        QUORATE_HARDHAT_CACHE=str(tmp_path / "cache"),
        HARDHAT_DISABLE_TELEMETRY_PROMPT="true",
    )
    assert "counted to 42 at 0x" in output
