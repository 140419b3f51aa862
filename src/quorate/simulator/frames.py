"""Frames and records that are decoded once, however often they are read.

A broadcast is read by every member, by judges and by scripts, and a record by judges, at every cut
and at every restart; decoding them is most of what some of them do. Only what holds nothing but
numbers, bytes and text is shared, which nobody can change: machines still have nothing in common
but what they send.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final, get_type_hints

__all__ = ["Frames", "is_flat"]

MAX_KNOWN: Final = 2048
"""Frames that are remembered: more than a short run has, since to forget them all costs more than
to hold them.
"""
MAX_RECORDS: Final = 2048
"""Records that are remembered: what a few machines write between two cuts."""
FLAT: Final = (int, bytes, bool, str)


@cache
def find_flat(kinds: tuple[type[Any], ...]) -> dict[type[Any], None]:
    """Return the flat ones of some kinds, for all worlds of a process."""
    return {kind: None for kind in kinds if is_flat(kind)}


def is_flat(kind: type[Any]) -> bool:
    """Whether values of a kind hold nothing that can be changed."""
    return all(
        hint in FLAT or (is_frozen(hint) and is_flat(hint))
        for hint in get_type_hints(kind).values()
    )


def is_frozen(kind: Any) -> bool:
    """Whether a kind is one of ours whose fields are never set again."""
    config = getattr(kind, "__struct_config__", None)
    return config is not None and bool(config.frozen)


class Frames:
    """What the last frames, or records, of an engine say."""

    __slots__ = ("flat", "known", "most")

    def __init__(self, kinds: tuple[type[Any], ...], most: int = MAX_KNOWN) -> None:
        self.flat = find_flat(kinds)
        self.known: dict[bytes, Any] = {}
        self.most = most

    def share(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """Return a decoder of the engine's values that remembers, and raises what it raised."""
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
                if len(known) >= self.frames.most:
                    known.clear()
                known[frame] = found
        return found
