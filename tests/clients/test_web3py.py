"""web3.py does everything that a DApp does."""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import rlp
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.contract import Contract
from web3.exceptions import (
    BlockNotFound,
    ContractCustomError,
    ContractLogicError,
    ContractPanicError,
    MethodUnavailable,
    TransactionNotFound,
    Web3RPCError,
)
from web3.types import TxReceipt

from clients.network import CHAIN_ID, Endpoint, account_at, load_artefact

pytestmark = pytest.mark.network

T = TypeVar("T")

# Accounts 0 and 1 are this file's own, so that nonces stay its own when files run side by side.
ALICE = account_at(0)
BOB = account_at(1)
GWEI = 10**9


def until(condition: Callable[[], T | None], what: str, deadline_s: float = 60) -> T:
    """Return the first result that is not None; fail when the deadline passes."""
    end = time.monotonic() + deadline_s
    while (value := condition()) is None:
        assert time.monotonic() < end, f"{what}: nothing within {deadline_s} s"
        time.sleep(0.02)
    return value


def send(web3: Web3, sender: LocalAccount, body: dict[str, Any]) -> TxReceipt:
    """Fill in, sign, send, and return the receipt."""
    filled: dict[str, Any] = {"chainId": CHAIN_ID, "from": sender.address} | body
    if "nonce" not in filled:
        filled["nonce"] = web3.eth.get_transaction_count(sender.address)
    if "gasPrice" not in filled and "maxFeePerGas" not in filled:
        filled = {"maxFeePerGas": 20 * GWEI, "maxPriorityFeePerGas": 1} | filled
    if "gas" not in filled:
        filled["gas"] = web3.eth.estimate_gas(filled)
    raw = sender.sign_transaction(filled).raw_transaction
    identity = web3.eth.send_raw_transaction(raw)
    return web3.eth.wait_for_transaction_receipt(identity, timeout=120, poll_latency=0.02)


def transact(web3: Web3, function: Any, sender: LocalAccount = ALICE) -> TxReceipt:
    nonce = web3.eth.get_transaction_count(sender.address)
    receipt = send(
        web3, sender, function.build_transaction({"from": sender.address, "nonce": nonce})
    )
    assert receipt["status"] == 1
    return receipt


def deploy(web3: Web3, path: Path, *arguments: Any, value: int = 0) -> Contract:
    artefact = load_artefact(path)
    factory = web3.eth.contract(abi=artefact["abi"], bytecode=artefact["bytecode"])
    body = factory.constructor(*arguments).build_transaction(
        {
            "from": ALICE.address,
            "value": value,
            "nonce": web3.eth.get_transaction_count(ALICE.address),
        }
    )
    receipt = send(web3, ALICE, dict(body))
    assert receipt["status"] == 1
    return web3.eth.contract(address=receipt["contractAddress"], abi=artefact["abi"])


@pytest.fixture(scope="module")
def probe(web3: Web3, artefacts: Path) -> Contract:
    return deploy(web3, artefacts / "Probe.json", 7, value=5)


def test_node_says_what_it_is(web3: Web3) -> None:
    assert web3.is_connected()
    assert web3.eth.chain_id == CHAIN_ID
    assert web3.net.version == str(CHAIN_ID)
    assert web3.client_version
    assert web3.eth.syncing is False
    assert web3.provider.make_request("web3_sha3", ["0x"])["result"] == Web3.keccak(b"").to_0x_hex()


def test_blocks_are_read_by_number_tag_and_hash(web3: Web3) -> None:
    send(web3, ALICE, {"to": BOB.address})
    latest = web3.eth.get_block("latest", full_transactions=True)
    assert web3.eth.get_block(latest["hash"])["number"] == latest["number"]
    assert latest["number"] >= 1
    for tag in ("earliest", "safe", "finalized"):
        assert web3.eth.get_block(tag)["number"] >= 0
    assert web3.eth.get_block(1)["parentHash"] == web3.eth.get_block(0)["hash"]
    assert web3.eth.get_block_transaction_count(latest["number"]) == len(latest["transactions"])
    with pytest.raises(BlockNotFound):
        web3.eth.get_block(latest["number"] + 10**6)


def test_block_header_hashes_to_its_hash(web3: Web3) -> None:
    block = web3.eth.get_block(send(web3, ALICE, {"to": BOB.address})["blockNumber"])
    assert Web3.keccak(encode_header(block)) == block["hash"]


