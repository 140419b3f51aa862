"""How fast do validators agree when there is nothing to execute?

Real processes on this machine: fsync, TLS between them, signatures on, empty blocks one after the
other. Prints blocks per second, block interval p50 and p99, CPU and memory per validator, and with
several sizes how the interval grows.

    python benchmarks/empty_blocks.py --validators 4 7 16 --seconds 10
    python benchmarks/empty_blocks.py --profile   # py-spy of validator 0, to a temporary folder

Validator 0 writes down the monotonic time of each final block; the first second is left out.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from quorate.runtime.config import Blocks, Log  # noqa: E402
from quorate.runtime.metrics import Metrics  # noqa: E402
from runtime import trial  # noqa: E402

WARM_UP_S = 1.0
PROFILE = str(Path(tempfile.gettempdir()) / "empty_blocks.profile")
SAMPLER = ["py-spy", "record", "-r", "500", "-f", "raw", "-o", PROFILE]


def run_one(folder: Path) -> None:
    """Be a validator process that notes when blocks become final."""
    times: list[int] = []
    counted = Metrics.on_block

    def on_block(self: Metrics, *arguments: Any, **named: Any) -> None:
        times.append(time.monotonic_ns())
        counted(self, *arguments, **named)

    Metrics.on_block = on_block  # type: ignore[method-assign]
    try:
        trial.main()
    finally:
        (folder / f"times-{sys.argv[2]}").write_text(json.dumps(times))


def read_usage(pid: int) -> tuple[float, float]:
    """Return (CPU seconds, resident MiB) of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(count: int, seconds: float, profile: bool, ethereum: bool) -> dict[str, Any]:
    """Run a network of this size; return what validator 0 saw."""
    with tempfile.TemporaryDirectory(prefix="quorate-") as name:
        folder = Path(name)
        network = trial.Trial(
            folder,
            count,
            ethereum=ethereum,
            blocks=Blocks(block_time_ms=1),
            log=Log(level="warning"),
        )
        network.script = __file__
        network.start_all()
        try:
            trial.wait_for(
                lambda: min(map(network.get_height, range(count))) >= 3, "the network starts", 120
            )
            time.sleep(WARM_UP_S)
            pids = [network.processes[i].pid for i in range(count)]
            began, before = time.monotonic_ns(), [read_usage(pid) for pid in pids]
            sampler = None
            if profile:
                sampler = subprocess.Popen(
                    [*SAMPLER, "-d", str(int(seconds)), "-p", str(pids[0])],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            time.sleep(seconds)
            if sampler is not None:
                sampler.wait()
            ended, after = time.monotonic_ns(), [read_usage(pid) for pid in pids]
            for index in range(count):
                network.end(index, signal.SIGTERM)
        finally:
            network.stop_all()
        times = json.loads((folder / "times-0").read_text())
    inside = [t for t in times if began <= t <= ended]
    intervals = sorted((b - a) / 1e6 for a, b in itertools.pairwise(inside))
    spent_s = (ended - began) / 1e9
    cpu = [(b[0] - a[0]) / spent_s for a, b in zip(before, after, strict=True)]
    return {
        "validators": count,
        "blocks_per_s": len(inside) / spent_s,
        "p50_ms": intervals[len(intervals) // 2],
        "p99_ms": intervals[len(intervals) * 99 // 100],
        "cpu": sum(cpu) / count,
        "rss_mib": sum(rss for _, rss in after) / count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--validators", type=int, nargs="+", default=[4])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--ledger", choices=("ethereum", "opaque"), default="ethereum")
    arguments = parser.parse_args()
    print("validators  blocks/s  p50 ms  p99 ms  CPU/validator  MiB/validator  p50 vs first")
    first = None
    for count in arguments.validators:
        result = measure(
            count, arguments.seconds, arguments.profile, arguments.ledger == "ethereum"
        )
        first = first or result["p50_ms"]
        print(
            f"{count:10}  {result['blocks_per_s']:8.1f}  {result['p50_ms']:6.2f}"
            f"  {result['p99_ms']:6.2f}  {result['cpu']:13.2f}  {result['rss_mib']:13.1f}"
            f"  {result['p50_ms'] / first:11.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 3 and Path(sys.argv[1]).is_dir():
        run_one(Path(sys.argv[1]))
    else:
        main()
