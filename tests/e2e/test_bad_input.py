"""Damaged files, wrong settings and strangers: each has a clear error, and nothing is lost."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from e2e.stage import Stage, account_at, poll

pytestmark = pytest.mark.network


def run_validator(stage: Stage, index: int) -> tuple[int, str]:
    """Run a validator in the foreground that is expected to end by itself; (code, last line)."""
    network = stage.folder / "network.toml"
    folder = stage.validator(index)
    result = stage.run("run", "--network", str(network), "--folder", str(folder), ok=False)
    return result.code, result.err.strip().splitlines()[-1]


def test_start_that_fails_says_why(stage: Stage) -> None:
    stage.up()
    stage.do("kill", "1")
    (stage.validator(1) / "tls.crt").write_text("damaged")
    result = stage.do("start", "1", ok=False)
    assert result.code == 1
    last = result.err.strip().splitlines()[-1]
    assert last.startswith("error: validator-1 ended with exit code 78: ")
    assert "tls.crt" in last
    assert "quorate logs 1" in last


def test_unknown_setting_is_named_with_what_is_possible(single: Stage) -> None:
    single.up()
    single.do("down")
    network = single.folder / "network.toml"
    network.write_text(network.read_text().replace("[blocks]", "[blocks]\nblock_tim_ms = 5"))
    for command in ("up", "status", "down"):
        result = single.do(command, ok=False)
        assert result.code == 78
        assert "blocks.block_tim_ms" in result.err
        assert "block_time_ms" in result.err


def test_key_of_somebody_else_is_refused(stage: Stage) -> None:
    stage.up()
    stage.do("down")
    first, second = stage.validator(0) / "key.json", stage.validator(1) / "key.json"
    first.write_text(second.read_text())
    certificate = stage.validator(0) / "tls.crt"
    code, line = run_validator(stage, 0)
    assert code == 78
    assert str(certificate) in line
    store = json.loads(second.read_text())
    store["private_key"] = "0x" + "11" * 32
    first.write_text(json.dumps(store))
    code, line = run_validator(stage, 0)
    assert code == 78
    assert "key.json" in line
    assert "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a" in line


def test_another_genesis_is_refused_by_the_store_and_by_peers(stage: Stage) -> None:
    stage.up()
    stage.pay(0, account_at(0))
    stage.do("kill", "3")
    genesis = stage.folder / "genesis.json"
    original = genesis.read_bytes()
    changed = json.loads(original)
    changed["gasLimit"] = hex(20_000_000)
    genesis.write_text(json.dumps(changed))
    code, line = run_validator(stage, 3)
    assert code == 78
    assert "genesis" in line
    assert line.count("0x") >= 2, "found and expected hash"

    # Without a store nothing contradicts; then the peers do, and say so.
    for name in ("ledger", "journal"):
        path = stage.validator(3) / name
        path.rename(path.with_name(name + ".kept"))
    stage.do("start", "3")
    poll(
        lambda: "it has another genesis" in stage.do("logs", "3", "-n", "200").out,
        "the stranger hears why",
    )
    stage.expect("why-stalled", "validator-3: its genesis block is")
    head = stage.height(0)
    stage.pay(0, account_at(0))
    assert stage.height(0) > head
    assert stage.height(3) == 0
    stage.do("kill", "3")

    genesis.write_bytes(original)
    for name in ("ledger", "journal"):
        path = stage.validator(3) / name
        shutil.rmtree(path)
        path.with_name(name + ".kept").rename(path)
    stage.do("start", "3")
    stage.agree([0, 1, 2, 3])


def test_another_config_with_the_same_genesis_block_is_refused_by_peers(stage: Stage) -> None:
    """The forks are in no header: without a look at them, execution would differ one day."""
    stage.up()
    stage.do("kill", "3")
    genesis = stage.folder / "genesis.json"
    changed = json.loads(genesis.read_bytes())
    changed["config"]["osakaTime"] = 2_000_000_000
    genesis.write_text(json.dumps(changed))
    code, line = run_validator(stage, 3)
    assert code == 78
    assert '"osakaTime":2000000000' in line
    assert "expected" in line

    for name in ("ledger", "journal"):
        shutil.rmtree(stage.validator(3) / name)
    stage.do("start", "3")
    for index in ("3", "0"):
        poll(
            lambda i=index: "it has another genesis" in stage.do("logs", i, "-n", "200").out,
            "both hear why",
        )
    stage.pay(0, account_at(0))
    assert stage.height(3) == 0


def find_journal(stage: Stage, index: int) -> Path:
    files = [p for p in (stage.validator(index) / "journal").iterdir() if p.stat().st_size > 64]
    return max(files, key=lambda path: path.stat().st_mtime_ns)


def test_torn_journal_tail_is_repaired(stage: Stage) -> None:
    stage.up()
    stage.pay(0, account_at(0))
    stage.do("kill", "2")
    journal = find_journal(stage, 2)
    with journal.open("ab") as file:
        file.write(b"\x00\x00\x10\x00half a record")
    stage.do("start", "2")
    stage.pay(2, account_at(0))
    stage.agree([0, 1, 2, 3])


def test_damaged_journal_record_stops_with_a_clear_error(stage: Stage) -> None:
    """A bit that flipped in the middle could hide a vote: guessing would risk a double vote."""
    stage.up()
    for _ in range(3):
        stage.pay(0, account_at(0))
    stage.do("kill", "2")
    journal = find_journal(stage, 2)
    # Behind the records there may be room for more.
    content = bytearray(journal.read_bytes().rstrip(b"\0"))
    content[len(content) // 3] ^= 0x40
    journal.write_bytes(content)
    code, line = run_validator(stage, 2)
    assert code in (1, 78)
    assert "journal" in line
    assert journal.name in line
    stage.pay(0, account_at(0))
    stage.agree([0, 1, 3])


def test_garbage_on_the_peer_port_disturbs_nobody(stage: Stage) -> None:
    stage.up()
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4096, b"\xff" * 4096, b"\x16\x03\x01\x02"):
        with socket.create_connection(("127.0.0.1", stage.p2p), timeout=10) as connection:
            connection.sendall(garbage)
    stage.pay(0, account_at(0))
    stage.expect_all("running")


def test_two_validators_of_one_folder_are_refused(single: Stage) -> None:
    single.up()
    pid = single.status()[0]["pid"]
    code, line = run_validator(single, 0)
    assert code == 1
    assert f"in use by process {pid}" in line
    assert single.status()[0]["pid"] == pid
