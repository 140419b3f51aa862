"""What history costs: the store after many transfers, whole and pruned, and a state as a snapshot.

    PYTHONPATH=src:tests python -P benchmarks/history.py --transfers 100000

Blocks of 100 transfers to new and old accounts, one commit a block, without fsync's share being
taken apart: both runs pay it. Sizes are of the store's file; `compact` is after `quorate db
compact`.
"""

import argparse
import io
import random
import tempfile
import time
from pathlib import Path

from kernel.chain import ACCOUNTS, KEYS, extend, genesis, transaction
from quorate._kernel import Ledger, compact_store, keccak256

BLOCK = 100
MIB = 1 << 20


def run(path: Path, transfers: int, keep: int | None) -> tuple[float, Ledger]:
    """Return the seconds that blocks took (signing apart) and the ledger."""
    ledger, dice = Ledger.open(str(path), genesis()), random.Random(1)
    nonces, spent = [0] * len(KEYS), 0.0
    for height in range(1, transfers // BLOCK + 1):
        raws = []
        for i in range(BLOCK):
            who = i % len(KEYS)
            to = keccak256(b"%d" % dice.randrange(transfers))[:20]
            raws.append(transaction(KEYS[who], nonces[who], to, 1))
            nonces[who] += 1
        began = time.perf_counter()
        extend(ledger, *raws)
        ledger.commit()
        if keep is not None and height % 16 == 0:
            ledger.prune(keep, keep)
        spent += time.perf_counter() - began
    while keep is not None and ledger.prune(keep, keep):
        pass
    assert ledger.view().nonce(ledger.durable(), ACCOUNTS[0]) == nonces[0]
    return spent, ledger


def move(source: Ledger, path: Path) -> tuple[float, float, int, int]:
    """Return seconds of writing and of building a state, its bytes and accounts."""
    view, height, out = source.view(), source.durable(), io.BytesIO()
    pieces: list[bytes] = []
    cursor: bytes | None = b""
    began = time.perf_counter()
    while cursor is not None:
        piece, cursor = view.export_state(height, cursor, 1 << 20)
        pieces.append(piece)
    exported = time.perf_counter()
    target = Ledger.open(str(path), genesis())
    loading = target.start_import(height)
    for piece in pieces:
        out.write(piece)
        loading.add(piece)
    accounts, decision = loading.accounts, source.decision(height)
    assert decision is not None
    heads = [view.head_record(h) or b"" for h in range(max(height - 256, 1), height + 1)]
    loading.finish(heads, *decision, b"")
    built = time.perf_counter()
    target.close()
    return exported - began, built - exported, len(out.getvalue()), accounts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transfers", type=int, default=100_000)
    parser.add_argument("--keep", type=int, default=64, help="Blocks of states and of blocks.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, keep in (("all", None), (f"last {options.keep}", options.keep)):
            path = Path(folder) / name.replace(" ", "-")
            spent, ledger = run(path, options.transfers, keep)
            if keep is not None:
                wrote, built, size, accounts = move(ledger, Path(folder) / "moved")
            ledger.close()
            before, after = compact_store(str(path))
            rate = options.transfers / spent
            print(
                f"history {name}: {before / MIB:.1f} MiB, compact {after / MIB:.1f} MiB, "
                f"{rate:,.0f} transfers/s"
            )
        print(
            f"snapshot: {size / MIB:.1f} MiB, {accounts:,} accounts; "
            f"written in {wrote:.2f} s, built in {built:.2f} s ({accounts / built:,.0f}/s)"
        )


if __name__ == "__main__":
    main()
