"""What storage needs of a disk: a flat folder of files.

Real files in the runtime, a faulty model in the simulator.
"""

from typing import Protocol


class Disk(Protocol):
    """Names hold no separators. Errors of the world are raised as OSError.

    After a failed `sync` nothing that was written since the last good one may be trusted.
    """

    def names(self) -> list[str]:
        """Sorted names of the files there."""
        ...

    def read(self, name: str) -> bytes: ...

    def append(self, name: str, data: bytes) -> None:
        """Append, creating the file; not durable before `sync`."""
        ...

    def sync(self, name: str) -> None:
        """Make the file's contents durable, and its entry in the folder."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old` atomically; durable on return."""
        ...

    def remove(self, name: str) -> None:
        """Remove; durable on return."""
        ...
