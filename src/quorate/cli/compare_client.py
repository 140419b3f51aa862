"""Clients of a comparison on real processes: JSON-RPC over HTTP, and news by WebSocket.

They do as the simulated ones (`simulator/compare/load.py`): each item is submitted when it is due,
whatever the answers do, and is answered when a member that was asked shows the block that holds it.
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from quorate.base.types import Nanoseconds
from quorate.simulator.compare.load import PATIENCE_NS, PAUSE_NS, Request
from quorate.simulator.compare.workload import Item

__all__ = ["Clients", "Rpc"]

TIMEOUT_S = 2.0
RECONNECT_S = 0.05
MAX_RESPONSE_BYTES = 64 << 20
KNOWN = ("already known", "nonce too low")
"""How refusals begin of what waits already, or is in a block that is not final yet."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Rpc:
    """JSON-RPC to one validator over as many kept connections as there are calls under way."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.idle: list[Streams] = []

    async def call(self, method: str, *parameters: Any) -> dict[str, Any]:
        """Return the whole answer. Raises OSError, TimeoutError."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        head = f"POST / HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        async with asyncio.timeout(TIMEOUT_S):
            if self.idle:
                streams = self.idle.pop()
            else:
                streams = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
            try:
                streams[1].write((head + body).encode())
                answer = await self.read(streams[0])
            except BaseException:
                streams[1].close()
                raise
        self.idle.append(streams)
        return answer

    async def read(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].split("\r\n", 1)[0])
            if not 0 < length <= MAX_RESPONSE_BYTES:
                raise OSError(f"response of {length} bytes")
            answer = json.loads(await reader.readexactly(length))
        except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise OSError(f"response: {error}") from None
        if not isinstance(answer, dict):
            raise OSError("response: no JSON-RPC answer")
        return answer

    def close(self) -> None:
        for _, writer in self.idle:
            writer.close()
        self.idle.clear()


class Clients:
    """All clients of one network."""

    def __init__(
        self,
        places: Sequence[tuple[str, int]],
        ways_ns: list[list[Nanoseconds]],
        *,
        patience_ns: Nanoseconds = PATIENCE_NS,
        open: bool = False,
    ) -> None:
        """`places` is where members serve clients; `ways_ns` how far a client beside one of them
        is from another one. In an open network the latest block is not final.
        """
        self.patience_ns, self.is_open = patience_ns, open
        self.loop = asyncio.get_running_loop()
        self.places, self.ways_ns = list(places), ways_ns
        self.rpc = [Rpc(host, port) for host, port in places]
        self.waiting: list[dict[str, Request]] = [{} for _ in places]
        self.shown = [0] * len(places)
        """The last height of each member that they have looked at."""
        self.requests: list[Request] = []
        self.open = 0
        self.refused = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.start()

    def start(self) -> None:
        for index in range(len(self.places)):
            self.begin(self.listen(index))

    def begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def stop(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for rpc in self.rpc:
            rpc.close()

    def now(self) -> Nanoseconds:
        return round(self.loop.time() * 1e9)

    # ---- asking

    def plan(self, items: Sequence[Item], due_ns: Sequence[Nanoseconds], clients: int) -> None:
        """Submit items when they are due, by the loop's clock."""
        for item, due in zip(items, due_ns, strict=True):
            request = Request(item, item.account % clients % len(self.places), due)
            self.requests.append(request)
            self.open += 1
            self.loop.call_at(due / 1e9, self.ask, request, request.home)

    def ask(self, request: Request, target: int) -> None:
        request.sent += 1
        request.machine = target
        self.loop.call_later(self.patience_ns / 1e9, self.ask_next, request, request.sent)
        self.begin(self.submit(request, target, request.sent))

    def ask_next(self, request: Request, sent: int) -> None:
        """Ask the next member, unless something has happened since."""
        if request.final_ns is None and request.sent == sent:
            self.ask(request, (request.machine + 1) % len(self.places))

    async def submit(self, request: Request, target: int, sent: int) -> None:
        await asyncio.sleep(self.ways_ns[request.home][target] / 1e9)
        self.waiting[target]["0x" + request.item.identity.hex()] = request
        try:
            raw = "0x" + request.item.raw.hex()
            answer = await self.rpc[target].call("eth_sendRawTransaction", raw)
        except TimeoutError:
            # Its client hears nothing, and asks again when its patience ends.
            return
        except OSError:
            answer = {"error": {"message": "nobody listens there"}}
        refusal = answer.get("error", {}).get("message", "")
        if refusal and not refusal.startswith(KNOWN):
            self.refused += 1
            self.loop.call_later(PAUSE_NS / 1e9, self.ask_next, request, sent)

    # ---- listening

    async def listen(self, index: int) -> None:
        """Read every block that a member shows, as long as it runs, again and again."""
        host, port = self.places[index]
        subscribe = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
        while True:
            with contextlib.suppress(OSError, TimeoutError, WebSocketException):
                async with connect(f"ws://{host}:{port}", open_timeout=TIMEOUT_S) as socket:
                    await socket.send(json.dumps(subscribe))
                    await socket.recv()
                    await self.read_up_to(index, await self.find_final(index))
                    async for text in socket:
                        number = int(json.loads(text)["params"]["result"]["number"], 16)
                        if self.is_open:
                            number = await self.find_final(index)
                        await self.read_up_to(index, number)
            await asyncio.sleep(RECONNECT_S)

    async def find_final(self, index: int) -> int:
        """Return the last final height of a member. Raises OSError, TimeoutError."""
        found = await self.rpc[index].call("eth_getBlockByNumber", "finalized", False)
        block = found.get("result")
        return 0 if block is None else int(block["number"], 16)

    async def read_up_to(self, index: int, height: int) -> None:
        while self.shown[index] < height:
            at = self.shown[index] + 1
            answer = await self.rpc[index].call("eth_getBlockByNumber", hex(at), False)
            block = answer.get("result")
            if block is None:
                return
            self.shown[index] = at
            now, waiting = self.now(), self.waiting[index]
            for identity in block["transactions"]:
                request = waiting.pop(identity, None)
                if request is not None:
                    self.answer(request, now + self.ways_ns[request.home][index])

    def answer(self, request: Request, known: Nanoseconds) -> None:
        if request.final_ns is None:
            self.open -= 1
        elif request.final_ns <= known:
            return
        request.final_ns = known
