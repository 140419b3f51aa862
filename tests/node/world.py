"""A small world in virtual time: nodes with their disks and stores, links that lose and delay.

Everything random comes from one seed; a digest of all events shows whether two runs were the same.
"""

import hashlib
import heapq
from collections.abc import Callable
from typing import Any, TypeVar

from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height, Member
from quorate.consensus.replica import Keys, Replica, Timer
from quorate.crypto.hashes import keccak256
from quorate.ledger.opaque import OpaqueLedger, OpaqueStore, make_genesis
from quorate.node.node import Node
from quorate.node.settings import Settings
from quorate.simulator.disk import SimulatedDisk
from quorate.simulator.tape import Stream
from quorate.storage.journal import Journal, open_journal

T = TypeVar("T")
MS = 1_000_000
START_MS = 1_800_000_000_000
SYNC_NS = MS // 2
WORK_NS = MS // 4


class CheapKeys(Keys):
    """Signatures that cost a hash; nobody in these tests forges them."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def sign(self, digest: Hash) -> bytes:
        return keccak256(self.address + digest) * 2 + b"\0"

    def verify(self, address: Address, digest: Hash, signature: bytes) -> bool:
        return signature == keccak256(address + digest) * 2 + b"\0"


def make_address(index: int) -> Address:
    return bytes([index + 1]) * 20


class Machine:
    """One node's world: implements `quorate.node.port.Port`; survives the crashes of its node."""

    def __init__(self, world: "World", address: Address, store: OpaqueStore) -> None:
        self.world, self.address, self.store = world, address, store
        self.disk = SimulatedDisk(
            Stream(world.seed, f"tear {address.hex()}"), Stream(world.seed, "errors")
        )
        self.life = 0
        """Grows with every crash; what belongs to an older life never happens."""
        self.node: Node | None = None
        self.journal: Journal | None = None
        self.timers: dict[Timer, int] = {}
        self.lanes: dict[str, int] = {}
        self.failed = ""
        self.said = b""
        """The last frame that was sent."""
        self.hurried: list[tuple[bytes, Height]] = []
        """What was said last, and what was final, whenever all was to leave."""
        self.syncs = 0
        self.crash_at_sync = 0
        """Crash in the middle of this sync of the journal; 0: never."""
        self.logs: list[tuple[str, str, dict[str, Any]]] = []
        self.refused: list[str] = []
        self.admitted_hashes: list[Hash] = []
        self.shown: Height = 0
        self.commits = 0
        self.clock_ms = 0
        """How far the wall clock is off."""

    def start(self) -> Node:
        self.disk.open()
        self.journal, recovered = open_journal(self.disk, self.address, segment_bytes=1 << 14)
        application = self.world.make_application(self)
        replica = self.world.make_replica(CheapKeys(self.address), application.genesis)
        self.failed = ""
        self.node = Node(
            self,
            replica,
            application,
            self.world.settings,
            engine="test",
            peers=[],
            software="test",
        )
        self.node.start(recovered.records)
        return self.node

    def crash(self) -> None:
        """Lose everything but what was synced, and some of what was being written."""
        self.life += 1
        self.node = self.journal = None
        self.timers, self.lanes = {}, {}
        self.disk.crash()

    # ---- the port

    def later(self, delay_ns: int, call: Callable[[], None]) -> None:
        life = self.life
        self.world.at(delay_ns, lambda: call() if self.life == life else None)

    def now(self) -> int:
        return self.world.now

    def wall_ms(self) -> int:
        return START_MS + self.world.now // MS + self.clock_ms

    def send(self, peer: Address, frame: bytes) -> None:
        self.said = frame
        self.world.transmit(self.address, peer, frame)

    def hurry(self) -> None:
        assert self.node is not None
        self.hurried.append((self.said, self.node.execution.final.height))

    def set_timer(self, timer: Timer, delay_ns: int) -> None:
        number = self.timers[timer] = self.world.number()

        def fall() -> None:
            if self.timers.get(timer) == number and self.node is not None:
                del self.timers[timer]
                self.node.timeout(timer)

        self.later(delay_ns, fall)

    def cancel_timer(self, timer: Timer) -> None:
        self.timers.pop(timer, None)

    def seal(self, header: bytes, target: int, done: Callable[[int], None]) -> None:
        raise AssertionError("no engine in these tests mines")

    def stop_sealing(self) -> None: ...

    def append(self, records: list[bytes], done: Callable[[], None]) -> None:
        assert self.journal is not None
        self.journal.write(records)
        self.later(SYNC_NS, lambda: self.synced(done))

    def synced(self, done: Callable[[], None]) -> None:
        assert self.journal is not None
        self.syncs += 1
        if self.syncs == self.crash_at_sync:
            self.world.crash(self.address)
            return
        self.journal.sync()
        done()

    def cut(self, records: list[bytes], done: Callable[[], None]) -> None:
        def replace() -> None:
            assert self.journal is not None
            self.journal.replace(records)
            done()

        self.later(SYNC_NS, replace)

    def work(self, lane: str, call: Callable[[], T], done: Callable[[T], None]) -> None:
        start = max(self.lanes.get(lane, 0), self.world.now)
        self.lanes[lane] = start + WORK_NS
        self.later(start + WORK_NS - self.world.now, lambda: done(call()))

    def committed(self, height: Height) -> None:
        assert height > self.shown or self.life
        self.shown = height
        self.commits += 1

    def adopted(self, height: Height) -> None:
        pass

    def admitted(self, hashes: list[Hash]) -> None:
        self.admitted_hashes += hashes

    def disconnect(self, peer: Address, reason: str) -> None:
        self.refused.append(reason)
        self.world.unlink(self.address, peer)

    def fail(self, reason: str) -> None:
        self.failed = reason
        self.world.note("fail", self.address, reason.encode())

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.logs.append((level, event, fields))


