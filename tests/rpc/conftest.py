"""Servers to talk to."""

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quorate.rpc.settings import NAMESPACES, Settings
from rpc.fakes import Node, running

Post = Callable[..., Any]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder: Path = tmp_path_factory.mktemp("node")
    settings = Settings(namespaces=NAMESPACES, max_batch=50, cors_origins=("https://ok.example",))
    with running(folder, settings) as found:
        yield found


def send(node: Node, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return (status, headers, body) of a POST."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    try:
        names = {"Content-Type": "application/json"}
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", "/", body, names)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.fixture
def post(node: Node) -> Post:
    """POST any JSON value or bytes; return the decoded answer."""

    def call(body: Any) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, answer = send(node, raw)
        assert status == 200
        return json.loads(answer) if answer else None

    return call


@pytest.fixture
def ask(post: Post) -> Callable[..., Any]:
    """Call a method; return its result, or its error object."""

    def call(method: str, *params: Any) -> Any:
        answer = post({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        assert answer["id"] == 1
        return answer["result"] if "result" in answer else answer["error"]

    return call
