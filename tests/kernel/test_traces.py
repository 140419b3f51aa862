"""What traces may keep: long executions that keep little are shown, others are refused."""

import json
from typing import Any

import pytest

from kernel.chain import ACCOUNTS, KEYS, extend, genesis, transaction
from quorate._kernel import Ledger, Rejected, View

CAP = 50_000_000
COUNTS, FILLS, CALLS, READS, COPIES = (bytes([0xB0 + i]) * 20 for i in range(5))
CODES = {
    # Counts down from its input to zero: seven steps each time.
    COUNTS: "5f355b600190038060025700",
    # Writes a word at 1 MiB, then counts down.
    FILLS: "6001620fffff525f355b600190038060095700",
    # Calls an account without code so many times with 64 KiB of input.
    CALLS: "5f355b5f5f620100005f5f60995af150600190038060025700",
    # Reads as many slots.
    READS: "5f355b805450600190038060025700",
    # Copies 64 KiB of nothing so many times.
    COPIES: "5f355b620100005f5f37600190038060025700",
}
TOO_MUCH = "trace: more than 33554432 bytes of steps and calls"


@pytest.fixture(scope="module")
def view() -> View:
    alloc: dict[str, object] = {
        account.hex(): {"balance": "0x0", "code": "0x" + code} for account, code in CODES.items()
    }
    alloc[ACCOUNTS[0].hex()] = {"balance": hex(10**24)}
    ledger = Ledger.open(None, genesis(alloc=alloc))
    ten = (10).to_bytes(32, "big")
    many = (100).to_bytes(32, "big")
    extend(ledger, transaction(KEYS[0], 0, COUNTS, 0, ten))
    extend(
        ledger,
        *(transaction(KEYS[0], 1 + i, CALLS, 0, many, gas=4_000_000) for i in range(7)),
    )
    ledger.commit()
    return ledger.view()


def request(to: bytes, count: int) -> bytes:
    return json.dumps({"to": "0x" + to.hex(), "input": f"0x{count:064x}"}).encode()


def trace_parity(view: View, to: bytes, count: int, *types: str) -> Any:
    calls = [(request(to, count), json.dumps(types).encode())]
    return json.loads(view.parity_calls(2, calls, CAP))[0]


def trace(view: View, to: bytes, count: int, **options: Any) -> Any:
    answer = view.trace_call(2, request(to, count), json.dumps(options).encode(), CAP)
    return json.loads(answer)


ASKS = b"\xbf" * 20
LONG = 40_000


def test_tracers_of_calls_keep_no_steps(view: View) -> None:
    for tracer in ("callTracer", "prestateTracer", "4byteTracer", "noopTracer", "flatCallTracer"):
        trace(view, COUNTS, LONG, tracer=tracer)
    found = trace(view, COUNTS, LONG, tracer="muxTracer", tracerConfig={"callTracer": {}})
    assert int(found["callTracer"]["gasUsed"], 16) > 1_000_000
    assert len(trace_parity(view, COUNTS, LONG, "trace", "stateDiff")["trace"]) == 1


def test_access_lists_keep_no_steps(view: View) -> None:
    found = json.loads(view.access_list(2, request(COUNTS, LONG), None, CAP))
    assert int(found["gasUsed"], 16) > 1_000_000


@pytest.mark.parametrize(
    ("to", "count", "options"),
    [
        (COUNTS, LONG, {}),
        (COUNTS, LONG, {"disableStack": True}),
        (COUNTS, LONG, {"tracer": "erc7562Tracer"}),
        (FILLS, 10, {"enableMemory": True}),
        (FILLS, 10, {"tracer": "erc7562Tracer"}),
        (READS, 1500, {"disableStack": True}),
        (CALLS, 800, {"tracer": "callTracer"}),
        (CALLS, 800, {"tracer": "flatCallTracer"}),
        (CALLS, 800, {"tracer": "muxTracer", "tracerConfig": {"callTracer": {}}}),
    ],
)
def test_much_is_refused(view: View, to: bytes, count: int, options: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match=TOO_MUCH):
        trace(view, to, count, **options)


