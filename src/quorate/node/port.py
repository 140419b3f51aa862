"""What a node needs of its world. The simulator and the runtime differ only in this.

Every call returns at once. Every callback (`done`) is made later, from the world's one loop, never
from inside the call; calls into the node never overlap. A world may drop what `send` gave it, may
delay anything, and may crash.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from quorate.base.native import mypyc_attr
from quorate.base.types import Address, Hash, Height, Milliseconds, Nanoseconds
from quorate.consensus.replica import Timer

T = TypeVar("T")


@mypyc_attr(allow_interpreted_subclasses=True)
class Port(ABC):
    """One node's world."""

    @abstractmethod
    def now(self) -> Nanoseconds:
        """Monotonic time."""

    @abstractmethod
    def wall_ms(self) -> Milliseconds:
        """Unix time, which may step and may be wrong."""

    @abstractmethod
    def send(self, peer: Address, frame: bytes) -> None:
        """Send to a connected peer, or drop: the queue to each peer is bounded."""

    def hurry(self) -> None:
        """What was sent leaves now: the node says so before it is busy with what nobody waits for.

        A world that sends at once has nothing to do.
        """
        return

    @abstractmethod
    def set_timer(self, timer: Timer, delay_ns: Nanoseconds) -> None:
        """Call `node.timeout(timer)` after the delay; replaces an equal timer."""

    @abstractmethod
    def cancel_timer(self, timer: Timer) -> None:
        """Make that timer not fall."""

    @abstractmethod
    def append(self, records: list[bytes], done: Callable[[], None]) -> None:
        """Append to the journal; `done` once all are durable. The node never has two under way.

        A disk that fails stops the node: `done` is then never called.
        """

    @abstractmethod
    def cut(self, records: list[bytes], done: Callable[[], None]) -> None:
        """Replace the journal by these records, atomically; `done` once durable.

        Never beside an `append`.
        """

    @abstractmethod
    def seal(self, header: bytes, target: int, done: Callable[[int], None]) -> None:
        """Search a nonce with `crypto.hashes.compute_seal(header, nonce) <= target`; `done(nonce)`.

        Replaces a search that is under way, whose `done` is then not called any more.
        """

    @abstractmethod
    def stop_sealing(self) -> None:
        """End the search that is under way, if any; its `done` is then not called any more."""

    @abstractmethod
    def work(self, lane: str, call: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run a slow call off the loop; it never raises.

        Calls of one lane run in order, lanes beside each other: `execute`, `commit`, `pool`,
        `read`.
        """

    @abstractmethod
    def committed(self, height: Height) -> None:
        """A height is durable and may be shown to clients."""

    @abstractmethod
    def adopted(self, height: Height) -> None:
        """What clients see above the last final height is another branch now, up to `height`."""

    @abstractmethod
    def admitted(self, hashes: list[Hash]) -> None:
        """Items from clients or peers now wait in the pool and may be shown to clients."""

    @abstractmethod
    def disconnect(self, peer: Address, reason: str) -> None:
        """Drop the connection; the world decides when to try again.

        The node has forgotten the peer already; `node.disconnected` may follow and does no harm.
        """

    @abstractmethod
    def fail(self, reason: str) -> None:
        """Stop this node for good, loudly: divergence, corruption or a bug.

        `reason` is one line for people. The node takes no more inputs.
        """

    @abstractmethod
    def log(self, level: str, event: str, **fields: Any) -> None:
        """`level` is debug, info, warning or error."""
