"""The key-value ledger in simulated runs: its stores, and clients of a few registers.

Clients put, compare and read keys through nodes as real ones do, and are answered when a height is
final, before the store of the node is durable at it. A change whose answer was lost is sent again,
with its number, to another node. What they were told is judged as a history of registers
(`linearizability.py`), and nothing may happen twice: every value is written by one operation.

Where an application of a user's own runs on the ledger, clients make the calls that it gives as
examples, and touch registers only if it lets them. Its own rule is judged after every block. Its
answers are part of the state that replicas compare, and each life of a node has an object of its
own, as each process has.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from quorate._kernel import KeyValue
from quorate.base.types import Address, Hash, Height, Member, Milliseconds, Nanoseconds
from quorate.crypto.hashes import HEAD_BYTES
from quorate.ledger import operations as op
from quorate.ledger.application import Executed
from quorate.ledger.keyvalue import KeyValueLedger, make_genesis, open_machine, open_store
from quorate.ledger.machine import Machine as Own
from quorate.light.rlp import decode_list
from quorate.simulator.clock import START_MS
from quorate.simulator.digest import CLIENT
from quorate.simulator.history import History
from quorate.simulator.linearizability import check_history
from quorate.simulator.models import Register

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.plan import Plan
    from quorate.simulator.world import World

__all__ = ["OWN_RULE", "REGISTERS", "KeyValueStores", "Registers"]

MS: Final[Nanoseconds] = 1_000_000
REGISTERS: Final = "linearizable registers"
"""The property."""
OWN_RULE: Final = "the application's own rule"
"""The property of `Machine.find_fault`."""
KEYS: Final = (b"r0", b"r1")
MAX_STEPS: Final = 200_000
PATIENCE_NS: Final[Nanoseconds] = 2_000 * MS
ATTEMPTS: Final = 4
MAX_OPERATIONS: Final = 400
"""Of one run: the search for an order is not linear."""
DEADLINE_MS: Final[Milliseconds] = START_MS + 300_000
"""Of all operations: a run takes a few minutes at most, and clocks are not far from each other."""


class KeyValueStores:
    """Implements `quorate.simulator.applications.Stores`."""

    def __init__(self, plan: "Plan") -> None:
        self.genesis = plan.genesis or make_genesis(
            application=plan.application,
            chain_id=31337,
            engine=plan.engine,
            members=[Member(m.address, m.power) for m in plan.machines if m.power],
            timestamp=START_MS // 1000 - 1,
        )
        self.application = plan.application
        self.machine = open_machine(plan.application)
        """Whose examples clients take."""
        self.choose: Callable[[int], int] = choose_first
        """What examples are drawn by."""
        self.chain: Hash = self.make().genesis_hash

    def make(self) -> KeyValue:
        store, self.members = open_store(None, self.genesis)
        return store

    def open(self, store: KeyValue, proposer: Address) -> KeyValueLedger:
        store.rollback(store.durable())
        return KeyValueLedger(store, proposer, self.members, open_machine(self.application))

    def get_height(self, store: KeyValue) -> Height:
        return store.durable()

    def get_executed(self, store: KeyValue) -> Height:
        return store.final()

    def forget(self, store: KeyValue, height: Height) -> bool:
        # As with the Ethereum ledger: whole heights are committed to LMDB.
        return False

    def get_final(self, store: KeyValue, height: Height) -> tuple[Hash, list[bytes]] | None:
        block, decision = store.block(height), store.decision(height)
        if block is None or (height and decision is None):
            # Of what lies below a state that was taken over, there may be headers.
            return None
        return block.hash, decision[2] if decision else []

    def list_items(self, store: KeyValue, height: Height) -> tuple[list[bytes], int]:
        block, decision = store.block(height), store.decision(height) if height else None
        assert block is not None
        payloads = decision[2] if decision else []
        found = [item for p in payloads for item in decode_list(p[HEAD_BYTES:], "payload")]
        return [op.get_identity(item) for item in found], block.items

    def make_item(self, number: int, account: int, nonce: int) -> tuple[bytes, bytes]:
        client = b"client %09d" % number
        call = None if self.machine is None else self.machine.example(self.choose)
        action = op.make_put(b"log", b"%d" % number) if call is None else op.make_call(call)
        item = op.encode(action, client, 1, 0, DEADLINE_MS)
        return op.get_identity(item), item

    def identify(self, item: bytes) -> bytes:
        return op.get_identity(item)


def choose_first(_: int) -> int:
    return 0


class Calls:
    """Counts what an application of a user's own says to the calls of one world, and lets it judge
    the state.
    """

    def __init__(self, world: "World", own: Own) -> None:
        self.world, self.own = world, own
        self.has_rule = type(own).find_fault is not Own.find_fault
        self.entries: dict[bytes, bytes] = {}
        """The state after `height`."""
        self.height: Height = 0
        world.expect("call done")
        world.on_final.append(self.on_final)

    def on_final(self, machine: "Machine", executed: Executed) -> None:
        """A height is final at a node: the first that is honest tells what was answered."""
        if executed.height <= self.height or not machine.is_honest or not executed.items:
            return
        self.height = executed.height
        block = machine.store.block(executed.block)
        assert block is not None
        for _, outcome, _, _ in block.answers:
            self.world.witness("call refused" if outcome == op.REFUSED else "call done")
        if self.has_rule:
            assert machine.node is not None
            ledger = machine.node.application
            assert isinstance(ledger, KeyValueLedger)
            self.judge(machine, ledger)

    def judge(self, machine: "Machine", ledger: KeyValueLedger) -> None:
        """Ask the application whether the state may be what it has become."""
        for key, _, entry in ledger.get_events(self.height):
            if entry is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry[0]
        try:
            fault = self.own.find_fault(self.entries)
        except Exception as error:
            # It is somebody's own, and so is its mistake.
            fault = f"find_fault raised {type(error).__name__}: {error}"
        if fault:
            self.world.find(OWN_RULE, f"height {self.height}: {fault}", machine)


class Change:
    """An operation of a client on its way."""

    __slots__ = ("attempts", "id", "identity", "item", "kind", "machine", "settled")

    def __init__(self, id: str, kind: str, item: bytes) -> None:
        self.id, self.kind, self.item = id, kind, item
        self.identity = op.get_identity(item)
        self.machine = -1
        self.attempts = 0
        self.settled = False


class Registers:
    """Clients of registers in one world, until a time."""

    def __init__(self, world: "World", until_ns: Nanoseconds) -> None:
        self.world, self.until_ns = world, until_ns
        stream = world.tape.stream
        self.who, self.what = stream("registers who"), stream("registers what")
        self.loss = stream("registers loss")
        self.history = History()
        self.number = 0
        self.waiting: list[dict[bytes, Change]] = [{} for _ in world.machines]
        """What clients listen for at each machine."""
        self.last: dict[bytes, bytes | None] = dict.fromkeys(KEYS)
        """What somebody wrote last, to be compared with."""
        world.on_final.append(self.on_final)
        world.on_end.append(self.judge)

    # ---- what clients do

    def ask(self) -> None:
        """Change or read a register at some node."""
        if self.number >= MAX_OPERATIONS or self.world.now >= self.until_ns:
            return
        self.number += 1
        machines = self.world.machines
        machine = machines[self.who.choose(len(machines))]
        key = KEYS[self.what.choose(len(KEYS))]
        kind = self.what.choose(3)
        if kind == 0:
            self.read(machine, key)
            return
        id, value = f"register {self.number}", b"%d" % self.number
        client = b"register%08d" % self.number
        expected = self.last[key]
        argument: str | tuple[str, str]
        if kind == 1 or expected is None:
            action, name, argument = op.make_put(key, value), "write", value.decode()
        else:
            action = op.make_compare(key, value, expected=expected)
            name, argument = "cas", (expected.decode(), value.decode())
        self.last[key] = value
        item = op.encode(action, client, 1, 0, DEADLINE_MS)
        self.history.invoke(
            self.world.now, id, client=id, key=key.decode(), operation=name, argument=argument
        )
        self.send(Change(id, name, item), machine)

    def send(self, change: Change, machine: "Machine") -> None:
        world = self.world
        change.attempts += 1
        change.machine = machine.index
        world.note(CLIENT, machine.index, change.attempts, change.item)
        world.after(PATIENCE_NS, self.on_silence, change, change.attempts)
        if self.loss.chance(world.plan.profile.loss_permille):
            return
        self.waiting[machine.index][change.identity] = change
        index = machine.index

        def on_judged(results: list[tuple[Hash, str | None]]) -> None:
            if results[0][1] is not None and not change.settled and change.machine == index:
                self.look_up(change, world.machines[index])

        machine.submit([change.item], on_judged)

    def on_silence(self, change: Change, attempt: int) -> None:
        """No answer came in time: the same is sent to another node, some times."""
        if change.settled or change.attempts != attempt:
            return
        self.waiting[change.machine].pop(change.identity, None)
        if change.attempts == ATTEMPTS:
            change.settled = True
            self.history.info(self.world.now, change.id)
            return
        self.world.witness("numbered operation sent again")
        machines = self.world.machines
        self.send(change, machines[(change.machine + 1) % len(machines)])

    def look_up(self, change: Change, machine: "Machine") -> None:
        """Ask for the answer of an operation that the node knows already."""
        if machine.node is None or not machine.is_honest:
            return
        identity = change.identity
        sequence = int.from_bytes(identity[16:], "big")
        result = machine.store.result(identity[:16], sequence)
        if result is not None:
            self.world.witness("repeated operation answered")
            self.settle(change, result[0])

    def on_final(self, machine: "Machine", executed: Executed) -> None:
        """A height is final at a node: it answers its clients."""
        waiting = self.waiting[machine.index]
        if not waiting or not machine.is_honest or not executed.items:
            return
        block = machine.store.block(executed.block)
        assert block is not None
        for identity, outcome, _, _ in block.answers:
            change = waiting.pop(identity, None)
            if change is not None:
                self.settle(change, outcome)

    def settle(self, change: Change, outcome: int) -> None:
        if change.settled:
            return
        change.settled = True
        self.waiting[change.machine].pop(change.identity, None)
        done = outcome == op.DONE
        self.world.witness("comparison succeeded" if change.kind == "cas" and done else "answered")
        result = done if change.kind == "cas" else None
        self.history.ok(self.world.now, change.id, result)

    def read(self, machine: "Machine", key: bytes) -> None:
        node, world = machine.node, self.world
        if node is None or machine.paused or not machine.is_honest:
            return
        id = f"register {self.number}"
        self.history.invoke(world.now, id, client=id, key=key.decode(), operation="read")

        def done(height: Height) -> None:
            if height < 0 or not machine.is_honest:
                self.history.fail(world.now, id)
                return
            entry = machine.store.get([key], machine.store.final())[2][0]
            world.witness("register read")
            self.history.ok(world.now, id, None if entry is None else entry[0].decode())

        node.read(done)

    # ---- the end

    def judge(self) -> None:
        """Find answers that no order of the operations explains."""
        report = check_history(self.history.get_operations(), Register, max_steps=MAX_STEPS)
        self.world.count("register operations", self.number)
        if report.verdict == "false":
            self.world.find(REGISTERS, "; ".join(report.describe())[:2000])
