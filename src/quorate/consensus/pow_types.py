"""What proof-of-work replicas are told, say to each other, and write down."""

from typing import Annotated

from msgspec import Meta, Struct

from quorate.base.errors import Invalid
from quorate.consensus.certificate import ENVELOPE_BYTES
from quorate.consensus.pow_difficulty import compute_target
from quorate.consensus.replica import HashBytes, HeightNumber, Message, Record

"""In nanoseconds."""
MAX_PAYLOAD_BYTES = 32 << 20
MAX_HEADERS = 512
"""In one message."""
MAX_BLOCKS = 16
"""In one request."""
MAX_LOCATOR = 64
MAX_FUTURE_MS = 10_000
"""The application refuses later times itself."""

HeaderBytes = Annotated[bytes, Meta(min_length=ENVELOPE_BYTES, max_length=ENVELOPE_BYTES)]
PayloadBytes = Annotated[bytes, Meta(max_length=MAX_PAYLOAD_BYTES)]
Place = tuple[HeightNumber, HashBytes]
"""A block by its height and the hash of its header."""


class Settings(Struct, frozen=True, kw_only=True):
    """All replicas of a network must have equal values of the first group."""

    interval_ms: int = 5000
    """The time between blocks that the difficulty follows."""
    initial_difficulty: int = 1 << 20
    """Hashes that the first block takes on average."""
    min_difficulty: int = 1 << 8
    window: int = 24
    """Over how many blocks difficulty follows a change of hash power (its time constant)."""

    final_depth: int = 64
    """Blocks above one that is final here: a heavier branch that forks below it is refused."""
    safe_depth: int = 6
    """Blocks above one that is called safe."""
    mine: bool = True
    refresh_ms: int = 1000
    """How often a block that is being mined takes up new transactions; 0: only with a new tip."""
    future_ms: int = 5000
    """How far the time of a block may be ahead of the own clock; later ones have to wait."""
    announce_ms: int = 15_000
    """The tip is told again after this much silence: links may have lost it."""
    request_ms: int = 2000
    """How long an answer may take, longer after each that did not come."""
    relay_peers: int = 4
    """A new block is pushed by its miner to all peers; others tell so many of theirs of it."""
    checkpoint_heights: int = 256
    checkpoint_bytes: int = 16 << 20
    """The journal may be cut after this many final heights, or payload bytes."""

    def __post_init__(self) -> None:
        least = {"refresh_ms": 0, "safe_depth": 0, "relay_peers": 0, "window": 2, "mine": 0}
        for name in self.__struct_fields__:
            value, lowest = getattr(self, name), least.get(name, 1)
            if value < lowest:
                raise Invalid(f"setting {name}: {value}, expected at least {lowest}")
        if self.initial_difficulty < self.min_difficulty:
            raise Invalid(
                f"setting initial_difficulty: {self.initial_difficulty}, "
                f"expected at least min_difficulty, {self.min_difficulty}"
            )
        if self.initial_difficulty > 1 << 200:
            raise Invalid(f"setting initial_difficulty: {self.initial_difficulty}, expected less")
        if self.future_ms > MAX_FUTURE_MS:
            raise Invalid(f"setting future_ms: {self.future_ms}, expected at most {MAX_FUTURE_MS}")
        if self.safe_depth > self.final_depth:
            raise Invalid(
                f"setting safe_depth: {self.safe_depth}, "
                f"expected at most final_depth, {self.final_depth}"
            )

    @property
    def easiest(self) -> int:
        """The largest target."""
        return compute_target(self.min_difficulty)


class Announce(Message, frozen=True, array_like=True, gc=False, tag=1):
    """The sender's tip, the work of its chain, and its last final height."""

    header: HeaderBytes
    work: HashBytes
    final: HeightNumber


class GetHeaders(Message, frozen=True, array_like=True, gc=False, tag=2):
    """Ask for the headers after the first of these places that the receiver's chain has; they go
    from the newest known to the last final one, with growing gaps (as a Bitcoin locator).
    """

    locator: Annotated[list[Place], Meta(min_length=1, max_length=MAX_LOCATOR)]


class Headers(Message, frozen=True, array_like=True, gc=False, tag=3):
    """Headers of the sender's best chain, each the parent of the next; perhaps none."""

    headers: Annotated[list[HeaderBytes], Meta(max_length=MAX_HEADERS)]


class GetBlocks(Message, frozen=True, array_like=True, gc=False, tag=4):
    """Ask for whole blocks. Those that are final at the receiver come as decisions."""

    places: Annotated[list[Place], Meta(min_length=1, max_length=MAX_BLOCKS)]


class Block(Message, frozen=True, array_like=True, gc=False, tag=5):
    """A whole block, pushed by its miner or asked for."""

    header: HeaderBytes
    payload: PayloadBytes


class Missing(Message, frozen=True, array_like=True, gc=False, tag=6):
    """Blocks that were asked for and are not here."""

    places: Annotated[list[Place], Meta(max_length=MAX_BLOCKS)]


class Kept(Record, frozen=True, array_like=True, gc=False, tag=1):
    """A valid block above the last final one; its parent is in an earlier record, or final."""

    header: HeaderBytes
    payload: PayloadBytes