class World:
    """Machines, links and time."""

    def __init__(
        self,
        make_replica: Callable[[Keys, Hash], Replica],
        *,
        count: int = 4,
        members: int | None = None,
        seed: int = 1,
        settings: Settings | None = None,
        loss_permille: int = 0,
        delay_ms: int = 5,
    ) -> None:
        self.make_replica = make_replica
        self.settings = settings or Settings()
        self.seed, self.rng = seed, Rng(seed)
        self.now = 0
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.sequence = 0
        self.loss_permille, self.delay_ms = loss_permille, delay_ms
        self.cut_off: dict[tuple[Address, Address], None] = {}
        self.links: dict[tuple[Address, Address], None] = {}
        self.arrivals: dict[tuple[Address, Address], int] = {}
        self.digest = hashlib.blake2b(digest_size=16)
        self.frames = 0
        addresses = [make_address(i) for i in range(count)]
        genesis = make_genesis(b"test", [Member(a, 1) for a in addresses[:members]])
        self.machines = {a: Machine(self, a, OpaqueStore(genesis)) for a in addresses}

    def make_application(self, machine: Machine) -> OpaqueLedger:
        return OpaqueLedger(machine.store, machine.address)

    # ---- time

    def number(self) -> int:
        self.sequence += 1
        return self.sequence

    def at(self, delay_ns: int, call: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (self.now + max(delay_ns, 1), self.number(), call))

    def run(self, duration_ms: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, until nothing is left, `until` holds, or the time is over."""
        end = self.now + duration_ms * MS
        while self.queue and self.queue[0][0] <= end:
            if until():
                return True
            self.now, _, call = heapq.heappop(self.queue)
            call()
        self.now = end
        return until()

    def note(self, *parts: Any) -> None:
        """Make something part of the digest of the run."""
        self.digest.update(repr((self.now, *parts)).encode())

    # ---- nodes and links

    def get_machine(self, index: int) -> Machine:
        return self.machines[make_address(index)]

    def get_node(self, index: int) -> Node:
        node = self.get_machine(index).node
        assert node is not None
        return node

    def start(self, *indices: int) -> None:
        """Start nodes (all, unless some are named) and link them with those that run."""
        for index in indices or range(len(self.machines)):
            machine = self.get_machine(index)
            machine.start()
            for other in self.machines.values():
                if other is not machine and other.node is not None:
                    self.link(machine.address, other.address)

    def link(self, a: Address, b: Address) -> None:
        if (a, b) in self.links or (a, b) in self.cut_off:
            return
        self.links[a, b] = self.links[b, a] = None
        for one, other in ((a, b), (b, a)):
            node = self.machines[one].node
            if node is not None:
                self.at(0, lambda node=node, other=other: node.connected(other))

    def unlink(self, a: Address, b: Address) -> None:
        if self.links.pop((a, b), 0) is None:
            self.links.pop((b, a), None)
            for one, other in ((a, b), (b, a)):
                node = self.machines[one].node
                if node is not None:
                    self.at(0, lambda node=node, other=other: node.disconnected(other))

    def crash(self, address: Address) -> None:
        self.note("crash", address)
        for other in self.machines:
            self.unlink(address, other)
        self.machines[address].crash()

    def partition(self, *group: int) -> None:
        """Cut the links between these nodes and all others."""
        inside = [make_address(i) for i in group]
        for a in self.machines:
            for b in self.machines:
                if (a in inside) != (b in inside):
                    self.cut_off[a, b] = None
                    self.unlink(a, b)

    def heal(self) -> None:
        self.cut_off.clear()
        running = [a for a, machine in self.machines.items() if machine.node is not None]
        for i, a in enumerate(running):
            for b in running[:i]:
                self.link(a, b)

    def transmit(self, sender: Address, to: Address, frame: bytes) -> None:
        if (sender, to) not in self.links or self.rng.below(1000) < self.loss_permille:
            return
        receiver = self.machines[to]
        life = receiver.life
        delay = MS // 10 + self.rng.below(self.delay_ms * MS)

        def arrive() -> None:
            node = receiver.node
            if node is not None and receiver.life == life and (sender, to) in self.links:
                self.frames += 1
                self.note(sender, to, frame)
                node.received(sender, frame)

        self.at(delay, arrive)

    # ---- what happened

    def submit(self, index: int, *items: bytes) -> list[tuple[Hash, str | None]]:
        results: list[tuple[Hash, str | None]] = []
        self.get_node(index).submit(list(items), results.extend)
        return results

    def get_heights(self) -> list[Height]:
        return [
            0 if machine.node is None else machine.node.execution.final.height
            for machine in self.machines.values()
        ]

    def check_agreement(self) -> None:
        """No node failed, and whatever two stores hold of a height is the same."""
        blocks: dict[Height, Hash] = {}
        for machine in self.machines.values():
            assert machine.failed == ""
            for height, final in enumerate(machine.store.final):
                assert final.executed.height == height
                assert blocks.setdefault(height, final.executed.block) == final.executed.block
