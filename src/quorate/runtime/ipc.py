"""What a validator process says to its JSON-RPC process and to the command line.

Over a Unix socket in the validator's own folder, readable by its owner alone. Frames: 4 bytes of
length (big-endian, at most `MAX_FRAME`), then msgpack. A client sends requests with an id of its
choice and gets one `Reply` or `Failure` for each, in any order; after `Subscribe` also events.
"""

from typing import TypeAlias

from msgspec import Raw, Struct

from quorate.base.types import Address, Hash, Height

MAX_FRAME = 64 << 20


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
)
Response: TypeAlias = Reply | Failure | Committed | Pending