def encode_header(block: Any) -> bytes:
    """Return the RLP of a header by the JSON fields that the yellow paper and the EIPs name."""
    numbers = ["difficulty", "number", "gasLimit", "gasUsed", "timestamp"]
    fields = [
        *(bytes(block[k]) for k in ("parentHash", "sha3Uncles")),
        bytes.fromhex(block["miner"][2:]),
        *(bytes(block[k]) for k in ("stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom")),
        *(block[k] for k in numbers),
        *(bytes(block[k]) for k in ("extraData", "mixHash", "nonce")),
        block["baseFeePerGas"],
        bytes(block["withdrawalsRoot"]),
        block["blobGasUsed"],
        block["excessBlobGas"],
        bytes(block["parentBeaconBlockRoot"]),
        bytes(block["requestsHash"]),
    ]
    return bytes(rlp.encode(fields))


def test_ether_moves_and_costs_what_the_receipt_says(web3: Web3) -> None:
    fresh = Account.create().address
    before = web3.eth.get_balance(ALICE.address)
    receipt = send(web3, ALICE, {"to": fresh, "value": 10**18})
    assert receipt["status"] == 1
    assert receipt["gasUsed"] == receipt["cumulativeGasUsed"] == 21_000
    assert web3.eth.get_balance(fresh) == 10**18
    cost = 10**18 + receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert web3.eth.get_balance(ALICE.address) == before - cost
    assert web3.eth.get_balance(fresh, receipt["blockNumber"] - 1) == 0
    found = web3.eth.get_transaction(receipt["transactionHash"])
    assert (found["from"], found["to"], found["type"]) == (ALICE.address, fresh, 2)
    assert found == web3.eth.get_transaction_by_block(receipt["blockHash"], 0)
    raw = web3.eth.get_raw_transaction(receipt["transactionHash"])
    assert Web3.keccak(raw) == receipt["transactionHash"]


def test_transaction_types_0_1_2_and_4(web3: Web3, probe: Contract) -> None:
    access = [{"address": probe.address, "storageKeys": ["0x" + "00" * 32]}]
    bodies: list[tuple[int, dict[str, Any]]] = [
        (0, {"gasPrice": 20 * GWEI}),
        (1, {"gasPrice": 20 * GWEI, "accessList": access, "type": 1}),
        (
            2,
            {"maxFeePerGas": 20 * GWEI, "maxPriorityFeePerGas": 1, "accessList": access, "type": 2},
        ),
    ]
    for kind, body in bodies:
        receipt = send(web3, ALICE, {"to": BOB.address, "value": 1, "gas": 50_000} | body)
        assert (receipt["status"], receipt["type"]) == (1, kind)
        assert web3.eth.get_transaction(receipt["transactionHash"])["type"] == kind

    authority = Account.create()
    authorization = authority.sign_authorization(
        {"chainId": CHAIN_ID, "address": probe.address, "nonce": 0}
    )
    data = probe.encode_abi("setNumber", [99, "delegated"])
    receipt = send(
        web3,
        ALICE,
        {
            "to": authority.address,
            "data": data,
            "gas": 200_000,
            "authorizationList": [authorization],
            "type": 4,
        },
    )
    assert (receipt["status"], receipt["type"]) == (1, 4)
    assert web3.eth.get_code(authority.address) == bytes.fromhex("ef0100" + probe.address[2:])
    assert web3.eth.contract(authority.address, abi=probe.abi).functions.number().call() == 99


def test_fees_are_suggested(web3: Web3) -> None:
    assert web3.eth.gas_price >= 0
    assert web3.eth.max_priority_fee >= 0
    history = web3.eth.fee_history(2, "latest", [50])
    assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1
    assert len(history["reward"]) == len(history["gasUsedRatio"])


def test_contract_is_called_now_and_in_the_past(web3: Web3, artefacts: Path) -> None:
    contract = deploy(web3, artefacts / "Probe.json", 7, value=5)
    receipt = transact(web3, contract.functions.setNumber(42, "a note"))
    assert contract.functions.number().call() == 42
    assert contract.functions.number().call(block_identifier=receipt["blockNumber"] - 1) == 7
    assert contract.functions.owner().call() == ALICE.address
    assert web3.eth.get_balance(contract.address) == 5
    assert int.from_bytes(web3.eth.get_storage_at(contract.address, 0)) == 42
    assert len(web3.eth.get_code(contract.address)) > 100
    block = web3.eth.get_block("latest")
    number, timestamp, chain, _ = contract.functions.context().call()
    assert chain == CHAIN_ID
    assert number >= block["number"]
    assert timestamp >= block["timestamp"]


