"""Kills the leader of a Raft network again and again, under load, and judges what clients heard.

Starts three validators with the key-value application, lets clients write, read and swap through
the framed port, and meanwhile kills whoever leads every few seconds with SIGKILL; it starts again a
little later. What clients asked and were told goes into a history, and `quorate history` looks for
an order of operations that explains every answer: a write that was acknowledged and lost has none.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from quorate.base.errors import Unavailable
from quorate.client import KeyValueClient, Refusal
from quorate.simulator.history import Event, History, Value, encode_events

ENDS_S = 60.0
"""How long the last answers may take after the last kill."""


class Network:
    """Three validators of a folder, by the commands that an operator has."""

    def __init__(self, folder: Path, ports: Sequence[str]) -> None:
        self.folder, self.ports = folder, ports

    def do(self, command: str, *arguments: str, ok: bool = True) -> str:
        """Run a command on the network; return what it prints."""
        line = [sys.executable, "-m", "quorate.cli", command, *arguments, "--dir", str(self.folder)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if ok and done.returncode:
            sys.exit(f"quorate {command}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def start(self) -> None:
        raft = ("--engine", "raft", "--application", "keyvalue", "--validators", "3")
        self.do("up", "--detach", *raft, *self.ports)

    def find_leader(self) -> str | None:
        rows = json.loads(self.do("status", "-o", "json", ok=False))["validators"]
        leaders = [str(row["index"]) for row in rows if row.get("step") == "leader"]
        return leaders[0] if len(leaders) == 1 else None


class Load:
    """Clients of a few keys, and what they asked and were told."""

    def __init__(self, places: list[tuple[str, int]], keys: int, seed: int) -> None:
        self.places, self.keys, self.seed = places, keys, seed
        self.history = History()
        self.answered = self.unknown = 0
        self.last = time.monotonic_ns()
        self.longest_ns = 0
        """Without any answer."""

    def note(self, kind: str, id: str, **facts: Value) -> None:
        now = time.monotonic_ns()
        if kind == "ok":
            self.answered += 1
            self.longest_ns = max(self.longest_ns, now - self.last)
            self.last = now
        self.history.add(Event(kind, now, id, **facts))  # type: ignore[arg-type]

    async def play(self, number: int, end: float) -> None:
        """Be one client until a time."""
        rng = random.Random(f"{self.seed} {number}")
        places = self.places[number % len(self.places) :] + self.places[: number % len(self.places)]
        count = 0
        seen: dict[str, str | None] = {}
        async with KeyValueClient(places) as client:
            while time.monotonic() < end:
                count += 1
                key, value, id = (
                    f"k{rng.randrange(self.keys)}",
                    f"{number}.{count}",
                    f"{number}-{count}",
                )
                operation = rng.choice(("write", "read", "cas"))
                old = seen.get(key)
                argument = {"write": value, "read": None, "cas": (old, value)}[operation]
                asked = {"client": str(number), "key": key, "operation": operation}
                self.note("invoke", id, **asked, argument=argument)
                try:
                    result = await carry_out(client, operation, key, old, value)
                except (Unavailable, Refusal):
                    self.unknown += 1
                    self.note("info", id)
                    continue
                self.note("ok", id, result=result)
                if operation == "read":
                    seen[key] = result
                elif result is not False:
                    seen[key] = value


async def carry_out(
    client: KeyValueClient, operation: str, key: str, old: str | None, value: str
) -> Value:
    """Ask for one operation; return what a register would answer."""
    name, new = key.encode(), value.encode()
    if operation == "write":
        await client.put(name, new)
        return None
    if operation == "read":
        entry = await client.get(name)
        return None if entry is None else entry.value.decode()
    expected = {"revision": 0} if old is None else {"expected": old.encode()}
    return (await client.compare(name, new, **expected)).succeeded  # type: ignore[arg-type]


async def kill_leaders(network: Network, end: float, every_s: float, down_s: float) -> int:
    """Kill whoever leads until a time; return how often."""
    kills, due = 0, time.monotonic() + every_s
    while due < end:
        await asyncio.sleep(due - time.monotonic())
        leader = None
        while leader is None:
            leader = await asyncio.to_thread(network.find_leader)
        await asyncio.to_thread(network.do, "kill", leader)
        kills, due = kills + 1, max(due + every_s, time.monotonic() + down_s)
        print(f"killed validator-{leader}", flush=True)
        await asyncio.sleep(down_s)
        await asyncio.to_thread(network.do, "start", leader)
    return kills


async def main(options: argparse.Namespace, network: Network) -> tuple[Load, int]:
    places = [("127.0.0.1", options.rpc_port + i) for i in range(3)]
    load = Load(places, options.keys, options.seed)
    end = time.monotonic() + options.seconds
    playing = [asyncio.create_task(load.play(i, end)) for i in range(options.clients)]
    kills = await kill_leaders(network, end, options.every, options.down)
    await asyncio.wait_for(asyncio.gather(*playing), options.seconds + ENDS_S)
    return load, kills


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dir", type=Path, default=Path("leader-kills"), help="of the network")
    parser.add_argument("--seconds", type=float, default=120, help="of load")
    parser.add_argument("--every", type=float, default=10, help="seconds between two kills")
    parser.add_argument("--down", type=float, default=3, help="seconds until it starts again")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--keys", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rpc-port", type=int, default=8545)
    parser.add_argument("--p2p-port", type=int, default=30303)
    parser.add_argument("--metrics-port", type=int, default=9545)
    parser.add_argument("--history", type=Path, default=Path("leader-kills.jsonl"))
    return parser.parse_args()


def play(options: argparse.Namespace) -> int:
    """Do it all; return the exit code of the judgement."""
    ports = [
        f"--{name}-port={getattr(options, f'{name}_port')}" for name in ("rpc", "p2p", "metrics")
    ]
    network = Network(options.dir, ports)
    network.start()
    try:
        load, kills = asyncio.run(main(options, network))
    finally:
        network.do("down", ok=False)
    options.history.write_bytes(b"".join(encode_events(load.history.events)))
    print(
        f"{kills} kills, {load.answered} answers, {load.unknown} not known, "
        f"no answer for {load.longest_ns / 1e9:.1f} s at most"
    )
    judge = [sys.executable, "-m", "quorate.cli", "history", str(options.history)]
    return subprocess.run([*judge, "--model", "register"], check=False).returncode


if __name__ == "__main__":
    sys.exit(play(read_options()))
