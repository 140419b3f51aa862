"""What the kernel answers by itself is, byte for byte, what Python would answer."""

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.chain import ACCOUNTS, CONTRACT, KEYS, extend, genesis, transaction
from quorate._kernel import Ledger
from quorate.rpc.api import Api
from quorate.rpc.dispatch import Exchange
from quorate.rpc.http1 import Head
from quorate.rpc.responder import MAX_HOSTS
from quorate.rpc.server import Gateway
from quorate.rpc.settings import NAMESPACES, Settings
from rpc.fakes import Node, running
from rpc.mill import Mill

CODES = {
    # Returns what it is called with; reverts with it.
    "echo": "366000600037366000f3",
    "revert": "366000600037366000fd",
    # Loops as often as the first word says, then returns the gas that is left.
    "loop": "6000355b8015601057600190036003565b5a60005260206000f3",
    "endless": "5b600056",
    # Calls the address in the first word, and returns output, success and the gas that is left.
    "forward": "6020600060206000600035" + "5afa6020525a60405260606000f3",
    "recurse": "6000600060006000305afa5a60005260206000f3",
    "create": "600060006000f060005260206000f3",
    "ancestor": "600143034060005260206000f3",
    "destroy": "33ff",
    "log": "36600060003760003660" + "00a15a60005260206000f3",
    "invalid": "fe",
    "stop": "00",
}
AT = {name: b"\xd0" * 19 + bytes((index,)) for index, name in enumerate(CODES)}
SMALL = Settings(namespaces=NAMESPACES, gas_cap=3_000_000, max_batch=40)


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def call(name: str, data: bytes = b"", **more: Any) -> dict[str, Any]:
    return {"to": hexed(AT[name]), "data": hexed(data)} | more


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return make_ledger(str(tmp_path_factory.mktemp("ledger")), is_dev=False)


def make_ledger(path: str, is_dev: bool) -> Ledger:
    file = json.loads(genesis())
    for name, code in CODES.items():
        file["alloc"][AT[name].hex()] = {"balance": "0x1", "code": "0x" + code}
    file["config"]["quorate"]["dev"] = is_dev
    ledger = Ledger.open(path, json.dumps(file).encode())
    for height in range(3):
        extend(
            ledger,
            transaction(KEYS[0], 2 * height, b"\x77" * 20, height),
            transaction(KEYS[0], 2 * height + 1, CONTRACT, 0, word(height) + word(9)),
        )
    ledger.commit()
    return ledger


def request(method: str, *params: Any, **more: Any) -> bytes:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)} | more
    return json.dumps(body).encode()


def build_plain(ledger: Ledger) -> list[bytes]:
    """Return requests that the kernel takes."""
    tip = ledger.final()
    block = ledger.block(tip)
    assert block is not None
    hashes = [hexed(block.hash), hexed(bytes(32))]
    blocks = ["latest", "safe", "finalized", "earliest", "pending", "", None, "0x0", hex(tip)]
    blocks += ["0x99", "0x7fffffffffffffff", *hashes]
    accounts = [ACCOUNTS[0], CONTRACT, AT["echo"], b"\x99" * 20]
    found = [request(method) for method in ("eth_chainId", "net_version", "net_listening")]
    names = ("eth_blockNumber", "eth_gasPrice", "eth_maxPriorityFeePerGas")
    found += [request(method) for method in names]
    found += [request("eth_blockNumber", **{"params": None})]
    found += [b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}']
    for account in map(hexed, accounts):
        for at in blocks:
            found += [request(f"eth_{name}", account, at) for name in ("getBalance", "getCode")]
            found += [request("eth_getStorageAt", account, slot, at) for slot in ("0x7", "0x0")]
            if at != "pending":
                found.append(request("eth_getTransactionCount", account, at))
        found.append(request("eth_getBalance", account))
        found.append(request("eth_getBalance", account.upper().replace("0X", "0x")))
        found.append(request("eth_getStorageAt", account, "0X" + "7".zfill(64)))
    for at in blocks:
        if at is not None and at != "pending" and (at == "" or len(at) != 66):
            found += [request("eth_getBlockByNumber", at, full) for full in (False, None)]
        found.append(request("eth_call", call("echo", b"\x01\x02"), at))
        found.append(request("eth_estimateGas", call("echo", b"\x01\x02"), at))
    for name in hashes:
        found.append(request("eth_getBlockByHash", name, False))
        found.append(request("eth_getTransactionReceipt", name))
    shown = json.loads(ledger.view().block_json(tip, False) or b"{}")["transactions"]
    for name in shown:
        found += [request("eth_getTransactionReceipt", name)]
        found += [request("eth_getTransactionByHash", name)]
    return found


