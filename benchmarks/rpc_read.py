"""How fast does one node answer reads? The same requests to Quorate and to Anvil, in turns.

The head's number, a balance, an ERC-20 `balanceOf`, each alone and in batches of 100. Every row is
the median of its rounds; the ratio is what to quote, beside the ratio that is asked for. The last
columns are the processor time of a call in microseconds, of the process that answers: that says the
same on a machine that has other work to do, where rates only say who got more of it. Both processes
have the same priority, which is below that of the client.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import workload
from kernel_vs_anvil import compile_token
from targets import (
    Rpc,
    Target,
    Watcher,
    anvil,
    children_of,
    encode_call,
    quorate,
    read_cpu_seconds,
)

LOAD = Path(__file__).with_name("load.py")
BATCH = 100
DEADLINE_S = 60
GOALS = {"eth_blockNumber": 0.7, "eth_call": 1.0}
"""Ratios to Anvil that one process of ours has to reach."""
CREATION_GAS = 3_000_000
SUPPLY = 10**24
NICE = 5
"""What our JSON-RPC process gives itself."""


def deploy_token(rpc: Rpc) -> bytes:
    """Deploy the ERC-20 from the first development account; return its address."""
    owner = workload.dev_keys()[0]
    (nonce,) = rpc.nonces([owner.address])
    data = compile_token() + SUPPLY.to_bytes(32, "big")
    creation = workload.sign_transaction(owner, nonce, b"", data=data, gas=CREATION_GAS)
    watcher = Watcher(rpc)
    rpc.call("eth_sendRawTransaction", "0x" + creation.hex())
    watcher.wait(1, DEADLINE_S)
    token = workload.contract_address(owner.address, nonce)
    held = rpc.call("eth_call", build_call(token), "latest")
    if int(held, 16) != SUPPLY:
        raise SystemExit(f"the token says that its owner holds {held}, expected {SUPPLY:#x}")
    return token


def build_call(token: bytes) -> dict[str, str]:
    """Return the call that asks the token what its owner holds."""
    data = workload.keccak256(b"balanceOf(address)")[:4] + bytes(12)
    data += workload.dev_keys()[0].address
    return {"to": "0x" + token.hex(), "data": "0x" + data.hex()}


def build_requests(token: bytes) -> dict[str, tuple[bytes, int]]:
    """Return kind -> (body, how many calls it holds)."""
    owner = workload.dev_keys()[0].address
    call: list[Any] = [build_call(token), "latest"]
    bodies = {
        "eth_blockNumber": encode_call(1, "eth_blockNumber", []),
        "eth_getBalance": encode_call(1, "eth_getBalance", ["0x" + owner.hex(), "latest"]),
        "eth_call": encode_call(1, "eth_call", call),
    }
    requests = {kind: (body, 1) for kind, body in bodies.items()}
    for kind, body in bodies.items():
        requests[f"{kind}, x{BATCH}"] = (b"[" + b",".join([body] * BATCH) + b"]", BATCH)
    return requests


def read_seconds(target: Target) -> float:
    """Return the processor time until now of the process that answers."""
    below = [child for pid in target.pids for child in children_of(pid)]
    return sum(map(read_cpu_seconds, below or target.pids))


def measure(target: Target, body: bytes, count: int, connections: int) -> tuple[float, float]:
    """Return how many bodies a second one node answers, and its processor seconds."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(msgspec.msgpack.encode([body] * count))
        file.flush()
        process = subprocess.Popen(
            [
                *(sys.executable, str(LOAD), file.name, str(connections), "1"),
                f"127.0.0.1:{target.ports[0]}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        ready = process.stdout.readline()
        before = read_seconds(target)
        output = [ready, *process.communicate("go\n", timeout=DEADLINE_S)[0].splitlines()]
        spent = read_seconds(target) - before
    if len(output) != 2:
        raise SystemExit(f"{target.name}: the load ended with exit code {process.returncode}")
    result = json.loads(output[1])
    if result["errors"]:
        raise SystemExit(f"{target.name}: {result['errors'][0]}")
    return float(count / result["seconds"]), spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="calls in a round of one kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    with quorate(1, 1000) as ours, anvil() as theirs:
        for thread in Path(f"/proc/{theirs.pids[0]}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), NICE)
        pairs = [(ours, deploy_token(ours.rpc())), (theirs, deploy_token(theirs.rpc()))]
        requests = [build_requests(token) for _, token in pairs]
        heads = (
            f"{'Quorate':>12}{'Anvil':>12}{'ratio':>8}{'asked':>8}",
            f"{'CPU us':>9}{'Anvil':>7}",
        )
        print(f"{'calls a second':26}{heads[0]}{heads[1]}")
        for kind in requests[0]:
            rates: list[list[float]] = [[], []]
            costs: list[list[float]] = [[], []]
            for _ in range(options.rounds):
                for index, (target, _) in enumerate(pairs):
                    body, calls = requests[index][kind]
                    count = max(100, options.count // calls)
                    rate, spent = measure(target, body, count, options.connections)
                    rates[index].append(rate * calls)
                    costs[index].append(spent / (count * calls) * 1e6)
            first, second = map(statistics.median, rates)
            ours_us, theirs_us = map(statistics.median, costs)
            goal = GOALS.get(kind.partition(",")[0])
            asked = f"{goal:7.1f}x" if goal is not None else " " * 8
            rates_text = f"{first:12,.0f}{second:12,.0f}{first / second:7.2f}x{asked}"
            print(f"{kind:26}{rates_text}{ours_us:9.1f}{theirs_us:7.1f}", flush=True)


if __name__ == "__main__":
    main()
