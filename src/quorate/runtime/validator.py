"""One validator process: everything put together, from start to end.

Started with the network file, its own folder and its secret key; ends by a signal or by a failure.
The first SIGTERM or SIGINT drains: no more requests, no more votes, then the calls that are under
way complete, what is final becomes durable, and what waits in the pool is kept for the next start.
The second one ends at once, which is as safe as a crash, and a crash is safe.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import uvloop
from msgspec import Struct

from quorate import compiled
from quorate.base.errors import Corrupt, Invalid, Unavailable
from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height
from quorate.consensus import ENGINES, Engine
from quorate.consensus.keys import SecpKeys
from quorate.consensus.replica import Timer
from quorate.ledger.application import Application, Executed
from quorate.node.contacts import Open
from quorate.node.node import Node
from quorate.node.settings import Settings as NodeSettings
from quorate.node.status import NodeStatus
from quorate.runtime.config import Network, ValidatorConfig
from quorate.runtime.disk import FileDisk
from quorate.runtime.engine import get_engine, read_engine_settings
from quorate.runtime.folder import Folder, make_private
from quorate.runtime.health import HealthServer
from quorate.runtime.host import Host
from quorate.runtime.ipc_server import IpcServer, PoolReader, Verdicts
from quorate.runtime.logs import EventLog, open_log
from quorate.runtime.metrics import Metrics, PeerTraffic, name_of
from quorate.runtime.open_node import PEER_FILE, Doorway, find_bootnodes
from quorate.runtime.open_transport import IDENTITY_BYTES, OpenTransport
from quorate.runtime.pidfile import PidFile
from quorate.runtime.supervision import Child, Notifier
from quorate.runtime.tls import TlsIdentity, load_identity, write_private
from quorate.runtime.transport import PeerPlace, Transport
from quorate.storage.journal import open_journal

__all__ = ["OpenApplication", "Opened", "Plan", "run_validator"]

LAG_PERIOD_S = 0.25
PROGRESS_PERIOD_S = 60.0
HAND_OVER_PATIENCE_S = 1.0
"""How long a leader that stops waits for another one."""
HAND_OVER_POLL_S = 0.005
DRAIN_PATIENCE_S = 30.0
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter while the loop wants it; the default is 5 ms."""
KEYVALUE_SETTINGS: dict[str, Any] = {
    # Its clients are answered when an operation is final, and send it again until then.
    "forward": True,
    # What is told to one member alone comes to it but once, and its pool knows what is sent again.
    "seen_transactions": 0,
    # Readers look at what is in memory, so that nobody waits for the store, each write to which
    # syncs the disk that the journal is on.
    "commit_ms": 200,
    "commit_heights": 256,
    "max_uncommitted": 1024,
    "max_uncommitted_bytes": 256 << 20,
}
"""Of a node whose application is the key-value one."""
KEPT_POOL = "pool.waiting"
MAX_KEPT_ITEMS = 100_000


class Opened(Struct):
    """An application that is ready to be driven."""

    application: Application
    pool: PoolReader | None
    close: Callable[[], None]
    network_id: Hash
    """Peers with another one are refused: it covers all that members must have in common."""
    is_dev: bool = False
    """Whether the chain is one for development."""


OpenApplication = Callable[["Plan"], Opened]


class ClientPort(Protocol):
    """A port for clients of the application, in the validator's own process."""

    async def start(self) -> None:
        """Listen. Raises Unavailable when the port is taken."""
        ...

    async def stop(self) -> None: ...
    def on_final(self, executed: Executed) -> None:
        """A height was decided and executed: told before anything else is done with it."""
        ...


OpenPort = Callable[["Validator"], ClientPort]


class Plan(Struct, frozen=True):
    """What to run: made by the command line.

    `secret` is the validator's key, 32 bytes. `rpc_command` starts its JSON-RPC process; None: it
    has none. `open_port` makes a port of this process's own. `log_file` None: stderr.
    """

    network: Network
    network_folder: Path
    validator: ValidatorConfig
    folder: Folder
    secret: bytes
    open_application: OpenApplication
    rpc_command: list[str] | None = None
    open_port: OpenPort | None = None
    log_file: Path | None = None

    def __repr__(self) -> str:
        return f"Plan({self.validator.name})"

    def read_genesis(self) -> bytes:
        """Return the genesis file. Raises Invalid."""
        path = self.network_folder / self.network.genesis
        try:
            return path.read_bytes()
        except OSError as error:
            raise Invalid(f"{path}: cannot be read: {error.strerror}") from None


