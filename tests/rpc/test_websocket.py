"""WebSocket: answers, subscriptions in order, bounds, and who may connect."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from quorate._kernel import keccak256
from quorate.rpc import http1, websocket
from quorate.rpc.settings import NAMESPACES, Settings
from rpc.fakes import RICH, TOPIC, FakeView, Node, running

OTHER = "0x" + "11" * 20


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Node]:
    """A node of the test's own, so that it may grow."""
    with running(tmp_path, Settings(namespaces=NAMESPACES)) as node:
        yield node


def dial(node: Node, **options: Any) -> ClientConnection:
    options.setdefault("compression", None)
    return connect(f"ws://127.0.0.1:{node.port}", open_timeout=60, **options)


def call(client: ClientConnection, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": method, "method": method, "params": list(params)}
    client.send(json.dumps(body))
    answer = json.loads(client.recv(timeout=60))
    assert answer["id"] == method
    return answer["result"] if "result" in answer else answer["error"]


def next_note(client: ClientConnection) -> tuple[str, Any]:
    note = json.loads(client.recv(timeout=60))
    assert note["method"] == "eth_subscription"
    return note["params"]["subscription"], note["params"]["result"]


def test_requests_and_batches_are_answered(live: Node) -> None:
    with dial(live) as client:
        assert call(client, "eth_chainId") == "0x7a69"
        client.send(b'[{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}]')
        assert json.loads(client.recv(timeout=60)) == [{"jsonrpc": "2.0", "id": 1, "result": "0x3"}]
        client.send("nonsense")
        assert json.loads(client.recv(timeout=60))["error"]["code"] == -32700


def test_new_heads_come_one_per_block_in_order(live: Node) -> None:
    with dial(live) as client, dial(live) as other:
        names = [call(client, "eth_subscribe", "newHeads") for _ in range(2)]
        assert names[0] != names[1]
        call(other, "eth_subscribe", "newHeads")
        live.commit(5)
        live.commit(5)
        live.commit(6)
        notes = [next_note(client) for _ in range(6)]
        assert [int(head["number"], 16) for _, head in notes] == [4, 4, 5, 5, 6, 6]
        assert [name for name, _ in notes] == names * 3
        assert [int(next_note(other)[1]["number"], 16) for _ in range(3)] == [4, 5, 6]


def test_logs_are_filtered_by_address_and_topic(live: Node) -> None:
    with dial(live) as client:
        wanted = call(client, "eth_subscribe", "logs", {"address": "0x" + RICH.hex()})
        call(client, "eth_subscribe", "logs", {"address": [OTHER]})
        call(client, "eth_subscribe", "logs", {"topics": ["0x" + keccak256(b"").hex()]})
        by_topic = call(client, "eth_subscribe", "logs", {"topics": [[None, "0x" + TOPIC.hex()]]})
        everything = call(client, "eth_subscribe", "logs")
        live.commit(4)
        notes = [next_note(client) for _ in range(3)]
        assert {name for name, _ in notes} == {wanted, by_topic, everything}
        assert {log["removed"] for _, log in notes} == {False}
        call(client, "eth_unsubscribe", wanted)


def test_waiting_transactions_are_told_by_hash(live: Node) -> None:
    with dial(live) as client:
        name = call(client, "eth_subscribe", "newPendingTransactions")
        # The validator tells only from when it was asked; a round trip later it was.
        call(client, "eth_getTransactionCount", "0x" + RICH.hex(), "pending")
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x07"]}
        client.send(json.dumps(body))
        messages = [json.loads(client.recv(timeout=60)) for _ in range(2)]
        note = next(m for m in messages if "method" in m)
        answer = next(m for m in messages if "id" in m)
        assert note["params"] == {"subscription": name, "result": answer["result"]}


def test_unsubscribe_ends_notifications(live: Node) -> None:
    with dial(live) as client:
        name = call(client, "eth_subscribe", "newHeads")
        assert call(client, "eth_unsubscribe", name) is True
        error = {"code": -32000, "message": "subscription not found"}
        assert call(client, "eth_unsubscribe", name) == error
        live.commit(4)
        assert call(client, "eth_blockNumber") == "0x4"


def test_subscription_of_one_connection_is_not_anothers(live: Node) -> None:
    with dial(live) as client, dial(live) as other:
        name = call(client, "eth_subscribe", "newHeads")
        assert call(other, "eth_unsubscribe", name)["message"] == "subscription not found"


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        (["nonsense"], -32601, 'no "nonsense" subscription in eth namespace'),
        ([], -32602, "missing value for required argument 0"),
        (["logs", {"address": "0x1"}], -32602, "invalid argument 1: hex string has length 1"),
    ],
)
def test_wrong_subscription_is_refused(
    live: Node, params: list[Any], code: int, message: str
) -> None:
    with dial(live) as client:
        error = call(client, "eth_subscribe", *params)
        assert error["code"] == code
        assert error["message"].startswith(message)


def test_subscriptions_of_a_connection_are_bounded_and_forgotten(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_subscriptions=2)) as node:
        with dial(node) as client:
            for _ in range(2):
                call(client, "eth_subscribe", "newHeads")
            assert call(client, "eth_subscribe", "newHeads")["code"] == -32005
        deadline = time.monotonic() + 60
        while node.api.events.subscriptions["newHeads"]:
            assert time.monotonic() < deadline


