"""Plain requests for reads, answered by the kernel between socket and store.

Which methods and bounds apply is decided here; what is not plain, and every error in a request, is
answered by the dispatcher. Answers that take long come from the kernel's threads: it names each by
a token, and rings when some are ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeAlias

from quorate import _kernel
from quorate.rpc.settings import Settings
from quorate.rpc.store import Store

Done: TypeAlias = Callable[[bool, bytes], None]
"""Takes (True, answer), or (False, body) of a message that is to be answered in another way."""

SWEEP_SECONDS = 1.0
MAX_HOSTS = 64
"""As many as the kernel keeps. A client may send any port behind an address, or any text."""


class Responder:
    """The kernel's answers in one event loop: the one that first asks once the ledger is open."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.methods: list[str] = []
        self.kernel: _kernel.Responder | None = None
        self.hosts: set[bytes] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: dict[int, Done] = {}

    def enable(self, methods: Iterable[str]) -> None:
        """Answer these; of them the kernel takes what it knows."""
        self.methods = list(methods)

    def get(self) -> _kernel.Responder | None:
        """Return the kernel's side; None while there is no ledger."""
        if self.kernel is None and isinstance(self.store.opened, _kernel.View):
            self.start(self.store.opened)
        return self.kernel

    def start(self, view: _kernel.View) -> None:
        settings = self.settings
        self.kernel = _kernel.Responder(
            view,
            methods=self.methods,
            max_body_bytes=settings.max_body_bytes,
            max_batch=settings.max_batch,
            max_response_bytes=settings.max_response_bytes,
            gas_cap=settings.gas_cap,
            threads=settings.threads,
            max_waiting=settings.max_waiting_calls,
            seconds=settings.call_seconds,
        )
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.kernel.fileno(), self.collect)
        self.timer = self.loop.call_later(SWEEP_SECONDS, self.sweep)

    def allow_host(self, host: bytes) -> None:
        """Let the kernel take requests with a Host header that was found to be allowed."""
        if self.kernel is not None and host not in self.hosts and len(self.hosts) < MAX_HOSTS:
            self.hosts.add(host)
            self.kernel.allow_host(host)

    def expect(self, token: int, done: Done) -> None:
        """Call `done` when the answer is ready."""
        self.waiting[token] = done

    def expect_future(self, token: int) -> asyncio.Future[tuple[bool, bytes]]:
        """Return a future of what `Done` takes; cancelling it gives up the answer."""
        assert self.loop is not None
        future: asyncio.Future[tuple[bool, bytes]] = self.loop.create_future()

        def tell(is_answered: bool, found: bytes) -> None:
            if not future.done():
                future.set_result((is_answered, found))

        def forget(found: asyncio.Future[tuple[bool, bytes]]) -> None:
            if found.cancelled():
                self.cancel(token)

        future.add_done_callback(forget)
        self.expect(token, tell)
        return future

    def cancel(self, token: int) -> None:
        """Forget an answer that nobody waits for."""
        if self.waiting.pop(token, None) is not None and self.kernel is not None:
            self.kernel.cancel(token)

    def collect(self) -> None:
        """Hand over what is ready."""
        assert self.kernel is not None
        for token, is_answered, found in self.kernel.collect():
            done = self.waiting.pop(token, None)
            if done is not None:
                done(is_answered, found)

    def sweep(self) -> None:
        assert self.kernel is not None
        assert self.loop is not None
        self.kernel.sweep()
        self.timer = self.loop.call_later(SWEEP_SECONDS, self.sweep)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.kernel is not None:
            if self.loop is not None and not self.loop.is_closed():
                self.loop.remove_reader(self.kernel.fileno())
            self.kernel.close()
