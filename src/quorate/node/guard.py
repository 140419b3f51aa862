"""A port whose callbacks stop with the node, and stop the node when one of them is in error."""

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from quorate.base.types import Address, Hash, Height, Milliseconds, Nanoseconds
from quorate.consensus.replica import Timer
from quorate.node.port import Port

T = TypeVar("T")


class GuardedPort(Port):
    """Passes every call on. A callback that raises is our own bug: the node fails, once.

    After `stopped` is set, no callback reaches the node any more.
    """

    __slots__ = ("on_kept", "port", "stopped", "then")

    then: Callable[[], None]
    """What follows once the records under way are durable."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.stopped = False
        # Bound once, since that costs as much as a call.
        self.on_kept: Callable[[], None] = self.finish

    # ---- calls of the node

    def now(self) -> Nanoseconds:
        return self.port.now()

    def wall_ms(self) -> Milliseconds:
        return self.port.wall_ms()

    def send(self, peer: Address, frame: bytes) -> None:
        self.port.send(peer, frame)

    def hurry(self) -> None:
        self.port.hurry()

    def set_timer(self, timer: Timer, delay_ns: Nanoseconds) -> None:
        self.port.set_timer(timer, delay_ns)

    def cancel_timer(self, timer: Timer) -> None:
        self.port.cancel_timer(timer)

    def stop_sealing(self) -> None:
        self.port.stop_sealing()

    def committed(self, height: Height) -> None:
        self.port.committed(height)

    def adopted(self, height: Height) -> None:
        self.port.adopted(height)

    def admitted(self, hashes: list[Hash]) -> None:
        self.port.admitted(hashes)

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.port.log(level, event, **fields)

    def disconnect(self, peer: Address, reason: str) -> None:
        self.port.disconnect(peer, reason)

    def append(self, records: list[bytes], done: Callable[[], None]) -> None:
        self.then = done
        self.port.append(records, self.on_kept)

    def cut(self, records: list[bytes], done: Callable[[], None]) -> None:
        self.then = done
        self.port.cut(records, self.on_kept)

    def finish(self) -> None:
        """Records are durable; there are never two lots of them under way."""
        if not self.stopped:
            try:
                self.then()
            except Exception as error:
                self.on_bug("journal", error)

    def seal(self, header: bytes, target: int, done: Callable[[int], None]) -> None:
        self.port.seal(header, target, lambda nonce: self.run("seal", done, nonce))

    def work(self, lane: str, call: Callable[[], T], done: Callable[[T], None]) -> None:
        self.port.work(lane, call, lambda result: self.run(lane, done, result))

    def fail(self, reason: str) -> None:
        """Stop the node for good; only the first reason counts."""
        if not self.stopped:
            self.stopped = True
            self.port.fail(reason)

    # ---- calls of the world

    def run(self, what: str, call: Callable[..., None], *arguments: Any) -> None:
        """Give the node an input or the result of a call."""
        if self.stopped:
            return
        try:
            call(*arguments)
        except Exception as error:
            self.on_bug(what, error)

    def on_bug(self, what: str, error: Exception) -> None:
        """An input or a result raised: stop the node."""
        self.log("error", "bug", trace=traceback.format_exc())
        self.fail(f"bug in the node ({what}): {type(error).__name__}: {error}")
