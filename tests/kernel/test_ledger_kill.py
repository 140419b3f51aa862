"""A process that is killed while it commits leaves a ledger that goes on where it had got to."""

import random
import subprocess
import sys
import time
from pathlib import Path

from kernel.chain import ACCOUNTS, KEYS, extend, genesis, tip, transaction
from quorate._kernel import Ledger, View

KILLS = 12
STRANGER = b"\x77" * 20


def write_for_ever(path: str) -> None:
    """Extend the ledger by one transfer per block, tell every durable height."""
    ledger = Ledger.open(path, genesis())
    while True:
        # Some commits hold several blocks.
        for _ in range(1 + ledger.final() % 3):
            extend(ledger, transaction(KEYS[0], ledger.final(), STRANGER, 1))
        sys.stdout.write(f"{ledger.commit()}\n")
        sys.stdout.flush()


def run_and_kill(path: str, delay: float, writer: str = __file__) -> int:
    """Kill a writer `delay` seconds after its first commit; return the last height it told."""
    command = [sys.executable, writer, path]
    folders = ":".join(sys.path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": folders}) as victim:
        assert victim.stdout is not None
        told = [victim.stdout.readline()]
        assert told[0], "the writer ended by itself"
        # Spinning is more exact than sleeping: the moment must not follow the writer's rhythm.
        deadline = time.perf_counter() + delay
        while time.perf_counter() < deadline:
            pass
        victim.kill()
        told += victim.stdout.readlines()
    return max(int(line) for line in told if line.endswith(b"\n"))


def test_a_killed_process_leaves_a_ledger_that_goes_on(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    model = Ledger.open(None, genesis())
    dice = random.Random(1)
    for _ in range(KILLS):
        told = run_and_kill(path, dice.random() / 50)
        ledger = Ledger.open(path, genesis())
        assert ledger.final() == ledger.durable() >= told
        while model.final() < ledger.durable():
            extend(model, transaction(KEYS[0], model.final(), STRANGER, 1))
        block = tip(ledger)
        assert block.hash == tip(model).hash
        view = View.open(path)
        assert view.balance(block.number, STRANGER) == view.nonce(block.hash, ACCOUNTS[0])
        assert ledger.decision(block.number) == model.decision(block.number)
        view.close()
        ledger.close()
        del ledger, view
    assert model.final() > KILLS


if __name__ == "__main__":
    write_for_ever(sys.argv[1])
