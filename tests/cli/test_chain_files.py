"""Chains as files: import, export, and what is said of files that are not whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kernel.vectors import vectors
from ports import free_port
from quorate.cli.chain_files import export, import_
from rpc.conftest import send
from rpc.fakes import Node

SUITE = "execution-apis/tests"


@pytest.fixture
def files() -> tuple[Path, Path]:
    folder = vectors(SUITE)
    return folder / "genesis.json", folder / "chain.rlp"


def call(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_what_is_exported_is_what_was_imported(files: tuple[Path, Path], tmp_path: Path) -> None:
    genesis, chain = files
    store = tmp_path / "store"
    done = call(import_, genesis, chain, "--store", store)
    assert done.exit_code == 0, done.output
    assert "54 new blocks" in done.output
    again = call(import_, genesis, chain, "--store", store)
    assert again.exit_code == 0
    assert "0 new blocks" in again.output
    assert call(export, store, "-o", tmp_path / "all.rlp").exit_code == 0
    assert (tmp_path / "all.rlp").read_bytes() == chain.read_bytes()
    parts = [(1, 20), (21, 54)]
    for first, last in parts:
        name = tmp_path / f"{first}.rlp"
        assert call(export, store, "--first", first, "--last", last, "-o", name).exit_code == 0
    names = [tmp_path / f"{first}.rlp" for first, _ in parts]
    other = call(import_, genesis, *names, "--store", tmp_path / "other")
    assert other.exit_code == 0
    assert "54 new blocks" in other.output


def test_a_file_that_was_cut_off_keeps_what_is_whole(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    genesis, chain = files
    cut = tmp_path / "cut.rlp"
    cut.write_bytes(chain.read_bytes()[:-10])
    done = call(import_, genesis, cut, "--store", tmp_path / "store")
    assert "ends within a block" in done.output
    assert "height 53" in done.output
    rest = call(import_, genesis, chain, "--store", tmp_path / "store")
    assert rest.exit_code == 0
    assert "1 new blocks" in rest.output


def test_refusals_say_what_was_found(files: tuple[Path, Path], tmp_path: Path) -> None:
    genesis, chain = files
    nonsense = tmp_path / "nonsense.rlp"
    nonsense.write_bytes(b"\x01\x02")
    done = call(import_, genesis, nonsense, "--store", tmp_path / "store")
    assert "expected the RLP of a block" in done.output
    missing = call(export, tmp_path / "nowhere", "-o", tmp_path / "out.rlp")
    assert missing.exception is not None
    assert call(import_, genesis, chain, "--store", tmp_path / "store").exit_code == 0
    beyond = call(export, tmp_path / "store", "--last", 55, "-o", tmp_path / "out.rlp")
    assert "expected some of 0 to 54" in beyond.output
    assert not (tmp_path / "out.rlp").exists()


@pytest.mark.network
def test_a_store_is_served_without_a_network(files: tuple[Path, Path], tmp_path: Path) -> None:
    genesis, chain = files
    assert call(import_, genesis, chain, "--store", tmp_path / "store").exit_code == 0
    port = free_port()
    command = [sys.executable, "-m", "quorate.cli", "serve", str(tmp_path / "store")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([*command, "--port", str(port), "--api", "eth"], env=environment)
    try:
        body = b'[{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}]'
        assert b'"0x36"' in ask_until_up(port, body)
        body = b'{"jsonrpc":"2.0","id":1,"method":"eth_syncing"}'
        assert b"false" in ask_until_up(port, body)
        body = b'{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x02"]}'
        assert b"-32002" in ask_until_up(port, body)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)


def ask_until_up(port: int, body: bytes) -> bytes:
    node = Node.__new__(Node)
    node.port = port
    deadline = time.monotonic() + 60
    while True:
        try:
            return send(node, body)[2]
        except OSError:
            assert time.monotonic() < deadline, "no answer"
            time.sleep(0.1)
