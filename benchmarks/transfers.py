"""How many transfers a second become final, end to end over JSON-RPC, against Anvil?

The same pre-signed transactions, the same client, alternating runs, every run on a new chain:
Anvil with one-second blocks (one process, no disk, no agreement), four validators and one validator
(fsync, signatures, agreement) with one-second blocks and on demand. The clock runs from the first
byte sent until the last transaction is in a block that JSON-RPC shows, which for Quorate means
final and durable. Prints seconds, transactions a second, and the ratio to Anvil.

    npm ci --prefix tests/js
    python benchmarks/transfers.py [--transactions 20000] [--runs 3] [--spread]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import workload
from targets import Target, Watcher, anvil, encode_call, quorate

BATCH = 100
PER_SENDER = 50
DEADLINE_S = 240
LOAD = Path(__file__).with_name("load.py")


@dataclass
class Run:
    target: str
    mode: str
    submit_s: float
    total_s: float
    p50_ms: float
    p99_ms: float
    blocks: int
    cpu_s: float
    resident_mib: dict[str, float]
    disk_bytes: float
    """For each transaction, in one validator."""


def build_bodies(raws: list[bytes], mode: str) -> list[bytes]:
    calls = [
        encode_call(i, "eth_sendRawTransaction", ["0x" + raw.hex()]) for i, raw in enumerate(raws)
    ]
    if mode == "single":
        return calls
    return [b"[" + b",".join(calls[at : at + BATCH]) + b"]" for at in range(0, len(calls), BATCH)]


def run_load(
    target: Target, raws: list[bytes], mode: str, connections: int, depth: int, spread: bool
) -> Run:
    """Send everything, wait until everything is mined, and return what it took."""
    rpc = target.rpc()
    disk_before, cpu_before = target.disk_bytes(), target.cpu_seconds()
    with tempfile.NamedTemporaryFile() as file:
        file.write(msgspec.msgpack.encode(build_bodies(raws, mode)))
        file.flush()
        ports = target.ports if spread else target.ports[:1]
        process = subprocess.Popen(
            [
                *(sys.executable, str(LOAD), file.name, str(connections), str(depth)),
                *(f"127.0.0.1:{port}" for port in ports),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("the load could not connect")
        watcher = Watcher(rpc)
        started = time.perf_counter()
        process.stdin.write("go\n")
        process.stdin.flush()
        watcher.wait(len(raws), DEADLINE_S, process)
        total_s = time.perf_counter() - started
        result = json.loads(process.stdout.readline())
        process.wait(30)
    if result["errors"]:
        raise SystemExit(f"{target.name}: {result['errors'][0]}")
    return Run(
        target.name,
        mode,
        result["seconds"],
        total_s,
        result["p50_ms"],
        result["p99_ms"],
        watcher.seen - watcher.first,
        target.cpu_seconds() - cpu_before,
        target.resident_mib(),
        (target.disk_bytes() - disk_before) / len(raws),
    )


def prepare(target: Target, funding: list[bytes], senders: list[workload.Key]) -> None:
    rpc = target.rpc()
    watcher = Watcher(rpc)
    rpc.send_all(funding)
    watcher.wait(len(funding), DEADLINE_S)
    if any(rpc.nonces([key.address for key in senders])):
        raise SystemExit(f"{target.name}: a sender is not new")


def check_all_mined(target: Target, senders: list[workload.Key], count: int) -> None:
    """Every node of the target says that every nonce was used."""
    expected = [count // len(senders) + (i < count % len(senders)) for i in range(len(senders))]
    found = target.rpc().nonces([key.address for key in senders])
    if found != expected:
        raise SystemExit(f"{target.name}: nonces {sum(found)}, expected {sum(expected)}")


Start = Callable[[], AbstractContextManager[Target]]


def build_targets(names: list[str], place: Path | None) -> dict[str, Start]:
    known: dict[str, Start] = {
        "anvil": lambda: anvil("--block-time", "1"),
        "four": lambda: quorate(4, 1000, place),
        "one": lambda: quorate(1, 1000, place),
        "four-on-demand": lambda: quorate(4, 0, place),
        "one-on-demand": lambda: quorate(1, 0, place),
    }
    return {name: known[name] for name in names}


def report(runs: list[Run], count: int) -> None:
    columns = ["target", "mode", "tx/s", "ratio", "submitted_s", "mined_s", "blocks", "CPU_µs/tx"]
    print("\n| " + " | ".join(name.replace("_", " ") for name in columns) + " |")
    print("|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.mode, run.target), []).append(run)
    for (mode, target), group in sorted(groups.items()):
        rates = [count / run.total_s for run in group]
        peers = groups.get((mode, "anvil"), [])
        ratios = [peer.total_s / run.total_s for peer, run in zip(peers, group, strict=False)]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
        submit = statistics.median(run.submit_s for run in group)
        total = statistics.median(run.total_s for run in group)
        blocks = statistics.median(run.blocks for run in group)
        cpu = 1e6 * statistics.median(run.cpu_s for run in group) / count
        print(
            f"| {target} | {mode} | {statistics.median(rates):.0f} | {ratio} "
            f"| {submit:.2f} | {total:.2f} | {blocks:.0f} | {cpu:.0f} |"
        )
    print("\n| target | resident MiB a process | bytes on disk a transaction |")
    print("|---|---|---|")
    for target in sorted({run.target for run in runs}):
        last = [run for run in runs if run.target == target][-1]
        memory = ", ".join(f"{role} {mib:.0f}" for role, mib in last.resident_mib.items())
        print(f"| {target} | {memory} | {last.disk_bytes:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--depth", type=int, default=8, help="requests under way on a connection")
    parser.add_argument("--modes", default="single,batch")
    parser.add_argument("--targets", default="anvil,four,one,four-on-demand,one-on-demand")
    parser.add_argument("--spread", action="store_true", help="send to all validators, not to one")
    parser.add_argument(
        "--place", type=Path, help="folder on the disk to measure (default: TMPDIR)"
    )
    options = parser.parse_args()

    count = options.transactions
    senders = workload.senders_for(count, PER_SENDER)
    funding = workload.fund(senders)
    raws = workload.transfers(senders, count)
    print(f"{count} transfers of {len(senders)} senders, {len(raws[0])} bytes each")
    runs = []
    targets = build_targets(options.targets.split(","), options.place)
    for number in range(options.runs):
        for mode in options.modes.split(","):
            for name, start in targets.items():
                depth = options.depth if mode == "single" else 2
                with start() as target:
                    target.name = name
                    prepare(target, funding, senders)
                    run = run_load(target, raws, mode, options.connections, depth, options.spread)
                    check_all_mined(target, senders, count)
                runs.append(run)
                print(
                    f"run {number + 1}: {name} {mode}: {count / run.total_s:.0f} tx/s, submitted "
                    f"in {run.submit_s:.2f} s, mined in {run.total_s:.2f} s, request p50 "
                    f"{run.p50_ms:.1f} ms p99 {run.p99_ms:.1f} ms",
                    flush=True,
                )
    report(runs, count)


if __name__ == "__main__":
    main()
