"""Frames that are decoded once, however many machines they come to.

A broadcast is read by every member, by judges and by scripts, and decoding it is most of what some
of them do. Only messages that hold nothing but numbers, bytes and text are shared, which nobody can
change: machines still have nothing in common but what they send.
"""

from collections.abc import Callable
from typing import Any, Final, get_type_hints

__all__ = ["Frames", "is_flat"]

MAX_KNOWN: Final = 256
"""Frames that are remembered; a broadcast is over after a few more."""
FLAT: Final = (int, bytes, bool, str)


def is_flat(kind: type[Any]) -> bool:
    """Whether messages of a kind hold nothing that can be changed."""
    return all(hint in FLAT for hint in get_type_hints(kind).values())


class Frames:
    """What the last frames of an engine say."""

    __slots__ = ("flat", "known")

    def __init__(self, wire: tuple[type[Any], ...]) -> None:
        self.flat = [kind for kind in wire if is_flat(kind)]
        self.known: dict[bytes, Any] = {}

    def share(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """Return a decoder of the engine's messages that remembers, and raises what it raised."""
        return Shared(self, decode).decode


class Shared:
    """One decoder over the frames that all know."""

    __slots__ = ("flat", "frames", "read")

    def __init__(self, frames: Frames, read: Callable[[bytes], Any]) -> None:
        self.frames, self.flat, self.read = frames, frames.flat, read

    def decode(self, frame: bytes) -> Any:
        known = self.frames.known
        found = known.get(frame)
        if found is None:
            found = self.read(frame)
            if type(found) in self.flat:
                if len(known) >= MAX_KNOWN:
                    known.clear()
                known[frame] = found
        return found
