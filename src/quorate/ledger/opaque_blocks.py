"""What the ledger of opaque items keeps of blocks, as values."""

from msgspec import Struct

from quorate.base.types import Hash
from quorate.ledger.application import Executed


class Final(Struct, frozen=True):
    """What the store holds of a height."""

    executed: Executed
    envelope: Hash
    certificate: bytes
    payloads: list[bytes]


class Branch(Struct, frozen=True):
    """An executed block and the items it is the first to hold."""

    executed: Executed
    parent: Hash
    fresh: dict[Hash, bytes]
