"""HTTP as bytes: pipelining, pieces, bad requests, upgrades, slow and half-closed clients."""

import json
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from quorate.rpc import http1, server
from quorate.rpc.settings import Settings
from rpc.fakes import FakeView, Node, running


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST / HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *headers]
    return b"\r\n".join((*lines, b"Content-Length: %d" % len(body), b"", body))


def call(number: int, method: str, *params: object) -> bytes:
    body = {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
    return json.dumps(body).encode()


class Wire:
    """A socket that reads whole answers."""

    def __init__(self, node: Node) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout=60)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> tuple[int, bytes]:
        status = int(self.file.readline().split()[1])
        length = 0
        while (line := self.file.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, self.file.read(length)

    def is_ended(self) -> bool:
        try:
            return self.file.read() == b""
        except ConnectionResetError:
            return True


def test_pipelined_requests_are_answered_in_order(node: Node) -> None:
    methods = [("eth_call", {"data": "0x01"}), ("eth_chainId",), ("eth_getTransactionByHash", "x")]
    with Wire(node) as wire:
        wire.send(b"".join(post(call(i, *methods[i % 3])) for i in range(60)))
        ids = [json.loads(wire.read()[1])["id"] for _ in range(60)]
    assert ids == list(range(60))


def test_request_may_come_byte_by_byte(node: Node) -> None:
    with Wire(node) as wire:
        for byte in post(call(1, "eth_chainId")):
            wire.send(bytes((byte,)))
        assert json.loads(wire.read()[1])["result"] == "0x7a69"


def test_client_that_waits_for_continue_gets_it(node: Node) -> None:
    request = post(call(1, "eth_chainId"), b"Expect: 100-continue")
    head, _, body = request.partition(b"\r\n\r\n")
    with Wire(node) as wire:
        wire.send(head + b"\r\n\r\n")
        assert wire.read()[0] == 100
        wire.send(body)
        assert wire.read()[0] == 200


def test_half_closed_client_still_gets_its_answer(node: Node) -> None:
    with Wire(node) as wire:
        wire.send(post(call(1, "eth_call", {"data": "0x01"})))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.read()[0] == 200
        assert wire.is_ended()


def test_connection_is_closed_when_asked(node: Node) -> None:
    with Wire(node) as wire:
        wire.send(post(call(1, "eth_call", {"data": "0x01"}), b"Connection: close"))
        assert wire.read()[0] == 200
        assert wire.is_ended()


def test_old_client_is_answered_and_closed(node: Node) -> None:
    with Wire(node) as wire:
        wire.send(post(call(1, "eth_chainId")).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert wire.read()[0] == 200
        assert wire.is_ended()


def test_offer_of_another_protocol_is_ignored(node: Node) -> None:
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA")
    with Wire(node) as wire:
        for _ in range(2):
            wire.send(post(call(1, "eth_chainId"), *upgrade))
            assert json.loads(wire.read()[1])["result"] == "0x7a69"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, 431),
        (b"GET /" + b"z" * 70_000, 431),
        (post(b"{}").replace(b"Content-Length: 2", b"Content-Length: -2"), 400),
    ],
)
def test_what_is_not_a_request_is_refused_and_closed(
    node: Node, request_: bytes, status: int
) -> None:
    with Wire(node) as wire:
        wire.send(request_)
        assert wire.read()[0] == status
        assert wire.is_ended()


def test_refused_upload_gets_its_answer_while_it_still_sends(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_body_bytes=1000)) as node, Wire(node) as wire:
        wire.send(post(b"x" * 2_000_000))
        assert wire.read()[0] == 413
        assert wire.is_ended()


def test_connections_are_bounded(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_connections=2)) as node, Wire(node) as first:
        first.send(post(call(1, "eth_chainId")))
        assert first.read()[0] == 200
        with Wire(node) as second, Wire(node) as third:
            assert third.read()[0] == 503
            second.send(post(call(1, "eth_chainId")))
            assert second.read()[0] == 200


def test_client_that_leaves_takes_nothing_with_it(tmp_path: Path) -> None:
    view = FakeView()
    with running(tmp_path, Settings(), view) as node:
        view.gate.clear()
        with Wire(node) as wire:
            wire.send(post(call(1, "eth_call", {"data": "0xff"})))
            wire.send(post(b"x" * 100)[:-1])
            while not node.gateway.held_bytes or not node.api.workers.waiting:
                pass
            # Closing then resets the connection; a client that only ends its side still reads.
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while node.gateway.connections or node.gateway.held_bytes:
            pass
        view.gate.set()
        while node.api.workers.waiting:
            pass
        assert node.gateway.requests == 0


def test_who_leaves_the_most_unread_is_cut_off_where_all_leave_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(wire: Wire, count: int) -> None:
        call_ = b'{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"data":"0xbb"}]}'
        wire.send(post(b"[" + b",".join([call_] * count) + b"]"))

    with running(tmp_path, Settings(max_batch=3000)) as node, Wire(node) as greedy:
        ask(greedy, 2000)
        with Wire(node) as modest:
            ask(modest, 1200)
            unread: dict[Any, int] = {}

            def look() -> None:
                opened = node.gateway.connections
                unread.update((c, c.transport.get_write_buffer_size()) for c in opened)

            deadline = time.monotonic() + 60
            while len(unread) < 2 or min(unread.values()) < 1 << 20:
                assert time.monotonic() < deadline
                node.do(look)
            monkeypatch.setattr(server, "MAX_ALL_UNREAD_BYTES", sum(unread.values()) - 1)
            node.do(lambda: node.gateway.sweep_at(node.loop.time()))
            while len(node.gateway.connections) > 1:
                assert time.monotonic() < deadline
            status, body = modest.read()
            assert (status, len(json.loads(body))) == (200, 1200)
        with pytest.raises((OSError, ValueError, IndexError)):
            json.loads(greedy.read()[1])


def test_slow_and_idle_clients_are_closed(tmp_path: Path) -> None:
    with running(tmp_path, Settings()) as node, Wire(node) as slow, Wire(node) as idle:
        idle.send(post(call(1, "eth_chainId")))
        assert idle.read()[0] == 200
        slow.send(b"POST / HT")
        while not any(connection.in_request for connection in node.gateway.connections):
            pass

        def sweep(seconds: float) -> None:
            now = node.loop.time() + seconds
            for connection in list(node.gateway.connections):
                connection.sweep(now)

        node.do(lambda: sweep(http1.REQUEST_SECONDS + 1))
        assert slow.is_ended()
        idle.send(post(call(1, "eth_chainId")))
        assert idle.read()[0] == 200
        node.do(lambda: sweep(http1.IDLE_SECONDS + 1))
        assert idle.is_ended()