class ObservedNode(Node):
    """A node that tells of each height that became final."""

    on_block: Callable[[Executed, list[bytes]], None] | None = None

    def on_final(self, executed: Executed) -> None:
        super().on_final(executed)
        if self.on_block is not None:
            self.on_block(executed, self.execution.payloads)


class Validator:
    """The parts of one validator process and what connects them. Drive by `run_validator`."""

    def __init__(self, plan: Plan, log: EventLog, pid_file: PidFile) -> None:
        """Open everything. Raises Invalid, Unavailable or Corrupt, one line for people."""
        self.plan, self.log, self.pid_file = plan, log, pid_file
        network, folder = plan.network, plan.folder
        self.loop = asyncio.get_running_loop()
        self.failed = ""
        self.stopping = asyncio.Event()
        self.signalled = False
        keys = SecpKeys(plan.secret)
        check_key(plan.validator, keys.address)
        self.me = keys.address
        identity = load_identity(folder.tls_key, folder.tls_certificate)
        check_certificate(plan, identity.fingerprint)
        self.opened = plan.open_application(plan)
        self.application, self.pool = self.opened.application, self.opened.pool
        genesis = self.application.genesis
        self.disk = FileDisk(folder.journal, fsync=network.store.fsync)
        check_journal_exists(self.disk, folder, self.application.durable().height)
        journal, recovered = open_journal(self.disk, self.me + genesis)
        self.recovered = recovered.records
        for note in recovered.notes:
            log("warning", "journal repaired", note=note)
        self.host = Host(
            journal,
            self,
            disk=self.disk,
            mining_threads=network.mining.threads,
            hashes_per_second=network.mining.hashes_per_second,
        )
        engine = get_engine(network)
        self.proves = engine.proves
        self.doorway = Doorway(folder.path / PEER_FILE, log) if engine.open else None
        self.names = get_names(network, engine)
        self.node = make_node(plan, engine, self.host, keys, self.opened, self.make_open(identity))
        self.node.on_block = self.on_block
        self.transport = self.make_transport(identity)
        self.host.attach(self.node, self.transport.send, self.transport.outbox.flush)
        self.metrics = Metrics(self)
        self.host.on_timer = self.on_timer
        self.ipc = IpcServer(
            folder.socket,
            self,
            log,
            max_clients=network.limits.ipc_clients,
            max_in_flight=network.limits.ipc_in_flight,
        )
        self.health = (
            HealthServer(self, network.metrics.host, plan.validator.metrics_port)
            if network.metrics.enabled
            else None
        )
        self.child = make_child(plan, log)
        self.client_port = plan.open_port(self) if plan.open_port is not None else None
        if self.client_port is not None:
            self.node.execution.on_answers = self.client_port.on_final
        self.notifier = Notifier(os.environ)
        self.handles: dict[str, asyncio.TimerHandle] = {}
        self.finding: asyncio.Task[None] | None = None
        """Looks up the names of bootnodes."""

    # ---- peers

    def make_open(self, identity: TlsIdentity) -> Open | None:
        """Return what a node that finds its peers is told; None: its peers are configured."""
        if self.doorway is None:
            return None
        plan, me = self.plan, identity.fingerprint[:IDENTITY_BYTES]
        return self.doorway.make_open(plan.network, plan.validator, me, self.application.genesis)

    def make_transport(self, identity: TlsIdentity) -> Transport | OpenTransport:
        network = self.plan.network
        network_id = self.opened.network_id
        if self.doorway is not None:
            transport = OpenTransport(network_id, identity, network.peers, self.node, self.log)
            self.doorway.transport = transport
            return transport
        places = {v.identity: PeerPlace(v.name, v.host, v.port, v.pin) for v in network.validators}
        return Transport(self.me, network_id, identity, places, network.peers, self.node, self.log)

    # ---- life

    async def start(self) -> None:
        """Begin to listen, to agree and to answer. Raises Unavailable when a port is taken."""
        validator = self.plan.validator
        listen = validator.listen or validator.host
        self.node.start(self.recovered)
        self.recovered = []
        try:
            await self.transport.start(listen, validator.port)
        except OSError as error:
            raise Unavailable(
                f"peers on {listen}:{validator.port}: {error.strerror or error}"
            ) from None
        if self.node.discovery is not None:
            me = self.node.discovery.me
            find = find_bootnodes(self.plan.network, self.node.discovery, me, self.log)
            self.finding = self.loop.create_task(find)
        await self.ipc.start()
        if self.health is not None:
            await self.health.start()
        if self.child is not None:
            self.child.start()
        if self.client_port is not None:
            await self.client_port.start()
        self.resubmit()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.on_signal, number)
        self.watch_lag(self.loop.time() + LAG_PERIOD_S)
        self.tell_progress(self.node.execution.final.height)
        # What lives now lives to the end: it need not be looked at by the collector again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        height = self.node.execution.final.height
        self.notifier.ready(f"height {height}")
        if self.notifier.watchdog_s:
            self.tell_watchdog()
        network = self.plan.network
        for caution in ENGINES[network.engine].list_cautions(network.engine_settings):
            self.log("warning", caution)
        if self.opened.is_dev:
            self.log("warning", "development chain: anybody may change its state and time")
        self.log(
            "info",
            "validator runs",
            name=validator.name,
            address=self.me,
            height=height,
            peers_at=f"{listen}:{validator.port}",
            pid=os.getpid(),
            code="compiled" if compiled.is_used() else "interpreted",
        )

    async def stop(self) -> None:
        """Drain, keep everything, close. Never raises."""
        began = time.monotonic()
        self.notifier.stopping()
        for handle in self.handles.values():
            handle.cancel()
        steps: list[tuple[str, Callable[[], Any]]] = [
            ("leader", self.hand_over_first),
            ("ipc", self.ipc.stop),
            ("clients", self.client_port.stop if self.client_port is not None else do_nothing),
            ("rpc", self.child.stop if self.child is not None else do_nothing),
            ("node", self.stop_node),
            ("transport", self.transport.stop),
            ("lanes", self.drain),
            ("store", self.close_store),
            ("health", self.health.stop if self.health is not None else do_nothing),
        ]
        for name, step in steps:
            try:
                await step()
            except Exception as error:
                self.log("error", "stop: a part did not close", part=name, reason=str(error))
        spent_s = round(time.monotonic() - began, 3)
        self.log("info", "validator stopped", reason=self.failed or "asked to", spent_s=spent_s)

    async def hand_over_first(self) -> None:
        """Let a leader's followers not wait for a timeout to find out that it is gone."""
        if self.failed or not self.node.leads() or self.node.hand_over():
            return
        deadline = time.monotonic() + HAND_OVER_PATIENCE_S
        while self.node.leads() and time.monotonic() < deadline:
            await asyncio.sleep(HAND_OVER_POLL_S)

    async def stop_node(self) -> None:
        if self.finding is not None:
            self.finding.cancel()
        if self.doorway is not None and self.node.discovery is not None:
            self.node.discovery.keep()
            await self.doorway.close()
        self.node.write_rest()
        self.node.stop()

    async def drain(self) -> None:
        if not await self.host.close(DRAIN_PATIENCE_S):
            self.log("warning", "calls still run after the longest wait", wait_s=DRAIN_PATIENCE_S)

    async def close_store(self) -> None:
        """Make final heights durable, keep what waits, close. A failed node keeps nothing new."""
        if not self.failed:
            await asyncio.to_thread(self.application.commit)
            await asyncio.to_thread(self.keep_pool)
        self.disk.close()
        self.opened.close()
        self.pid_file.release()

    def keep_pool(self) -> None:
        """Write what waits for the next start, since clients were told that it was admitted."""
        items = self.application.admitted(MAX_KEPT_ITEMS)
        path = self.plan.folder.path / KEPT_POOL
        if items:
            write_private(path, msgspec.msgpack.encode(items))
            self.log("info", "pool kept", transactions=len(items))

    def resubmit(self) -> None:
        """Admit again what the last stop kept."""
        path = self.plan.folder.path / KEPT_POOL
        try:
            items = msgspec.msgpack.decode(path.read_bytes(), type=list[bytes])
        except FileNotFoundError:
            return
        except msgspec.MsgspecError as error:
            self.log("warning", "pool not restored", file=str(path), reason=str(error))
            path.unlink()
            return
        self.node.submit(items, self.on_resubmitted)

    def on_resubmitted(self, verdicts: Verdicts) -> None:
        refused = sum(reason is not None for _, reason in verdicts)
        self.log("info", "pool restored", transactions=len(verdicts) - refused, refused=refused)
        (self.plan.folder.path / KEPT_POOL).unlink(missing_ok=True)

    def on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self.signalled:
            self.log("warning", "stopped by force", signal=name)
            os._exit(128 + number)
        self.signalled = True
        self.log("info", "stopping, a second signal forces", signal=name)
        self.stopping.set()

    # ---- what the node tells (HostEvents)

    def committed(self, height: Height) -> None:
        self.ipc.tell_committed(height)

    def adopted(self, height: Height) -> None:
        # Readers look at the store and see for themselves which blocks are others now.
        self.ipc.tell_committed(height)

    def admitted(self, hashes: list[Hash]) -> None:
        self.ipc.tell_pending(hashes)

    def disconnect(self, peer: Address, reason: str) -> None:
        self.transport.disconnect(peer, reason)

    def fail(self, reason: str) -> None:
        self.failed = reason
        self.log("error", "validator failed", reason=reason)
        self.stopping.set()

    def on_block(self, executed: Executed, payloads: list[bytes]) -> None:
        size_bytes = sum(map(len, payloads))
        self.metrics.on_block(executed.items, size_bytes, missed=not self.has_signed())
        if self.plan.network.log.blocks:
            self.log(
                "info",
                "block",
                height=executed.height,
                hash=executed.block,
                transactions=executed.items,
                bytes=size_bytes,
            )

    def on_timer(self, timer: Timer) -> None:
        if timer.height:
            self.metrics.on_timer(timer.height, timer.round)

    # ---- questions (ipc, health, metrics)

    def submit(self, items: list[bytes], done: Callable[[Verdicts], None]) -> None:
        self.node.submit(items, done)

    def hand_over(self, to: Address | None) -> str:
        return self.node.hand_over(to)

    def ban(self, who: str, seconds: int, reason: str) -> bool:
        return self.node.ban(who, seconds, reason)

    def unban(self, who: str) -> bool:
        return self.node.unban(who)

    def get_status(self) -> NodeStatus:
        return self.node.get_status()

    def get_durable(self) -> Height:
        return self.node.execution.durable

    def get_metrics(self) -> bytes:
        return self.metrics.render()

    def read(self, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.host.work("read", lambda: try_call(call), done)

    def get_traffic(self) -> dict[str, PeerTraffic]:
        return {
            name_of(self.names, peer): self.transport.get_traffic(peer)
            for peer in self.transport.get_peers()
        }

    def get_refused(self) -> dict[str, int]:
        return msgspec.structs.asdict(self.transport.dropped)

    def get_signers(self) -> set[Address]:
        """Return whose votes are in the last certificate; empty before the first."""
        certificate = self.node.execution.certificate
        if not certificate:
            return set()
        return set(ENGINES[self.plan.network.engine].get_signers(certificate))

    def has_signed(self) -> bool:
        """Whether this validator's vote is in the last certificate, or is not asked for.

        A certificate that proves nothing names whom its writer knew of at that moment.
        """
        if not self.proves:
            return True
        return self.me not in self.node.members or self.me in self.get_signers()

    def get_silent_members(self) -> int:
        if self.node.replica.OPEN:
            return 0
        signers = self.get_signers()
        return sum(member not in signers for member in self.node.members) if signers else 0

    def get_accused(self) -> int:
        return len({accusation.who for accusation in self.node.accusations})

    def get_backlog(self) -> dict[str, int]:
        return self.host.get_backlog()

    def get_hashes(self) -> int:
        return self.host.sealer.get_tried()

    def get_syncs(self) -> tuple[int, float]:
        return self.host.syncs, self.host.sync_ns / 1e9

    # ---- periodic

    def watch_lag(self, due: float) -> None:
        """Measure how late the loop is."""
        now = self.loop.time()
        self.metrics.on_lag(max(now - due, 0.0))
        due = now + LAG_PERIOD_S
        self.handles["lag"] = self.loop.call_at(due, self.watch_lag, due)

    def tell_progress(self, before: Height) -> None:
        """One line a minute, if anything happened."""
        height = self.node.execution.final.height
        if height != before:
            self.log(
                "info",
                "progress",
                height=height,
                blocks=height - before,
                durable=self.node.execution.durable,
                peers=len(self.transport.links),
            )
        self.handles["progress"] = self.loop.call_later(
            PROGRESS_PERIOD_S, self.tell_progress, height
        )

    def tell_watchdog(self) -> None:
        self.notifier.alive(f"height {self.node.execution.final.height}")
        self.handles["watchdog"] = self.loop.call_later(
            self.notifier.watchdog_s, self.tell_watchdog
        )


def run_validator(plan: Plan) -> int:
    """Run one validator until it is told to stop; return the exit code of the process.

    Raises Invalid, Unavailable or Corrupt, one line for people, when it cannot be started.
    """
    make_private(plan.folder.path)
    pid_file = PidFile(plan.folder.pid)
    log = open_log(plan.network.log, plan.validator.name, plan.log_file)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(plan, log, pid_file))


