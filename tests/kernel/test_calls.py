"""Calls, estimates, logs and fees of a `View`."""

import json

import pytest

from kernel.chain import ACCOUNTS, CHAIN_ID, KEYS, extend, genesis, transaction
from quorate._kernel import Invalid, Ledger, Rejected, Reverted, View

CAP = 50_000_000
# Reverts with its input as output; logs its first word under topic 7; returns the base fee.
REVERTS = b"\xa1" * 20
LOGS = b"\xa2" * 20
BASE_FEE = b"\xa3" * 20
SPINS = b"\xa4" * 20
NESTED = b"\xa5" * 20
ALLOC = {
    REVERTS: "365f5f37365ffd",
    LOGS: "5f355f52600760205fa1",
    BASE_FEE: "485f5260205ff3",
    SPINS: "5b5f56",
    # Calls LOGS with all but a 64th of its gas, and reverts if that fails.
    NESTED: "5f5f5f5f5f73" + LOGS.hex() + "5af16022575f5ffd5b00",
}


@pytest.fixture(scope="module")
def view() -> View:
    alloc: dict[str, object] = {
        a.hex(): {"balance": "0x0", "code": "0x" + code} for a, code in ALLOC.items()
    }
    alloc[ACCOUNTS[0].hex()] = {"balance": hex(10**24)}
    ledger = Ledger.open(None, genesis(alloc=alloc))
    extend(ledger, transaction(KEYS[0], 0, LOGS, 0, (1).to_bytes(32, "big")))
    extend(
        ledger,
        transaction(KEYS[0], 1, b"\x77" * 20),
        transaction(KEYS[0], 2, LOGS, 0, (2).to_bytes(32, "big")),
    )
    ledger.commit()
    return ledger.view()


def request(to: bytes | None, **fields: object) -> bytes:
    body: dict[str, object] = {"from": "0x" + ACCOUNTS[0].hex()} | fields
    return json.dumps(body | ({"to": "0x" + to.hex()} if to else {})).encode()


def reason(text: str) -> str:
    body = text.encode().ljust(-(-len(text) // 32) * 32, b"\0")
    return "0x08c379a0" + f"{32:064x}{len(text):064x}" + body.hex()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (reason("user error"), "execution reverted: user error"),
        ("0x4e487b71" + f"{0x11:064x}", "execution reverted: arithmetic underflow or overflow"),
        ("0x4e487b71" + f"{0x99:064x}", "execution reverted: unknown panic code: 0x99"),
        ("0xdeadbeef", "execution reverted"),
        ("0x", "execution reverted"),
        ("0x08c379a0" + "ff" * 64, "execution reverted"),
    ],
)
def test_reverts_carry_reason_and_output(view: View, output: str, message: str) -> None:
    for run in (view.call, view.estimate_gas):
        with pytest.raises(Reverted) as error:
            run(2, request(REVERTS, input=output), None, CAP)
        assert error.value.args == (message, bytes.fromhex(output[2:]))


def test_a_call_without_price_sees_no_base_fee(view: View) -> None:
    assert int.from_bytes(view.call(2, request(BASE_FEE), None, CAP), "big") == 0
    paid = view.call(2, request(BASE_FEE, gasPrice=hex(10**10), gas="0x7530"), None, CAP)
    assert int.from_bytes(paid, "big") == view.base_fee(2)
    with pytest.raises(Rejected, match="max fee per gas less than block base fee"):
        view.call(2, request(BASE_FEE, gasPrice="0x1", gas="0x7530"), None, CAP)


def test_calls_are_bounded_by_the_gas_cap(view: View) -> None:
    with pytest.raises(Rejected, match="out of gas"):
        view.call(2, request(SPINS, gas=hex(2**63)), None, 1_000_000)
    with pytest.raises(Rejected, match=r"gas required exceeds allowance \(1000000\)"):
        view.estimate_gas(2, request(SPINS), None, 1_000_000)


def test_overrides_change_code_storage_and_balance(view: View) -> None:
    slot, word = "0x" + "00" * 32, "0x" + f"{7:064x}"
    reads = {"code": "0x5f545f5260205ff3"}
    fresh = "0x" + "99" * 20
    for storage in ({"state": {slot: word}}, {"stateDiff": {slot: word}}):
        overrides = json.dumps({fresh: reads | storage}).encode()
        called = view.call(2, request(bytes.fromhex("99" * 20)), overrides, CAP)
        assert called == bytes.fromhex(word[2:])
    rich = json.dumps([{fresh: {"balance": "0x5"}}, {"number": "0x63"}]).encode()
    sent = json.dumps({"from": fresh, "to": "0x" + "77" * 20, "value": "0x5"}).encode()
    assert view.call(2, sent, rich, CAP) == b""
    with pytest.raises(
        Rejected, match=r"insufficient funds for gas \* price \+ value: address 0x9+ have 0 want 5"
    ):
        view.call(2, sent, None, CAP)
    with pytest.raises(Invalid, match="'state' and 'stateDiff'"):
        view.call(
            2, request(LOGS), json.dumps({fresh: {"state": {}, "stateDiff": {}}}).encode(), CAP
        )