def test_client_that_does_not_read_is_closed_with_the_reason(tmp_path: Path) -> None:
    view = FakeView()
    settings = Settings(max_notifications=20)
    with running(tmp_path, settings, view) as node, dial(node, max_queue=1) as client:
        for _ in range(100):
            call(client, "eth_subscribe", "newHeads")
        height = view.height
        while node.api.events.subscriptions["newHeads"]:
            height += 1
            node.commit(height)
        with pytest.raises(ConnectionClosedError) as caught:
            read_on(client)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
        assert caught.value.rcvd.reason.startswith("too slow: ")


def test_client_that_reads_nothing_at_all_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.05)
    with running(tmp_path, Settings(max_notifications=5)) as node:
        deaf = open_silently(node)
        say(deaf, {"id": 1, "method": "eth_subscribe", "params": ["newHeads"]})
        # What fills all buffers in between.
        for _ in range(2):
            say(deaf, {"id": "x" * 5_000_000, "method": "eth_chainId", "params": []})
        heads = node.api.events.subscriptions["newHeads"]
        kept = node.server.server_state.connections
        deadline = time.monotonic() + 60
        while not heads or not any(one.transport.get_write_buffer_size() for one in list(kept)):
            assert time.monotonic() < deadline, "the answers are written, as far as they can be"
        for height in range(4, 14):
            node.commit(height)
        while heads:
            assert time.monotonic() < deadline, "who reads nothing is told of nothing"
        assert len(kept) == 1
        for seconds in (0, http1.LINGER_SECONDS + 1):
            node.do(lambda late=seconds: node.gateway.sweep_at(node.loop.time() + late))
        while kept:
            assert time.monotonic() < deadline
        deaf.close()


def test_message_over_the_limit_closes_the_connection(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_body_bytes=1000)) as node, dial(node) as client:
        client.send("x" * 1001)
        with pytest.raises(ConnectionClosedError) as caught:
            client.recv(timeout=60)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_messages_are_answered_beyond_the_number_in_flight(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_in_flight=2)) as node, dial(node) as client:
        params = [{"data": "0x01"}]
        for number in range(50):
            body = {"jsonrpc": "2.0", "id": number, "method": "eth_call", "params": params}
            client.send(json.dumps(body))
        answers = [json.loads(client.recv(timeout=60)) for _ in range(50)]
        assert sorted(answer["id"] for answer in answers) == list(range(50))


@pytest.mark.parametrize(
    ("headers", "option"),
    [
        ({"Origin": "https://evil.example"}, "cors"),
        ({"Host": "evil.example"}, "rpc.host_allowlist"),
    ],
)
def test_foreign_pages_and_names_are_refused(
    live: Node, headers: dict[str, str], option: str
) -> None:
    origin = headers.get("Origin")
    with pytest.raises(InvalidStatus) as caught:
        connect_as(live, headers.get("Host", "localhost"), origin)
    assert caught.value.response.status_code == 403
    assert option.encode() in (caught.value.response.body or b"")


def open_silently(node: Node) -> socket.socket:
    """Return a WebSocket that nothing reads from any more."""
    found = socket.socket()
    found.settimeout(20)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.connect(("127.0.0.1", node.port))
    head = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    found.sendall((head + key).encode())
    assert found.recv(4096).startswith(b"HTTP/1.1 101 ")
    return found


def say(found: socket.socket, request: dict[str, Any]) -> None:
    """Send a request as one frame, masked with zeros."""
    body = json.dumps({"jsonrpc": "2.0", **request}).encode()
    found.sendall(b"\x81\xff" + len(body).to_bytes(8, "big") + bytes(4) + body)


def read_on(client: ClientConnection) -> None:
    while True:
        client.recv(timeout=60)


def connect_as(node: Node, host: str, origin: str | None) -> ClientConnection:
    """Connect from a page, or by a name that is not this machine's."""
    found = socket.create_connection(("127.0.0.1", node.port), timeout=60)
    return connect(f"ws://{host}:{node.port}", sock=found, origin=origin, open_timeout=60)


def test_transaction_is_answered_with_its_receipt(live: Node) -> None:
    raw = b"\x01\x02\x03"
    transaction = keccak256(raw)
    with dial(live) as client, dial(live) as watcher:
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransactionSync"}
        client.send(json.dumps(body | {"params": ["0x" + raw.hex(), 20_000]}))
        name = "0x" + transaction.hex()
        while call(watcher, "eth_getTransactionByHash", name) is None:
            pass

        def include() -> None:
            live.view.receipts[transaction] = b'{"status":"0x1"}'
            live.view.included[4] = [transaction]

        live.do(include)
        live.commit(4)
        assert json.loads(client.recv(timeout=60))["result"] == {"status": "0x1"}
        assert not live.api.events.waiters


def test_receipt_that_does_not_come_is_code_4_with_the_hash(live: Node) -> None:
    with dial(live) as client:
        error = call(client, "eth_sendRawTransactionSync", "0x0909", "0x1")
        assert error["code"] == 4
        assert error["data"] == "0x" + keccak256(b"\x09\x09").hex()
        assert call(client, "eth_sendRawTransactionSync", "0xbaad", 1)["code"] == -32000
        assert not live.api.events.waiters