async def run(plan: Plan, log: EventLog, pid_file: PidFile) -> int:
    validator = Validator(plan, log, pid_file)
    try:
        await validator.start()
    except (Invalid, Unavailable, Corrupt):
        await validator.stop()
        raise
    await validator.stopping.wait()
    await validator.stop()
    if not validator.failed:
        return 0
    if plan.log_file is not None:
        print(f"quorate: {plan.validator.name} failed: {validator.failed}", file=sys.stderr)
    return 1


def get_names(network: Network, engine: Engine) -> dict[Address, str]:
    """Return the names of those that the file names, by their identity among peers."""
    if engine.open:
        return {v.pin[:IDENTITY_BYTES]: v.name for v in network.validators}
    return {v.identity: v.name for v in network.validators}


def make_node(
    plan: Plan,
    engine: Engine,
    host: Host,
    keys: SecpKeys,
    opened: Opened,
    open: Open | None,
) -> ObservedNode:
    """Return the node with its engine. Raises Invalid for wrong settings of the engine."""
    network = plan.network
    settings = read_engine_settings(network, engine, plan.read_genesis() if engine.open else b"")
    application, is_dev = opened.application, opened.is_dev
    # A revert may bring back any state, and nodes that only an old one had.
    keeps_all = network.store.archive or is_dev
    rng = Rng(int.from_bytes(os.urandom(8), "big"))
    node_settings = NodeSettings(
        # An open engine has its own clock: the difficulty of its blocks.
        block_time_ms=0 if engine.open else network.blocks.block_time_ms,
        heartbeat_ms=network.blocks.heartbeat_ms,
        certify_ms=network.blocks.certify_ms,
        max_payload_bytes=network.blocks.max_bytes,
        max_frame_bytes=network.peers.max_frame_bytes,
        state_history=0 if keeps_all else network.store.state_history,
        block_history=0 if keeps_all else network.store.block_history,
        state_gap=network.store.state_gap,
        state_kept_ms=network.store.state_kept_s * 1000,
        # Whoever lacks what an older state had cannot follow a revert.
        state_interval=0 if is_dev else network.store.state_interval,
        # After a revert the same transaction may come again.
        seen_transactions=0 if is_dev else NodeSettings().seen_transactions,
    )
    if network.application == "keyvalue":
        node_settings = msgspec.structs.replace(node_settings, **KEYVALUE_SETTINGS)
    return ObservedNode(
        host,
        engine.replica(keys, application.genesis, rng, settings),
        application,
        node_settings,
        engine=network.engine,
        peers=[] if engine.open else [v.identity for v in network.validators],
        software=get_software(),
        open=open,
    )


