"""A disk in memory that forgets what was not synced."""

from quorate.simulator.tape import Choices


class MemoryDisk:
    """Implements `quorate.storage.disk.Disk`; a crash keeps a part of what was not synced."""

    __slots__ = ("durable", "files", "tear")

    def __init__(self, tear: Choices) -> None:
        self.durable: dict[str, bytes] = {}
        self.files: dict[str, bytearray] = {}
        self.tear = tear

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        return bytes(self.files[name])

    def append(self, name: str, data: bytes) -> None:
        self.files.setdefault(name, bytearray()).extend(data)

    def sync(self, name: str) -> None:
        data, kept = self.files[name], self.durable.get(name, b"")
        self.durable[name] = kept + bytes(data[len(kept) :])

    def truncate(self, name: str, size: int) -> None:
        del self.files[name][size:]
        self.durable[name] = self.durable.get(name, b"")[:size]

    def rename(self, old: str, new: str) -> None:
        self.files[new] = self.files.pop(old)
        self.durable[new] = self.durable.pop(old)

    def remove(self, name: str) -> None:
        del self.files[name]
        self.durable.pop(name, None)

    def crash(self) -> None:
        files: dict[str, bytearray] = {}
        for name, data in self.files.items():
            synced = self.durable.get(name, b"")
            left = bytes(data[len(synced) :])
            kept = left[: self.tear.choose(len(left) + 1)]
            if name in self.durable or kept:
                files[name] = bytearray(synced + kept)
        self.files = files
        self.durable = {name: bytes(data) for name, data in files.items()}
