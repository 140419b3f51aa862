"""HTTP: status codes, hosts, origins, limits, health and the information page."""

import http.client
import json
import socket
from pathlib import Path

import pytest

from quorate.rpc.settings import Settings
from rpc.conftest import send
from rpc.fakes import FakeView, Node, running

CHAIN_ID = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'


def request(
    node: Node, method: str, path: str, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=names)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8545", "[::1]:1", "10.0.0.1"]
)
def test_local_names_and_addresses_may_be_hosts(node: Node, host: str) -> None:
    assert send(node, CHAIN_ID, Host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8545", "[evil]:1"])
def test_foreign_host_is_refused_and_the_setting_named(node: Node, host: str) -> None:
    status, _, body = send(node, CHAIN_ID, Host=host)
    assert status == 403
    assert "rpc.host_allowlist" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_body_that_is_not_json_by_type_is_refused(node: Node, kind: str) -> None:
    status, _, body = send(node, CHAIN_ID, Content_Type=kind)
    assert status == 415
    message = "invalid content type, only application/json is supported"
    assert json.loads(body)["error"]["message"] == message


def test_charset_in_the_content_type_is_accepted(node: Node) -> None:
    assert send(node, CHAIN_ID, Content_Type="application/json; charset=utf-8")[0] == 200


def test_allowed_origin_gets_cors_headers(node: Node) -> None:
    status, headers, _ = send(node, CHAIN_ID, Origin="https://ok.example")
    assert (status, headers["access-control-allow-origin"]) == (200, "https://ok.example")
    status, headers, _ = request(node, "OPTIONS", "/", Origin="https://ok.example")
    assert status == 204
    assert headers["access-control-allow-headers"] == "content-type"


def test_other_origins_get_none(node: Node) -> None:
    for origin in ("https://evil.example", "null", "https://ok.example.evil"):
        _, headers, _ = send(node, CHAIN_ID, Origin=origin)
        assert "access-control-allow-origin" not in headers
        status, headers, _ = request(node, "OPTIONS", "/", Origin=origin)
        assert status == 204
        assert not any(name.startswith("access-control") for name in headers)


def test_body_over_the_limit_is_413_by_its_length(node: Node) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 5242881\r\n\r\n"
        )
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"content length too large (5242881>5242880)" in answer


def test_chunked_body_over_the_limit_is_413(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_body_bytes=1000)) as node:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
        parts = iter([b"x" * 600, b"x" * 600])
        names = {"Content-Type": "application/json"}
        connection.request("POST", "/", parts, names, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["error"]["code"] == -32600
        connection.close()


def test_chunked_body_is_put_together(node: Node) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    names = {"Content-Type": "application/json"}
    connection.request("POST", "/", iter([CHAIN_ID[:9], CHAIN_ID[9:]]), names, encode_chunked=True)
    assert json.loads(connection.getresponse().read())["result"] == "0x7a69"
    connection.close()


def test_answer_over_the_limit_is_an_error(tmp_path: Path) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{"data": "0xbb"}]}
    error = {"code": -32003, "message": "response too large"}
    with running(tmp_path, Settings(max_response_bytes=10_000)) as node:
        answers = json.loads(send(node, json.dumps([call] * 3).encode())[2])
        assert len(answers[0]["result"]) == 8194
        assert [answer.get("error") for answer in answers] == [None, error, error]
    with running(tmp_path, Settings(max_response_bytes=1000)) as node:
        assert json.loads(send(node, json.dumps(call).encode())[2])["error"] == error


def test_too_many_requests_at_a_time_are_503(tmp_path: Path) -> None:
    view = FakeView()
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{"data": "0xff"}]}
    with running(tmp_path, Settings(max_requests=1), view) as node:
        view.gate.clear()
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
        names = {"Content-Type": "application/json"}
        connection.request("POST", "/", json.dumps(call), names)
        status = 200
        while status == 200:
            status, _, body = send(node, CHAIN_ID)
        assert status == 503
        assert json.loads(body)["error"]["code"] == -32005
        view.gate.set()
        assert connection.getresponse().status == 200
        connection.close()


def test_slow_call_is_answered_with_a_timeout(tmp_path: Path) -> None:
    view = FakeView()
    view.gate.clear()
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{"data": "0xff"}]}
    with running(tmp_path, Settings(call_seconds=0.05), view) as node:
        error = json.loads(send(node, json.dumps(call).encode())[2])["error"]
        assert error == {"code": -32002, "message": "request timed out"}
        view.gate.set()


def test_too_many_waiting_calls_are_refused(tmp_path: Path) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{"data": "0x01"}]}
    with running(tmp_path, Settings(max_waiting_calls=3)) as node:
        answers = json.loads(send(node, json.dumps([call] * 4).encode())[2])
        assert {answer["error"]["code"] for answer in answers} == {-32005}
        answers = json.loads(send(node, json.dumps([call] * 3).encode())[2])
        assert all("result" in answer for answer in answers)


def test_get_shows_what_this_is(node: Node) -> None:
    status, headers, body = request(node, "GET", "/")
    assert (status, headers["content-type"]) == (200, "application/json")
    facts = json.loads(body)
    assert (facts["chainId"], facts["blockNumber"]) == (31337, 3)
    status, headers, body = request(node, "GET", "/", Accept="text/html")
    assert status == 200
    assert b"<h1>Quorate JSON-RPC</h1>" in body


def test_unknown_path_and_method(node: Node) -> None:
    assert request(node, "GET", "/nothing")[0] == 404
    assert request(node, "DELETE", "/")[0] == 405


def test_health_says_whether_traffic_may_come(node: Node) -> None:
    assert request(node, "GET", "/liveness")[::2] == (200, b'{"status":"UP"}')
    assert request(node, "GET", "/readiness")[::2] == (200, b'{"status":"UP"}')
    status, _, body = request(node, "GET", "/readiness?minPeers=5")
    assert status == 503
    assert json.loads(body) == {"status": "DOWN", "reason": "1 peers, expected at least 5"}


def test_namespace_that_is_off_does_not_exist(tmp_path: Path) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"txpool_status"}'
    with running(tmp_path, Settings()) as node:
        message = json.loads(send(node, body)[2])["error"]["message"]
    assert message == "the method txpool_status does not exist/is not available"


def test_without_its_validator_reads_go_on_and_writes_say_so(tmp_path: Path) -> None:
    with running(tmp_path, Settings()) as node:
        transaction = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x01"]}
        ).encode()
        assert "result" in json.loads(send(node, transaction)[2])
        for client in list(node.ipc.clients):
            node.do(client.close)
        path = node.ipc.path
        node.do(lambda: path.unlink())
        error: dict[str, object] = {}
        while not error:
            error = json.loads(send(node, transaction)[2]).get("error", {})
        assert error["code"] == -32002
        assert json.loads(send(node, CHAIN_ID)[2])["result"] == "0x7a69"
        assert request(node, "GET", "/readiness")[0] == 503