def make_child(plan: Plan, log: EventLog) -> Child | None:
    if plan.rpc_command is None or not plan.network.rpc.enabled:
        return None
    output = plan.log_file.with_name("rpc.log") if plan.log_file is not None else None
    return Child("rpc", plan.rpc_command, log, output=output)


def check_journal_exists(disk: FileDisk, folder: Folder, height: Height) -> None:
    """Raise Corrupt when a store that has blocks comes without the journal that it grew with.

    The first start writes to the journal before there is any block, so a journal that is not there
    was lost, and with it what this validator voted for: going on could mean to vote twice.
    """
    if height and not disk.names():
        raise Corrupt(
            f"{folder.journal}: found no journal, expected that of the store at height {height}: "
            "without it this validator could vote twice; restore it, or join with a new key"
        )


def check_key(validator: ValidatorConfig, found: Address) -> None:
    if found != validator.identity:
        raise Invalid(
            f"{validator.name}: found the key of 0x{found.hex()}, "
            f"expected that of {validator.address} (network.toml)"
        )


def check_certificate(plan: Plan, found: bytes) -> None:
    if found != plan.validator.pin:
        raise Invalid(
            f"{plan.folder.tls_certificate}: found tls_sha256 {found.hex()}, "
            f"expected {plan.validator.tls_sha256} (network.toml)"
        )


def get_software() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"quorate/{version('quorate')}"
    except PackageNotFoundError:
        return "quorate/source"


def try_call(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the exception that the asker shall hear of."""
    try:
        return call()
    except (Invalid, Unavailable, Corrupt) as error:
        return error


async def do_nothing() -> None:
    return None
