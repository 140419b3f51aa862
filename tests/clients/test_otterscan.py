"""What the explorer Otterscan asks of a node, page by page, in the forms that it reads.

The calls are in otterscan.json, as the explorer's `useProvider` and `useErigonHooks` make them:
from finding out what node it talks to, over a block, a transaction and an address.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from clients.network import CHAIN_ID, account_at
from clients.test_metamask import fill
from clients.test_metamask import matches as matches_word

pytestmark = pytest.mark.network

ALICE = account_at(9)
SEQUENCE: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("otterscan.json").read_text(encoding="utf-8")
)
# Sends what it gets on to the address in its input.
FORWARDS = "6b6000808080346000355af100600052600c6014f3"
ERROR = "08c379a0"
# Reverts with the selector of Error(string).
REFUSES = f"63{ERROR}60e01b60005260046000fd"


def matches(expected: Any, found: Any) -> bool:
    """Whether an answer has the form that is expected; `*` is anything, a list is as long."""
    if expected == "*":
        return found is not None
    if expected is None or isinstance(expected, int):
        return found == expected and type(found) is type(expected)
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(matches, expected, found))
        )
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            matches(form, found.get(field)) for field, form in expected.items()
        )
    return matches_word(expected, found)


def send(web3: Web3, **fields: Any) -> Any:
    """Send a transaction of Alice's and return its receipt."""
    body = {
        "chainId": CHAIN_ID,
        "nonce": web3.eth.get_transaction_count(ALICE.address),
        "gas": 200_000,
        "value": 0,
        "maxFeePerGas": 10**10,
        "maxPriorityFeePerGas": 1,
    }
    sent = ALICE.sign_transaction(body | fields).raw_transaction
    name = web3.eth.send_raw_transaction(sent)
    return web3.eth.wait_for_transaction_receipt(name, timeout=120, poll_latency=0.02)


def name_all(value: Any, known: dict[str, Any]) -> Any:
    """Return expected forms with what is known in place of `$names`, names of fields included."""
    if isinstance(value, dict):
        return {fill(field, known): name_all(form, known) for field, form in value.items()}
    if isinstance(value, list):
        return [name_all(form, known) for form in value]
    return fill(value, known)


def test_every_page_finds_what_it_asks_for(web3: Web3) -> None:
    made = send(web3, data="0x" + FORWARDS)
    # Somebody new each time, so that what else is on this network does not count.
    to = "0x" + made["transactionHash"].hex()[-40:]
    nonce = web3.eth.get_transaction_count(ALICE.address)
    data = "0x" + to[2:].rjust(64, "0")
    moved = send(web3, to=made["contractAddress"], value=7, data=data)
    failed = send(web3, data="0x" + REFUSES)
    assert (moved["status"], failed["status"]) == (1, 0)
    known = {
        "from": ALICE.address.lower(),
        "to": to,
        "contract": made["contractAddress"].lower(),
        "creation": made["transactionHash"].to_0x_hex(),
        "hash": moved["transactionHash"].to_0x_hex(),
        "failed": failed["transactionHash"].to_0x_hex(),
        "height": moved["blockNumber"],
        "hexHeight": hex(moved["blockNumber"]),
        "blockHash": moved["blockHash"].to_0x_hex(),
        "nonce": nonce,
    }
    for call in SEQUENCE:
        what = f"{call['page']}: {call['method']}"
        parameters = fill(call["params"], known)
        answer: Any = web3.provider.make_request(call["method"], parameters)
        assert "error" not in answer, (what, answer)
        assert matches(name_all(call["result"], known), answer["result"]), (what, answer["result"])
