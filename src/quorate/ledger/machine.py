"""How to write an application of one's own: a class with one method, over a map of keys.

    from quorate.ledger.machine import Context, Machine, Refused, State

    class Counter(Machine):
        def apply(self, state: State, call: bytes, context: Context) -> bytes:
            total = int(state.get(b"total") or b"0") + int(call)
            if total < 0:
                raise Refused("the counter would be negative")
            state.put(b"total", b"%d" % total)
            return b"%d" % total

Every replica carries out the same calls in the same order, so `apply` may use nothing but what it
is given: no clock (`context.timestamp_ms` is the block's), no randomness, no network, no files, no
state of its own, no order of sets. What it puts into `state` is what replicas agree on, what reads
and watches show, and what proofs prove. `Refused` takes back what the call has changed and tells
the client why. Any other exception of `apply` does the same, as it comes on every replica alike; it
names only the kind of the error, whose text might differ between versions of Python.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from quorate.base.types import Height, Milliseconds

__all__ = ["Context", "Machine", "Refused", "State"]


class Refused(Exception):
    """The call is not acceptable; the message goes to the client."""


class Context(Struct, frozen=True, gc=False):
    """What a call may know beside the state."""

    height: Height
    timestamp_ms: Milliseconds
    client: bytes
    """16 bytes that the client has chosen; nothing proves who it is."""


class State(Protocol):
    """The map of keys, as the calls before this one left it."""

    def get(self, key: bytes, /) -> bytes | None: ...
    def put(self, key: bytes, value: bytes, /) -> object: ...
    def delete(self, key: bytes, /) -> bool:
        """Whether there was something."""
        ...


class Machine:
    """An application; give a network its name as `package.module:Class`."""

    direct = False
    """Whether clients may also put, delete and compare keys without asking `apply`."""

    def apply(self, state: State, call: bytes, context: Context) -> bytes:
        """Carry out a call; return the answer to it, at most 1 KiB."""
        raise Refused("this application takes no calls")

    def example(self, choose: Callable[[int], int]) -> bytes | None:
        """Return a call for the clients of simulated runs to make, of which `choose(n)` draws
        numbers below n; the plainest call where all are 0. None: there is none.
        """
        return None

    def find_fault(self, entries: Mapping[bytes, bytes]) -> str:
        """Return what is wrong with a state, given all keys and values, or nothing: the rule that
        must hold after every block. Simulated runs judge by it; nodes do not ask.
        """
        return ""
