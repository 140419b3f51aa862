"""How fast is a key-value network by Raft beside etcd? Puts of 256 bytes, each durable on a quorum.

Both run three nodes on this machine, on the same disk, with fsync. Runs of the two alternate, and
what is reported is the ratio of medians: operations per second (larger is better for Quorate) and,
for one client, the median latency (smaller is better). The load (`keyvalue_load.py`) is a process
of its own with the same connections for both:

    http      HTTP/JSON, 1,000 connections over the three nodes, one request each
    framed    the framed port against etcd's gRPC, 100 connections with 10 requests under way each
    one       one connection to the leader, one request at a time; framed and gRPC, and both HTTP

Beside that the processor time of all three nodes for one put is told, which says more than a rate
where the machine has other work as well, and that of the load, which shares the machine. etcd is
Debian's `etcd-server`, found on the path, with its defaults.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from workload import ROOT

sys.path.insert(0, str(ROOT / "tests"))

from clients.network import free_port_blocks, start_network, stop_network

NODES = 3
LOAD = Path(__file__).with_name("keyvalue_load.py")
SHAPES = {
    "http": ("quorate-http", "etcd-http", 1000, 1, False),
    "framed": ("quorate-framed", "etcd-grpc", 100, 10, False),
    "one framed": ("quorate-framed", "etcd-grpc", 1, 1, True),
    "one http": ("quorate-http", "etcd-http", 1, 1, True),
}
"""Kinds of both, connections, requests under way on each, whether they go to the leader alone."""
TARGETS = {"http": (1.0, 3.0), "framed": (3.0, 8.0), "one framed": (1.0, 0.6)}
"""What is asked, and where we go; for one client the ratio of latencies."""


@contextmanager
def run_etcd(folder: Path) -> Iterator[tuple[list[str], list[int]]]:
    """Start three members; yield their client addresses, the leader's first, and their pids."""
    pids: list[int] = []
    client, peer = free_port_blocks(NODES, 2)
    cluster = ",".join(f"m{i}=http://127.0.0.1:{peer + i}" for i in range(NODES))
    with ExitStack() as stack:
        for i in range(NODES):
            command = ["etcd", "--name", f"m{i}", "--data-dir", str(folder / f"m{i}")]
            for flag, port in (("client", client + i), ("peer", peer + i)):
                url = f"http://127.0.0.1:{port}"
                command += [f"--listen-{flag}-urls", url]
                advertise = "--advertise-client-urls"
                command += [advertise if flag == "client" else "--initial-advertise-peer-urls", url]
            command += ["--initial-cluster", cluster, "--initial-cluster-state", "new"]
            output = stack.enter_context((folder / f"m{i}.log").open("w"))
            process = subprocess.Popen(command, stdout=output, stderr=output)
            pids.append(process.pid)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        places = [f"127.0.0.1:{client + i}" for i in range(NODES)]
        yield put_first(places, is_etcd_leader), pids


def is_etcd_leader(place: str) -> bool:
    status = ask(f"http://{place}/v3/maintenance/status", b"{}")
    return bool(status.get("leader")) and status["leader"] == status["header"]["member_id"]


def is_quorate_leader(place: str) -> bool:
    return bool(ask(f"http://{place}/v1/status")["leads"])


def ask(url: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=5) as answer:
        return json.load(answer)


def put_first(places: list[str], leads: Any) -> list[str]:
    """Return places with the leader's first, once there is one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for place in places:
            try:
                if leads(place):
                    return [place, *(other for other in places if other != place)]
            except OSError:
                pass
        time.sleep(0.1)
    raise SystemExit("no leader within 30 s")


@contextmanager
def run_quorate(folder: Path) -> Iterator[tuple[list[str], list[int]]]:
    options = ("--engine", "raft", "--application", "keyvalue")
    endpoint = start_network(folder / "quorate", *options, validators=NODES)
    try:
        places = [url.removeprefix("http://") for url in endpoint.http]
        files = sorted(folder.glob("quorate/validator-*/validator.pid"))
        pids = [int(file.read_text().split()[0]) for file in files]
        yield put_first(places, is_quorate_leader), pids
    finally:
        stop_network(folder / "quorate")


def read_processor_s(pids: list[int]) -> float:
    """Return how long processors have worked for these processes."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def read_children_s() -> float:
    """Return how long processors have worked for children that have ended: the load, so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(
    kind: str, nodes: tuple[list[str], list[int]], shape: str, seconds: float
) -> dict[str, float]:
    """Return what one run of the load came to."""
    places, pids = nodes
    _, _, connections, in_flight, to_leader = SHAPES[shape]
    chosen = places[:1] if to_leader else places
    command = [sys.executable, str(LOAD), kind, ",".join(chosen)]
    command += [str(connections), str(in_flight), str(seconds)]
    began_s, load_s = read_processor_s(pids), read_children_s()
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(output)
    found["processor_us"] = 1e6 * (read_processor_s(pids) - began_s) / max(found["puts"], 1)
    found["load_us"] = 1e6 * (read_children_s() - load_s) / max(found["puts"], 1)
    if found["errors"]:
        print(f"  {kind}: {found['errors']} errors", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    arguments = parser.parse_args()
    if shutil.which("etcd") is None:
        raise SystemExit("etcd is not on the path; Debian: apt-get install etcd-server")
    version = subprocess.run(["etcd", "--version"], check=True, capture_output=True, text=True)
    print(version.stdout.splitlines()[0])
    # Not in memory, as /tmp may be: the disk is part of the question.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        etcd = stack.enter_context(run_etcd(folder))
        ours = stack.enter_context(run_quorate(folder))
        for shape in arguments.shapes.split(","):
            kind, other = SHAPES[shape][:2]
            found: list[dict[str, float]] = []
            others: list[dict[str, float]] = []
            for _ in range(arguments.rounds):
                found.append(measure(kind, ours, shape, arguments.seconds))
                others.append(measure(other, etcd, shape, arguments.seconds))
            report(shape, found, others)


def report(shape: str, ours: list[dict[str, float]], etcd: list[dict[str, float]]) -> None:
    field = "p50_ms" if SHAPES[shape][2] == 1 else "per_second"
    here, there = (statistics.median(run[field] for run in runs) for runs in (ours, etcd))
    target = TARGETS.get(shape)
    goal = f"  target {target[0]:g}, goal {target[1]:g}" if target else ""
    unit = "ms p50" if field == "p50_ms" else "puts/s"
    more = []
    for name, text in (
        ("p99_ms", "p99 {:.1f} and {:.1f} ms"),
        ("processor_us", "{:.0f} and {:.0f} us of processors"),
        ("load_us", "load {:.1f} and {:.1f} us"),
    ):
        pair = (statistics.median(run[name] for run in runs) for runs in (ours, etcd))
        more.append(text.format(*pair))
    found = f"{here:10,.2f} {unit}, etcd {there:10,.2f}: {here / there:.2f}x{goal}"
    print(f"{shape:11} {found}; {', '.join(more)}", flush=True)


if __name__ == "__main__":
    main()
