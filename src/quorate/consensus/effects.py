"""What goes into a replica and comes out of it, as values; `replica` holds the rules.

Values stand apart from the classes that work with them: msgspec builds them from their annotations
at run time, so they stay interpreted where the rest is compiled.
"""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

from quorate.base.types import Address, Hash, Height, Member, Nanoseconds


class Value(Struct, frozen=True, gc=False):
    """Something immutable that is compared by its contents."""


class Message(Value, frozen=True, array_like=True, gc=False):
    """Something that replicas send each other; each subclass adds an integer `tag` below 100."""


class Record(Value, frozen=True, array_like=True, gc=False):
    """Something in the journal; each subclass adds an integer `tag`."""


HeightNumber = Annotated[int, Meta(ge=0, le=2**62)]
RoundNumber = Annotated[int, Meta(ge=0, lt=2**31)]
AddressBytes = Annotated[bytes, Meta(min_length=20, max_length=20)]
HashBytes = Annotated[bytes, Meta(min_length=32, max_length=32)]
SignatureBytes = Annotated[bytes, Meta(min_length=65, max_length=65)]
"""Types of message fields: decoding refuses what lies outside, so handlers need not look."""


class Decision(Message, frozen=True, array_like=True, gc=False, tag=0):
    """A finished height with its proof, for a replica that missed it (from a peer or from sync).

    `payloads` is a list because HoneyBadger agrees on a set of proposals. A replica that receives
    one for the height after its last decision verifies the certificate and delivers, as soon as it
    knows the members of that height (so one height ahead of `applied`); others are dropped, save
    that an engine may hold the next one for a moment.
    """

    height: HeightNumber
    payloads: list[bytes]
    certificate: bytes


class Recalled(Message, frozen=True, array_like=True, gc=False, tag=99):
    """The answer to a request that led to `Recall`: consecutive heights, perhaps none."""

    decisions: Annotated[list[Decision], Meta(max_length=1024)]


class Timer(Value, frozen=True, gc=False, cache_hash=True):
    """The name of a timer; setting an equal one replaces it."""

    kind: str
    height: Height = 0
    round: int = 0


class Send(Value, frozen=True, gc=False):
    """Send to one member; to oneself it is reliable and comes back as a later input."""

    to: Address
    message: Message


class Broadcast(Value, frozen=True, gc=False):
    """Send to every connected peer and to oneself.

    Peers that are not members (yet) follow by what they hear. An engine that has already counted
    its own message drops the copy that comes back, and says by `ECHO` that none has to.
    """

    message: Message


class SetTimer(Value, frozen=True, gc=False):
    timer: Timer
    delay_ns: Nanoseconds


class CancelTimer(Value, frozen=True, gc=False):
    timer: Timer


class Persist(Value, frozen=True, gc=False):
    """Append to the journal; later effects wait until the record is durable.

    With `urgent=False` nothing waits: the record is written before any later one, with the next
    that is urgent or after a few of its kind, and a crash until then loses it.
    """

    record: Record
    urgent: bool = True


class Want(Value, frozen=True, gc=False):
    """Ask the application for something to agree on at `height`, answered by `submit`.

    `parent` is the hash of the envelope that was decided at `height - 1`; for an open engine, of
    any block of its tree that was found acceptable. The answer comes when
    there is something to agree on, perhaps much later or never; a later `Want` replaces an earlier
    one. With `build=False` the replica only asks to be told that there is something: the answer is
    `submit(now, height, NOTHING)`, and lets a replica that does not propose start its timeouts only
    when somebody has to. With `force=True` the height is under way (or a block is due): the answer
    comes at once, with an empty payload where nothing waits.
    """

    height: Height
    parent: Hash
    build: bool = True
    force: bool = False


class Check(Value, frozen=True, gc=False):
    """Ask the application whether a payload is acceptable at `height`, answered by `checked`.

    Open engines name the block: `envelope` is the hash of its own envelope, `parent` that of its
    parent's, whose `Check` came earlier (or which is the last final one). Without them the parent
    is the last final block.
    """

    height: Height
    payload: bytes
    parent: Hash = b""
    envelope: Hash = b""


