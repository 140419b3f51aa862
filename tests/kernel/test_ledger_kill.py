"""A process that is killed while it commits leaves a ledger that goes on where it had got to."""

import random
import subprocess
import sys
import time
from pathlib import Path

from kernel.chain import ACCOUNTS, KEYS, extend, genesis, tip, transaction
from quorate._kernel import Ledger, View, keccak256

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


def newcomer(number: int) -> bytes:
    return keccak256(number.to_bytes(8, "big"))[:20]


def prune_for_ever(path: str) -> None:
    """Extend the ledger, and forget behind it in steps that are due after each few blocks."""
    ledger = Ledger.open(path, genesis())
    while True:
        for _ in range(4):
            number = ledger.final()
            # Half to somebody new, so that nodes die at every depth of the trie.
            to = newcomer(number) if number % 2 else STRANGER
            extend(ledger, transaction(KEYS[0], number, to, 1))
        sys.stdout.write(f"{ledger.commit()}\n")
        sys.stdout.flush()
        while ledger.prune(8, 12):
            pass


def run_and_kill(path: str, delay: float, writer: str = __file__, mode: str = "write") -> int:
    """Kill a writer `delay` seconds after its first commit; return the last height it told."""
    command = [sys.executable, writer, path, mode]
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


def test_a_process_that_is_killed_while_it_prunes_leaves_nothing_half_done(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger")
    dice = random.Random(2)
    borders = set()
    for _ in range(KILLS):
        told = run_and_kill(path, dice.random() / 20, mode="prune")
        ledger = Ledger.open(path, genesis())
        assert ledger.final() == ledger.durable() >= told
        view = ledger.view()
        states, blocks, _ = view.history()
        borders.add((states, blocks))
        found, needed, stored = check(view)
        assert found == []
        assert needed == stored, "nodes that no state needs are gone, and no others"
        total = view.balance(-1, STRANGER) + sum(
            view.balance(-1, newcomer(number)) for number in range(ledger.final())
        )
        assert total == ledger.final() == view.nonce(-1, ACCOUNTS[0])
        view.close()
        ledger.close()
        del ledger, view
    assert len(borders) > KILLS // 2, "what was killed had pruned"


def check(view: View) -> tuple[list[tuple[int, str]], int, int]:
    """Return what does not fit in a store, and bytes of trie nodes that are needed and stored."""
    checking = view.check()
    latest = checking.range()[0]
    findings = checking.blocks(0, latest + 1)
    height: int | None = 0
    while height is not None:
        height, _, found = checking.states(10_000)
        findings += found
    needed, stored, *_ = checking.totals()
    return findings, needed, stored


if __name__ == "__main__":
    {"write": write_for_ever, "prune": prune_for_ever}[sys.argv[2]](sys.argv[1])
