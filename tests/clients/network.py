"""A network of validator processes, started and stopped as a user would: by the command line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from ports import free_port_blocks

ROOT = Path(__file__).resolve().parents[2]
JS = ROOT / "tests" / "js"
CHAIN_ID = 31337
MNEMONIC = "test test test test test test test test test test test junk"

Account.enable_unaudited_hdwallet_features()


def account_at(index: int) -> LocalAccount:
    """Return a funded development account; each test file uses its own."""
    account = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    assert isinstance(account, LocalAccount)
    return account


@dataclass(frozen=True)
class Endpoint:
    """Where validators answer JSON-RPC; `folder` is None for somebody else's network."""

    http: list[str]
    folder: Path | None

    @property
    def ws(self) -> list[str]:
        return [url.replace("http", "ws", 1) for url in self.http]


def run_quorate(*arguments: str, timeout: float = 240) -> str:
    """Run the command and return what it prints; a failure shows its output."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "quorate.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if result.returncode != 0:
        output = result.stdout + result.stderr
        raise RuntimeError(f"quorate {' '.join(arguments)}: exit {result.returncode}\n{output}")
    return result.stdout


def start_network(folder: Path, *options: str, validators: int = 4) -> Endpoint:
    """Start `validators` processes with their files in `folder`; they answer when this returns."""
    rpc, peers, metrics = free_port_blocks(validators, 3)
    run_quorate(
        "up",
        "--detach",
        *("--dir", str(folder)),
        *("--validators", str(validators)),
        *("--rpc-port", str(rpc)),
        *("--p2p-port", str(peers)),
        *("--metrics-port", str(metrics)),
        *options,
    )
    return Endpoint([f"http://127.0.0.1:{rpc + i}" for i in range(validators)], folder)


def network_of(
    folder: Path, *options: str, of: str = "QUORATE_TEST_RPC"
) -> Generator[Endpoint, None, None]:
    """Yield four validator processes; where the variable `of` is set, what answers at its URL."""
    url = os.environ.get(of)
    if url:
        yield Endpoint([url], None)
        return
    try:
        yield start_network(folder, *options)
    finally:
        stop_network(folder)


def stop_network(folder: Path) -> None:
    """Stop a network in good order; whatever comes of that, no process of it stays."""
    try:
        run_quorate("down", "--dir", str(folder))
    finally:
        kill_all(folder)


def kill_all(folder: Path) -> None:
    """Kill all processes whose command lines name a folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(word == str(folder) or word.startswith(f"{folder}/") for word in words):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def load_artefact(path: Path) -> dict[str, Any]:
    artefact = json.loads(path.read_text())
    assert isinstance(artefact, dict)
    return artefact
