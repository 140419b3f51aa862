"""What Raft replicas are told, say to each other, and write down."""

from typing import Annotated

from msgspec import Meta, Struct

from quorate.base.errors import Invalid
from quorate.base.types import Address
from quorate.consensus.certificate import (
    ENVELOPE_BYTES,
    Envelope,
)
from quorate.consensus.replica import (
    AddressBytes,
    HeightNumber,
    Message,
    Record,
    RoundNumber,
    Value,
)

ENGINE = "raft"
"""Its name in envelopes."""

"""In nanoseconds."""
MAX_PAYLOAD_BYTES = 32 << 20
MAX_ENTRIES = 1024
"""In one message."""
LARGE_BYTES = 16 << 10
"""From here on a payload takes so long to write, to hash and to execute that nobody shall wait for
the one after it, or do one of these after the other.
"""
VERSION = 2
"""Of the certificate below."""
PREFIX_BYTES = 1 + ENVELOPE_BYTES + 18

IndexNumber = Annotated[int, Meta(ge=0, le=2**62)]
TermNumber = RoundNumber
"""A term is the round in envelopes."""


class Settings(Struct, frozen=True, kw_only=True):
    """Timeouts in milliseconds. Any value is safe; they should be far above a round trip."""

    heartbeat_ms: int = 100
    """How often a leader is heard when it has nothing to say."""
    election_ms: int = 1000
    """A follower stands for election after this long without a leader, or up to twice as long."""
    max_payload_bytes: int = 8 << 20
    max_append_bytes: int = 8 << 20
    """Payloads in one message; a single larger one goes alone."""
    lease_reads: bool = False
    """Whether a leader that a majority has just confirmed answers reads without asking again. Only
    sound while no clock runs `clock_drift_percent` faster or slower than real time; all members
    have to be told the same `election_ms`.
    """
    clock_drift_percent: int = 5
    """How far the speed of a member's monotonic clock may be off, for `lease_reads`."""
    checkpoint_heights: int = 256
    checkpoint_bytes: int = 16 << 20
    """The journal may be cut after this many heights, or payload bytes."""
    kept_entries: int = 256
    """Decided entries that a log keeps for followers that are a little behind; others use sync."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is int and value < 1:
                raise Invalid(f"setting {name}: {value}, expected at least 1")
        if self.clock_drift_percent > 50:
            raise Invalid(
                f"setting clock_drift_percent: {self.clock_drift_percent}, expected at most 50"
            )
        if self.election_ms < 2 * self.heartbeat_ms:
            raise Invalid(
                f"setting election_ms: {self.election_ms}, "
                f"expected at least twice heartbeat_ms, {2 * self.heartbeat_ms}"
            )
        if self.max_payload_bytes > MAX_PAYLOAD_BYTES:
            raise Invalid(
                f"setting max_payload_bytes: {self.max_payload_bytes}, "
                f"expected at most {MAX_PAYLOAD_BYTES}"
            )


class Entry(Value, frozen=True, array_like=True, gc=False):
    """One entry of the log. Without an envelope it is a leader's no-op (section 8), and `height`
    is that of the payload before it.
    """

    term: TermNumber
    index: IndexNumber
    height: HeightNumber
    envelope: Annotated[bytes, Meta(max_length=ENVELOPE_BYTES)]
    payload: Annotated[bytes, Meta(max_length=MAX_PAYLOAD_BYTES)]


class RequestVote(Message, frozen=True, array_like=True, gc=False, tag=1):
    """RequestVote of figure 2; `trial` as PreVote (thesis, section 9.6)."""

    term: TermNumber
    last_index: IndexNumber
    last_term: TermNumber
    trial: bool
    told: bool
    """Whether the leader asked for this election (thesis, section 3.10)."""


class VoteReply(Message, frozen=True, array_like=True, gc=False, tag=2):
    """The answer to RequestVote; `term` is the one that was asked for if it was granted."""

    term: TermNumber
    granted: bool
    trial: bool


class Append(Message, frozen=True, array_like=True, gc=False, tag=3):
    """AppendEntries of figure 2; `commit` is leaderCommit."""

    term: TermNumber
    prev_index: IndexNumber
    prev_term: TermNumber
    entries: Annotated[list[Entry], Meta(max_length=MAX_ENTRIES)]
    commit: IndexNumber


class Appended(Message, frozen=True, array_like=True, gc=False, tag=4):
    """The answer to AppendEntries: up to which index the logs match, or where to try next."""

    term: TermNumber
    success: bool
    index: IndexNumber


class TimeoutNow(Message, frozen=True, array_like=True, gc=False, tag=5):
    """The leader asks a follower to stand for election at once (thesis, section 3.10)."""

    term: TermNumber


class Confirm(Message, frozen=True, array_like=True, gc=False, tag=6):
    """The leader asks whether it is one still: a heartbeat with a number (thesis, section 6.4)."""

    term: TermNumber
    number: IndexNumber


class Confirmed(Message, frozen=True, array_like=True, gc=False, tag=7):
    """The answer to Confirm; a higher term says no."""

    term: TermNumber
    number: IndexNumber


class ReadRequest(Message, frozen=True, array_like=True, gc=False, tag=8):
    """A follower asks its leader for a height to read at."""

    number: IndexNumber


class ReadReply(Message, frozen=True, array_like=True, gc=False, tag=9):
    """The answer to ReadRequest: a height, or -1 from one that does not lead."""

    number: IndexNumber
    height: Annotated[int, Meta(ge=-1, le=2**62)]


class Commit(Message, frozen=True, array_like=True, gc=False, tag=10):
    """leaderCommit has moved: for those who hold it already, and need not answer."""

    term: TermNumber
    commit: IndexNumber


class Ballot(Record, frozen=True, array_like=True, gc=False, tag=1):
    """currentTerm and votedFor of figure 2; no vote is 20 zero bytes."""

    term: TermNumber
    voted_for: AddressBytes


class Written(Record, frozen=True, array_like=True, gc=False, tag=2):
    """Entries that follow the one at `prev_index`; whatever followed it before is gone."""

    prev_index: IndexNumber
    entries: list[Entry]


class Learned(Record, frozen=True, array_like=True, gc=False, tag=3):
    """A decision that came by its certificate and not by the log."""

    height: HeightNumber
    payloads: list[bytes]
    certificate: bytes


class Based(Record, frozen=True, array_like=True, gc=False, tag=4):
    """The application has taken over the state at a height; the log begins behind it."""

    height: HeightNumber
    certificate: bytes


class Certificate(Value, frozen=True, gc=False):
    """What a replica of a crash-fault engine says of a decided envelope: where it stands in the
    log, and who is known to hold it. It convinces whoever trusts the one that tells it.

        offset  bytes
        0       1      version, 2
        1       180    envelope, whose round is the term of the entry
        181     8      term in which it was found committed
        189     8      index in the log
        197     2      number of members
        199     20 n   those who are known to hold it, by the writer's knowledge
    """

    envelope: Envelope
    term: int
    index: int
    holders: list[Address]