def build_calls() -> list[bytes]:
    """Return calls of every outcome, short ones and long ones."""
    calls: list[dict[str, Any]] = []
    for size in (0, 1, 31, 32, 33, 1000):
        calls += [call("echo", bytes(size)), call("revert", bytes(size))]
    text = bytes(range(128)) + "é\u20ac\U0001f600".encode() + b"\xff\xfe\x80"
    reason = bytes.fromhex("08c379a0") + word(32) + word(len(text)) + text
    calls.append(call("revert", reason))
    for code in range(0x55):
        calls.append(call("revert", bytes.fromhex("4e487b71") + word(code)))
    # Around what is short, and far beyond it.
    calls += [call("loop", word(count)) for count in (0, 1, 10, 3000, 4000, 5000, 6000, 50_000)]
    others = ["endless", "recurse", "create", "ancestor", "destroy", "log", "invalid", "stop"]
    calls += [call(name) for name in others]
    targets = [*range(0x13), 0x100, *(int.from_bytes(AT[name], "big") for name in CODES)]
    calls += [call("forward", word(target)) for target in targets]
    calls += [{"to": hexed(word(number)[12:]), "data": "0x0102"} for number in range(0x13)]
    plain = call("loop", word(5))
    calls += [
        plain | {"from": hexed(ACCOUNTS[0])},
        plain | {"from": None},
        plain | {"gas": "0x186a0"},
        plain | {"gas": "0x5208"},
        plain | {"value": "0x1"},
        plain | {"value": "0x1", "from": hexed(ACCOUNTS[0])},
        plain | {"gasPrice": "0x3b9aca00", "from": hexed(ACCOUNTS[0])},
        plain | {"maxFeePerGas": "0x3b9aca00"},
        plain | {"nonce": "0x5"},
        {"to": plain["to"]},
        {"to": plain["to"], "input": plain["data"]},
        {"data": "0x" + CODES["loop"]},
        {"to": None, "data": "0x00"},
        {"to": hexed(ACCOUNTS[1])},
        {},
    ]
    return [request("eth_call", item, "latest") for item in calls]


