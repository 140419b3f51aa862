"""A network of real validator processes in a folder of its own.

`python trial.py FOLDER INDEX` is one of its validators. Where the folder has a genesis file they
run the Ethereum ledger, otherwise the opaque one: it keeps its final heights in a file, synced by
every commit, so that a killed process finds what was durable and nothing more.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ports import free_port
from quorate._kernel import Ledger, address
from quorate.base.types import Hash, Height, Member
from quorate.consensus.keys import SecpKeys
from quorate.ledger.genesis import make_genesis as make_genesis_file
from quorate.ledger.opaque import Final, OpaqueLedger, OpaqueStore, make_genesis
from quorate.node.status import NodeStatus
from quorate.runtime.config import (
    Blocks,
    Log,
    Metrics,
    Network,
    Peers,
    Rpc,
    ValidatorConfig,
    load_network,
    write_network,
)
from quorate.runtime.folder import Folder, get_network_path, make_private
from quorate.runtime.ipc_client import ask_status
from quorate.runtime.tls import create_certificate, write_private
from quorate.runtime.validator import Opened, Plan, run_validator

ACCOUNTS = 10


def get_secret(index: int) -> bytes:
    return bytes([index + 1]) * 32


class FileStore(OpaqueStore):
    """An opaque store in one file of msgpack values, each after its length."""

    def __init__(self, path: Path, members: list[Member]) -> None:
        super().__init__(make_genesis(b"trial", members))
        self.path = path
        self.kept = 1
        raw = path.read_bytes() if path.exists() else b""
        offset = 0
        while offset + 4 <= len(raw):
            end = offset + 4 + int.from_bytes(raw[offset : offset + 4], "big")
            if end > len(raw):
                break  # a torn write, which no commit acknowledged
            self.final.append(msgspec.msgpack.decode(raw[offset + 4 : end], type=Final))
            offset = end
        self.kept = len(self.final)
        self.file = path.open("ab")
        self.file.truncate(offset)

    def keep(self) -> None:
        for final in self.final[self.kept :]:
            body = msgspec.msgpack.encode(final)
            self.file.write(len(body).to_bytes(4, "big") + body)
        self.file.flush()
        os.fdatasync(self.file.fileno())
        self.kept = len(self.final)


class FileLedger(OpaqueLedger):
    def first_held(self) -> Height:
        return 1

    def prune(self, states: int, blocks: int) -> bool:
        return False

    def commit(self) -> Height:
        height = super().commit()
        assert isinstance(self.store, FileStore)
        self.store.keep()
        return height


def get_members(network: Network) -> list[Member]:
    return [Member(v.identity, v.power) for v in network.validators]


def get_account(index: int) -> bytes:
    """Return the secret of an account that has a million ether."""
    return bytes([100 + index]) * 32


def make_ethereum_genesis(network: Network) -> bytes:
    return make_genesis_file(
        chain_id=network.chain_id,
        engine=network.engine,
        gas="fees",
        members=get_members(network),
        balances={address(get_account(i)): 10**24 for i in range(ACCOUNTS)},
        gas_limit=30_000_000,
        timestamp=1_700_000_000,
    )


def open_ethereum(plan: Plan) -> Opened:
    # Imported here: the opaque ledger's tests need no more of the kernel than its hashes and keys.
    from quorate.runtime.ledger import open_ledger

    return open_ledger(plan)


def open_trial(plan: Plan) -> Opened:
    store = FileStore(plan.folder.path / "ledger.bin", get_members(plan.network))
    ledger = FileLedger(store, plan.validator.identity)
    return Opened(ledger, None, store.file.close, ledger.genesis)


class Trial:
    """Makes the folder, starts and stops the processes."""

    def __init__(self, folder: Path, count: int, *, ethereum: bool = False, **changes: Any) -> None:
        self.folder, self.count, self.ethereum = folder, count, ethereum
        validators = []
        for i in range(count):
            files = Folder.of(folder, i)
            make_private(files.path)
            key, certificate, pin = create_certificate(f"validator-{i}")
            write_private(files.tls_key, key)
            write_private(files.tls_certificate, certificate)
            validators.append(
                ValidatorConfig(
                    name=f"validator-{i}",
                    address="0x" + SecpKeys(get_secret(i)).address.hex(),
                    host="127.0.0.1",
                    port=free_port(),
                    tls_sha256=pin.hex(),
                    rpc_port=free_port(),
                    metrics_port=free_port(),
                )
            )
        settings: dict[str, Any] = {
            "blocks": Blocks(block_time_ms=5),
            "peers": Peers(reconnect_max_ms=300),
            "rpc": Rpc(enabled=False),
            "metrics": Metrics(enabled=False),
            "log": Log(level="debug"),
            **changes,
        }
        self.network = Network(name="trial", chain_id=1, validators=validators, **settings)
        write_network(self.network, get_network_path(folder))
        if ethereum:
            (folder / self.network.genesis).write_bytes(make_ethereum_genesis(self.network))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.script = __file__

    def start(self, index: int) -> None:
        output = (self.folder / f"out-{index}").open("ab")
        self.processes[index] = subprocess.Popen(
            [sys.executable, self.script, str(self.folder), str(index)],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        output.close()

    def start_all(self) -> None:
        for i in range(self.count):
            self.start(i)

    def get_status(self, index: int) -> NodeStatus | None:
        try:
            return ask_status(Folder.of(self.folder, index).socket, 60)
        except RuntimeError:
            return None

    def get_height(self, index: int) -> Height:
        status = self.get_status(index)
        return -1 if status is None else status.height

    def end(self, index: int, number: signal.Signals) -> int:
        """Signal a validator and wait for its end; return its exit code."""
        process = self.processes.pop(index)
        process.send_signal(number)
        return process.wait(120)

    def stop_all(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()

    def get_output(self, index: int) -> str:
        log = Folder.of(self.folder, index).log
        text = (self.folder / f"out-{index}").read_text()
        return text + (log.read_text() if log.exists() else "")

    def get_chain(self, index: int) -> list[Hash]:
        """Return the block hashes that a stopped validator has on its disk, genesis first."""
        files = Folder.of(self.folder, index)
        if self.ethereum:
            genesis = (self.folder / self.network.genesis).read_bytes()
            ledger = Ledger.open(str(files.ledger), genesis)
            blocks = [ledger.block(height) for height in range(ledger.final() + 1)]
            ledger.close()
            return [block.hash for block in blocks if block is not None]
        store = FileStore(files.path / "ledger.bin", get_members(self.network))
        store.file.close()
        return [final.executed.block for final in store.final]


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 120.0) -> None:
    """Poll other processes until the condition holds; fail with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen in {seconds} s: {what}"
        time.sleep(0.02)


def main() -> None:
    folder, index = Path(sys.argv[1]), int(sys.argv[2])
    network = load_network(get_network_path(folder), {})
    files = Folder.of(folder, index)
    has_genesis = (folder / network.genesis).exists()
    plan = Plan(
        network=network,
        network_folder=folder,
        validator=network.validators[index],
        folder=files,
        secret=get_secret(index),
        log_file=files.log,
        open_application=open_ethereum if has_genesis else open_trial,
    )
    try:
        code = run_validator(plan)
    except Exception as error:
        print(f"quorate: {error}", file=sys.stderr)
        raise
    sys.exit(code)


if __name__ == "__main__":
    main()
