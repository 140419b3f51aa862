"""What `up` tells about an application, and what it makes of one that cannot be loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from quorate.base.errors import Invalid
from quorate.cli.network import list_requests
from quorate.ledger.keyvalue import open_machine
from quorate.ledger.machine import Context, Machine, State

URL = "http://127.0.0.1:8545"


class Calls(Machine):
    def apply(self, state: State, call: bytes, context: Context) -> bytes:
        return b""

    def example(self, choose: Callable[[int], int]) -> bytes:
        return b'{"n": %d}' % choose(9)


class Direct(Machine):
    direct = True

    def apply(self, state: State, call: bytes, context: Context) -> bytes:
        return b""


class Broken(Machine):
    def __init__(self) -> None:
        raise ValueError("no room")

    def apply(self, state: State, call: bytes, context: Context) -> bytes:
        return b""


def test_requests_to_begin_with_are_such_as_the_application_takes() -> None:
    assert list_requests("keyvalue", URL)[0] == f"-X PUT --data hello {URL}/v1/kv/greeting"
    calls = list_requests(f"{__name__}:Calls", URL)
    assert calls == [f"""--data '{{"n": 0}}' {URL}/v1/call""", f"-N '{URL}/v1/watch?prefix='"]
    direct = list_requests(f"{__name__}:Direct", URL)
    assert [request.split()[0] for request in direct] == [
        "--data",
        "-X",
        f"{URL}/v1/kv/greeting",
        "-N",
    ]
    assert list_requests("nowhere:Found", URL) == [f"--data CALL {URL}/v1/call"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class X(:\n", "its module fails: SyntaxError"),
        ("1 / 0\n", "its module fails: ZeroDivisionError: division by zero"),
        ("import nowhere_at_all\n", "No module named 'nowhere_at_all'; is it on PYTHONPATH?"),
        ("X = 3\n", "expected a class that extends"),
    ],
)
def test_an_application_that_cannot_be_loaded_says_why(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "loaded_" + source.encode().hex()
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Invalid, match=said):
        open_machine(f"{name}:X")


def test_an_application_that_cannot_be_made_says_why() -> None:
    with pytest.raises(Invalid, match="making it fails: ValueError: no room"):
        open_machine(f"{__name__}:Broken")
