"""How fast does the kernel execute a block of 10,000 transactions, with roots, against Anvil?

The same raw transactions, alternating runs on new chains: transfers, and transfers of an
OpenZeppelin ERC-20. Anvil has them in its pool (`--no-mining`), so their senders are known; the
clock runs while `evm_mine` makes the block. The kernel has checked the payload, so that senders are
known to it too; the clock runs over `execute`, which gives the state root, receipts and header. It
is also given with the check (decoding, and recovering senders on all cores), and with `finalize`
and `commit` (for a ledger on disk: the durable write).

    npm ci --prefix tests/js
    python benchmarks/kernel_vs_anvil.py [--transactions 10000] [--runs 3] [--place DIR]
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import workload
from targets import GAS_LIMIT, anvil
from workload import ROOT

from quorate._kernel import Ledger
from quorate.base.types import Member
from quorate.ledger.genesis import make_genesis
from quorate.ledger.payload import compose
from quorate.light.rlp import encode_list

PER_SENDER = 50
DEPLOY_GAS = 5_000_000
KINDS = ("transfers", "ERC-20 transfers")


class Workload:
    """What is executed: blocks that prepare the chain, then the measured transactions."""

    def __init__(self, kind: str, count: int, creation: bytes) -> None:
        self.senders = workload.senders_for(count, PER_SENDER)
        self.count = count
        funding = workload.fund(self.senders)
        self.prepare = [funding]
        if kind == "transfers":
            self.measured = workload.transfers(self.senders, count)
            return
        owner = workload.dev_keys()[0]
        nonce = sum(1 for i in range(len(funding)) if i % workload.DEV_ACCOUNTS == 0)
        supply = (10**24).to_bytes(32, "big")
        deploy = workload.sign_transaction(
            owner, nonce, b"", data=creation + supply, gas=DEPLOY_GAS
        )
        token = workload.contract_address(owner.address, nonce)
        hand_out = [
            workload.sign_transaction(
                owner,
                nonce + 1 + i,
                token,
                data=workload.encode_token_transfer(sender.address, 10**18),
                gas=workload.TOKEN_GAS,
            )
            for i, sender in enumerate(self.senders)
        ]
        self.prepare += [[deploy], hand_out]
        self.measured = workload.token_transfers(token, self.senders, count)


def compile_token() -> bytes:
    """Return the creation code of OpenZeppelin's ERC-20."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["node", str(ROOT / "tests" / "js" / "compile.mjs"), folder], check=True)
        artefact = json.loads((Path(folder) / "Token.json").read_text())
    return bytes.fromhex(artefact["bytecode"][2:])


def measure_anvil(work: Workload) -> dict[str, float]:
    with anvil("--no-mining") as target:
        rpc = target.rpc()
        for block in work.prepare:
            rpc.send_all(block)
            rpc.call("evm_mine")
        rpc.send_all(work.measured)
        started = time.perf_counter()
        rpc.call("evm_mine")
        elapsed = time.perf_counter() - started
        block = rpc.call("eth_getBlockByNumber", "latest", False)
        if len(block["transactions"]) != work.count:
            raise SystemExit(f"anvil mined {len(block['transactions'])}, expected {work.count}")
        receipt = rpc.call("eth_getTransactionReceipt", block["transactions"][-1])
        if receipt["status"] != "0x1":
            raise SystemExit("anvil: the last transaction failed")
    return {"mine": elapsed}


def measure_kernel(work: Workload, folder: Path | None) -> dict[str, float]:
    genesis = make_genesis(
        chain_id=workload.CHAIN_ID,
        engine="tendermint",
        gas="fees",
        members=[Member(bytes(19) + b"\1", 1)],
        balances={key.address: 10_000 * 10**18 for key in workload.dev_keys()},
        gas_limit=GAS_LIMIT,
        timestamp=1_600_000_000,
    )
    ledger = Ledger.open(None if folder is None else str(folder), genesis)
    try:
        times: dict[str, float] = {}
        for number, raws in enumerate([*work.prepare, work.measured], 1):
            times = execute_block(ledger, raws, number)
        return times
    finally:
        ledger.close()


def execute_block(ledger: Ledger, raws: list[bytes], number: int) -> dict[str, float]:
    """Check, execute, finalize and commit one block; return the seconds of each."""
    parent = ledger.block(ledger.final())
    assert parent is not None
    now_ms = 1_600_000_000_000 + 1000 * number
    payload = compose(parent.hash, now_ms, bytes(19) + b"\1", encode_list(raws))
    at = [time.perf_counter()]
    ledger.check(parent.hash, payload, now_ms)
    at.append(time.perf_counter())
    block = ledger.execute(parent.hash, [payload], bytes(32))
    at.append(time.perf_counter())
    ledger.finalize(block.hash, bytes(32), b"", [payload])
    ledger.commit()
    at.append(time.perf_counter())
    if block.transactions != len(raws):
        raise SystemExit(f"the kernel included {block.transactions}, expected {len(raws)}")
    return {name: at[i + 1] - at[i] for i, name in enumerate(("check", "execute", "commit"))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--transactions", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument(
        "--place", type=Path, help="folder on the disk to measure (default: TMPDIR)"
    )
    options = parser.parse_args()

    count = options.transactions
    creation = compile_token()
    rows = []
    for kind in options.kinds.split(","):
        work = Workload(kind, count, creation)
        anvils: list[float] = []
        kernels: dict[str, list[dict[str, float]]] = {"memory": [], "disk": []}
        for _ in range(options.runs):
            anvils.append(measure_anvil(work)["mine"])
            kernels["memory"].append(measure_kernel(work, None))
            with tempfile.TemporaryDirectory(dir=options.place) as folder:
                kernels["disk"].append(measure_kernel(work, Path(folder) / "ledger"))
        rate = count / statistics.median(anvils)
        rows.append(f"| {kind} | Anvil, evm_mine | {rate:.0f} | 1.00 |")
        for where, runs in kernels.items():
            for label, parts in (
                ("execute", ("execute",)),
                ("execute, commit", ("execute", "commit")),
                ("check, execute, commit", ("check", "execute", "commit")),
            ):
                seconds = [sum(run[part] for part in parts) for run in runs]
                ratio = statistics.median(a / s for a, s in zip(anvils, seconds, strict=True))
                rate = count / statistics.median(seconds)
                rows.append(f"| {kind} | kernel, {where}: {label} | {rate:.0f} | {ratio:.2f} |")
    print(f"\n{count} transactions in one block, median of {options.runs} alternating runs\n")
    print("| what | by | tx/s | ratio to Anvil |\n|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
