"""What proof-of-work replicas are told, say to each other, and write down.

Header, 180 bytes: the envelope of `certificate`, whose two fields for validator sets are put to the
use that a chain without validators has for them, so that the hash of the envelope covers the work:

    offset  bytes
    0       16     "pow", padded with zero bytes
    16      8      height
    24      8      zero
    32      20     proposer: the miner, who gets the fees, as in the payload's head
    52      32     hash of the parent's envelope (height 1: the genesis block's hash)
    84      8      time, milliseconds of Unix time, as in the payload's head
    92      8      nonce
    100     16     zero
    116     32     target
    148     32     payload hash

The hash of these bytes names the block. What is sealed is the same with a nonce of zero: the seal,
keccak256(keccak256(header) || nonce), is at most the target, read as a number.

Certificate, 221 bytes: what a member says of a block that is deep under its tip.

    0       1      version, 3
    1       180    header
    181     32     accumulated work from genesis to this block
    213     8      time of the parent (height 1: zero), from which the next target follows
"""

from struct import Struct as Layout
from typing import Annotated

from msgspec import Meta, Struct

from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash, Height, Milliseconds
from quorate.consensus.certificate import ENVELOPE_BYTES
from quorate.consensus.pow_difficulty import SPACE, compute_target
from quorate.consensus.replica import HashBytes, HeightNumber, Message, Record, Value
from quorate.crypto.hashes import keccak256

ENGINE = "pow"
"""Its name in envelopes."""
NAME = ENGINE.encode().ljust(16, b"\0")
HEADER = Layout(">16sQQ20s32sQQ16s32s32s")
NONCE_AT = 92
ZEROS = bytes(16)
NO_NONCE = bytes(8)

MILLISECOND = 1_000_000
"""In nanoseconds."""
VERSION = 3
"""Of the certificate above."""
CERTIFICATE_BYTES = 1 + ENVELOPE_BYTES + 40
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


class Header(Value, frozen=True, gc=False):
    """A decoded header; `hash` names the block."""

    raw: bytes
    hash: Hash
    height: Height
    proposer: Address
    parent: Hash
    timestamp_ms: Milliseconds
    nonce: int
    target: int
    payload_hash: Hash

    def get_sealed(self) -> bytes:
        """Return what the seal covers."""
        return self.raw[:NONCE_AT] + NO_NONCE + self.raw[NONCE_AT + 8 :]


def make_header(
    *,
    height: Height,
    proposer: Address,
    parent: Hash,
    timestamp_ms: Milliseconds,
    target: int,
    payload_hash: Hash,
) -> bytes:
    """Return a header that waits for its nonce."""
    return HEADER.pack(
        NAME,
        height,
        0,
        proposer,
        parent,
        timestamp_ms,
        0,
        ZEROS,
        target.to_bytes(32, "big"),
        payload_hash,
    )


def put_nonce(header: bytes, nonce: int) -> bytes:
    """Return the header with its nonce."""
    return header[:NONCE_AT] + nonce.to_bytes(8, "big") + header[NONCE_AT + 8 :]


def decode_header(raw: bytes) -> Header:
    """Return the header of exactly its own encoding. Raises Invalid."""
    if len(raw) != ENVELOPE_BYTES:
        raise Invalid(f"header: {len(raw)} bytes, expected {ENVELOPE_BYTES}")
    name, height, round, proposer, parent, time_ms, nonce, zeros, target, payload = HEADER.unpack(
        raw
    )
    if name != NAME or round or zeros != ZEROS:
        raise Invalid(f"header: of 0x{name.hex()} round {round}, expected pow with zeros")
    if not 1 <= height <= 2**62 or time_ms > 2**62:
        raise Invalid(f"header: height {height} and time {time_ms}, expected 1..2**62")
    goal = int.from_bytes(target, "big")
    if not goal or goal >= SPACE - 1:
        raise Invalid(f"header of height {height}: target {goal}, expected 1..2**256 - 2")
    return Header(raw, keccak256(raw), height, proposer, parent, time_ms, nonce, goal, payload)


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


class Certificate(Value, frozen=True, gc=False):
    """The layout in the module's docstring, decoded."""

    header: Header
    work: int
    parent_ms: Milliseconds


def encode_certificate(header: bytes, work: int, parent_ms: Milliseconds) -> bytes:
    """Return the layout above."""
    return b"".join(
        (bytes((VERSION,)), header, work.to_bytes(32, "big"), parent_ms.to_bytes(8, "big"))
    )


def decode_certificate(data: bytes) -> Certificate:
    """Return the certificate of exactly its own encoding. Raises Invalid."""
    if len(data) != CERTIFICATE_BYTES or data[0] != VERSION:
        found = f"{len(data)} bytes" + (f" of version {data[0]}" if data else "")
        raise Invalid(
            f"proof-of-work certificate: {found}, expected {CERTIFICATE_BYTES} of version {VERSION}"
        )
    end = 1 + ENVELOPE_BYTES
    return Certificate(
        decode_header(data[1:end]),
        int.from_bytes(data[end : end + 32], "big"),
        int.from_bytes(data[end + 32 :], "big"),
    )
