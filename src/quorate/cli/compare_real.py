"""`quorate compare --real`: the same load and script on real processes of this machine.

Each engine gets a network in a folder of its own, on loopback, with links that have the delays of
the matrix (`compare_links`). Faults are those that a machine can be given: SIGKILL and a new start,
SIGSTOP and SIGCONT, links that are cut or slow. All validators, relays and clients share the
processors of one machine, so this checks the model of costs; it does not measure a network.
"""

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from quorate.base.errors import Invalid, Unavailable
from quorate.base.types import Nanoseconds
from quorate.cli import devnet, processes
from quorate.cli.compare_client import Clients
from quorate.cli.compare_keyvalue import KeyValueClients
from quorate.cli.compare_links import Mesh
from quorate.cli.local import Local, open_local
from quorate.cli.output import EXIT_USAGE, Problem, fail
from quorate.cli.start import START_S, answers
from quorate.consensus import ENGINES
from quorate.ledger.keyvalue import ETHEREUM
from quorate.runtime.config import write_network
from quorate.runtime.ipc_client import ask_status
from quorate.simulator.compare.director import DRAWS
from quorate.simulator.compare.document import describe_latencies, describe_recoveries
from quorate.simulator.compare.experiment import OPEN_INTERVALS, Conditions, get_pace
from quorate.simulator.compare.load import PATIENCE_NS
from quorate.simulator.compare.measures import (
    Operation,
    compute_band,
    compute_throughput,
    to_us,
)
from quorate.simulator.compare.script import Fault, choose_members, describe_fault
from quorate.simulator.compare.workload import (
    Item,
    Workload,
    list_arrivals,
    make_put,
    prepare_genesis,
)
from quorate.simulator.plan import MS, Plan
from quorate.simulator.tape import Tape

__all__ = ["MAX_MEMBERS", "run_real"]

MAX_MEMBERS = 16
SETTLE_S = 3.0
DRAIN_S = 60.0
ASK_S = 1.0
FIRST_PORT, LAST_PORT = 21_000, 60_000
POSSIBLE = ("crash", "pause", "isolate", "partition", "mute", "slow-links")
"""Kinds of fault that need neither privileges nor a changed program."""
OPEN_POSSIBLE = ("crash", "pause")
"""The same where nodes find each other by themselves, past any relay."""
MAX_FINAL_S = 600
"""Blocks that take longer to be final are not waited for."""
POW_RULES = ("interval_ms", "initial_difficulty", "min_difficulty", "window")
DEADLINE_AFTER_MS = 540_000
"""Of operations on keys, after the load began."""
Pairs = list[tuple[int, int]]


class Happened(Struct):
    """A fault that was carried out on real processes."""

    fault: Fault
    members: list[int]


