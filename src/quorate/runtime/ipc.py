"""What a validator process says to its JSON-RPC process and to the command line.

Over a Unix socket in the validator's own folder, readable by its owner alone. Frames: 4 bytes of
length (big-endian, at most `MAX_FRAME`), then msgpack. A client sends requests with an id of its
choice and gets one `Reply` or `Failure` for each, in any order; after `Subscribe` also events.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from msgspec import Raw, Struct

from quorate.base.types import Address, Hash, Height

MAX_FRAME = 64 << 20
MAX_SOCKET_PATH = 100
"""Bytes of a path that every system takes as the name of a socket."""


class Submit(Struct, frozen=True, array_like=True, tag=1):
    """Reply: list of (hash, None or the conventional error)."""

    id: int
    items: list[bytes]


class GetStatus(Struct, frozen=True, array_like=True, tag=2):
    """Reply: NodeStatus."""

    id: int


class GetNonce(Struct, frozen=True, array_like=True, tag=3):
    """Reply: int, the next nonce counting waiting transactions."""

    id: int
    account: Address


class GetPoolCounts(Struct, frozen=True, array_like=True, tag=4):
    """Reply: (executable, queued, bytes)."""

    id: int


class GetPoolContent(Struct, frozen=True, array_like=True, tag=5):
    """Reply: bytes of JSON, txpool_content, of one account if given."""

    id: int
    account: Address | None


class GetPoolTransaction(Struct, frozen=True, array_like=True, tag=6):
    """Reply: (bytes of JSON, raw bytes), or None."""

    id: int
    hash: Hash


class Subscribe(Struct, frozen=True, array_like=True, tag=7):
    """Reply: durable height. From then on `Committed`, and with `pending` also `Pending`."""

    id: int
    pending: bool


class GetMetrics(Struct, frozen=True, array_like=True, tag=8):
    """Reply: bytes, the Prometheus text of the validator process."""

    id: int


class Ban(Struct, frozen=True, array_like=True, tag=9):
    """Reply: bool. `who` is an identity (0x and 40 digits) or an address; open networks only."""

    id: int
    who: str
    seconds: int
    reason: str


class Unban(Struct, frozen=True, array_like=True, tag=10):
    """Reply: bool, whether there was a ban."""

    id: int
    who: str


class HandOver(Struct, frozen=True, array_like=True, tag=12):
    """Reply: str, why not, or empty. Let the member at this address lead; empty: whichever."""

    id: int
    to: Address


class Reply(Struct, frozen=True, array_like=True, tag=20):
    id: int
    result: Raw


class Failure(Struct, frozen=True, array_like=True, tag=21):
    id: int
    message: str


class Committed(Struct, frozen=True, array_like=True, tag=22):
    """Every height up to this one is in the store and visible to a `View`."""

    height: Height


class Pending(Struct, frozen=True, array_like=True, tag=23):
    """Transactions that were admitted to the pool."""

    hashes: list[Hash]


Request: TypeAlias = (
    Submit
    | GetStatus
    | GetNonce
    | GetPoolCounts
    | GetPoolContent
    | GetPoolTransaction
    | Subscribe
    | GetMetrics
    | Ban
    | Unban
    | HandOver
)
Response: TypeAlias = Reply | Failure | Committed | Pending


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a name of a socket that is short enough, also where the folder lies deep."""
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
