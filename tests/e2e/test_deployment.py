"""A network as operators make it: `init` on one machine, `run` once on each host."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.stage import Stage, account_at, make_environment, poll

pytestmark = pytest.mark.network
NAMES = ("alice", "bob", "carol", "dave")


class Deployment(Stage):
    """Validators by name, each run in the foreground as a service manager would."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.password = folder.parent / "password"
        self.password.write_text("correct horse\n")

    def init(self) -> None:
        places = [f"{name}=127.0.0.1:{self.p2p + i}" for i, name in enumerate(NAMES)]
        self.run(
            *("init", "--out", str(self.folder), "--chain-id", "31337"),
            *("--rpc-port", str(self.rpc), "--metrics-port", str(self.metrics)),
            *("--password-file", str(self.password)),
            *("--account", f"{account_at(0).address}=7"),
            *(part for place in places for part in ("--validator", place)),
        )

    def launch(self, name: str) -> None:
        network, folder = self.folder / "network.toml", self.folder / name
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "quorate.cli", "run"),
                    *("--network", str(network), "--folder", str(folder)),
                    *("--password-file", str(self.password)),
                ],
                env=make_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_up(self, index: int) -> bool:
        try:
            self.call(index, "eth_chainId")
        except OSError:
            return False
        return True

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def clean(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(60)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path / "deployment")
    try:
        yield made
    finally:
        made.clean()


def test_hosts_agree_stop_in_order_and_come_back(deployment: Deployment) -> None:
    alice = account_at(0)
    deployment.init()
    for name in NAMES:
        deployment.launch(name)
    poll(lambda: all(deployment.is_up(i) for i in range(4)), "JSON-RPC of all hosts")
    assert int(deployment.call(0, "eth_getBalance", alice.address, "latest"), 16) == 7 * 10**18
    deployment.pay(0, alice)
    assert deployment.stop("dave") == 0
    deployment.pay(1, alice)
    deployment.launch("dave")
    poll(lambda: deployment.is_up(3), "JSON-RPC of dave")
    deployment.agree([0, 1, 2, 3])
    proved = deployment.run(
        *("verify", "--genesis", str(deployment.folder / "genesis.json")),
        *("--rpc", f"http://127.0.0.1:{deployment.rpc}", "--account", alice.address),
    )
    assert "nonce" in proved.out
    for name in NAMES:
        assert deployment.stop(name) == 0


def test_taken_port_ends_the_start_with_its_number(deployment: Deployment) -> None:
    deployment.init()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", deployment.p2p))
        holder.listen()
        result = deployment.run(
            *("run", "--network", str(deployment.folder / "network.toml")),
            *("--folder", str(deployment.folder / "alice")),
            *("--password-file", str(deployment.password)),
            ok=False,
        )
    assert result.code == 1
    last = result.err.strip().splitlines()[-1]
    assert last.startswith("error: alice: ")
    assert str(deployment.p2p) in last