def build_odd() -> list[bytes]:
    """Return what the kernel must leave or answer as Python does."""
    account = hexed(ACCOUNTS[0])
    plain = request("eth_getBalance", account, "latest").decode()
    bodies = [
        b"", b" ", b"{", b"[]", b"{}", b"null", b"7", b'"x"', b"[[]]", b"[1]", b"\xff", b"[" * 200,
        request("eth_chainId", 1),
        request("eth_blockNumber", "latest"),
        request("eth_unknown"),
        request("eth_getBalance"),
        request("eth_getBalance", account, "latest", "more"),
        request("eth_getBalance", account, {"blockNumber": "0x1"}),
        request("eth_getBalance", account, {"blockHash": "0x1"}),
        request("eth_getBlockByNumber", "latest", True),
        request("eth_getBlockByNumber", "latest", 1),
        request("eth_getBlockByNumber"),
        request("eth_getTransactionCount", account, "pending"),
        request("eth_getTransactionByHash", hexed(bytes(32))),
        request("eth_getTransactionReceipt", "0x12"),
        request("eth_getStorageAt", account, "7"),
        request("eth_getStorageAt", account, "0x"),
        request("eth_getStorageAt", account, "0x" + "1" * 65),
        request("eth_call", [], "latest"),
        request("eth_call", call("echo"), "latest", {}),
        request("eth_call", call("echo"), "latest", None),
        request("eth_call", call("echo") | {"input": "0x01"}, "latest"),
        request("eth_call", call("echo") | {"input": "0x"}, "latest"),
        request("eth_call", call("echo") | {"colour": "red"}, "latest"),
        request("eth_call", call("echo") | {"data": "0x1"}, "latest"),
        request("eth_call", call("echo") | {"data": 7}, "latest"),
        request("eth_call", call("echo") | {"to": "0x12"}, "latest"),
        request("eth_call", call("echo") | {"gas": 100_000}, "latest"),
        request("eth_estimateGas", call("revert", b"\x01")),
        request("eth_estimateGas", call("endless")),
        request("eth_estimateGas", call("echo"), "latest", {}),
    ]  # fmt: skip
    places = ("0x00", "0x", "0xg", "1", "LATEST", "0x8000000000000000", 1, True, "0X1", "0x" * 33)
    bodies += [request("eth_getBalance", account, at) for at in places]
    names = (account[:-1], account + "0", account[2:], "0x" + "g" * 40, 5, None, "0X" * 21)
    bodies += [request("eth_getBalance", name, "latest") for name in names]
    ids = ("1", "null", '"x"', '"é"', '"\\n"', "-1", "1.5", "1e9", "true", "{}", "[1]")
    bodies += [plain.replace('"id": 7', f'"id" : {name} ').encode() for name in ids]
    bodies += [
        plain.replace("2.0", "1.0").encode(),
        plain.replace('"id": 7, ', "").encode(),
        plain.replace('"id": 7', '"id": 7, "id": 8').encode(),
        plain.replace('"id": 7', '"id": 7, "more": {}').encode(),
        plain.replace("eth_getBalance", "eth\\u005fgetBalance").encode(),
        plain.replace("latest", "l\\u0061test").encode(),
        plain.replace("{", " {\t\r\n ").encode(),
        plain.encode() + b" ",
        plain.encode() + b"x",
        plain.encode()[:-1],
        b"\xef\xbb\xbf" + plain.encode(),
        plain.replace('"params": [', '"params": {"a": [').replace("]", "]}").encode(),
        plain.replace('"params": ', '"params": "').encode(),
    ]
    return bodies


def join(*bodies: bytes) -> bytes:
    return b"[" + b", ".join(bodies) + b"]"


async def compare(api: Api, bodies: list[bytes]) -> list[bool]:
    """Answer each both ways; return which the kernel took, and fail where answers differ."""
    assert api.store.view is not None
    kernel = api.responder.get()
    assert kernel is not None
    taken = []
    for body in bodies:
        began = kernel.answer(body)
        if isinstance(began, int):
            is_answered, found = await api.responder.expect_future(began)
            began = found if is_answered else None
        expected = api.dispatcher.answer_here(body, Exchange())
        if not isinstance(expected, bytes) and expected is not None:
            expected = await expected
        taken.append(began is not None)
        assert began is None or began == expected, body
    return taken


def run(ledger: Ledger, bodies: list[bytes], settings: Settings = SMALL) -> list[bool]:
    async def main() -> list[bool]:
        api = Api(settings, "", None, ledger.view())
        try:
            return await compare(api, bodies)
        finally:
            api.close()

    return asyncio.run(main())


def test_plain_requests_are_answered_as_python_does(ledger: Ledger) -> None:
    bodies = build_plain(ledger)
    left = [
        body for body, is_taken in zip(bodies, run(ledger, bodies), strict=True) if not is_taken
    ]
    assert left == []


