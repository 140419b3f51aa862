"""What drives `Branches` as an open engine and its node would."""

from collections.abc import Callable
from typing import Any

import msgspec

from quorate.base.types import Hash, Height, Member
from quorate.consensus.replica import Check, Deliver, Head
from quorate.crypto.hashes import keccak256
from quorate.ledger.application import Application, Executed
from quorate.ledger.opaque import OpaqueLedger, OpaqueStore, make_genesis
from quorate.ledger.payload import compose
from quorate.node.branches import Branches
from quorate.node.settings import Settings

ALICE = b"\x0a" * 20
GENESIS = make_genesis(b"test", [Member(ALICE, 1)])
NOW_MS = 1_000_000
STRANGER = b"\x77" * 20
GARBAGE = bytes(64) + b"\xc1"


class StubPort:
    """Work waits in lanes until it is run."""

    def __init__(self) -> None:
        self.clock_ms = NOW_MS
        self.jobs: list[tuple[str, Callable[[], Any], Callable[[Any], None]]] = []
        self.shown: list[Height] = []
        self.durable: list[Height] = []
        self.returned: list[Hash] = []
        self.logged: list[str] = []

    def now(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return self.clock_ms

    def hurry(self) -> None: ...

    def set_timer(self, timer: object, delay_ns: int) -> None: ...

    def work(self, lane: str, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.jobs.append((lane, call, done))

    def run(self, most: int = 1 << 20) -> None:
        while self.jobs and most:
            _, call, done = self.jobs.pop(0)
            done(call())
            most -= 1

    def committed(self, height: Height) -> None:
        self.durable.append(height)

    def adopted(self, height: Height) -> None:
        self.shown.append(height)

    def admitted(self, hashes: list[Hash]) -> None:
        self.returned += hashes

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.logged.append(event)


class Listener:
    """Stands where the interpreter does, and writes down what the engine would be told."""

    def __init__(self) -> None:
        self.verdicts: dict[Hash, bool] = {}
        self.templates: list[tuple[Height, bytes]] = []
        self.applied_heights: list[Height] = []

    def checked(self, height: Height, payload: bytes, valid: bool, envelope: Hash) -> None:
        self.verdicts[envelope] = valid

    def submit(self, height: Height, payload: bytes) -> None:
        self.templates.append((height, payload))

    def applied(self, height: Height, members: list[Member]) -> None:
        assert members == []
        self.applied_heights.append(height)


class Forgetful(OpaqueLedger):
    """Forgets all executed blocks when told."""

    __slots__ = ()

    def forget(self) -> None:
        self.branches = {}
        self.adopted = self.last.block


class Driver:
    """An execution with a script's hands on it."""

    def __init__(self, application: Application, safe_depth: int = 2) -> None:
        self.port, self.engine = StubPort(), Listener()
        self.counters: dict[str, int] = {}
        self.failures: list[str] = []
        self.finals: list[Height] = []
        port: Any = self.port
        self.execution = Branches(
            port,
            application,
            Settings(),
            self.counters,
            on_final=lambda executed: self.finals.append(executed.height),
            on_durable=lambda height: None,
            fail=self.failures.append,
            safe_depth=safe_depth,
        )
        self.execution.interpreter = self.engine  # type: ignore[assignment]
        self.root = self.execution.envelope

    def head(self, check: Check) -> None:
        effect = Head(check.height, check.payload, check.envelope, check.parent)
        self.execution.on_head(effect)

    def deliver(self, check: Check) -> None:
        effect = Deliver(check.height, [check.payload], check.envelope, b"proof")
        self.execution.on_deliver(effect)


class Stage(Driver):
    """A driver of opaque items."""

    def __init__(self, store: OpaqueStore | None = None, safe_depth: int = 2) -> None:
        self.store = store or OpaqueStore(GENESIS)
        self.ledger = Forgetful(self.store, ALICE)
        super().__init__(self.ledger, safe_depth)

    def make(self, name: bytes, parent: Hash, *items: bytes, at_ms: int = 0) -> Check:
        """Return the check of a new block over an executed one."""
        above = self.execution.blocks[parent].executed
        at_ms = at_ms or above.timestamp_ms + 10
        payload = compose(above.block, at_ms, ALICE, msgspec.msgpack.encode([name, *items]))
        return Check(above.height + 1, payload, parent, keccak256(b"envelope" + name))

    def grow(self, name: bytes, parent: Hash, *items: bytes) -> Check:
        """Let a new block be checked, which succeeds."""
        effect = self.make(name, parent, *items)
        self.execution.on_check(effect)
        self.port.run()
        assert self.engine.verdicts[effect.envelope] is True
        return effect

    def line(self, name: bytes, parent: Hash, count: int) -> list[Check]:
        checks = []
        for i in range(count):
            checks.append(self.grow(name + bytes([i]), parent))
            parent = checks[-1].envelope
        return checks

    def get_latest(self) -> Executed:
        return self.ledger.get_executed(self.ledger.adopted)
