"""The client for programs without an event loop of their own: the same calls, which wait."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from quorate.base.errors import Unavailable
from quorate.client.keyvalue import CLOSED, Change, Comparison, KeyValueClient
from quorate.ledger.operations import Entry

__all__ = ["SyncClient", "open_client"]

T = TypeVar("T")


class SyncClient:
    """A `KeyValueClient` on a thread of its own. Thread-safe.

    What other threads wait for when it is closed raises Unavailable.
    """

    def __init__(self, addresses: Sequence[tuple[str, int]], *, timeout_s: float = 60.0) -> None:
        self._client = KeyValueClient(addresses, timeout_s=timeout_s)
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        """Held where a call is given to the loop, so that none comes after the last."""
        self._closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._closed:
                call.close()
                raise Unavailable(CLOSED)
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
        return future.result()

    def __enter__(self) -> "SyncClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            last = asyncio.run_coroutine_threadsafe(finish(self._client), self._loop)
        last.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def put(self, key: bytes, value: bytes) -> int:
        return self._run(self._client.put(key, value))

    def get(self, key: bytes, *, stale: bool = False) -> Entry | None:
        return self._run(self._client.get(key, stale=stale))

    def delete(self, key: bytes) -> bool:
        return self._run(self._client.delete(key))

    def compare(
        self,
        key: bytes,
        value: bytes | None,
        *,
        revision: int | None = None,
        expected: bytes | None = None,
    ) -> Comparison:
        return self._run(self._client.compare(key, value, revision=revision, expected=expected))

    def call(self, body: bytes) -> bytes:
        return self._run(self._client.call(body))

    def prove(self, key: bytes) -> dict[str, Any]:
        return self._run(self._client.prove(key))

    def watch(self, key: bytes, *, prefix: bool = False, revision: int = 0) -> Iterator[Change]:
        changes = self._client.watch(key, prefix=prefix, revision=revision)
        try:
            while True:
                # Not StopAsyncIteration: a watch ends by an error alone.
                yield self._run(anext_of(changes))
        finally:
            # A client that was closed has ended its watches.
            with contextlib.suppress(Unavailable):
                self._run(close(changes))


async def finish(client: KeyValueClient) -> None:
    """Close a client, and wait until nothing is under way any more."""
    await client.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def close(changes: Any) -> None:
    await changes.aclose()


async def anext_of(changes: Any) -> Change:
    change: Change = await anext(changes)
    return change


def open_client(*addresses: tuple[str, int]) -> SyncClient:
    """Return a client of the nodes at these addresses, (host, port)."""
    return SyncClient(addresses)
