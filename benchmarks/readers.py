"""Do readers delay agreement? Block intervals of four validators, with and without readers.

A steady trickle of transfers keeps blocks coming. Then the same again while every validator's
JSON-RPC process answers reads as fast as it can: calls of a contract, whole blocks, ranges of logs,
proofs. Intervals are differences of the payloads' timestamps (milliseconds, by the proposers'
clocks, which are one clock here).

What to expect depends on the cores: four readers that are never idle leave less of the machine to
the validators, and only the kernel's scheduler, which knows that they are nice, decides how much.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import workload
from rpc_read import deploy_token
from targets import Target, encode_call, quorate

LOAD = Path(__file__).with_name("load.py")
MANY = 1_000_000
"""Requests of one reader: more than it can have answered when it is stopped."""


def build_reads(token: bytes) -> list[bytes]:
    owner = workload.dev_keys()[0].address
    data = workload.keccak256(b"balanceOf(address)")[:4] + bytes(12) + owner
    contract = "0x" + token.hex()
    calls: list[tuple[str, list[Any]]] = [
        ("eth_call", [{"to": contract, "data": "0x" + data.hex()}, "latest"]),
        ("eth_getBlockByNumber", ["latest", True]),
        ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "latest", "address": contract}]),
        ("eth_getProof", [contract, ["0x0"], "latest"]),
    ]
    return [encode_call(1, method, parameters) for method, parameters in calls]


@contextmanager
def reading(target: Target, reads: list[bytes], connections: int) -> Iterator[None]:
    """Ask every node for `reads`, over and over, until the block ends."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(msgspec.msgpack.encode(reads * (MANY // len(reads))))
        file.flush()
        processes = [
            subprocess.Popen(
                [
                    # Clients live elsewhere: here they get only what nobody else wants.
                    *("nice", "-n", "19", sys.executable, str(LOAD)),
                    *(file.name, str(connections), "1", f"127.0.0.1:{port}"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for port in target.ports
        ]
        try:
            for process in processes:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdout.readline()
                process.stdin.write("go\n")
                process.stdin.flush()
            yield
        finally:
            for process in processes:
                process.kill()
                process.wait(30)


def trickle(target: Target, raws: list[bytes], rate: int) -> tuple[int, int]:
    """Send `rate` transfers a second; return the first and last height of that time."""
    rpc = target.rpc()
    first = int(rpc.call("eth_blockNumber"), 16)
    started = time.monotonic()
    for index, raw in enumerate(raws):
        rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
        time.sleep(max(0.0, started + (index + 1) / rate - time.monotonic()))
    return first + 1, int(rpc.call("eth_blockNumber"), 16)


def get_intervals(target: Target, first: int, last: int) -> list[int]:
    """Return the sorted milliseconds between the payloads of neighbouring heights."""
    calls: list[tuple[str, list[Any]]] = [
        ("quorate_getCertificate", [hex(height)]) for height in range(first, last + 1)
    ]
    rpc = target.rpc()
    shown = [
        answer for at in range(0, len(calls), 500) for answer in rpc.batch(calls[at : at + 500])
    ]
    times = [int(answer["payloads"][0]["timestampMs"], 16) for answer in shown]
    return sorted(after - before for before, after in itertools.pairwise(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rate", type=int, default=200, help="transfers a second")
    parser.add_argument("--connections", type=int, default=4, help="readers of each validator")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    count = options.seconds * options.rate
    senders = workload.dev_keys()[1:]
    sent = 0
    p99: dict[bool, list[int]] = {False: [], True: []}
    with quorate(4, 0) as target:
        reads = build_reads(deploy_token(target.rpc()))
        print(f"{'':16}{'blocks':>8}{'p50 ms':>8}{'p99 ms':>8}{'most ms':>9}")
        for turn in range(2 * options.rounds):
            with_readers = turn % 2 == 1
            raws = [
                workload.sign_transaction(
                    senders[i % len(senders)], i // len(senders), workload.recipient(i), 1
                )
                for i in range(sent, sent + count)
            ]
            sent += count
            if with_readers:
                with reading(target, reads, options.connections):
                    first, last = trickle(target, raws, options.rate)
            else:
                first, last = trickle(target, raws, options.rate)
            found = get_intervals(target, first, last)
            p99[with_readers].append(found[len(found) * 99 // 100])
            name = "with readers" if with_readers else "without readers"
            middle = found[len(found) // 2]
            print(f"{name:16}{len(found):8}{middle:8}{p99[with_readers][-1]:8}{found[-1]:9}")
    ratio = sum(p99[True]) / sum(p99[False])
    print(f"p99 of block intervals with readers: {ratio:.2f} times that without")


if __name__ == "__main__":
    main()