def test_networks_for_development_leave_what_is_about_the_next_block(tmp_path: Path) -> None:
    ledger = make_ledger(str(tmp_path), is_dev=True)
    assert ledger.view().is_dev
    bodies = build_plain(ledger)
    left = [
        body for body, is_taken in zip(bodies, run(ledger, bodies), strict=True) if not is_taken
    ]
    assert left
    for body in left:
        assert b"eth_estimateGas" in body or (b"eth_call" in body and b"pending" in body)


def test_calls_are_answered_as_python_does_however_long_they_are(ledger: Ledger) -> None:
    bodies = build_calls()
    # Twice: what was found to be long is remembered.
    assert all(run(ledger, bodies * 2))


def test_only_short_calls_are_run_at_once(ledger: Ledger) -> None:
    async def main() -> list[bool]:
        api = Api(SMALL, "", None, ledger.view())
        assert api.store.view is not None
        kernel = api.responder.get()
        assert kernel is not None
        short = [call("echo"), call("loop", word(100)), call("forward", word(4)), call("revert")]
        short.append(call("forward", word(int.from_bytes(AT["loop"], "big"))))
        long = [call("loop", word(9000)), call("endless"), call("create")]
        long += [call("forward", word(5)), call("loop", word(100)), {"to": hexed(word(5)[12:])}]
        long.append(call("forward", word(int.from_bytes(AT["endless"], "big"))))
        began = [kernel.answer(request("eth_call", item)) for item in short + long]
        api.close()
        return [isinstance(found, bytes) for found in began]

    # A method of a contract that was found to be long once is not tried again.
    assert asyncio.run(main()) == [True] * 5 + [False] * 7


def test_calls_with_gas_to_see_are_the_same_in_batches(ledger: Ledger) -> None:
    bodies = build_calls()
    batches = [join(*bodies[start : start + 40]) for start in range(0, len(bodies), 40)]
    assert all(run(ledger, batches))


def test_odd_requests_are_left_or_answered_as_python_does(ledger: Ledger) -> None:
    bodies = build_odd()
    bodies += [join(request("eth_chainId"), body) for body in bodies]
    bodies += [join(*[request("eth_chainId")] * count) for count in (1, 40, 41)]
    taken = run(ledger, bodies)
    assert taken.count(True) < len(taken) / 4


def test_long_answers_are_refused_as_python_does(ledger: Ledger) -> None:
    code = request("eth_getCode", hexed(AT["loop"]), "latest")
    echo = request("eth_call", call("echo", bytes(200)), "latest")
    bodies = [code, echo, request("eth_chainId")]
    bodies += [join(*[code] * 9), join(*[echo] * 9), join(code, *[request("eth_chainId")] * 5)]
    for limit in (40, 50, 110, 300, 408, 409, 1000):
        assert all(run(ledger, bodies, Settings(max_response_bytes=limit)))


def test_random_changes_of_requests_make_no_difference(ledger: Ledger) -> None:
    rng = random.Random(7)
    seeds = build_plain(ledger)[::7] + build_calls()[::9] + build_odd()
    bodies = []
    for _ in range(3000):
        body = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(body) + 1)
            body[place : place + rng.randrange(2)] = rng.choice(
                (b"", b'"', b"0", b"x", b" ", b"\\")
            )
        bodies.append(bytes(body))
    run(ledger, bodies, Settings(namespaces=NAMESPACES, gas_cap=100_000))


def test_methods_that_are_not_served_are_left(ledger: Ledger) -> None:
    settings = Settings(namespaces=("net",))
    bodies = [request("eth_chainId"), request("net_version"), request("eth_call", call("echo"))]
    assert run(ledger, bodies, settings) == [False, True, False]


def test_a_new_block_is_seen_at_once(ledger: Ledger) -> None:
    async def main() -> None:
        api = Api(SMALL, "", None, ledger.view())
        for _ in range(3):
            bodies = [request("eth_blockNumber"), request("eth_gasPrice")]
            bodies.append(request("eth_call", call("ancestor"), "latest"))
            bodies.append(join(bodies[0], bodies[2]))
            assert all(await compare(api, bodies))
            kernel = api.responder.get()
            assert kernel is not None
            answer = kernel.answer(bodies[0])
            assert isinstance(answer, bytes)
            assert json.loads(answer)["result"] == hex(ledger.final())
            extend(ledger)
            ledger.commit()
        api.close()

    asyncio.run(main())


