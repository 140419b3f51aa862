"""What a put costs the kernel of a node where many share a block: processor time step by step.

Blocks of puts of 256 bytes over 100,000 keys, from 100 clients with 10 requests under way each, as
in the framed shape of `keyvalue_vs_etcd.py`, but in one thread without network and engine:

    take      frames of clients to operations at the port
    add       admission to the pool: twice, as the node that was asked and as any other
    build     the payload of a block (the leader alone)
    check     whether it may follow its parent (not asked by Raft)
    hash      the payload's hash, as the engine names it
    execute   the block over its parent's state
    finalize  the block becomes final
    answer    frames for clients
    commit    64 blocks in one durable transaction

The median over all blocks counts; the disk's waiting time does not.
"""

import argparse
import os
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from typing import Any

from quorate._kernel import KeyValuePort
from quorate.base.types import Member
from quorate.crypto.hashes import hash_payload
from quorate.ledger import operations
from quorate.ledger.keyvalue import KEYVALUE, KeyValueLedger, make_genesis, open_keyvalue

VALUE_BYTES = 256
CLIENTS = 100
BLOCKS_A_COMMIT = 64
MAX_BYTES = 4 << 20
PROPOSER = bytes(20)


class Load:
    """Clients with as many requests under way as make a block, and what was spent on them."""

    def __init__(self, keys: int, puts: int) -> None:
        self.keys, self.puts = keys, puts
        self.clients = [os.urandom(16) for _ in range(CLIENTS)]
        self.sequences = [0] * CLIENTS
        self.number = 0
        self.spent: dict[str, list[int]] = {}

    def make_frames(self, now_ms: int) -> list[bytes]:
        """Return what each client sends for the next block, one stream of frames each."""
        streams = [b""] * CLIENTS
        for place in range(self.puts):
            client = place % CLIENTS
            self.number += 7919
            key = b"key%013d" % (self.number % self.keys)
            value = self.number.to_bytes(8, "big") * (VALUE_BYTES // 8)
            self.sequences[client] += 1
            sequence = self.sequences[client]
            raw = operations.encode(
                operations.make_put(key, value),
                self.clients[client],
                sequence,
                max(0, sequence - 10),
                now_ms + 60_000,
            )
            body = b"\x93\xce" + struct.pack(">IBBH", sequence, 1, 0xC5, len(raw)) + raw
            streams[client] += len(body).to_bytes(4, "big") + body
        return streams

    def time(self, step: str, work: Callable[[], Any]) -> Any:
        began = time.thread_time_ns()
        result = work()
        self.spent.setdefault(step, []).append(time.thread_time_ns() - began)
        return result


def run_block(load: Load, ledger: KeyValueLedger, port: KeyValuePort, parent: Any) -> Any:
    now_ms = parent.timestamp_ms + 10
    streams = load.make_frames(now_ms)

    def take() -> list[bytes]:
        taken: list[bytes] = []
        for connection, stream in enumerate(streams, 1):
            taken += port.take(connection, stream, 1000, now_ms)[2]
        return taken

    items = load.time("take", take)
    refused = [reason for _, reason in load.time("add", lambda: ledger.add(items)) if reason]
    assert not refused, refused[:3]
    payload = load.time("build", lambda: ledger.build(parent.block, now_ms, MAX_BYTES))
    assert load.time("check", lambda: ledger.check(parent.block, payload, now_ms)) is None
    envelope = load.time("hash", lambda: hash_payload(payload))
    executed = load.time("execute", lambda: ledger.execute(parent.block, [payload], envelope))
    load.time("finalize", lambda: ledger.finalize(executed, envelope, b"proof", [payload]))
    block = ledger.get_block(executed.block)
    frames = load.time("answer", lambda: port.answer(block)[0])
    assert sum(count for _, _, count in frames) == load.puts
    return executed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--puts", type=int, default=320, help="in a block")
    parser.add_argument("--blocks", type=int, default=640)
    arguments = parser.parse_args()
    genesis = make_genesis(
        application=KEYVALUE,
        chain_id=1,
        engine="raft",
        members=[Member(PROPOSER, 1)],
        timestamp=1_700_000_000,
    )
    # Not in memory, as /tmp may be: the disk is part of the question.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        ledger = open_keyvalue(name, genesis, PROPOSER)
        port = KeyValuePort(1 << 16)
        parent = ledger.durable()
        fill = Load(arguments.keys, 5000)
        for _ in range(-(-arguments.keys // fill.puts)):
            parent = run_block(fill, ledger, port, parent)
            ledger.commit()
        load = Load(arguments.keys, arguments.puts)
        for height in range(1, arguments.blocks + 1):
            parent = run_block(load, ledger, port, parent)
            if height % BLOCKS_A_COMMIT == 0:
                load.time("commit", ledger.commit)
        size = os.stat(f"{name}/data.mdb").st_size
        ledger.store.close()
    total = 0.0
    for step, spent in load.spent.items():
        blocks = BLOCKS_A_COMMIT if step == "commit" else 1
        each_us = statistics.median(spent) / blocks / arguments.puts / 1000
        total += each_us
        print(f"{step:9} {each_us:6.2f} us a put")
    print(f"{'all':9} {total:6.2f} us a put; store {size >> 20} MiB")


if __name__ == "__main__":
    main()
