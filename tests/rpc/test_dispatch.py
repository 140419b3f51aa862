"""Requests, batches, ids and notifications, over HTTP."""

import json

import pytest

from rpc.conftest import Post, send
from rpc.fakes import RICH, Node

CHAIN_ID = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}


@pytest.mark.parametrize(
    "raw_id", [b"0", b"-7", b"1.50", b"1e3", b'"a\\u00e9"', b"null", b"123456789012345678901234"]
)
def test_id_is_echoed_byte_for_byte(node: Node, raw_id: bytes) -> None:
    body = b'{"jsonrpc":"2.0","method":"eth_chainId","id": %b }' % raw_id
    assert send(node, body)[2] == b'{"jsonrpc":"2.0","id":%b,"result":"0x7a69"}' % raw_id


@pytest.mark.parametrize("raw_id", [b"[1]", b'{"a":1}'])
def test_structured_id_is_an_invalid_request(node: Node, raw_id: bytes) -> None:
    body = b'{"jsonrpc":"2.0","method":"eth_chainId","id":%b}' % raw_id
    answer = json.loads(send(node, body)[2])
    assert answer["id"] is None
    assert answer["error"] == {"code": -32600, "message": "invalid request"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"jsonrpc":"2.0"', b"[1,", b"\xff", b"nonsense", b'{"a":1}}', b"[" * 100_000],
)
def test_malformed_json_is_a_parse_error(post: Post, body: bytes) -> None:
    answer = post(body)
    assert answer["error"]["code"] == -32700
    assert answer["id"] is None


@pytest.mark.parametrize(
    "request_",
    [
        5,
        "eth_chainId",
        None,
        {},
        {"id": 1},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "1.0", "id": 1, "method": "eth_chainId"},
        {"id": 1, "method": "eth_chainId"},
    ],
)
def test_what_is_no_request_is_refused(post: Post, request_: object) -> None:
    assert post(request_)["error"] == {"code": -32600, "message": "invalid request"}


def test_refused_request_keeps_its_id(post: Post) -> None:
    assert post({"jsonrpc": "2.0", "id": "x", "method": 5})["id"] == "x"


def test_notification_gets_no_body(post: Post) -> None:
    assert post({"jsonrpc": "2.0", "method": "eth_chainId"}) is None


def test_notification_still_sends_a_transaction(node: Node, post: Post) -> None:
    before = sum(node.questions.batches)
    request = {"jsonrpc": "2.0", "method": "eth_sendRawTransaction", "params": ["0x0102"]}
    assert post(request) is None
    assert sum(node.questions.batches) == before + 1


def test_unknown_method_is_named(post: Post) -> None:
    error = post(CHAIN_ID | {"method": "eth_foo"})["error"]
    message = "the method eth_foo does not exist/is not available"
    assert error == {"code": -32601, "message": message}


def test_params_may_be_absent_null_or_empty(post: Post) -> None:
    for params in ({}, {"params": None}, {"params": []}):
        assert post(CHAIN_ID | params)["result"] == "0x7a69"


def test_params_by_name_are_refused(post: Post) -> None:
    error = post(CHAIN_ID | {"params": {"a": 1}})["error"]
    assert error == {"code": -32602, "message": "non-array args"}


def test_empty_batch_is_an_invalid_request(post: Post) -> None:
    assert post([])["error"] == {"code": -32600, "message": "empty batch"}


def test_batch_over_the_limit_is_refused_as_one(post: Post) -> None:
    error = post([CHAIN_ID] * 51)["error"]
    assert error["code"] == -32600
    assert error["message"].startswith("batch too large")


def test_batch_keeps_order_over_all_kinds_of_method(post: Post) -> None:
    call = {"method": "eth_call", "params": [{"data": "0x01"}, "latest"]}
    methods: list[dict[str, object]] = [
        call,
        {"method": "eth_chainId"},
        {"method": "eth_sendRawTransaction", "params": ["0x01"]},
        {"method": "eth_sendRawTransaction", "params": ["0xbaad"]},
        {"method": "eth_sendRawTransaction", "params": ["junk"]},
        {"method": "eth_sendRawTransaction", "params": ["0x02"]},
        {"method": "eth_getBlockByNumber", "params": ["latest", False]},
        call,
        {"method": "nothing"},
        {"method": "eth_subscribe", "params": ["newHeads"]},
    ]
    batch = [{"jsonrpc": "2.0", "id": i} | method for i, method in enumerate(methods)]
    answers = post(batch)
    assert [answer["id"] for answer in answers] == list(range(len(batch)))
    assert answers[0]["result"] == answers[7]["result"]
    assert answers[3]["error"] == {"code": -32000, "message": "nonce too low"}
    assert answers[4]["error"]["code"] == -32602
    assert [answers[i]["error"]["code"] for i in (8, 9)] == [-32601, -32601]
    assert answers[6]["result"]["number"] == "0x3"


def test_batch_skips_notifications_and_answers_bad_items(post: Post) -> None:
    silent = {"jsonrpc": "2.0", "method": "eth_chainId"}
    answers = post([silent, CHAIN_ID, 7, {"jsonrpc": "2.0", "id": 9, "method": 3}])
    assert [answer["id"] for answer in answers] == [1, None, 9]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, -32600, -32600]


def test_batch_of_notifications_gets_no_body(post: Post) -> None:
    assert post([{"jsonrpc": "2.0", "method": "eth_chainId"}] * 3) is None


def test_transactions_of_a_batch_go_in_one_message(node: Node, post: Post) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": i, "method": "eth_sendRawTransaction", "params": [f"0x{i:04x}"]}
        for i in range(40)
    ]
    answers = post(batch)
    assert node.questions.batches[-1] == 40
    assert len({answer["result"] for answer in answers}) == 40


def test_batch_reads_what_it_sent(post: Post) -> None:
    count = {"jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionCount"}
    count["params"] = ["0x" + RICH.hex(), "pending"]
    send_ = {"jsonrpc": "2.0", "id": 2, "method": "eth_sendRawTransaction", "params": ["0xabcdef"]}
    answers = post([count, send_, count])
    assert int(answers[2]["result"], 16) == int(answers[0]["result"], 16) + 1


def test_bug_is_an_internal_error_without_details(post: Post) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{"data": "0xee"}]}
    assert post(call)["error"] == {"code": -32603, "message": "internal error"}