def test_calls_over_their_time_are_given_up_and_reads_beside_them_are_not(ledger: Ledger) -> None:
    async def main() -> None:
        api = Api(Settings(call_seconds=0.0), "", None, ledger.view())
        assert api.store.view is not None
        kernel = api.responder.get()
        assert kernel is not None
        body = join(request("eth_call", call("endless")), request("eth_chainId"))
        token = kernel.answer(body)
        assert isinstance(token, int)
        is_answered, found = await api.responder.expect_future(token)
        first, second = json.loads(found)
        assert is_answered
        assert first["error"] == {"code": -32002, "message": "request timed out"}
        assert second["result"] == "0x7a69"
        # Where a thread is at it for too long, nothing of it is waited for.
        token = kernel.answer(join(*[request("eth_call", call("loop", word(10**5)))] * 9))
        assert isinstance(token, int)
        future = api.responder.expect_future(token)
        kernel.sweep()
        assert {answer["error"]["code"] for answer in json.loads((await future)[1])} == {-32002}
        while kernel.waiting:
            await asyncio.sleep(0)
        api.close()

    asyncio.run(main())


def test_calls_beyond_what_may_wait_are_left(ledger: Ledger) -> None:
    async def main() -> None:
        api = Api(Settings(max_waiting_calls=3), "", None, ledger.view())
        assert api.store.view is not None
        kernel = api.responder.get()
        assert kernel is not None
        long = request("eth_call", call("endless"))
        tokens = [kernel.answer(join(long)) for _ in range(5)]
        assert tokens.count(None) == 2
        assert kernel.waiting == 3
        assert kernel.answer(join(request("eth_chainId"))) is not None
        for token in tokens:
            if isinstance(token, int):
                kernel.cancel(token)
        while kernel.waiting:
            await asyncio.sleep(0)
        assert isinstance(kernel.answer(join(long)), int)
        api.close()

    asyncio.run(main())


# ---- HTTP


def test_hosts_that_clients_name_are_bounded(ledger: Ledger) -> None:
    async def main() -> None:
        api = Api(SMALL, "", None, ledger.view())
        gateway, head = Gateway(api), Head()
        assert api.store.view is not None
        assert api.responder.get() is not None
        for port in range(200):
            head.method, head.host = b"GET", b"127.0.0.1:%d" % port
            assert gateway.refuse(head) is None
        assert len(api.responder.hosts) == MAX_HOSTS
        api.close()

    asyncio.run(main())


