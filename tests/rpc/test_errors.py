"""The catalogue: a request, and the error that geth's users know."""

from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., Any]
ACCOUNT = "0x" + "ab" * 20
HASH = "0x" + "cd" * 32
ADDRESS_TYPE = "Go value of type common.Address"

CATALOGUE: list[tuple[str, tuple[Any, ...], str]] = [
    ("eth_getBalance", (), "missing value for required argument 0"),
    ("eth_getBalance", (ACCOUNT, "latest", 1), "too many arguments, want at most 2"),
    (
        "eth_getBalance",
        ("ab" * 20,),
        "invalid argument 0: json: cannot unmarshal hex string without 0x prefix into "
        + ADDRESS_TYPE,
    ),
    (
        "eth_getBalance",
        ("0x" + "ab" * 19,),
        "invalid argument 0: hex string has length 38, want 40 for common.Address",
    ),
    (
        "eth_getBalance",
        ("0x" + "zz" * 20,),
        f"invalid argument 0: json: cannot unmarshal invalid hex string into {ADDRESS_TYPE}",
    ),
    (
        "eth_getBalance",
        ("0x" + " a" * 20,),
        f"invalid argument 0: json: cannot unmarshal invalid hex string into {ADDRESS_TYPE}",
    ),
    (
        "eth_getBalance",
        (5,),
        f"invalid argument 0: json: cannot unmarshal non-string into {ADDRESS_TYPE}",
    ),
    (
        "eth_getBalance",
        (None,),
        f"invalid argument 0: json: cannot unmarshal non-string into {ADDRESS_TYPE}",
    ),
    ("eth_getBalance", (ACCOUNT, "newest"), "invalid argument 1: hex string without 0x prefix"),
    ("eth_getBalance", (ACCOUNT, "0x"), 'invalid argument 1: hex string "0x"'),
    (
        "eth_getBalance",
        (ACCOUNT, "0x01"),
        "invalid argument 1: hex number with leading zero digits",
    ),
    (
        "eth_getBalance",
        (ACCOUNT, "0xffffffffffffffff"),
        "invalid argument 1: block number larger than int64",
    ),
    (
        "eth_getBalance",
        (ACCOUNT, "0xffffffffffffffff1"),
        "invalid argument 1: hex number > 64 bits",
    ),
    (
        "eth_getBalance",
        (ACCOUNT, {"blockHash": HASH, "blockNumber": "0x1"}),
        "invalid argument 1: cannot specify both BlockHash and BlockNumber, "
        "choose one or the other",
    ),
    ("eth_getBlockByNumber", ("2", True), "invalid argument 0: hex string without 0x prefix"),
    ("eth_getBlockByNumber", (2, True), "invalid argument 0: hex string without 0x prefix"),
    (
        "eth_getBlockByNumber",
        ("0x2", "yes"),
        "invalid argument 1: json: cannot unmarshal string into Go value of type bool",
    ),
    (
        "eth_sendRawTransaction",
        ("0x123",),
        "invalid argument 0: json: cannot unmarshal hex string of odd length "
        "into Go value of type hexutil.Bytes",
    ),
    (
        "eth_sendRawTransaction",
        ("",),
        "invalid argument 0: json: cannot unmarshal empty hex string "
        "into Go value of type hexutil.Bytes",
    ),
    (
        "eth_call",
        ("0x12",),
        "invalid argument 0: json: cannot unmarshal string "
        "into Go value of type ethapi.TransactionArgs",
    ),
    (
        "eth_call",
        ({"input": "0x01", "data": "0x02"},),
        'invalid argument 0: both "data" and "input" are set and not equal. '
        'Please use "input" to pass transaction call data',
    ),
    ("eth_getLogs", ({"fromBlock": "0x2", "toBlock": "0x1"},), "invalid block range params"),
    (
        "eth_getLogs",
        ({"fromBlock": "0x0", "toBlock": "0x9"},),
        "block range extends beyond current head block",
    ),
    (
        "eth_getLogs",
        ({"blockHash": HASH, "fromBlock": "0x0"},),
        "invalid argument 0: cannot specify both BlockHash and FromBlock/ToBlock, "
        "choose one or the other",
    ),
    ("eth_getLogs", ({"topics": [None] * 5},), "exceed max topics"),
    ("eth_getLogs", ({"address": [ACCOUNT] * 1001},), "exceed max addresses"),
    (
        "eth_getStorageAt",
        (ACCOUNT, "0x" + "0" * 65),
        'invalid argument 1: storage key too long (want at most 32 bytes): "0x' + "0" * 65 + '"',
    ),
    (
        "eth_getStorageAt",
        (ACCOUNT, "0xasdf"),
        'invalid argument 1: invalid hex in storage key: "0xasdf"',
    ),
]


@pytest.mark.parametrize(("method", "params", "message"), CATALOGUE)
def test_wrong_parameters_are_named(
    ask: Ask, method: str, params: tuple[Any, ...], message: str
) -> None:
    assert ask(method, *params) == {"code": -32602, "message": message}


def test_revert_has_code_3_and_the_returned_bytes(ask: Ask) -> None:
    error = ask("eth_call", {"data": "0xfd"}, "latest")
    assert error == {"code": 3, "message": "execution reverted: no", "data": "0x08c3"}


def test_call_that_cannot_run_says_why(ask: Ask) -> None:
    error = ask("eth_call", {"data": "0xfe"})
    assert error == {"code": -32000, "message": "gas required exceeds allowance (50000000)"}


def test_state_of_an_unknown_block_is_not_found(ask: Ask) -> None:
    for block in ("0x99", HASH, {"blockHash": HASH}):
        error = ask("eth_getBalance", ACCOUNT, block)
        assert error == {"code": -32000, "message": "header not found"}


def test_unknown_block_or_receipt_is_null(ask: Ask) -> None:
    assert ask("eth_getBlockByNumber", "0x99", False) is None
    assert ask("eth_getBlockByHash", HASH, False) is None
    assert ask("eth_getTransactionReceipt", HASH) is None
    assert ask("eth_getTransactionByHash", HASH) is None


def test_refused_transaction_has_the_pools_words(ask: Ask) -> None:
    assert ask("eth_sendRawTransaction", "0xbaad") == {"code": -32000, "message": "nonce too low"}


def test_unknown_filter_is_not_found(ask: Ask) -> None:
    for method in ("eth_getFilterChanges", "eth_getFilterLogs"):
        assert ask(method, "0x1") == {"code": -32000, "message": "filter not found"}
    assert ask("eth_uninstallFilter", "0x1") is False


def test_subscription_needs_a_connection(ask: Ask) -> None:
    error = ask("eth_subscribe", "newHeads")
    assert error == {"code": -32601, "message": "notifications not supported"}
