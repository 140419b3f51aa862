"""`quorate verify --key` asks a node that it does not trust: whatever comes back is one line."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.base.errors import Invalid, Unavailable
from quorate.cli.verify_key import verify_key


def answer_once(raw: bytes) -> str:
    """Return the URL of a server that says this to whoever comes first."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as client:
            client.recv(4096)
            client.sendall(raw)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def as_http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture
def usual_recursion() -> Iterator[None]:
    """A package that tests import allows more than the stack holds."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("usual_recursion")
@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        (b"\0\1\2 what is this?\r\n\r\n", Invalid, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", Invalid, "not JSON"),
        (as_http(b"[" * 100_000), Invalid, "not JSON"),
        (as_http(b'{"block": "0xzz"}'), Invalid, "not JSON"),
        (as_http(b"\xff"), Invalid, "not JSON"),
        (b"HTTP/1.1 503 busy\r\ncontent-length: 4\r\n\r\nbusy", Unavailable, "busy"),
        (b"", Unavailable, "is the node up"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    raw: bytes, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_text(json.dumps({"config": {"quorate": {"engine": "raft"}}}))
    with pytest.raises(kind, match=said):
        verify_key(genesis, answer_once(raw), b"key")
