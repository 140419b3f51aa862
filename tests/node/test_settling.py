"""What is asked of the pool, and when, while heights become final."""

from collections.abc import Callable
from typing import Any

import msgspec

from node.stage import ALICE, GENESIS, StubPort
from quorate.base.types import Hash, Height, Member
from quorate.consensus.replica import Deliver, Want
from quorate.ledger.opaque import OpaqueLedger, OpaqueStore
from quorate.ledger.payload import compose
from quorate.node.execution import Execution
from quorate.node.settings import Settings


class Ordered(OpaqueLedger):
    """As a chain for development whose blocks were ordered: some are left to be made, empty."""

    __slots__ = ("left",)

    left: int

    def has_work(self, max_bytes: int) -> bool:
        return self.left > 0


class Engine:
    """Stands where the interpreter does."""

    def __init__(self) -> None:
        self.payloads: list[Height] = []

    def submit(self, height: Height, payload: bytes) -> None:
        self.payloads.append(height)

    def applied(self, height: Height, members: list[Member]) -> None: ...


def test_what_the_pool_says_of_an_older_block_makes_no_block() -> None:
    ledger, port, engine = Ordered(OpaqueStore(GENESIS), ALICE), StubPort(), Engine()
    ledger.left = 2
    world: Any = port
    execution = Execution(
        world,
        ledger,
        Settings(certify_ms=1000, heartbeat_ms=0),
        {},
        on_final=lambda executed: None,
        on_durable=lambda height: None,
        fail=lambda reason: None,
    )
    execution.interpreter = engine  # type: ignore[assignment]

    def decide(height: Height, *items: bytes) -> None:
        above = execution.final
        payload = compose(
            above.block, above.timestamp_ms + 10, ALICE, msgspec.msgpack.encode(list(items))
        )
        envelope: Hash = bytes([height]) * 32
        ledger.left -= 1
        execution.on_deliver(Deliver(height, [payload], envelope, b"proof"))
        run("execute")
        assert execution.final.height == height

    def take(lane: str) -> list[tuple[Callable[[], Any], Callable[[Any], None]]]:
        found = [(call, done) for name, call, done in port.jobs if name == lane]
        port.jobs = [job for job in port.jobs if job[0] != lane]
        return found

    def run(lane: str) -> None:
        for call, done in take(lane):
            done(call())

    decide(1, b"order")
    ((call, done),) = take("pool")
    late = call()  # the pool says that one block is left,
    decide(2)  # which becomes final,
    done(late)  # before this node hears of it
    execution.on_want(Want(3, execution.envelope))
    assert take("execute") == []
    run("pool")
    assert (take("execute"), engine.payloads) == ([], [])
    ledger.left = 1
    execution.on_work(True, False)
    run("execute")
    assert engine.payloads == [3]
