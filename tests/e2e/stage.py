"""A real network under test: the command line, JSON-RPC, and the certainty that nothing stays."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from clients.network import ROOT, account_at, kill_all
from ports import free_port_blocks

COMMAND_S = 240
"""Longer than any command waits by itself, so that its own words tell what it waits for."""
PATIENCE_S = 120
POLL_S = 0.05
CHAIN_ID = 31337


@dataclass(frozen=True)
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def poll(
    done: Callable[[], bool], what: str | Callable[[], str], seconds: float = PATIENCE_S
) -> None:
    """Wait for real processes to bring something about; fail naming it."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(POLL_S)


def make_environment() -> dict[str, str]:
    """Return an environment in which only the test's own settings count."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("QUORATE_")}
    return kept | {"PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}


class Stage:
    """One network in a folder of its own, on ports of its own."""

    def __init__(self, folder: Path, validators: int = 4) -> None:
        self.folder, self.validators = folder, validators
        self.rpc, self.p2p, self.metrics = free_port_blocks(validators, 3)
        self.nonces: dict[str, int] = {}

    # ---- the command line

    def run(self, *arguments: str, ok: bool = True, env: dict[str, str] | None = None) -> Result:
        """Run `quorate ...`; with `ok` it must succeed."""
        environment = make_environment() | (env or {})
        done = subprocess.run(
            [sys.executable, "-m", "quorate.cli", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            cwd=self.folder.parent,
            check=False,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        assert not ok or result.code == 0, f"quorate {' '.join(arguments)}: {result}"
        return result

    def do(self, command: str, *arguments: str, ok: bool = True) -> Result:
        """Run a command on this network."""
        return self.run(command, *arguments, "--dir", str(self.folder), ok=ok)

    def up(self, *options: str, ok: bool = True) -> Result:
        """Start the network in the background."""
        return self.do("up", "--detach", *self.up_options(), *options, ok=ok)

    def up_with(self, settings: dict[str, int], *options: str) -> Result:
        """Start the network with settings of its engine that `up` has no options for."""
        result = self.up(*options)
        self.do("down")
        path = self.folder / "network.toml"
        head, table, rest = path.read_text().partition("[engine_settings]\n")
        assert table, "no [engine_settings] in network.toml"
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        path.write_text(head + table + lines + rest)
        self.up()
        return result

    def up_options(self) -> list[str]:
        return [
            *("--validators", str(self.validators)),
            *("--rpc-port", str(self.rpc)),
            *("--p2p-port", str(self.p2p)),
            *("--metrics-port", str(self.metrics)),
        ]

    def status(self) -> list[dict[str, Any]]:
        """Return what `quorate status -o json` says of each validator, once all that run answer."""
        rows: list[dict[str, Any]] = []

        def look() -> bool:
            rows[:] = json.loads(self.do("status", "-o", "json", ok=False).out)["validators"]
            return all(row["state"] != "silent" for row in rows)

        poll(look, "an answer of each validator that runs")
        return rows

    def expect(self, command: str, *words: str) -> None:
        """Wait until a command says all of these: each time it tells of a moment only."""
        told: list[str] = []

        def look() -> bool:
            told[:] = [self.do(*command.split(), ok=False).text]
            return all(word in told[0] for word in words)

        poll(look, lambda: f"quorate {command} says {words}, found {told}")

    def expect_all(self, state: str) -> None:
        """Wait until all validators are in a state; one may be behind for a moment."""
        poll(lambda: {row["state"] for row in self.status()} == {state}, f"all are {state}")

    def validator(self, index: int) -> Path:
        return self.folder / f"validator-{index}"

    # ---- JSON-RPC

    def call(self, index: int, method: str, *parameters: Any) -> Any:
        """Return the result of a JSON-RPC call to a validator. Raises OSError, AssertionError."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.rpc + index}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "error" not in answer, answer
        return answer["result"]

    def send(self, index: int, sender: LocalAccount, value: int = 1) -> str:
        """Send a transfer through a validator; return the transaction's hash."""
        found = self.call(index, "eth_sendRawTransaction", self.sign(index, sender, value))
        self.nonces[sender.address] += 1
        assert isinstance(found, str)
        return found

    def send_again(self, index: int, signed: str) -> None:
        """Send what was signed and sent before, wherever it is by now."""
        try:
            self.call(index, "eth_sendRawTransaction", signed)
        except AssertionError as error:
            if not re.search("already known|nonce too low", str(error)):
                raise

    def sign(self, index: int, sender: LocalAccount, value: int = 1) -> str:
        """Return a transfer with the sender's next nonce, which a validator tells at first."""
        nonce = self.nonces.setdefault(
            sender.address,
            int(self.call(index, "eth_getTransactionCount", sender.address, "latest"), 16),
        )
        signed = sender.sign_transaction(
            {
                "chainId": CHAIN_ID,
                "nonce": nonce,
                "to": "0x" + "42" * 20,
                "value": value,
                "gas": 21_000,
                "maxFeePerGas": 10**10,
                "maxPriorityFeePerGas": 10**9,
            }
        )
        return "0x" + bytes(signed.raw_transaction).hex()

    def has_receipt(self, index: int, transaction: str) -> bool:
        """Whether a validator shows a transaction as final."""
        try:
            receipt = self.call(index, "eth_getTransactionReceipt", transaction)
        except (OSError, urllib.error.URLError):
            return False
        assert receipt is None or receipt["status"] == "0x1", receipt
        return receipt is not None

    def settle(self, index: int, transaction: str, seconds: float = PATIENCE_S) -> None:
        """Wait until a validator shows a transaction as final."""
        poll(lambda: self.has_receipt(index, transaction), f"receipt of {transaction}", seconds)

    def pay(self, index: int, sender: LocalAccount) -> str:
        """Send a transfer through a validator and wait until it is final there."""
        transaction = self.send(index, sender)
        self.settle(index, transaction)
        return transaction

    def height(self, index: int) -> int:
        return int(self.call(index, "eth_blockNumber"), 16)

    def block(self, index: int, height: int) -> str | None:
        """Return the hash of a block as a validator has it; None if it has not got there."""
        found = self.call(index, "eth_getBlockByNumber", hex(height), False)
        return None if found is None else found["hash"]

    def agree(self, indexes: list[int]) -> None:
        """Wait until these validators have one head, then compare every block below it."""
        poll(
            lambda: (
                len({self.height(i) for i in indexes}) == 1
                and len({self.block(i, self.height(indexes[0])) for i in indexes}) == 1
            ),
            f"one head on {indexes}",
        )
        for height in range(self.height(indexes[0]) + 1):
            assert len({self.block(i, height) for i in indexes}) == 1, f"height {height} differs"

    # ---- the end

    def clean(self) -> None:
        """Leave no process behind, whatever the test did to the network."""
        try:
            self.do("down", ok=False)
        finally:
            kill_all(self.folder)


__all__ = ["Result", "Stage", "account_at", "make_environment", "poll"]
