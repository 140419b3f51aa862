"""What Tendermint replicas are told, say to each other, and write down."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from quorate.base.errors import Invalid
from quorate.consensus.certificate import ENVELOPE_BYTES, PRECOMMIT, PREVOTE
from quorate.consensus.replica import (
    AddressBytes,
    HashBytes,
    HeightNumber,
    Message,
    Record,
    RoundNumber,
    SignatureBytes,
)

ENGINE: Final = "tendermint"
"""Its name in envelopes."""

"""In nanoseconds."""

KEPT_ROUNDS: Final = 16
"""Rounds below the current one whose votes are kept (besides the valid round)."""
ROUNDS_AHEAD: Final = 2
"""Rounds above the current one whose votes are kept; beyond, only that the voter is there."""
HELD_PER_SENDER: Final = 16
"""Messages of the next height that are held for each sender, one proposal among them."""
STATUS_PEERS: Final = 3
"""Whom a replica that makes no progress asks at a time, in turn: no more answers than that."""
STATUS_ROUNDS: Final = 4
MAX_PROPOSALS: Final = 3
"""Different proposals of one proposer in one round that are kept, all but one as evidence."""
MAX_PAYLOAD_BYTES: Final = 32 << 20


class Settings(Struct, frozen=True, kw_only=True):
    """Timeouts in milliseconds. Any value is safe; too short ones cost rounds, too long ones time.

    The defaults fit a LAN with room for links across continents (round trips up to 250 ms): a first
    proposal of some megabytes arrives and is checked within a second, a vote crosses within 300 ms.
    Rounds that fail add `*_step_ms` each, so any network that has a bound is matched in the end.
    """

    propose_ms: int = 1000
    propose_step_ms: int = 500
    prevote_ms: int = 300
    prevote_step_ms: int = 200
    precommit_ms: int = 300
    precommit_step_ms: int = 200
    max_timeout_ms: int = 60_000
    """Where timeouts stop growing."""
    suspect_ms: int = 100
    """The first propose timeout for a proposer whose last proposal never came, fourfold a round."""
    status_ms: int = 250
    """How often a replica that makes no progress tells where it stands."""
    block_time_ms: int = 0
    """If positive: a block in every such interval, whether or not anything waits."""
    min_interval_ms: int = 0
    """The least time between the starts of two heights."""
    max_payload_bytes: int = 8 << 20
    """Larger proposals are dropped. The same for all members, and at least the ledger's limit."""
    checkpoint_heights: int = 256
    checkpoint_bytes: int = 16 << 20
    """The journal may be cut after this many heights, or payload bytes."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            least = 0 if name in ("block_time_ms", "min_interval_ms") else 1
            value = getattr(self, name)
            if value < least:
                raise Invalid(f"setting {name}: {value}, expected at least {least}")
        if self.max_payload_bytes > MAX_PAYLOAD_BYTES:
            raise Invalid(
                f"setting max_payload_bytes: {self.max_payload_bytes}, "
                f"expected at most {MAX_PAYLOAD_BYTES}"
            )


class Proposal(Message, frozen=True, array_like=True, gc=False, tag=1):
    """PROPOSAL of Algorithm 1, signed by the proposer of `round`; anybody may relay it.

    A value that is proposed again keeps its envelope, of an earlier round and proposer. The
    envelope travels as the bytes that are hashed.
    """

    height: HeightNumber
    round: RoundNumber
    valid_round: Annotated[int, Meta(ge=-1, lt=2**31)]
    envelope: Annotated[bytes, Meta(min_length=ENVELOPE_BYTES, max_length=ENVELOPE_BYTES)]
    payload: Annotated[bytes, Meta(max_length=MAX_PAYLOAD_BYTES)]
    signature: SignatureBytes


class Vote(Message, frozen=True, array_like=True, gc=False, tag=2):
    """PREVOTE or PRECOMMIT for an envelope hash or nil (zero), relayed with its own signature."""

    kind: Annotated[int, Meta(ge=PREVOTE, le=PRECOMMIT)]
    height: HeightNumber
    round: RoundNumber
    value: HashBytes
    voter: AddressBytes
    signature: SignatureBytes


class Held(Message, frozen=True, array_like=True, gc=False):
    """What a replica has of one round; voters as bits in the order of the validator set."""

    round: RoundNumber
    proposal: bool
    """Whether it holds the proposal, and the one that has a quorum of votes if there is one."""
    polka: bool
    """Whether it holds a quorum of prevotes for one value (or nil)."""
    prevotes: Annotated[bytes, Meta(max_length=128)]
    precommits: Annotated[bytes, Meta(max_length=128)]


class Status(Message, frozen=True, array_like=True, gc=False, tag=3):
    """Where a replica stands that makes no progress, answered with what it lacks.

    The answers (proposals, votes, or the decision of its height) never provoke an answer.
    """

    height: HeightNumber
    round: RoundNumber
    awake: bool
    """Whether its round has begun; an idle replica only asks."""
    rounds: Annotated[list[Held], Meta(max_length=STATUS_ROUNDS)]


class Proposed(Record, frozen=True, array_like=True, gc=False, tag=1):
    """A proposal of our own (before it is sent), or one that we vote for."""

    proposal: Proposal


class Voted(Record, frozen=True, array_like=True, gc=False, tag=2):
    """Our own vote; a precommit of a value is also the lock (L38-39)."""

    vote: Vote


class Polka(Record, frozen=True, array_like=True, gc=False, tag=3):
    """The prevotes that made a value valid (L42-43), so that we can still show them."""

    votes: list[Vote]


class Decided(Record, frozen=True, array_like=True, gc=False, tag=4):
    """A decision; `payloads` is empty where a `Proposed` record holds the payload."""

    height: HeightNumber
    payloads: list[bytes]
    certificate: bytes


class Entered(Record, frozen=True, array_like=True, gc=False, tag=5):
    """A round after the first was entered, with the precommits that ended the one before it.

    A replica that fell back to a round which others left because of it could be stuck there: they
    are too few to be followed, and the votes that it went by may be of members now silent.
    """

    height: HeightNumber
    round: RoundNumber
    votes: list[Vote]
