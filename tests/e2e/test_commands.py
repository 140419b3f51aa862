"""Commands around a network: repeated, contradictory, too late, in the wrong place."""

import json
import socket
import stat
from typing import Any

import pytest

from e2e.stage import Stage, account_at, poll
from quorate import compiled

pytestmark = pytest.mark.network


def test_second_up_says_what_runs(single: Stage) -> None:
    single.up()
    pid = single.status()[0]["pid"]
    again = single.up()
    assert "runs already" in again.out
    assert single.status()[0]["pid"] == pid


def test_up_starts_what_is_missing(stage: Stage) -> None:
    stage.up()
    before = [row["pid"] for row in stage.status()]
    stage.do("kill", "1")
    stage.up()
    after = [row["pid"] for row in stage.status()]
    assert before[0] == after[0]
    assert before[1] != after[1] is not None


def test_up_names_what_differs_from_an_existing_network(single: Stage) -> None:
    single.up()
    for option, value, found in (
        ("--validators", "2", "has 1"),
        ("--gas", "free", "has fees"),
        ("--chain-id", "5", "has 31337"),
        ("--gas-limit", "1000000", "has 30000000"),
    ):
        result = single.do("up", "--detach", option, value, ok=False)
        assert result.code == 1
        assert f"{option} {value}" in result.err
        assert found in result.err
        assert "quorate reset" in result.err
        assert len(result.err.strip().splitlines()) == 1
    result = single.do("up", "--detach", "--block-time", "500", ok=False)
    assert result.code == 1
    assert "quorate down" in result.err


def test_block_time_changes_while_the_network_is_down(single: Stage) -> None:
    single.up()
    single.do("down")
    single.do("up", "--detach", "--block-time", "100")
    assert "block_time_ms = 100" in (single.folder / "network.toml").read_text()
    begin = single.height(0)
    poll(lambda: single.height(0) >= begin + 5, "empty blocks at their interval")


def test_idle_network_makes_no_blocks(single: Stage) -> None:
    single.up()
    single.pay(0, account_at(0))
    seen = [single.height(0)]

    def is_still() -> bool:
        seen.append(single.height(0))
        return len(seen) > 40 and len(set(seen[-40:])) == 1

    poll(is_still, "no more blocks")
    assert seen[-1] <= 3


def test_port_in_use_is_named_with_its_option(single: Stage) -> None:
    for port, flag in (
        (single.rpc, "--rpc-port"),
        (single.p2p, "--p2p-port"),
        (single.metrics, "--metrics-port"),
    ):
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", port))
            holder.listen()
            result = single.up(ok=False)
        assert result.code == 1
        assert f"port {port} " in result.err
        assert flag in result.err
        assert not single.folder.exists()


def test_unknown_engine_is_refused_before_anything_is_written(single: Stage) -> None:
    result = single.up("--engine", "dictator", ok=False)
    assert result.code == 2
    assert "'dictator' is not one of 'tendermint', 'raft'" in result.err
    assert not single.folder.exists()


def test_overlapping_ports_are_refused(stage: Stage) -> None:
    result = stage.up("--p2p-port", str(stage.rpc + 2), ok=False)
    assert result.code == 2
    assert "overlap" in result.err


def test_reset_deletes_the_chain_and_up_begins_anew(single: Stage) -> None:
    single.up()
    single.pay(0, account_at(0))
    first = single.block(0, 0)
    refused = single.do("reset", ok=False)
    assert refused.code == 1
    assert "--yes" in refused.err
    single.do("reset", "--yes")
    assert not single.folder.exists()
    single.up()
    assert single.height(0) == 0
    assert single.block(0, 0) != first


def test_secrets_are_readable_by_their_owner_alone(single: Stage) -> None:
    single.up()
    secrets = [single.validator(0) / name for name in ("key.json", "tls.key", "node.sock")]
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE(single.validator(0).stat().st_mode) == 0o700


def test_logs_show_what_a_validator_wrote(single: Stage) -> None:
    single.up()
    assert single.do("logs", "0").out.strip()
    assert single.do("logs", "validator-0", "-n", "1").out.count("\n") == 1


def test_validators_take_what_is_compiled_and_say_so(single: Stage) -> None:
    found = compiled.find(compiled.compute_key(compiled.read_sources()))
    single.up()
    expected = "interpreted" if found is None else "compiled"
    assert f"code={expected}" in single.do("logs", "0").out
    single.do("down")
    plain = {"QUORATE_COMPILED": "0"}
    single.run("start", "0", "--dir", str(single.folder), env=plain)
    assert "code=interpreted" in single.do("logs", "0", "-n", "20").out


@pytest.mark.parametrize("command", ["kill", "start", "stop", "logs"])
def test_unknown_validator_is_named(single: Stage, command: str) -> None:
    single.up()
    result = single.do(command, "7", ok=False)
    assert result.code == 2
    assert "validator 7" in result.err
    assert "expected 0 to 0" in result.err


@pytest.mark.parametrize("command", ["status", "down", "why-stalled", "logs"])
def test_command_without_a_network_says_how_to_make_one(single: Stage, command: str) -> None:
    result = single.do(command, ok=False)
    assert result.code == 1
    assert "quorate up" in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_status_json_holds_what_the_table_shows(stage: Stage) -> None:
    stage.up()
    stage.pay(0, account_at(0))
    rows: list[dict[str, Any]] = []

    def look() -> bool:
        rows[:] = stage.status()
        return all(row["peers"] == 3 and row["lag"] == 0 and row["height"] for row in rows)

    poll(look, lambda: f"all connected and level, found {rows}")
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert {row["state"] for row in rows} == {"running"}
    assert all(row["memory_bytes"] > 1 << 20 for row in rows)
    table = stage.do("status").out
    assert all(f"validator-{index}" in table for index in range(4))
    why = json.loads(stage.do("why-stalled", "-o", "json").out)
    assert why["quorum"]
    assert why["absent"] == []


def test_killing_a_dead_validator_and_starting_a_live_one_do_nothing(single: Stage) -> None:
    single.up()
    pid = single.status()[0]["pid"]
    assert "runs already" in single.do("start", "0").err
    assert single.status()[0]["pid"] == pid
    single.do("kill", "0")
    assert "does not run" in single.do("kill", "0").err
    single.do("down")


def test_stale_pid_file_harms_nobody(single: Stage) -> None:
    """A number that was left behind and belongs to somebody else by now is not signalled."""
    import subprocess
    import sys

    single.up()
    single.do("stop", "0")
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (single.validator(0) / "validator.pid").write_text(f"{bystander.pid}\n")
        single.do("kill", "0")
        single.do("down")
        assert bystander.poll() is None
        single.up()
        assert single.status()[0]["pid"] not in (None, bystander.pid)
    finally:
        bystander.communicate(b"\n", timeout=60)
    assert bystander.returncode == 0


def test_transaction_with_a_nonce_gap_survives_a_restart(single: Stage) -> None:
    """A client was told that it was admitted, so a stop in good order must not forget it."""
    single.up()
    sender = account_at(0)
    single.nonces[sender.address] = 1
    later = single.send(0, sender)
    assert single.call(0, "txpool_status") == {"pending": "0x0", "queued": "0x1"}
    single.do("down")
    single.up()
    poll(
        lambda: single.call(0, "txpool_status") == {"pending": "0x0", "queued": "0x1"},
        "the pool is restored",
    )
    single.nonces[sender.address] = 0
    single.settle(0, single.send(0, sender))
    single.settle(0, later)