class Deliver(Value, frozen=True, gc=False):
    """The payloads of a height are final. The certificate convinces a stranger of it.

    `envelope` is the hash of the decided envelope, which the application writes into the next
    block.
    """

    height: Height
    payloads: list[bytes]
    envelope: Hash
    certificate: bytes


class Head(Value, frozen=True, gc=False):
    """A tentative tip moved: execute it ahead, finality may differ.

    Of an open engine it is what readers see from now on, with all its ancestors, which have been
    found acceptable by `Check`; it may move sideways, or down, but never below what is final.
    """

    height: Height
    payload: bytes
    envelope: Hash
    parent: Hash


class Checkpoint(Value, frozen=True, gc=False):
    """The journal may be cut: from an application at `height` a restart needs `records` and later.

    The host writes `records` as the start of the new journal, once the application is durable at
    `height`, and then forgets everything that was persisted before this effect.
    """

    height: Height
    records: list[Record]


class Accuse(Value, frozen=True, gc=False):
    """Evidence that a stranger can verify that a member broke the protocol."""

    who: Address
    evidence: bytes


class Seal(Value, frozen=True, gc=False):
    """Search a nonce for which the work over `header` meets `target`, answered by `sealed`.

    A later `Seal` replaces an earlier one; an empty header ends the search. `height` is for people.
    """

    height: Height
    header: bytes
    target: int


class Recall(Value, frozen=True, gc=False):
    """Send a peer decisions of final heights that only the application still holds.

    The host reads up to `count` of them from `first` on and sends them as one `Recalled`, within
    its own bounds: perhaps fewer, perhaps none. Without `bodies` their payloads are left out.
    """

    to: Address
    first: Height
    count: int
    bodies: bool


class Blame(Value, frozen=True, gc=False):
    """A peer sent what an honest one never sends; no stranger can verify it. The host keeps score.

    `reason` is a few words, the same for all that is alike.
    """

    who: Address
    reason: str


class Readable(Value, frozen=True, gc=False):
    """The answer to `read`: the application's state at `height` or later holds everything that was
    acknowledged before the question. -1: not here or not now, ask again or elsewhere.
    """

    number: int
    height: Height


Effect: TypeAlias = (
    Send
    | Broadcast
    | SetTimer
    | CancelTimer
    | Persist
    | Want
    | Check
    | Deliver
    | Head
    | Checkpoint
    | Accuse
    | Seal
    | Recall
    | Blame
    | Readable
)

NOTHING: Final = b""
"""What `submit` carries to a replica that asked with `build=False`."""


class Base(Value, frozen=True, gc=False):
    """Where the application stands when a replica starts.

    `height` is the last applied and durable height (0: genesis), `envelope` the hash of the
    envelope decided there (genesis: the genesis block's hash), `certificate` its proof (genesis:
    empty), `payloads` its content (genesis: none). `members` and `next_members` hold at
    `height + 1` and `height + 2`, `own_members` agreed on `height` itself (genesis: as `members`).
    """

    height: Height
    envelope: Hash
    certificate: bytes
    payloads: list[bytes]
    members: list[Member]
    next_members: list[Member]
    own_members: list[Member] = []


class StateClaim(Value, frozen=True, gc=False):
    """What a peer says of the state after a height, and why it is to be believed.

    `envelope` is the hash of the envelope that `certificate` is said to be about. `payload` is that
    of the payload of the height after it, which names its block, and which `next_certificate` is
    about; `members` agree on the height itself and the two next.
    """

    sender: Address
    height: Height
    envelope: Hash
    certificate: bytes
    next_certificate: bytes
    payload: Hash
    members: list[list[Member]]


class Situation(Value, frozen=True, gc=False):
    """What `status`, `why-stalled` and metrics show of a replica, in plain words or numbers.

    `missing` says which quorum is missing ("prevotes of round 2: power 2 of 3 needed, 1 more"),
    `silent` who has not been heard in this step, `next_timeout` names the next timer and when it
    falls (absolute ns), if any.
    """

    height: Height
    round: int
    step: str
    leader: Address | None
    waiting_for: str
    missing: str
    silent: list[Address]
    next_timeout: tuple[str, Nanoseconds] | None
