"""Lets a judge see what a replica is told by its node."""

from typing import Any, Protocol

from quorate.base.types import Address, Hash, Height, Nanoseconds

__all__ = ["Watcher", "make_watched"]


class Watcher(Protocol):
    """Who is told, before the replica is."""

    def on_checked(self, who: Address, envelope: Hash, valid: bool) -> None:
        """An application says whether a block is acceptable."""
        ...

    def on_sealed(self, who: Address, header: bytes, nonce: int) -> None:
        """A machine found a nonce."""
        ...


def make_watched(watch: Watcher, kind: type[Any]) -> type[Any]:
    """Return a subclass of an engine that tells of its answers, and does nothing else."""

    class Watched(kind):  # type: ignore[misc]
        __slots__ = ()

        def checked(
            self,
            now: Nanoseconds,
            height: Height,
            payload: bytes,
            valid: bool,
            envelope: Hash = b"",
        ) -> None:
            # What is answered of a branch that was cut off meanwhile says nothing of the block.
            if envelope in self.tree.blocks:
                watch.on_checked(self.me, envelope, valid)
            super().checked(now, height, payload, valid, envelope)

        def sealed(self, now: Nanoseconds, header: bytes, nonce: int) -> None:
            watch.on_sealed(self.me, header, nonce)
            super().sealed(now, header, nonce)

    return Watched