@pytest.mark.parametrize(
    ("to", "count", "options", "steps"),
    [
        (COUNTS, LONG, {"limit": 1000}, 1000),
        (FILLS, 10, {}, 76),
        (READS, 1500, {"disableStack": True, "disableStorage": True}, 15_003),
        (CALLS, 100, {"limit": 60}, 60),
    ],
)
def test_little_is_shown(
    view: View, to: bytes, count: int, options: dict[str, Any], steps: int
) -> None:
    assert len(trace(view, to, count, **options)["structLogs"]) == steps


def test_steps_of_parity_count_what_they_write(view: View) -> None:
    assert trace_parity(view, FILLS, 10, "vmTrace")["vmTrace"]
    for to, count in ((COUNTS, LONG), (COPIES, 600)):
        with pytest.raises(Rejected, match=TOO_MUCH):
            trace_parity(view, to, count, "vmTrace")


def test_code_counts_where_it_is_shown() -> None:
    # Asks for the size of a thousand contracts of 24,000 bytes.
    asks = "6103e85b8062010000173b50600190038060035700"
    alloc: dict[str, object] = {
        f"{0x10000 + number:040x}": {"balance": "0x1", "code": f"0x{number:08x}" + "00" * 23_996}
        for number in range(1, 1001)
    }
    alloc[ASKS.hex()] = {"balance": "0x0", "code": "0x" + asks}
    alloc[ACCOUNTS[0].hex()] = {"balance": hex(10**24)}
    ledger = Ledger.open(None, genesis(alloc=alloc))
    extend(ledger, *(transaction(KEYS[0], nonce, ASKS, 0, gas=4_000_000) for nonce in range(2)))
    ledger.commit()
    view = ledger.view()

    def show(**config: bool) -> Any:
        options = {"tracer": "prestateTracer", "tracerConfig": config}
        return json.loads(view.trace_block(1, json.dumps(options).encode()) or b"")

    assert len(show(diffMode=True)) == 2
    assert len(show(disableCode=True)[1]["result"]) > 1000
    assert view.parity_replay_block(1, b'["stateDiff"]')
    with pytest.raises(Rejected, match=TOO_MUCH):
        show()


def test_all_transactions_of_an_answer_share_what_may_be_kept(view: View) -> None:
    raw = view.block_json(2, False)
    assert raw is not None
    options = b'{"tracer": "callTracer"}'
    for transaction_hash in json.loads(raw)["transactions"]:
        assert view.trace_transaction(bytes.fromhex(transaction_hash[2:]), options)
    with pytest.raises(Rejected, match=TOO_MUCH):
        view.trace_block(2, options)
    with pytest.raises(Rejected, match=TOO_MUCH):
        view.parity_block(2)
    assert view.trace_block(1, None), "small blocks are shown with all steps"


def test_calls_in_a_row_share_state_gas_and_what_may_be_kept(view: View) -> None:
    # Puts its input in slot 0, and returns what was there before.
    code = {"alloc": {"0x" + "b9" * 20: {"balance": "0x0", "code": "0x5f545f355f555f5260205ff3"}}}
    ledger = Ledger.open(None, genesis(**code))
    calls = [(request(b"\xb9" * 20, number), b'["trace"]') for number in (1, 2, 3)]
    found = json.loads(ledger.view().parity_calls(0, calls, CAP))
    assert [int(one["output"], 16) for one in found] == [0, 1, 2]

    call = (request(COUNTS, 1000), b"[]")
    gas = int(json.loads(view.access_list(2, request(COUNTS, 1000), None, CAP))["gasUsed"], 16)
    assert json.loads(view.parity_calls(2, [call] * 3, 3 * gas))
    with pytest.raises(Rejected, match=f"calls: more than {3 * gas} gas together"):
        view.parity_calls(2, [call] * 4, 3 * gas)

    call = (request(COUNTS, LONG // 3), b'["vmTrace"]')
    assert view.parity_calls(2, [call], CAP)
    with pytest.raises(Rejected, match=TOO_MUCH):
        view.parity_calls(2, [call] * 3, CAP)
