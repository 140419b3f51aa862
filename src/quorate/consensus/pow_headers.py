"""Headers of proof of work, and certificates of blocks that are deep under a tip.

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
from typing import Final

from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash, Height, Milliseconds
from quorate.consensus.certificate import ENVELOPE_BYTES
from quorate.consensus.pow_difficulty import SPACE, compute_work
from quorate.crypto.hashes import keccak256

ENGINE: Final = "pow"
"""Its name in envelopes."""
NAME: Final = ENGINE.encode().ljust(16, b"\0")
HEADER: Final = Layout(">16sQQ20s32sQQ16s32s32s")
NONCE_AT: Final = 92
ZEROS: Final = bytes(16)
NO_NONCE: Final = bytes(8)
VERSION: Final = 3
"""Of the certificate above."""
CERTIFICATE_BYTES: Final = 1 + ENVELOPE_BYTES + 40


class Header:
    """A decoded header, which nobody changes; `hash` names the block."""

    __slots__ = (
        "hash",
        "height",
        "nonce",
        "parent",
        "payload_hash",
        "proposer",
        "raw",
        "target",
        "timestamp_ms",
        "work",
    )

    def __init__(
        self,
        raw: bytes,
        height: Height,
        proposer: Address,
        parent: Hash,
        timestamp_ms: Milliseconds,
        nonce: int,
        target: int,
        payload_hash: Hash,
    ) -> None:
        self.raw = raw
        self.hash: Hash = keccak256(raw)
        self.height, self.proposer, self.parent = height, proposer, parent
        self.timestamp_ms, self.nonce, self.target = timestamp_ms, nonce, target
        self.payload_hash = payload_hash
        self.work = compute_work(target)
        """Of this block alone."""

    def get_sealed(self) -> bytes:
        """Return what the seal covers."""
        return self.raw[:NONCE_AT] + NO_NONCE + self.raw[NONCE_AT + 8 :]


RECENT: Final[dict[bytes, Header]] = {}
MAX_RECENT: Final = 256


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
    """Return the header of exactly its own encoding. Raises Invalid.

    Most come many times, from many: the last ones are remembered.
    """
    known = RECENT.get(raw)
    if known is not None:
        return known
    header = read_header(raw)
    if len(RECENT) >= MAX_RECENT:
        RECENT.clear()
    RECENT[raw] = header
    return header


def read_header(raw: bytes) -> Header:
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
    return Header(raw, height, proposer, parent, time_ms, nonce, goal, payload)


class Certificate:
    """The layout in the module's docstring, decoded."""

    __slots__ = ("header", "parent_ms", "work")

    def __init__(self, header: Header, work: int, parent_ms: Milliseconds) -> None:
        self.header, self.work, self.parent_ms = header, work, parent_ms


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
