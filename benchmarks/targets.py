"""The nodes that are measured: started from nothing, asked over JSON-RPC, stopped."""

import http.client
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workload import ROOT

from clients.network import free_port_block, start_network, stop_network

GAS_LIMIT = 1_000_000_000
"""Of a block, so that 21,000 gas for each transfer is not what is measured."""
POLL_S = 0.02


class Rpc:
    """JSON-RPC over one keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.port = port

    def post(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        self.connection.request("POST", "/", body, headers)
        return json.loads(self.connection.getresponse().read())

    def call(self, method: str, *parameters: Any) -> Any:
        answer = self.post(encode_call(1, method, list(parameters)))
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def batch(self, calls: list[tuple[str, list[Any]]]) -> list[Any]:
        parts = [encode_call(i, method, parameters) for i, (method, parameters) in enumerate(calls)]
        results = sorted(self.post(b"[" + b",".join(parts) + b"]"), key=lambda answer: answer["id"])
        failed = [answer["error"] for answer in results if "error" in answer]
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(calls)} calls failed: {failed[0]}")
        return [answer["result"] for answer in results]

    def send_all(self, raws: list[bytes], size: int = 100) -> None:
        for at in range(0, len(raws), size):
            part = raws[at : at + size]
            self.batch([("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in part])

    def nonces(self, accounts: list[bytes]) -> list[int]:
        calls: list[tuple[str, list[Any]]] = [
            ("eth_getTransactionCount", ["0x" + account.hex(), "latest"]) for account in accounts
        ]
        return [
            int(nonce, 16)
            for at in range(0, len(calls), 500)
            for nonce in self.batch(calls[at : at + 500])
        ]


def encode_call(identity: int, method: str, parameters: list[Any]) -> bytes:
    body = {"jsonrpc": "2.0", "id": identity, "method": method, "params": parameters}
    return json.dumps(body, separators=(",", ":")).encode()


class Watcher:
    """Counts transactions in blocks as they appear."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc
        self.seen = int(rpc.call("eth_blockNumber"), 16)
        self.first = self.seen
        self.count = 0

    def poll(self) -> int:
        head = int(self.rpc.call("eth_blockNumber"), 16)
        while self.seen < head:
            self.seen += 1
            number = hex(self.seen)
            self.count += int(self.rpc.call("eth_getBlockTransactionCountByNumber", number), 16)
        return self.count

    def wait(
        self, count: int, deadline_s: float, load: subprocess.Popen[str] | None = None
    ) -> None:
        """Return once `count` transactions are mined; fail early if the load has failed."""
        end = time.monotonic() + deadline_s
        while self.poll() < count:
            if load is not None and load.poll():
                raise RuntimeError(f"the load ended with exit code {load.returncode}")
            if time.monotonic() > end:
                raise RuntimeError(f"{self.count} transactions mined, expected {count}")
            time.sleep(POLL_S)


@dataclass
class Target:
    """A running node or network."""

    name: str
    ports: list[int]
    pids: list[int] = field(default_factory=list)
    """The node itself, or each validator."""
    folder: Path | None = None
    """Where its files lie; None: it has none."""

    def rpc(self) -> Rpc:
        return Rpc(self.ports[0])

    def resident_mib(self) -> dict[str, float]:
        """Return the mean resident memory of a node, and of the processes below each node."""
        below = [child for pid in self.pids for child in children_of(pid)]
        return {
            role: sum(map(read_resident_mib, pids)) / len(pids)
            for role, pids in (("node", self.pids), ("json-rpc", below))
            if pids
        }

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes until now."""
        below = [child for pid in self.pids for child in children_of(pid)]
        return sum(map(read_cpu_seconds, [*self.pids, *below]))

    def disk_bytes(self) -> int:
        """Return what one validator keeps on disk, in blocks that are really used."""
        if self.folder is None:
            return 0
        files = (self.folder / "validator-0").rglob("*")
        return sum(path.stat().st_blocks * 512 for path in files if path.is_file())


def read_resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def read_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """Return the processes below one, all the way down."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children_of(int(child))]
    return found


def find_anvil() -> Path:
    """Return the Anvil binary of the tests' Node.js packages."""
    packages = ROOT / "tests" / "js" / "node_modules" / "@foundry-rs"
    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
    path = packages / f"anvil-{platform.system().lower()}-{machine}" / "bin" / "anvil"
    if not path.exists():
        raise SystemExit("Anvil is not installed: run `npm ci --prefix tests/js`")
    return path


@contextmanager
def anvil(*options: str) -> Iterator[Target]:
    """Anvil with its state in memory."""
    port = free_port_block(1)
    arguments = [str(find_anvil()), "--port", str(port), "--gas-limit", str(GAS_LIMIT), "--silent"]
    process = subprocess.Popen([*arguments, "--no-request-size-limit", *options])
    try:
        target = Target("anvil", [port], [process.pid])
        wait_until_it_answers(port)
        yield target
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def quorate(validators: int, block_time_ms: int, parent: Path | None = None) -> Iterator[Target]:
    """Validators on this machine with fsync on, their files in a new folder below `parent`."""
    with tempfile.TemporaryDirectory(dir=parent) as place:
        folder = Path(place)
        options = ("--block-time", str(block_time_ms), "--gas-limit", str(GAS_LIMIT))
        endpoint = start_network(folder, *options, validators=validators)
        try:
            ports = [int(url.rsplit(":", 1)[1]) for url in endpoint.http]
            pids = [
                int((folder / f"validator-{i}" / "validator.pid").read_text().split()[0])
                for i in range(validators)
            ]
            yield Target(f"{validators} validators", ports, pids, folder)
        finally:
            stop_network(folder)


def wait_until_it_answers(port: int, deadline_s: float = 30) -> None:
    end = time.monotonic() + deadline_s
    while True:
        try:
            Rpc(port).call("eth_chainId")
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
