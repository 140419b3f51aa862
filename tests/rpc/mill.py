"""The real ledger and pool behind JSON-RPC, where every submission becomes a block at once.

What agreement would do between pool and ledger is left out; everything that JSON-RPC reads is real.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from kernel.chain import envelope_of, payload, tip
from quorate._kernel import Block, Ledger, Pool
from quorate.node.status import NodeStatus
from quorate.runtime.ipc_server import IpcServer
from rpc.fakes import FakeQuestions

MAX_BYTES = 1 << 20
MAX_GAS = 1 << 60


class Mill:
    """Answers for a validator: admits to the pool, and makes blocks until nothing is left."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.pool = Pool(ledger)
        self.server: IpcServer | None = None
        self.holds = False
        """While set, transactions wait in the pool."""
        self.writes_late = False
        """While set, blocks are stored only when somebody has asked for the status."""

    def submit(self, items: list[bytes], done: Callable[..., None]) -> None:
        verdicts = self.pool.add(items)
        done(verdicts)
        assert self.server is not None
        self.server.tell_pending([found for found, reason in verdicts if reason is None])
        self.grind()

    def grind(self) -> None:
        """Make blocks of what waits."""
        while not self.holds and self.pool.ready():
            self.make_block()
        if self.server is not None:
            self.server.tell_committed(self.ledger.durable())

    def make_block(self) -> Block:
        parent = tip(self.ledger)
        body = self.pool.take(parent.hash, MAX_BYTES, MAX_GAS)
        content = payload(parent)[:64] + body
        block = self.ledger.execute(parent.hash, [content], envelope_of(parent))
        self.ledger.finalize(block.hash, envelope_of(block), b"certificate", [content])
        if not self.writes_late:
            self.ledger.commit()
        self.pool.settle(block.hash)
        return block

    def get_status(self) -> NodeStatus:
        if self.writes_late:
            asyncio.get_running_loop().call_soon(self.write)
        return FakeQuestions(SimpleNamespace(height=tip(self.ledger).number)).get_status()

    def write(self) -> None:
        assert self.server is not None
        self.ledger.commit()
        self.server.tell_committed(self.ledger.durable())

    def get_durable(self) -> int:
        return self.ledger.durable()

    def get_metrics(self) -> bytes:
        return b""

    def read(self, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        done(call())
