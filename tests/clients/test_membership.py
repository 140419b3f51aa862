"""Validators vote by transactions, consensus follows, and a light client follows both."""

import json
import time
from importlib.resources import files
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract import Contract

from clients.network import CHAIN_ID, Endpoint, account_at
from quorate.base.errors import Unavailable
from quorate.cli import keystore
from quorate.ledger.genesis import VALIDATORS
from quorate.light import LightClient, read_genesis

pytestmark = pytest.mark.network

FUNDER = account_at(2)
GWEI = 10**9


def read_keys(network: Endpoint) -> list[LocalAccount]:
    """Return the keys of the validators, which a development network keeps in plain text."""
    if network.folder is None:
        pytest.skip("somebody else's network: its validators' keys are not known")
    paths = sorted(network.folder.glob("validator-*/key.json"))
    secrets = [keystore.unlock(keystore.read_store(path), None) for path in paths]
    return [Account.from_key(secret) for secret in secrets]


def send(web3: Web3, sender: LocalAccount, body: dict[str, Any]) -> int:
    """Send a transaction and return the height of its block."""
    nonce = web3.eth.get_transaction_count(sender.address)
    fees = {"maxFeePerGas": 20 * GWEI, "maxPriorityFeePerGas": 1}
    body = {"chainId": CHAIN_ID, "nonce": nonce, "value": 0, "gas": 500_000} | fees | body
    identity = web3.eth.send_raw_transaction(sender.sign_transaction(body).raw_transaction)
    receipt = web3.eth.wait_for_transaction_receipt(identity, timeout=120, poll_latency=0.02)
    assert receipt["status"] == 1
    return int(receipt["blockNumber"])


def vote(
    web3: Web3, contract: Contract, voters: list[LocalAccount], candidate: str, power: int
) -> int:
    """Let validators vote and return the height at which the set changed."""
    heights = []
    for voter in voters:
        data = contract.encode_abi("vote", [candidate, power])
        heights.append(send(web3, voter, {"to": contract.address, "data": data}))
    return heights[-1]


def request_of(web3: Web3) -> Any:
    def request(method: str, parameters: list[Any]) -> Any:
        answer: Any = web3.provider.make_request(method, parameters)  # type: ignore[arg-type]
        if "error" in answer:
            raise Unavailable(f"{method}: {answer['error']['message']}")
        return answer["result"]

    return request


def read_powers(web3: Web3, height: int) -> dict[str, int]:
    entries = request_of(web3)("quorate_getValidators", [hex(height)])
    return {Web3.to_checksum_address(e["address"]): int(e["power"], 16) for e in entries}


def make_blocks_until(web3: Web3, height: int) -> None:
    """Blocks are made on demand, so ask for some."""
    end = time.monotonic() + 120
    while web3.eth.block_number < height:
        assert time.monotonic() < end, f"no block {height} within 120 s"
        send(web3, FUNDER, {"to": FUNDER.address, "gas": 21_000})


def test_power_that_is_voted_holds_two_heights_later_and_is_proved(
    network: Endpoint, web3: Web3
) -> None:
    keys = read_keys(network)
    assert network.folder is not None
    abi = json.loads(files("quorate.ledger").joinpath("validators_contract.json").read_text())[
        "abi"
    ]
    contract = web3.eth.contract(Web3.to_checksum_address(VALIDATORS), abi=abi)
    candidate = keys[0].address
    voters = keys[:3]
    for voter in voters:
        send(web3, FUNDER, {"to": voter.address, "value": 10**18, "gas": 21_000})
    client = LightClient(
        read_genesis((network.folder / "genesis.json").read_bytes()), request_of(web3)
    )
    changed = vote(web3, contract, voters, candidate, 2)
    try:
        make_blocks_until(web3, changed + 4)
        assert read_powers(web3, changed + 1)[candidate] == 1
        assert read_powers(web3, changed + 2)[candidate] == 2
        # Certificates of `changed + 2` and later are by the new set; the client started before it.
        header = client.get_header(changed + 3)
        assert header.hash == bytes(web3.eth.get_block(changed + 3)["hash"])
        (count,) = client.get_storage(VALIDATORS, [0], changed + 3)
        assert count == len(keys)
    finally:
        # Now power 5 in all, and two of these voters have 3 of it.
        back = vote(web3, contract, voters[:2], candidate, 1)
    make_blocks_until(web3, back + 4)
    assert set(read_powers(web3, back + 2).values()) == {1}
    assert client.get_header(back + 3).number == back + 3
