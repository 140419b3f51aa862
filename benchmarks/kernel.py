"""Where does the time of a transaction go inside the kernel?

Each part of a block's way through pool and ledger, per transaction, as a ratio to recovering its
sender in the same run: recovery is the floor that no node gets below. Processor time counts all
cores; elapsed time shows what several of them gain. The best of several rounds counts, since other
work on the machine only ever adds.

    python benchmarks/kernel.py [--count 10000] [--rounds 5] [--token]
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import workload
from kernel_vs_anvil import KINDS, Workload, compile_token, execute_block
from targets import GAS_LIMIT

from quorate._kernel import Ledger, Pool, keccak256, recover_many, sign
from quorate.base.types import Member
from quorate.ledger.genesis import make_genesis
from quorate.ledger.payload import compose

VALIDATOR = bytes(19) + b"\1"
GENESIS_S = 1_600_000_000
BODY_BYTES = 8 << 20
PARTS = ("recover", "add", "take", "check", "execute", "settle", "commit")
Times = dict[str, tuple[float, float]]
T = TypeVar("T")


def timed(times: Times, name: str, work: Callable[[], T]) -> T:
    """Run a part; note its elapsed and processor seconds."""
    before = time.perf_counter(), time.process_time()
    result = work()
    times[name] = time.perf_counter() - before[0], time.process_time() - before[1]
    return result


def measure(work: Workload) -> Times:
    """Take one block of the workload from raw transactions to the store in memory."""
    genesis = make_genesis(
        chain_id=workload.CHAIN_ID,
        engine="tendermint",
        gas="fees",
        members=[Member(VALIDATOR, 1)],
        balances={key.address: 10_000 * 10**18 for key in workload.dev_keys()},
        gas_limit=GAS_LIMIT,
        timestamp=GENESIS_S,
    )
    ledger = Ledger.open(None, genesis)
    for number, raws in enumerate(work.prepare, 1):
        execute_block(ledger, raws, number)
    parent = ledger.block(ledger.final())
    assert parent is not None
    pool = Pool(ledger, max_transactions=2 * work.count, account_slots=work.count)
    digests = [keccak256(raw) for raw in work.measured]
    signed = [(digest, sign(bytes(31) + b"\1", digest)) for digest in digests]

    times: Times = {}
    timed(times, "recover", lambda: recover_many(signed))
    answers = timed(times, "add", lambda: pool.add(work.measured))
    if refused := [reason for _, reason in answers if reason]:
        raise SystemExit(f"the pool refused {len(refused)} transactions: {refused[0]}")
    body = timed(times, "take", lambda: pool.take(parent.hash, BODY_BYTES, GAS_LIMIT))
    now_ms = parent.timestamp_ms + 1000
    payload = compose(parent.hash, now_ms, VALIDATOR, body)
    timed(times, "check", lambda: ledger.check(parent.hash, payload, now_ms))
    block = timed(times, "execute", lambda: ledger.execute(parent.hash, [payload], bytes(32)))
    if block.transactions != work.count:
        raise SystemExit(f"the block holds {block.transactions}, expected {work.count}")
    timed(times, "settle", lambda: pool.settle(block.hash))
    ledger.finalize(block.hash, bytes(32), b"", [payload])
    timed(times, "commit", ledger.commit)
    ledger.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--token", action="store_true", help="ERC-20 transfers (needs Node.js)")
    options = parser.parse_args()
    creation = compile_token() if options.token else b""
    work = Workload(KINDS[int(options.token)], options.count, creation)
    rounds = [measure(work) for _ in range(options.rounds)]
    best = {p: [min(r[p][i] for r in rounds) / options.count for i in (0, 1)] for p in PARTS}
    floor = best["recover"]
    print(f"{options.count} {KINDS[int(options.token)]}, best of {options.rounds} rounds")
    print(f"{'part':8} {'elapsed us':>10} {'ratio':>6} {'cpu us':>8} {'ratio':>6}")
    for part in PARTS:
        elapsed, cpu = best[part]
        ratios = elapsed / floor[0], cpu / floor[1]
        print(f"{part:8} {elapsed * 1e6:10.2f} {ratios[0]:6.2f} {cpu * 1e6:8.2f} {ratios[1]:6.2f}")


if __name__ == "__main__":
    main()
