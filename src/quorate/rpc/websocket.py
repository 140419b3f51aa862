"""One WebSocket connection: messages in, answers and notifications out, all bounded.

Messages are read only while fewer than `max_in_flight` are being answered, which holds back the
sender. Notifications cannot be held back, so a client that does not read them is closed, with the
reason if it reads on, and without where it reads nothing at all.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from quorate.rpc.dispatch import Answer, Dispatcher, Exchange
from quorate.rpc.events import Subscription
from quorate.rpc.settings import Settings

POLICY_VIOLATION = 1008
"""RFC 6455 section 7.4.1."""
CLOSE_SECONDS = 5.0
"""How long a client that was too slow may take until there is room for the reason."""


class Connection:
    """A session that carries subscriptions."""

    def __init__(
        self,
        settings: Settings,
        dispatcher: Dispatcher,
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.settings = settings
        self.dispatcher = dispatcher
        self.receive = receive
        self.send = send
        self.subscriptions: dict[str, Subscription] = {}
        self.queue: deque[bytes] = deque()
        self.queued_bytes = 0
        self.wake = asyncio.Event()
        self.free = asyncio.Semaphore(settings.max_in_flight)
        self.tasks: set[asyncio.Task[None]] = set()
        self.too_slow: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done with the reason, once the client has left too much unread."""

    async def serve(self) -> None:
        """Answer until either side closes."""
        reader = asyncio.ensure_future(self.read())
        writer = asyncio.ensure_future(self.write())
        try:
            # The writer alone would not do: it waits for a client that does not read.
            ends = (reader, writer, self.too_slow)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reader, writer, *self.tasks):
                task.cancel()
            await asyncio.gather(reader, writer, *self.tasks, return_exceptions=True)
        if self.too_slow.done():
            close = {"code": POLICY_VIOLATION, "reason": self.too_slow.result()}
            with contextlib.suppress(Exception):
                sending = self.send({"type": "websocket.close", **close})
                await asyncio.wait_for(sending, CLOSE_SECONDS)

    async def read(self) -> None:
        while True:
            await self.free.acquire()
            event = await self.receive()
            if event["type"] != "websocket.receive":
                return
            text = event.get("text")
            body = event.get("bytes") if text is None else text.encode()
            exchange = Exchange(self)
            answer = self.dispatcher.answer(body or b"", exchange)
            if isinstance(answer, Awaitable):
                task = asyncio.ensure_future(self.finish(answer, exchange))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            else:
                self.free.release()
                self.reply(answer, exchange)

    async def finish(self, answer: Awaitable[Answer], exchange: Exchange) -> None:
        try:
            self.reply(await answer, exchange)
        finally:
            self.free.release()

    def reply(self, answer: Answer, exchange: Exchange) -> None:
        if answer is not None:
            self.put(answer)
        for subscription in exchange.fresh:
            subscription.release()

    def put(self, frame: bytes) -> None:
        """Queue a frame, or end the connection when the client reads too slowly."""
        if self.too_slow.done():
            return
        self.queue.append(frame)
        self.queued_bytes += len(frame)
        count = len(self.queue)
        most = self.settings.max_notification_bytes
        # One long answer is never too much by itself.
        if count > self.settings.max_notifications or (count > 1 and self.queued_bytes > most):
            self.too_slow.set_result(f"too slow: {count} messages, {self.queued_bytes} bytes wait")
            self.queue.clear()
            self.queued_bytes = 0
        self.wake.set()

    async def write(self) -> None:
        while True:
            while self.queue:
                frame = self.queue.popleft()
                self.queued_bytes -= len(frame)
                sending = self.send({"type": "websocket.send", "text": frame.decode()})
                await sending
            self.wake.clear()
            await self.wake.wait()
