"""The first frame of each side of a link."""

from msgspec import Struct

from quorate.base.types import Hash

__all__ = ["HELLO_BYTES", "Hello"]

HELLO_MAGIC = b"quorate\x01"
HELLO_BYTES = len(HELLO_MAGIC) + 8 + 32


class Hello(Struct, frozen=True):
    """Who speaks: which run of its process, and which network it belongs to.

    `incarnation` differs for every start of a process, so that a second connection from a restarted
    peer replaces the dead first one at once.
    """

    incarnation: bytes
    genesis: Hash

    def encode(self) -> bytes:
        return HELLO_MAGIC + self.incarnation + self.genesis

    @staticmethod
    def decode(frame: bytes) -> "Hello | None":
        if len(frame) != HELLO_BYTES or not frame.startswith(HELLO_MAGIC):
            return None
        start = len(HELLO_MAGIC)
        return Hello(frame[start : start + 8], frame[start + 8 :])
