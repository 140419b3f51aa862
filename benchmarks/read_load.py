"""Do readers delay agreement?

Four validators with fsync make a block at a fixed interval. Phases alternate: nobody reads, then
every JSON-RPC process is read as fast as it answers (calls, blocks, balances, logs in batches). The
interval between blocks is taken at a validator's own socket, behind the durable write.

The client stands back behind everything else (`nice`): it would be on other machines.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from rpc_read import build_call, deploy_token
from targets import Target, encode_call, quorate
from workload import dev_keys

from quorate.runtime.ipc_client import IpcClient

LOAD = Path(__file__).with_name("load.py")
BATCH = 20


def build_body(token: bytes) -> bytes:
    owner = dev_keys()[0].address
    calls: list[tuple[str, list[Any]]] = [
        ("eth_call", [build_call(token), "latest"]),
        ("eth_getBlockByNumber", ["latest", True]),
        ("eth_getBalance", ["0x" + owner.hex(), "latest"]),
        (
            "eth_getLogs",
            [{"fromBlock": "earliest", "toBlock": "latest", "address": "0x" + "12" * 20}],
        ),
    ]
    parts = [encode_call(i, *calls[i % len(calls)]) for i in range(BATCH)]
    return b"[" + b",".join(parts) + b"]"


def stand_back() -> None:
    os.nice(19)
    # Where the kernel groups by session, the niceness of a process counts only inside its own.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


def start_load(
    target: Target, file: str, connections: int, seconds: float
) -> "subprocess.Popen[str]":
    places = [f"127.0.0.1:{port}" for port in target.ports]
    options = ["--seconds", str(seconds), file, str(connections), "1"]
    process = subprocess.Popen(
        [sys.executable, str(LOAD), *options, *places],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=stand_back,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    process.stdin.write("go\n")
    process.stdin.flush()
    return process


async def watch(socket: Path, seconds: float) -> list[float]:
    """Return the intervals between blocks in milliseconds."""
    times: list[float] = []
    client = IpcClient(socket, on_committed=lambda _: times.append(time.perf_counter()))
    await client.start()
    await client.wait_connected(5)
    await asyncio.sleep(seconds)
    await client.stop()
    return [(b - a) * 1e3 for a, b in itertools.pairwise(times[1:])]


def describe(name: str, intervals: list[float]) -> str:
    ordered = sorted(intervals)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"{name:8}{len(ordered):8}{p50:10.2f}{p99:10.2f}{ordered[-1]:10.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block-time", type=int, default=100, help="milliseconds")
    parser.add_argument("--seconds", type=float, default=15, help="of each phase")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    with quorate(4, options.block_time) as target, tempfile.NamedTemporaryFile() as file:
        assert target.folder is not None
        socket = target.folder / "validator-1" / "node.sock"
        body = build_body(deploy_token(target.rpc()))
        file.write(msgspec.msgpack.encode([body]))
        file.flush()
        intervals: dict[str, list[float]] = {"quiet": [], "reading": []}
        answered = 0
        for _ in range(options.rounds):
            intervals["quiet"] += asyncio.run(watch(socket, options.seconds))
            load = start_load(target, file.name, options.connections, options.seconds + 1)
            try:
                intervals["reading"] += asyncio.run(watch(socket, options.seconds))
                answer = json.loads(load.communicate(timeout=60)[0])
            finally:
                load.kill()
            if answer["errors"]:
                raise SystemExit(f"the load: {answer['errors'][0]}")
            answered += answer["answered"] * BATCH
        rate = answered / options.rounds / (options.seconds + 1)
        print(f"while {rate:,.0f} calls a second were answered:")
        print(f"{'':8}{'blocks':>8}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}")
        for name, measured in intervals.items():
            print(describe(name, measured))


if __name__ == "__main__":
    main()
