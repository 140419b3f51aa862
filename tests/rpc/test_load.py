"""Many clients, and clients that ask for much: bounded, and answered in the conventional words."""

import asyncio
import json
import socket
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from kernel.chain import genesis
from quorate._kernel import Ledger
from quorate.base.errors import Unavailable
from quorate.rpc import http1
from quorate.rpc.dispatch import Exchange
from quorate.rpc.errors import LIMIT
from quorate.rpc.settings import NAMESPACES, Settings
from quorate.rpc.validator import Shared
from rpc.conftest import send
from rpc.fakes import Node, running
from rpc.mill import Mill

MANY, EACH = 20, 100


def dial(node: Node) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{node.port}", open_timeout=60, compression=None)


def subscribe(client: ClientConnection, count: int) -> list[Any]:
    """Subscribe to heads so many times by one batch; return what is answered."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
    client.send(json.dumps([body] * count))
    answers = json.loads(client.recv(timeout=60))
    return [answer.get("result") or answer["error"] for answer in answers]


def ask(node: Node, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return json.loads(send(node, json.dumps(body).encode())[2])


def test_thousands_of_subscriptions_hear_of_a_block_and_reads_go_on(tmp_path: Path) -> None:
    with running(tmp_path, Settings()) as node, ExitStack() as stack:
        clients = [stack.enter_context(dial(node)) for _ in range(MANY)]
        names = [set(subscribe(client, EACH)) for client in clients]
        assert sum(map(len, names)) == MANY * EACH
        node.commit(4)
        assert ask(node, "eth_blockNumber")["result"] == "0x4"
        for client, expected in zip(clients, names, strict=True):
            notes = [json.loads(client.recv(timeout=60))["params"] for _ in range(EACH)]
            assert {note["subscription"] for note in notes} == expected
            assert {note["result"]["number"] for note in notes} == {"0x4"}


def test_subscriptions_of_all_connections_together_are_bounded(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_all_subscriptions=5)) as node, dial(node) as second:
        with dial(node) as first:
            assert all(isinstance(name, str) for name in subscribe(first, 4))
            accepted, refused = subscribe(second, 2)
            assert isinstance(accepted, str)
            assert refused["code"] == LIMIT
            assert refused["message"] == "this node has 5 subscriptions, no more are possible"
        deadline = time.monotonic() + 60
        while len(node.api.events.subscriptions["newHeads"]) > 1:
            assert time.monotonic() < deadline
        assert isinstance(subscribe(second, 1)[0], str)


@pytest.mark.parametrize("tag", ["latest", "0x3"])
def test_range_of_logs_is_bounded(tmp_path: Path, tag: str) -> None:
    with running(tmp_path, Settings(max_log_blocks=2)) as node:
        answer = ask(node, "eth_getLogs", {"fromBlock": "0x0", "toBlock": tag})
        message = "block range is too wide: 4 blocks, at most 2"
        assert answer["error"] == {"code": LIMIT, "message": message}
        assert "result" in ask(node, "eth_getLogs", {"fromBlock": "0x2", "toBlock": tag})


def test_batch_of_slow_calls_beyond_what_may_wait_is_refused_item_by_item(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_waiting_calls=10)) as node:
        call = {"method": "eth_call", "params": [{"to": "0x" + "11" * 20}, "latest"]}
        head = {"method": "eth_blockNumber", "params": []}
        items = [{"jsonrpc": "2.0", "id": i} | (call if i else head) for i in range(12)]
        answers = json.loads(send(node, json.dumps(items).encode())[2])
        assert [answer["id"] for answer in answers] == list(range(12))
        assert "result" in answers[0]
        assert {answer["error"]["code"] for answer in answers[1:]} == {LIMIT}


def test_many_who_ask_for_the_whole_pool_share_the_answers(tmp_path: Path) -> None:
    with running(tmp_path, Settings(namespaces=NAMESPACES)) as node:
        pool, asked = node.questions.pool, []
        plain = pool.content_json
        pool.content_json = lambda account: asked.append(account) or plain(account)
        bodies = [b'{"jsonrpc":"2.0","id":1,"method":"txpool_content"}'] * 50
        bodies += [b'{"jsonrpc":"2.0","id":1,"method":"txpool_inspect"}'] * 50

        async def ask_all() -> list[Any]:
            answers = [node.api.dispatcher.answer(body, Exchange()) for body in bodies]
            return await asyncio.gather(*answers)

        for _ in range(2):
            future = asyncio.run_coroutine_threadsafe(ask_all(), node.loop)
            assert set(future.result(20)) == {
                b'{"jsonrpc":"2.0","id":1,"result":{"pending":{},"queued":{}}}'
            }
        assert asked == [None, None]
        assert node.api.validator.whole_pool.current is None


def test_who_asks_during_a_question_is_told_what_came_meanwhile() -> None:
    async def check() -> None:
        begun: list[asyncio.Future[int]] = []

        async def answer() -> int:
            begun.append(asyncio.get_running_loop().create_future())
            return await begun[-1]

        shared = Shared(answer)
        early = asyncio.create_task(shared.get())
        while not begun:
            await asyncio.sleep(0)
        late = [asyncio.create_task(shared.get()) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(begun) == 1
        begun[0].set_exception(Unavailable("gone"))
        while len(begun) < 2:
            await asyncio.sleep(0)
        late[0].cancel()
        begun[1].set_result(2)
        found = await asyncio.gather(early, *late, return_exceptions=True)
        assert [type(one) for one in found[:2]] == [Unavailable, asyncio.CancelledError]
        assert found[2:] == [2, 2]
        assert len(begun) == 2

    asyncio.run(check())


def large_request() -> bytes:
    item = {"jsonrpc": "2.0", "id": "x" * 100, "method": "eth_chainId", "params": []}
    body = json.dumps([item] * 300).encode()
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def serve(folder: Path, is_real: bool) -> AbstractContextManager[Node]:
    """Serve a real ledger, from which the kernel answers, or a fake one."""
    if not is_real:
        return running(folder, Settings())
    ledger = Ledger.open(str(folder / "ledger"), genesis())
    return running(folder, Settings(), ledger.view(), Mill(ledger))


@pytest.mark.parametrize("is_real", [False, True])
def test_client_that_does_not_read_is_not_read_from(tmp_path: Path, is_real: bool) -> None:
    with ExitStack() as stack:
        node = stack.enter_context(serve(tmp_path, is_real))
        client = stack.enter_context(socket.create_connection(("127.0.0.1", node.port)))
        client.setblocking(False)
        deadline = time.monotonic() + 60
        rest = b""
        while all(connection.reading for connection in list(node.gateway.connections)):
            # Whole requests: the answers to others would be short, and fill no buffer.
            rest = rest or large_request()
            try:
                rest = rest[client.send(rest) :]
            except BlockingIOError:
                time.sleep(0.001)
            assert time.monotonic() < deadline
        assert ask(node, "eth_chainId")["result"] == "0x7a69"


@pytest.mark.parametrize("is_real", [False, True])
def test_client_that_leaves_too_much_unread_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_real: bool
) -> None:
    monkeypatch.setattr(http1, "MAX_UNREAD_BYTES", 1)
    with serve(tmp_path, is_real) as node:
        assert ask(node, "eth_chainId")["result"] == "0x7a69"
        with socket.create_connection(("127.0.0.1", node.port), timeout=60) as client:
            with suppress(ConnectionError):
                for _ in range(1000):
                    client.sendall(large_request())
            deadline = time.monotonic() + 60
            while node.gateway.connections:
                assert time.monotonic() < deadline
        assert ask(node, "eth_chainId")["result"] == "0x7a69"
