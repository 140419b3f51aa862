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
    at: str = ""
    """In open networks: where it listens, or where it comes from."""
    direction: str = ""
    """In open networks: outbound (we dialled), inbound, or feeler."""
    points: int = 0
    """What it did wrong lately; 100 are a ban."""
    up_ms: Milliseconds = 0
    """How long it has been connected, in open networks."""


class BanStatus(Struct, frozen=True):
    """Somebody who is not talked to."""

    who: str
    """0x and an identity, or an address."""
    ends_in_s: int
    reason: str


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
    """Of the latest block."""
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
    bans: list[BanStatus] = []
    known_addresses: int = 0
    """In open networks: of others that could be dialled."""
    latest: Height = 0
    """What clients see as the latest block; above `height` where blocks are seen before they are
    final.
    """
    latest_block: Hash = b""
    facts: dict[str, int] = {}
    """Numbers that only this engine has."""
    alarm: str = ""
    """What people have to look at."""