def test_state_override_of_a_call(probe: Contract) -> None:
    override = {probe.address: {"stateDiff": {"0x" + "00" * 32: "0x" + "11" * 32}}}
    number = probe.functions.number().call(state_override=override)
    assert number == int("11" * 32, 16)
    assert probe.functions.number().call() == 7


def test_events_are_decoded_filtered_and_polled(web3: Web3, artefacts: Path) -> None:
    contract = deploy(web3, artefacts / "Probe.json", 1)
    event = contract.events.NumberChanged
    polled = event.create_filter(from_block=web3.eth.block_number)
    receipt = transact(web3, contract.functions.setMany(10, 5))
    decoded = event().process_receipt(receipt)
    assert [log["args"]["number"] for log in decoded] == [10, 11, 12, 13, 14]
    assert [log["logIndex"] for log in decoded] == [0, 1, 2, 3, 4]
    transact(web3, contract.functions.setMany(100, 2), BOB)
    first = receipt["blockNumber"]
    bobs = event.get_logs(from_block=first, argument_filters={"by": BOB.address})
    assert [log["args"]["number"] for log in bobs] == [100, 101]
    either = event.get_logs(from_block=first, argument_filters={"number": [11, 101]})
    assert len(either) == 2
    in_block = web3.eth.get_logs({"blockHash": receipt["blockHash"], "address": contract.address})
    assert len(in_block) == 5
    found: list[Any] = []
    until(lambda: found.extend(polled.get_new_entries()) or (len(found) >= 7 or None), "7 events")
    assert len(polled.get_all_entries()) == 7
    assert web3.eth.uninstall_filter(polled.filter_id)


def test_reverts_are_told_apart(probe: Contract) -> None:
    with pytest.raises(ContractLogicError, match="execution reverted: not today"):
        probe.functions.failWithReason().call()
    with pytest.raises(ContractCustomError):
        probe.functions.failWithError().call({"from": BOB.address})
    with pytest.raises(ContractPanicError, match=r"Division or modulo by zero|0x12"):
        probe.functions.failWithPanic(0).call()
    with pytest.raises(ContractLogicError, match="not today"):
        probe.functions.failWithReason().estimate_gas({"from": ALICE.address})


def test_reverted_transaction_has_a_receipt_with_status_0(web3: Web3, probe: Contract) -> None:
    data = probe.encode_abi("failWithReason", [])
    receipt = send(web3, ALICE, {"to": probe.address, "data": data, "gas": 100_000})
    assert receipt["status"] == 0
    assert receipt["logs"] == []
    assert 21_000 < receipt["gasUsed"] < 100_000


def test_estimate_suffices_through_the_63_64_rule(web3: Web3, artefacts: Path) -> None:
    contract = deploy(web3, artefacts / "Probe.json", 0)
    gas = contract.functions.forward(6).estimate_gas({"from": ALICE.address})
    body = contract.functions.forward(6).build_transaction({"from": ALICE.address, "gas": gas})
    receipt = send(
        web3, ALICE, dict(body) | {"nonce": web3.eth.get_transaction_count(ALICE.address)}
    )
    assert receipt["status"] == 1
    assert receipt["gasUsed"] <= gas


@pytest.mark.parametrize(
    ("body", "sender", "message"),
    [
        ({"nonce": 0}, ALICE, "nonce too low"),
        ({"value": 10**30}, ALICE, "insufficient funds for gas * price + value"),
        ({"value": 1}, Account.create(), "insufficient funds for gas * price + value"),
        ({"gas": 20_000}, ALICE, "intrinsic gas too low"),
        (
            {"maxPriorityFeePerGas": 30 * GWEI},
            ALICE,
            "max priority fee per gas higher than max fee per gas",
        ),
        ({"chainId": 1}, ALICE, "invalid chain id"),
    ],
    ids=["nonce", "value", "empty account", "gas", "tip", "chain"],
)
def test_unacceptable_transaction_is_named(
    web3: Web3, body: dict[str, Any], sender: LocalAccount, message: str
) -> None:
    nonce = web3.eth.get_transaction_count(sender.address)
    with pytest.raises(Web3RPCError, match="(?i)" + re.escape(message)):
        send(web3, sender, {"to": BOB.address, "gas": 21_000, "nonce": nonce} | body)
    assert web3.eth.get_transaction_count(sender.address) == nonce


