"""A folder of documents under the SHA-256 of their content: off-chain, but checkable."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path


class Tampered(ValueError):
    """A document is not what its name says."""


class DocumentStore:
    """Content-addressed: a name can only ever mean one content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, content: bytes) -> bytes:
        """Store a document and return its hash; what is already there is left alone."""
        digest = sha256(content).digest()
        path = self.path_of(digest)
        if not path.exists():
            # A crash while writing must not leave half a document under its full name.
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(content)
            os.replace(unfinished, path)
        return digest

    def get(self, digest: bytes) -> bytes:
        """Return a document. Raises Tampered unless its content has this hash."""
        content = self.path_of(digest).read_bytes()
        found = sha256(content).digest()
        if found != digest:
            raise Tampered(f"document {digest.hex()}: content hashes to {found.hex()}")
        return content

    def path_of(self, digest: bytes) -> Path:
        return self.folder / digest.hex()

    def __iter__(self) -> Iterator[bytes]:
        for path in sorted(self.folder.iterdir()):
            if len(path.name) == 64:
                yield bytes.fromhex(path.name)
