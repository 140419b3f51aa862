"""Key-value networks of real processes: both ports, a leader that dies, a restart, proofs."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from e2e.stage import Stage, make_environment
from e2e.test_raft import find_leader
from quorate.base.errors import Invalid
from quorate.client import Change, KeyValueClient, open_client
from quorate.light.keyvalue import verify_entry

pytestmark = pytest.mark.network


def ask(
    stage: Stage, index: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """Return status and JSON of a request."""
    url = f"http://127.0.0.1:{stage.rpc + index}/v1/{path}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def get_places(stage: Stage) -> list[tuple[str, int]]:
    return [("127.0.0.1", stage.rpc + i) for i in range(stage.validators)]


def test_both_ports_tell_the_same_and_survive_a_dead_leader(three: Stage) -> None:
    assert "/v1/kv/greeting" in three.up("--engine", "raft", "--application", "keyvalue").text
    assert ask(three, 0, "PUT", "kv/greeting", b"hello") == (200, {"revision": 1})
    status, found = ask(three, 1, "GET", "kv/greeting")
    assert (status, found["value"], found["modified"]) == (200, "hello", 1)
    assert ask(three, 2, "PUT", "kv/greeting?if_revision=7", b"no")[0] == 412
    swap = json.dumps({"key": "greeting", "expected": "hello", "value": "bye"}).encode()
    assert ask(three, 2, "POST", "cas", swap) == (200, {"succeeded": True, "revision": 2})
    assert ask(three, 2, "POST", "cas", swap) == (200, {"succeeded": False, "revision": 2})
    number = {"quorate_request": "ab" * 16 + "-1"}
    first = ask(three, 0, "PUT", "kv/twice", b"once", **number)
    assert ask(three, 1, "PUT", "kv/twice", b"once", **number) == first
    for method, path, code in (
        ("GET", "kv/none", 404),
        ("DELETE", "kv/none", 404),
        ("POST", "kv/none", 405),
        ("PUT", "kv/" + "k" * 1025, 400),
        ("GET", "nowhere", 404),
        ("POST", "call", 422),
        ("GET", "watch?from=x&key=a", 400),
        # Whoever misspells a condition must not be taken to have made none.
        ("PUT", "kv/greeting?if_revison=0", 400),
        ("DELETE", "kv/greeting?revision=1", 400),
        ("GET", "kv/greeting?stale=perhaps", 400),
        ("GET", "status?verbose", 400),
    ):
        status, body = ask(three, 0, method, path, b"" if method != "GET" else None)
        assert (status, list(body)) == (code, ["error"]), path
    for method, path, code, allowed in (
        ("HEAD", "status", 200, None),
        ("HEAD", "kv/greeting", 200, None),
        ("POST", "kv/none", 405, "PUT, GET, HEAD, DELETE"),
        ("GET", "cas", 405, "POST"),
    ):
        connection = HTTPConnection("127.0.0.1", three.rpc, timeout=30)
        connection.request(method, f"/v1/{path}")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["allow"]) == (code, allowed), path
        connection.close()
    asyncio.run(kill_the_leader(three))
    three.do("down")
    three.up()
    assert ask(three, 0, "GET", "kv/greeting")[1]["value"] == "bye"
    assert ask(three, 1, "GET", "kv/n19")[1]["value"] == "19"
    judged = three.do("judge")
    assert "true: everything that was written keeps the rules" in judged.out
    assert "Stores of application keyvalue are not read." in judged.err


def test_what_was_acknowledged_survives_the_death_of_all(three: Stage) -> None:
    three.up("--engine", "raft", "--application", "keyvalue")
    # As many as make several writes of the store, and then some that only journals hold.
    for number in range(40):
        assert ask(three, number % 3, "PUT", f"kv/k{number}", b"%d" % number)[0] == 200
    for index in range(3):
        three.do("kill", str(index))
    for index in range(3):
        three.do("start", str(index))
    for number in range(40):
        status, found = ask(three, number % 3, "GET", f"kv/k{number}")
        assert (status, found["value"], found["version"]) == (200, str(number), 1)
    # A port that takes everybody's requests survives those that ask for another protocol.
    place = ("127.0.0.1", three.rpc)
    with socket.create_connection(place, timeout=10) as stranger:
        stranger.sendall(
            b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"
            b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert stranger.recv(1 << 16).startswith(b"HTTP/1.1 400 ")
    assert ask(three, 0, "GET", "status")[0] == 200


async def kill_the_leader(stage: Stage) -> None:
    """Put through the framed port while the leader dies; watch everything."""
    seen: list[Change] = []
    async with (
        KeyValueClient(get_places(stage)) as client,
        KeyValueClient(get_places(stage)[::-1]) as other,
    ):

        async def look() -> None:
            async for change in other.watch(b"n", prefix=True, revision=1):
                seen.append(change)
                if len(seen) == 20:
                    return

        watching = asyncio.create_task(look())
        await asyncio.gather(*[client.put(b"n%d" % i, b"%d" % i) for i in range(10)])
        leader = await asyncio.to_thread(find_leader, stage)
        killing = asyncio.create_task(asyncio.to_thread(stage.do, "kill", str(leader)))
        await asyncio.gather(*[client.put(b"n%d" % i, b"%d" % i) for i in range(10, 20)])
        await killing
        entry = await client.get(b"n19")
        assert entry is not None
        assert entry.version == 1
        assert (await client.compare(b"n0", None, expected=b"0")).succeeded
        await asyncio.wait_for(watching, 60)
        assert {change.key for change in seen} == {b"n%d" % i for i in range(20)}
        assert [change.revision for change in seen] == sorted({c.revision for c in seen})
    await asyncio.to_thread(stage.do, "start", str(leader))


def test_killed_leaders_take_no_answer_back(three: Stage) -> None:
    """A short form of the example; two minutes with a kill every ten seconds are its default."""
    example = Path(__file__).parents[2] / "examples" / "leader_kills" / "run.py"
    found = three.folder.with_name("history.jsonl")
    options = ["--seconds", "14", "--every", "5", "--down", "1", "--clients", "4"]
    ports = three.up_options()[2:]
    done = subprocess.run(
        [sys.executable, example, *options, *ports, "--dir", three.folder, "--history", found],
        env=make_environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "linearizable: " in done.stdout
    assert done.stdout.count("killed validator-") >= 1
    # The judge would have seen it: an answered write that nobody reads any more.
    key = json.loads(found.read_text().splitlines()[0])["key"]
    events = [
        {"kind": "invoke", "time_ns": 2**62, "id": "late", "key": key, "operation": "read"},
        {"kind": "ok", "time_ns": 2**62, "id": "late", "result": "what nobody wrote"},
    ]
    with found.open("a") as more:
        more.writelines(json.dumps(event) + "\n" for event in events)
    assert three.run("history", str(found), ok=False).code == 1


def test_a_stranger_is_convinced_where_certificates_prove(stage: Stage) -> None:
    stage.up("--application", "keyvalue")
    with open_client(*get_places(stage)) as client:
        client.put(b"x", b"1")
        client.put(b"x", b"2")
        genesis = (Path(stage.folder) / "genesis.json").read_bytes()
        proof = client.prove(b"x")
        proved = verify_entry(genesis, "tendermint", b"x", proof)
        assert proved.entry is not None
        assert proved.entry.value in (b"1", b"2")
        # The validator that it asks may hear of the certificate a little later.
        stage.expect("verify --key x", "version", "was not trusted")
        with pytest.raises(Invalid):
            verify_entry(genesis.replace(b'"power": 1', b'"power": 2'), "tendermint", b"x", proof)


def test_the_example_runs(three: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    example = Path(__file__).parents[2] / "examples" / "own_application"
    monkeypatch.syspath_prepend(str(example))
    path = {"PYTHONPATH": f"{example}:{Path(__file__).parents[2] / 'src'}"}
    options = ["--engine", "raft", "--application", "auction:Auction"]
    three.run("up", "--detach", *three.up_options(), *options, "--dir", str(three.folder), env=path)
    threads = set(threading.enumerate())
    with open_client(*get_places(three)) as alice:
        alice.call(b'{"open": "painting", "minimum": 10, "seconds": 600}')
        assert json.loads(alice.call(b'{"bid": "painting", "amount": 12}'))["bid"] == 12
        with pytest.raises(Exception, match="the highest bid is 12"):
            alice.call(b'{"bid": "painting", "amount": 12}')
        entry = alice.get(b"auction/painting")
        assert entry is not None
        assert json.loads(entry.value)["bid"] == 12
    assert set(threading.enumerate()) <= threads
