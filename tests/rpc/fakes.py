"""A small ledger and a validator that answers, for tests of what lies before the kernel."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quorate._kernel import Rejected, Reverted, Unavailable, keccak256
from quorate.base.types import Member
from quorate.consensus.replica import Situation
from quorate.node.status import NodeStatus, PeerStatus
from quorate.rpc.api import Api
from quorate.rpc.server import Gateway
from quorate.rpc.settings import Settings
from quorate.runtime.ipc_server import IpcServer

RICH = bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266")
TOPIC = keccak256(b"Transfer(address,address,uint256)")


def hash_of(height: int) -> bytes:
    return keccak256(b"block %d" % height)


class FakeView:
    """Blocks with one log each, one rich account, and a call that does what its data says."""

    chain_id = 31337
    genesis_hash = hash_of(0)
    is_dev = False

    def __init__(self, head: int = 3) -> None:
        self.height = head
        self.receipts: dict[bytes, bytes] = {}
        self.included: dict[int, list[bytes]] = {}
        self.gate = threading.Event()
        self.gate.set()

    def head(self) -> int:
        return self.height

    def history(self) -> tuple[int, int, int]:
        return 0, 0, 0

    def tips(self) -> tuple[int, int, int, bool]:
        return self.height, self.height, self.height, False

    def branch(self, first: int, limit: int) -> tuple[int, list[bytes]]:
        return self.height, [hash_of(h) for h in range(first, self.height + 1)][:limit]

    def close(self) -> None:
        pass

    def resolve(self, at: int | bytes) -> int:
        if isinstance(at, int) and at < 0:
            return self.height
        height = self.block_number(at) if isinstance(at, bytes) else at
        if height is None or height > self.height:
            raise Unavailable("header not found")
        return height

    def block_hash(self, height: int) -> bytes | None:
        return hash_of(height) if height <= self.height else None

    def block_number(self, block: bytes) -> int | None:
        return next((h for h in range(self.height + 1) if hash_of(h) == block), None)

    def base_fee(self, at: int | bytes) -> int:
        self.resolve(at)
        return 1_000_000_000

    def suggest_tip(self) -> int:
        return 7

    def header_json(self, at: int | bytes) -> bytes | None:
        try:
            height = self.resolve(at)
        except Unavailable:
            return None
        header = {"number": hex(height), "hash": "0x" + hash_of(height).hex()}
        return json.dumps(header).encode()

    def block_json(self, at: int | bytes, full: bool) -> bytes | None:
        header = self.header_json(at)
        if header is None:
            return None
        hashes = ["0x" + tx.hex() for tx in self.included.get(self.resolve(at), [])]
        transactions: list[Any] = [{"hash": tx} for tx in hashes] if full else list(hashes)
        return json.dumps(json.loads(header) | {"transactions": transactions}).encode()

    def block_transaction_count(self, at: int | bytes) -> int | None:
        return None if self.header_json(at) is None else 0

    def receipt_json(self, transaction: bytes) -> bytes | None:
        return self.receipts.get(transaction)

    def transaction_json(self, transaction: bytes) -> bytes | None:
        return None

    def transaction_raw(self, transaction: bytes) -> bytes | None:
        return None

    def balance(self, at: int | bytes, account: bytes) -> int:
        self.resolve(at)
        return 10**22 if account == RICH else 0

    def nonce(self, at: int | bytes, account: bytes) -> int:
        self.resolve(at)
        return 4

    def code(self, at: int | bytes, account: bytes) -> bytes:
        self.resolve(at)
        return b""

    def storage(self, at: int | bytes, account: bytes, slot: bytes) -> bytes:
        self.resolve(at)
        return slot

    def call(self, at: int | bytes, request: bytes, overrides: bytes | None, cap: int) -> bytes:
        self.resolve(at)
        data = json.loads(request).get("data")
        if data == "0xfd":
            raise Reverted("execution reverted: no", b"\x08\xc3")
        if data == "0xfe":
            raise Rejected("gas required exceeds allowance (50000000)")
        if data == "0xff":
            self.gate.wait(60)
        if data == "0xbb":
            return bytes(4096)
        if data == "0xee":
            raise KeyError("a bug")
        return keccak256(request)

    def block_logs(self, at: int | bytes) -> list[tuple[bytes, list[bytes], bytes]]:
        height = self.resolve(at)
        log = {"address": "0x" + RICH.hex(), "blockNumber": hex(height), "removed": False}
        return [(RICH, [TOPIC], json.dumps(log).encode())]

    def logs_json(
        self,
        first: int,
        last: int,
        addresses: list[bytes],
        topics: list[list[bytes] | None],
        limit: int,
        tip: bytes | None = None,
    ) -> bytes:
        if addresses and RICH not in addresses:
            return b"[]"
        logs = [self.block_logs(height)[0][2] for height in range(first, last + 1)]
        if len(logs) > limit:
            raise Rejected("too many")
        return b"[" + b",".join(logs) + b"]"


class FakePool:
    """Holds what was submitted."""

    def __init__(self) -> None:
        self.raws: dict[bytes, bytes] = {}

    def nonce(self, account: bytes) -> int:
        return 4 + len(self.raws)

    def counts(self) -> tuple[int, int, int]:
        return len(self.raws), 0, 0

    def content_json(self, account: bytes | None) -> bytes:
        return b'{"pending":{},"queued":{}}'

    def transaction_json(self, transaction: bytes) -> bytes | None:
        return b'{"blockHash":null}' if transaction in self.raws else None

    def get(self, transaction: bytes) -> bytes | None:
        return self.raws.get(transaction)


class FakeQuestions:
    """What a validator process answers; refuses transactions that begin with `bad`."""

    def __init__(self, view: FakeView) -> None:
        self.view = view
        self.pool = FakePool()
        self.batches: list[int] = []
        self.server: IpcServer | None = None

    def submit(self, items: list[bytes], done: Callable[..., None]) -> None:
        self.batches.append(len(items))
        verdicts: list[tuple[bytes, str | None]] = []
        for item in items:
            bad = item.startswith(b"\xba\xad")
            verdicts.append((keccak256(item), "nonce too low" if bad else None))
            if not bad:
                self.pool.raws[keccak256(item)] = item
        done(verdicts)
        if self.server is not None:
            self.server.tell_pending([found for found, reason in verdicts if reason is None])

    def get_status(self) -> NodeStatus:
        me = RICH
        situation = Situation(self.view.height + 1, 0, "propose", me, "work", "", [], None)
        return NodeStatus(
            address=me,
            engine="tendermint",
            genesis=hash_of(0),
            version="0.1.0",
            height=self.view.height,
            durable=self.view.height,
            block=hash_of(self.view.height),
            block_time_ms=0,
            syncing_to=None,
            situation=situation,
            why_stalled="Nothing waits.",
            next_timeout_ms=None,
            peers=[PeerStatus(bytes(20), True, self.view.height, 5)],
            validators=[Member(bytes(20), 1), Member(me, 1)],
            pool_ready=0,
            pool_queued=0,
            pool_bytes=0,
            counters={},
            latest=self.view.height,
            latest_block=hash_of(self.view.height),
        )

    def get_durable(self) -> int:
        return self.view.height

    def get_metrics(self) -> bytes:
        return b""

    def read(self, call: Callable[[], Any], done: Callable[[Any], None]) -> None:
        done(call())


class Node:
    """A JSON-RPC server and the validator behind it, on a loop of their own."""

    def __init__(self, folder: Path, settings: Settings, view: Any, questions: Any) -> None:
        self.folder, self.settings, self.view = folder, settings, view
        self.questions = questions
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        self.loop.run_until_complete(self.main())

    async def main(self) -> None:
        path = self.folder / "node.sock"
        self.ipc = IpcServer(
            path, self.questions, lambda *_, **__: None, max_clients=4, max_in_flight=1024
        )
        await self.ipc.start()
        self.questions.server = self.ipc
        self.api = Api(self.settings, "", str(path), self.view)
        task = asyncio.create_task(self.api.run())
        self.gateway = Gateway(self.api)
        self.gateway.config.port = 0
        self.server = self.gateway.server
        serving = asyncio.create_task(self.server._serve())
        while not self.server.started:
            await asyncio.sleep(0.005)
        await self.api.validator.client.wait_connected(60)
        while self.api.events.told is None:
            await asyncio.sleep(0.005)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.started.set()
        await serving
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.ipc.stop()
        self.api.close()

    def do(self, call: Callable[[], Any]) -> None:
        """Run on the node's loop, and wait for it."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (call(), done.set()))
        assert done.wait(60)

    def commit(self, height: int) -> None:
        """Make a height durable."""

        def tell() -> None:
            self.view.height = height
            self.ipc.tell_committed(height)

        self.do(tell)


@contextmanager
def running(
    folder: Path, settings: Settings, view: Any = None, questions: Any = None
) -> Iterator[Node]:
    """Serve a ledger until the block ends; without one, a small fake."""
    view = view or FakeView()
    node = Node(folder, settings, view, questions or FakeQuestions(view))
    node.thread.start()
    assert node.started.wait(60)
    try:
        yield node
    finally:
        node.server.should_exit = True
        node.thread.join(60)