def test_estimates_suffice_and_are_tight(view: View) -> None:
    assert view.estimate_gas(2, request(b"\x77" * 20, value="0x1"), None, CAP) == 21_000
    for to in (LOGS, NESTED):
        gas = view.estimate_gas(2, request(to), None, CAP)
        view.call(2, request(to, gas=hex(gas)), None, CAP)
        with pytest.raises((Rejected, Reverted)):
            view.call(2, request(to, gas=hex(gas * 95 // 100)), None, CAP)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"to":1}',
        b'{"to":"0x12"}',
        b'{"gas":"0x' + b"f" * 40 + b'"}',
        b"\xff\xfe",
        b"null",
    ],
)
def test_malformed_requests_are_invalid(view: View, body: bytes) -> None:
    with pytest.raises(Invalid, match="call: "):
        view.call(2, body, None, CAP)


def test_contradictory_requests_are_rejected(view: View) -> None:
    for fields, words in [
        ({"gasPrice": "0x1", "maxFeePerGas": "0x1"}, "both gasPrice and"),
        ({"chainId": "0x1"}, rf"chainId does not match node's \(have=1, want={CHAIN_ID}\)"),
        ({"data": "0x01", "input": "0x02"}, 'both "data" and "input"'),
        (
            {"maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x2", "gas": "0x7530"},
            "max priority fee per gas higher",
        ),
    ]:
        with pytest.raises(Rejected, match=words):
            view.call(2, request(LOGS, **fields), None, CAP)


def test_logs_are_found_by_address_and_topic(view: View) -> None:
    topic = (7).to_bytes(32, "big")
    for addresses, topics, count in [
        ([LOGS], [], 2),
        ([], [[topic]], 2),
        ([], [None], 2),
        ([], [[b"\0" * 32, topic]], 2),
        ([], [[topic], None], 0),
        ([REVERTS], [], 0),
        ([], [[b"\0" * 32]], 0),
    ]:
        found = json.loads(view.logs_json(0, 9, addresses, topics, 10))  # type: ignore[arg-type]
        assert len(found) == count, (addresses, topics)
    last = json.loads(view.logs_json(2, 2, [LOGS], [], 10))[0]
    assert (last["blockNumber"], last["transactionIndex"], last["logIndex"]) == (
        "0x2",
        "0x1",
        "0x0",
    )
    assert last["blockTimestamp"] == "0x2"
    ((address, topics_, text),) = view.block_logs(2)
    assert (address, topics_, json.loads(text)) == (LOGS, [topic], last)
    with pytest.raises(Rejected, match="more than 1 results"):
        view.logs_json(0, 9, [LOGS], [], 1)


def test_fee_history_has_one_base_fee_more_than_blocks(view: View) -> None:
    history = json.loads(view.fee_history_json(2, 2, [10.0, 90.0]))
    assert history["oldestBlock"] == "0x1"
    assert (len(history["baseFeePerGas"]), len(history["gasUsedRatio"])) == (3, 2)
    assert history["reward"] == [["0x1", "0x1"]] * 2
    assert json.loads(view.fee_history_json(500, 2, []))["oldestBlock"] == "0x0"
    with pytest.raises(Invalid, match="percentile"):
        view.fee_history_json(1, 2, [90.0, 10.0])
    with pytest.raises(Rejected, match="request beyond head block"):
        view.fee_history_json(1, 3, [])


def test_block_and_transaction_agree(view: View) -> None:
    block = json.loads(view.block_json(2, True) or b"")
    hashes = json.loads(view.block_json(2, False) or b"")["transactions"]
    assert [tx["hash"] for tx in block["transactions"]] == hashes
    assert (block["uncles"], block["withdrawals"], view.block_transaction_count(2)) == ([], [], 2)
    for index, text in enumerate(hashes):
        one = bytes.fromhex(text[2:])
        shown = block["transactions"][index]
        assert json.loads(view.transaction_json(one) or b"") == shown
        assert json.loads(view.transaction_at_json(2, index) or b"") == shown
        receipt = json.loads(view.receipt_json(one) or b"")
        assert (receipt["transactionHash"], receipt["blockHash"]) == (text, block["hash"])
        assert view.transaction_raw(one) is not None
    assert view.block_json(3, True) is None
    assert view.transaction_json(bytes(32)) is None
    assert view.transaction_at_json(2, 2) is None
