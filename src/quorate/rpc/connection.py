"""A connection of JSON-RPC clients: plain requests go to the kernel, all else to the parser."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Protocol

from quorate.rpc.http1 import Handler, HttpProtocol, Slot, encode
from quorate.rpc.responder import Responder


class ReadHandler(Handler, Protocol):
    """A handler whose reads the kernel may answer."""

    responder: Responder
    requests: int
    """That are under way."""

    def get_room(self) -> int:
        """Return how many more requests may be under way."""
        ...

    def post_here(self, body: bytes) -> bytes | Awaitable[bytes | None] | None:
        """Answer a body without the kernel."""
        ...


class RpcConnection(HttpProtocol):
    """Tries the kernel first, wherever a request begins."""

    def __init__(self, handler: ReadHandler, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(handler, loop)
        self.reads = handler
        self.tokens: dict[int, Slot] = {}

    def data_received(self, data: bytes) -> None:
        if not self.in_request and not self.closing:
            data = self.respond(data)
            if not data:
                self.write_out()
                return
        super().data_received(data)

    def respond(self, data: bytes) -> bytes:
        """Let the kernel answer the requests at the beginning; return what it left."""
        kernel = self.reads.responder.get()
        while kernel is not None and data and (room := self.reads.get_room()) > 0:
            used, answers = kernel.respond(data, room)
            if not used:
                break
            self.since = self.loop.time()
            for answer in answers:
                self.put(answer)
            data = data[used:]
            if data:
                # It stopped at what is not plain, or because a client asks for very much at once.
                self.write_out()
        return data

    def put(self, answer: bytes | tuple[int, int]) -> None:
        """Queue an answer behind those that are under way."""
        if isinstance(answer, tuple):
            token, size = answer
            slot = Slot([], False, size)
            self.slots.append(slot)
            self.tokens[token] = slot
            self.reads.requests += 1
            self.reads.held_bytes += size
            self.reads.responder.expect(token, partial(self.take, token, slot))
        elif self.slots:
            slot = Slot([], False, 0)
            slot.data = answer
            self.slots.append(slot)
        else:
            self.out.append(answer)

    def take(self, token: int, slot: Slot, is_answered: bool, found: bytes) -> None:
        """Go on with a request whose answer is ready, or that the kernel has given back."""
        self.release_token(token, slot)
        answer = found if is_answered else self.reads.post_here(found)
        if answer is None or isinstance(answer, bytes):
            slot.data = encode(slot, answer or b"")
            self.flush()
        else:
            self.start_task(slot, answer)

    def release_token(self, token: int, slot: Slot) -> None:
        del self.tokens[token]
        self.reads.requests -= 1
        self.reads.held_bytes -= slot.size
        slot.size = 0

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        for token, slot in list(self.tokens.items()):
            self.reads.responder.cancel(token)
            self.release_token(token, slot)
