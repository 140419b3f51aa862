"""A port whose callbacks stop with the node, and stop the node when one of them is in error."""

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from quorate.base.types import Address, Hash, Height, Milliseconds, Nanoseconds
from quorate.consensus.replica import Timer
from quorate.node.port import Port

T = TypeVar("T")


class GuardedPort:
    """Passes every call on. A callback that raises is our own bug: the node fails, once.

    After `stopped` is set, no callback reaches the node any more.
    """

    __slots__ = (
        "admitted",
        "adopted",
        "cancel_timer",
        "committed",
        "disconnect",
        "log",
        "now",
        "port",
        "send",
        "set_timer",
        "stop_sealing",
        "stopped",
        "wall_ms",
    )

    now: Callable[[], Nanoseconds]
    wall_ms: Callable[[], Milliseconds]
    send: Callable[[Address, bytes], None]
    set_timer: Callable[[Timer, Nanoseconds], None]
    cancel_timer: Callable[[Timer], None]
    stop_sealing: Callable[[], None]
    committed: Callable[[Height], None]
    adopted: Callable[[Height], None]
    admitted: Callable[[list[Hash]], None]
    disconnect: Callable[[Address, str], None]

    def __init__(self, port: Port) -> None:
        self.port = port
        self.stopped = False
        self.now, self.wall_ms, self.send = port.now, port.wall_ms, port.send
        self.set_timer, self.cancel_timer = port.set_timer, port.cancel_timer
        self.committed, self.admitted = port.committed, port.admitted
        self.adopted = port.adopted
        self.disconnect, self.log = port.disconnect, port.log
        self.stop_sealing = port.stop_sealing

    def append(self, records: list[bytes], done: Callable[[], None]) -> None:
        self.port.append(records, lambda: self.run("append", done))

    def cut(self, records: list[bytes], done: Callable[[], None]) -> None:
        self.port.cut(records, lambda: self.run("cut", done))

    def seal(self, header: bytes, target: int, done: Callable[[int], None]) -> None:
        self.port.seal(header, target, lambda nonce: self.run("seal", done, nonce))

    def work(self, lane: str, call: Callable[[], T], done: Callable[[T], None]) -> None:
        self.port.work(lane, call, lambda result: self.run(lane, done, result))

    def fail(self, reason: str) -> None:
        """Stop the node for good; only the first reason counts."""
        if not self.stopped:
            self.stopped = True
            self.port.fail(reason)

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