def test_replacement_must_pay_more(web3: Web3) -> None:
    nonce = web3.eth.get_transaction_count(BOB.address)
    base: dict[str, Any] = {"to": ALICE.address, "gas": 21_000, "chainId": CHAIN_ID}
    fees = {"maxFeePerGas": 20 * GWEI, "maxPriorityFeePerGas": GWEI}
    # The gap keeps the first one waiting, so that the second one meets it in the pool.
    waiting = base | {"nonce": nonce + 1}

    def submit(body: dict[str, Any]) -> bytes:
        return web3.eth.send_raw_transaction(BOB.sign_transaction(body).raw_transaction)

    submit(waiting | fees)
    with pytest.raises(Web3RPCError, match="replacement transaction underpriced"):
        submit(waiting | fees | {"value": 1})
    with pytest.raises(Web3RPCError, match=r"already known|already imported"):
        submit(waiting | fees)
    higher = {"maxFeePerGas": 30 * GWEI, "maxPriorityFeePerGas": 2 * GWEI}
    replaced = submit(waiting | higher | {"value": 2})
    assert web3.eth.get_transaction_count(BOB.address, "pending") == nonce
    submit(base | fees | {"nonce": nonce})
    receipt = web3.eth.wait_for_transaction_receipt(replaced, timeout=120, poll_latency=0.02)
    assert receipt["status"] == 1
    assert web3.eth.get_transaction(replaced)["value"] == 2


def test_unknown_things_are_told_apart(web3: Web3) -> None:
    with pytest.raises(TransactionNotFound):
        web3.eth.get_transaction(b"\1" * 32)
    with pytest.raises(TransactionNotFound):
        web3.eth.get_transaction_receipt(b"\1" * 32)
    with pytest.raises(MethodUnavailable):
        web3.manager.request_blocking("eth_noSuchMethod", [])  # type: ignore[arg-type]


def test_batch_is_answered_in_order(web3: Web3, probe: Contract) -> None:
    with web3.batch_requests() as batch:
        batch.add(web3.eth.get_block(0))
        batch.add(web3.eth.get_balance(ALICE.address))
        batch.add(web3.eth.get_block("latest"))
        first, balance, latest = batch.execute()
    assert first["number"] == 0
    assert balance == web3.eth.get_balance(ALICE.address)
    assert latest["number"] >= 1


def test_subscriptions_over_websocket(web3: Web3, network: Endpoint, probe: Contract) -> None:
    async def listen() -> tuple[Any, Any]:
        async with AsyncWeb3(WebSocketProvider(network.ws[0])) as socket:
            heads = await socket.eth.subscribe("newHeads")
            logs = await socket.eth.subscribe("logs", {"address": probe.address})
            function = probe.functions.setNumber(7, "heard")
            await asyncio.to_thread(transact, web3, function)
            seen: dict[str, Any] = {}
            async with asyncio.timeout(60):
                async for message in socket.socket.process_subscriptions():
                    seen.setdefault(message["subscription"], message["result"])
                    if len(seen) == 2:
                        break
            assert await socket.eth.unsubscribe(heads)
            assert await socket.eth.unsubscribe(logs)
            return seen[heads], seen[logs]

    head, log = asyncio.run(listen())
    assert web3.eth.get_block(head["number"])["hash"] == head["hash"]
    event = probe.events.NumberChanged().process_log(log)
    assert event["args"]["note"] == "heard"


def test_openzeppelin_erc20(web3: Web3, artefacts: Path) -> None:
    token = deploy(web3, artefacts / "Token.json", 10**21).functions
    receipt = transact(web3, token.transfer(BOB.address, 10**18))
    assert len(receipt["logs"]) == 1
    assert token.balanceOf(BOB.address).call() == 10**18
    transact(web3, token.approve(ALICE.address, 5), BOB)
    transact(web3, token.transferFrom(BOB.address, ALICE.address, 5))
    assert token.allowance(BOB.address, ALICE.address).call() == 0
    with pytest.raises(ContractCustomError):
        token.transfer(ALICE.address, 10**20).call({"from": BOB.address})


def test_openzeppelin_erc721(web3: Web3, artefacts: Path) -> None:
    collectible = deploy(web3, artefacts / "Collectible.json").functions
    transact(web3, collectible.mint(ALICE.address, "ipfs://one"))
    assert collectible.tokenURI(1).call() == "ipfs://one"
    transact(web3, collectible.transferFrom(ALICE.address, BOB.address, 1))
    assert collectible.ownerOf(1).call() == BOB.address
    with pytest.raises(ContractCustomError):
        collectible.mint(BOB.address, "").call({"from": BOB.address})