class Stage:
    """One network of real processes, from its files to its end."""

    def __init__(self, base: Plan, conditions: Conditions, workload: Workload) -> None:
        settings = {**base.engine_settings, **conditions.settings.get(base.engine, {})}
        base = msgspec.structs.replace(base, engine_settings=settings)
        self.base, self.conditions, self.workload = base, conditions, workload
        self.pace = get_pace(base)
        self.count = len(base.machines)
        self.folder = Path(tempfile.mkdtemp(prefix="quorate-compare-"))
        self.local: Local = self.create()
        self.delays_ns = conditions.latency.compute_delays(self.count)
        self.mesh = Mesh([(v.host, v.port) for v in self.local.network.validators], self.delays_ns)
        self.children: list[Any] = []
        self.struck: list[Happened] = []

    def create(self) -> Local:
        """Write the network's files."""
        consensus = msgspec.json.decode(self.base.genesis)
        rules = consensus["config"]["quorate"]
        rpc, p2p, metrics = find_ports(self.count)
        path = self.folder / "network"
        devnet.create(
            path,
            devnet.Plan(
                validators=self.count,
                engine=self.base.engine,
                application=self.workload.application,
                block_time_ms=self.pace.interval_ns // MS
                or self.base.node_settings.get("block_time_ms", 0),
                gas=rules.get("gas", "fees"),
                gas_limit=int(str(consensus["gasLimit"]), 0),
                chain_id=int(consensus["config"]["chainId"]),
                rpc_port=rpc,
                p2p_port=p2p,
                metrics_port=metrics,
            ),
        )
        local = open_local(path, environment={})
        genesis = path / local.network.genesis
        if self.workload.application == ETHEREUM:
            genesis.write_bytes(
                prepare_genesis(genesis.read_bytes(), self.base.engine, self.workload.name)
            )
        return local

    def write_view(self, index: int) -> Path:
        """Write the network's file as one validator sees it: its peers live at the relays, unless
        it finds them by itself.
        """
        network, settings = self.local.network, self.base.engine_settings
        validators = network.validators
        if self.pace.is_open:
            # What decides which blocks are valid is in the genesis file.
            settings = {k: v for k, v in settings.items() if k not in POW_RULES}
        else:
            validators = [
                validator
                if other == index
                else msgspec.structs.replace(validator, port=self.mesh.ports[index, other])
                for other, validator in enumerate(validators)
            ]
        path = self.local.path / f"network-{index}.toml"
        write_network(
            msgspec.structs.replace(network, validators=validators, engine_settings=settings), path
        )
        return path

    # ---- life

    def spawn(self, index: int) -> None:
        file = self.local.path / f"network-{index}.toml"
        self.children.append(processes.spawn(self.local.folders[index], file))

    async def start(self) -> None:
        """Start all validators and wait until each answers. Raises Problem."""
        if not self.pace.is_open:
            await self.mesh.start()
        for index in range(self.count):
            self.write_view(index)
            self.spawn(index)
        deadline = time.monotonic() + START_S
        waiting = list(range(self.count))
        while waiting:
            for index in list(waiting):
                if self.children[index].poll() is not None:
                    tail = processes.read_tail(self.local.folders[index].log, 1)
                    raise Problem(f"validator {index} ended: {' '.join(tail)}")
                if await asyncio.to_thread(answers, self.local, index):
                    waiting.remove(index)
            if time.monotonic() > deadline:
                raise Problem(f"validators {waiting} did not answer within {START_S:.0f} s")
            await asyncio.sleep(processes.POLL_S)

    async def run(self) -> list[Operation]:
        """Carry out load and script; return what clients saw."""
        await self.start()
        clients = self.make_clients()
        try:
            await asyncio.sleep(SETTLE_S)
            begin = clients.now()
            length: Nanoseconds = self.conditions.length_ms * MS
            tape = Tape(self.conditions.seed)
            due = list_arrivals(tape.stream("arrivals"), self.conditions.rate, length)
            items = self.make_items(len(due))
            clients.plan(items, [begin + at for at in due], self.conditions.clients)
            draws = tape.stream("who")
            for fault in self.conditions.script.faults:
                drawn = draws.choose(DRAWS)
                if fault.kind in get_possible(self.base):
                    clients.begin(self.act(fault, drawn, begin))
            await asyncio.sleep(length / 1e9)
            end = time.monotonic() + DRAIN_S + 2 * self.pace.depth * self.pace.interval_ns / 1e9
            while clients.open and time.monotonic() < end:
                await asyncio.sleep(0.05)
            return [request.get_operation(begin) for request in clients.requests]
        finally:
            await clients.stop()
            await self.mesh.stop()

    def make_clients(self) -> Clients:
        """Return the clients, who listen from now on."""
        places = [(v.rpc_host, v.rpc_port) for v in self.local.network.validators]
        ways = [[0 if a == b else d for b, d in enumerate(r)] for a, r in enumerate(self.delays_ns)]
        patience = max(PATIENCE_NS, (self.pace.depth + OPEN_INTERVALS) * self.pace.interval_ns)
        kind = Clients if self.workload.application == ETHEREUM else KeyValueClients
        return kind(places, ways, patience_ns=patience, open=self.pace.is_open)

    def make_items(self, count: int) -> list[Item]:
        if self.workload.application == ETHEREUM:
            return self.workload.get_items(count)
        # Those of virtual time are long over.
        deadline_ms = time.time_ns() // MS + DEADLINE_AFTER_MS
        return [make_put(number, deadline_ms) for number in range(count)]

    def remove(self) -> None:
        """Leave no process and no file behind."""
        for folder in self.local.folders:
            # Who is stopped would not hear SIGTERM, and nobody needs what it would write.
            with suppress(Problem):
                processes.kill(folder)
        for child in self.children:
            child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- faults

    async def act(self, fault: Fault, drawn: int, begin_ns: Nanoseconds) -> None:
        """Carry out one fault, from its begin to its end."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep((begin_ns + fault.at_ms * MS) / 1e9 - loop.time())
        leader = await asyncio.to_thread(self.find_leader)
        everybody = list(range(self.count))
        following = (leader + 1) % self.count
        members = choose_members(fault, everybody, leader, following, drawn)
        self.struck.append(Happened(fault, members))
        left = (begin_ns + (fault.at_ms + fault.for_ms) * MS) / 1e9
        folders = [self.local.folders[index] for index in members]
        if fault.kind == "crash":
            await asyncio.gather(*(asyncio.to_thread(processes.kill, f) for f in folders))
            await asyncio.sleep(max(left - loop.time(), 0))
            for index in members:
                self.spawn(index)
            return
        if fault.kind == "pause":
            for folder in folders:
                processes.send(folder, signal.SIGSTOP)
            await asyncio.sleep(max(left - loop.time(), 0))
            for folder in folders:
                processes.send(folder, signal.SIGCONT)
            return
        pairs = self.find_pairs(fault, members)
        slow = fault.kind == "slow-links"
        if slow:
            self.mesh.slow(pairs, fault.get_amount())
        else:
            self.mesh.block(pairs)
        await asyncio.sleep(max(left - loop.time(), 0))
        if slow:
            self.mesh.slow(pairs, 0)
        else:
            self.mesh.mend(pairs)

    def find_leader(self) -> int:
        """Return who leads, as the first member says that answers; the first member if none."""
        addresses = [v.identity for v in self.local.network.validators]
        for folder in self.local.folders:
            with suppress(Unavailable, Invalid, msgspec.MsgspecError):
                leader = ask_status(folder.socket, ASK_S).situation.leader
                if leader in addresses:
                    return addresses.index(leader)
        return 0

    def find_pairs(self, fault: Fault, members: Sequence[int]) -> Pairs:
        """Return the directions between members that a fault of links strikes."""
        inside = [index in members for index in range(self.count)]
        all_pairs = list(self.mesh.ports)
        if fault.kind == "partition":
            return [(a, b) for a, b in all_pairs if inside[a] != inside[b]]
        if fault.kind == "mute":
            return [(a, b) for a, b in all_pairs if inside[a]]
        return [(a, b) for a, b in all_pairs if inside[a] or inside[b]]


def find_ports(count: int) -> tuple[int, int, int]:
    """Return where three ranges of so many free ports begin. Raises Problem."""
    found: list[int] = []
    first = FIRST_PORT
    while first + count < LAST_PORT and len(found) < 3:
        taken = [p for p in range(first, first + count) if not processes.is_free(devnet.HOST, p)]
        if not taken:
            found.append(first)
        first = taken[-1] + 1 if taken else first + count
    if len(found) < 3:
        fail(f"no {3 * count} free ports between {FIRST_PORT} and {LAST_PORT}")
    return found[0], found[1], found[2]


def get_possible(base: Plan) -> tuple[str, ...]:
    """Return the kinds of fault that processes of an engine can be given."""
    return OPEN_POSSIBLE if ENGINES[base.engine].open else POSSIBLE


def check_pace(base: Plan, settings: dict[str, int]) -> None:
    """Refuse to wait for ever. Raises Problem."""
    pace = get_pace(
        msgspec.structs.replace(base, engine_settings={**base.engine_settings, **settings})
    )
    final_s = pace.depth * pace.interval_ns // 10**9
    if final_s > MAX_FINAL_S:
        fail(
            f"--real: {base.engine} takes {final_s} s until a block is final, expected at most "
            f"{MAX_FINAL_S}: --setting {base.engine}.final_depth=N",
            EXIT_USAGE,
        )


# ---- all engines


def run_real(
    bases: Sequence[Plan], conditions: Conditions, workload: Workload, document: dict[str, Any]
) -> Iterator[str]:
    """Run each engine on real processes, and put what came of it into the document.

    Yields what comes next before each step.
    """
    engines = []
    skipped = [f for f in conditions.script.faults if f.kind not in POSSIBLE]
    for base in bases:
        yield f"{base.engine}: real processes"
        stage = Stage(base, conditions, workload)
        try:
            operations = asyncio.run(stage.run())
        finally:
            stage.remove()
        engines.append(describe(base, conditions, operations, stage.struck))
    parts = [
        f"{len(bases[0].machines)} processes, their relays and all clients on this machine, over "
        f"{'JSON-RPC' if workload.application == ETHEREUM else 'frames'}; once, with the faults"
    ]
    if skipped:
        texts = [describe_fault(fault, len(bases[0].machines)) for fault in skipped]
        parts.append(f"left out, since no process can be given them: {', '.join(texts)}")
    parts += [
        f"{base.engine} without delays and faults of links, since its nodes find each other past "
        "the relays"
        for base in bases
        if ENGINES[base.engine].open
    ]
    document["real"] = {"text": "; ".join(parts) + ".", "engines": engines}


def describe(
    base: Plan, conditions: Conditions, operations: list[Operation], struck: list[Happened]
) -> dict[str, Any]:
    """Return the figures of one engine."""
    struck = sorted(struck, key=lambda happened: happened.fault.at_ms)
    length: Nanoseconds = conditions.length_ms * MS
    before = min((happened.fault.at_ms * MS for happened in struck), default=length)
    quiet = [o.final_ns for o in operations if o.due_ns < before]
    band = compute_band(quiet)
    found = describe_recoveries(
        [(happened.fault, happened.members) for happened in struck], operations, conditions, band
    )
    recoveries = [
        {"text": describe_fault(happened.fault, len(base.machines)), **row}
        for happened, row in zip(struck, found, strict=True)
    ]
    return {
        "engine": base.engine,
        "offered": len(operations),
        "answered": sum(o.final_ns is not None for o in operations),
        "throughput": round(compute_throughput(operations), 1),
        "latency": describe_latencies(quiet),
        "with_faults": describe_latencies([o.final_ns for o in operations]),
        "band_us": to_us(band),
        "sent_again": sum(o.sent - 1 for o in operations),
        "recoveries": recoveries,
    }
