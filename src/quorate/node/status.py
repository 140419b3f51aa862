"""What a node says of itself to people and programs."""

from msgspec import Struct

from quorate.base.types import Address, Hash, Height, Member, Milliseconds
from quorate.consensus.replica import Situation


class PeerStatus(Struct, frozen=True):
    address: Address
    connected: bool
    height: Height
    """The last it told; 0 before."""
    last_heard_ms: Milliseconds | None
    """How long ago anything came from it; None: never."""


class NodeStatus(Struct, frozen=True):
    """One node's view; the fields of `situation` are explained there."""

    address: Address
    engine: str
    genesis: Hash
    version: str
    height: Height
    """Final and executed."""
    durable: Height
    block: Hash
    block_time_ms: Milliseconds
    syncing_to: Height | None
    situation: Situation
    why_stalled: str
    """In words: what is waited for, which quorum is missing, who is silent, the next timeout."""
    next_timeout_ms: int | None
    """From now."""
    peers: list[PeerStatus]
    validators: list[Member]
    pool_ready: int
    pool_queued: int
    pool_bytes: int
    counters: dict[str, int]
    """Messages, bytes, drops by reason, rounds, accusations and so on, since the start."""