@pytest.fixture(scope="module")
def nodes(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """One node whose connections try the kernel first, and one that only parses."""
    folders = [tmp_path_factory.mktemp("node") for _ in range(2)]
    settings = Settings(cors_origins=("https://ok.example",), max_body_bytes=100_000)
    with (
        running(folders[0], settings, ledger.view(), Mill(ledger)) as quick,
        running(folders[1], settings, ledger.view(), Mill(ledger)) as plain,
    ):
        plain.api.responder.get = lambda: None  # type: ignore[method-assign]
        # The kernel takes a Host header that was found to be allowed: the first one is Python's.
        for node in (quick, plain):
            talk(node, post(request("eth_chainId")))
        yield quick, plain


def talk(node: Node, *parts: bytes) -> bytes:
    """Send bytes, end, and return all that comes."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        found = b""
        while piece := client.recv(1 << 16):
            found += piece
        return found


def post(body: bytes, *headers: bytes, host: bytes = b"localhost") -> bytes:
    lines = [b"POST / HTTP/1.1", b"Host: " + host, b"Content-Type: application/json", *headers]
    return b"\r\n".join((*lines, b"Content-Length: %d" % len(body), b"", body))


def build_streams() -> list[bytes]:
    """Return what a connection may bring: one request or several, plain and not."""
    chain, head = request("eth_chainId"), request("eth_blockNumber")
    short = request("eth_call", call("loop", word(2)), "latest")
    long = request("eth_call", call("loop", word(9000)), "latest")
    batch = join(short, chain, long)
    bodies = [chain, head, short, long, batch, request("eth_unknown"), b"{", b"x" * 200_000]
    bodies += [request("eth_getLogs", {}), request("eth_getBlockByNumber", "latest", True)]
    streams = [post(body) for body in bodies]
    streams.append(b"".join(map(post, [*bodies[:7], *bodies[8:]] * 3)))
    streams.append(b"".join(map(post, [long, chain] * 20)))
    headers = (
        b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade\r\nUpgrade: h2c",
        b"Origin: https://ok.example", b"Origin: https://other.example", b"X-Any: thing",
        b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"Content-Length: 5",
        b"Content-Type: text/plain", b" folded", b"No colon", b"X : y", b"X: \xe9", b"X: \x01",
        b"Host: other", b"Proxy-Connection: close", b"X: y\nZ: w",
    )  # fmt: skip
    streams += [post(chain, header) + post(head) for header in headers]
    changes = (
        (b"POST", b"PUT"), (b"POST", b"post"), (b"HTTP/1.1", b"HTTP/1.0"), (b"HTTP/1.1", b"HTTP/2"),
        (b"POST /", b"POST /a/b"), (b"POST /", b"POST /?a=b"), (b"POST / ", b"POST  / "),
        (b"POST /", b"\r\nPOST /"), (b"\r\nHost", b"\nHost"), (b"localhost", b"evil.example"),
        (b"localhost", b"127.0.0.1:1"), (b"Host: localhost\r\n", b""),
        (b"application/json", b"application/json; charset=utf-8"),
        (b"application/json", b"Application/JSON"), (b"application/json", b"text/plain"),
        (b"Content-Length: ", b"Content-Length: +"), (b"Content-Length: ", b"Content-Length: 0"),
        (b"Content-Length: ", b"Content-Length: 9"), (b"Content-Length", b"Content-Len"),
    )  # fmt: skip
    for change in changes:
        streams.append(post(chain) + post(head).replace(*change, 1) + post(chain))
    return streams


def test_streams_of_requests_are_answered_as_the_parser_does(nodes: tuple[Node, Node]) -> None:
    quick, plain = nodes
    for stream in build_streams():
        for _ in range(2):
            assert talk(quick, stream) == talk(plain, stream), stream[:300]
    assert quick.gateway.requests == quick.gateway.held_bytes == 0


def test_requests_in_pieces_are_answered_as_the_parser_does(nodes: tuple[Node, Node]) -> None:
    quick, plain = nodes
    rng = random.Random(3)
    chain, long = request("eth_chainId"), request("eth_call", call("loop", word(9000)), "latest")
    stream = b"".join(map(post, (chain, long, chain, request("eth_unknown"), chain, chain)))
    expected = talk(plain, stream)
    assert expected.count(b"HTTP/1.1 200 OK") == 6
    for _ in range(40):
        cuts = sorted(rng.sample(range(len(stream)), rng.randrange(1, 6)))
        places = zip([0, *cuts], [*cuts, len(stream)], strict=True)
        assert talk(quick, *(stream[first:last] for first, last in places)) == expected


def test_client_that_leaves_gives_up_its_calls(nodes: tuple[Node, Node]) -> None:
    quick, _ = nodes
    kernel = quick.api.responder.kernel
    assert kernel is not None
    with socket.create_connection(("127.0.0.1", quick.port), timeout=60) as client:
        client.sendall(post(join(*[request("eth_call", call("endless"))] * 9)) * 3)
    while quick.gateway.connections or quick.gateway.requests or kernel.waiting:
        pass
    assert quick.gateway.held_bytes == 0
    assert quick.api.responder.waiting == {}
