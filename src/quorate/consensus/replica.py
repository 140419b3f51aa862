"""The contract of an engine: what goes into a replica, and what it may do.

A protocol is a value that takes inputs and appends effects. It knows no clock, socket, disk,
thread, event loop or randomness of its own; the host (`quorate.node`) carries the effects out,
in the real world and in the simulator alike.

Inputs: `start`, `receive`, `timeout`, `submit`, `checked`, `applied`, `read`, `hand_over`,
`install`, and for engines of open membership `sealed`, `met`, `parted`; after each of them, or
after several, the host calls `take` and carries out the effects in order.

1. One input at a time, run to completion: no reentrance, no await, no callback.
2. Effects happen in list order. Nothing after a `Persist` is visible to anyone before its record is
   durable, unless the effect says that it is not urgent. Write before you speak is therefore the
   order of two lines.
3. A message to oneself is reliable and ordered, and comes back as a later input: `Persist(x)` then
   `Send(me, Ack)` is how a leader counts its own vote once it is durable.
4. Links lose, repeat, delay and reorder. `sender` is authenticated, contents are not trusted. Each
   engine's docstring states its assumption about links and who retransmits.
5. A crash keeps a prefix of what was persisted. Restart is a new object and `start` with that
   prefix. `Deliver` comes in order of height, without a gap, at least once a height across
   restarts.
6. Bad remote input is dropped, counted in `dropped`, perhaps accused; never raised. An exception
   out of a handler is our own bug and stops the node.
7. `now` is integer nanoseconds and never goes back. Randomness is the injected stream. No
   `hash()`, no `id()`, no iteration over a set, no floats where replicas must agree.
8. Slow work is asked for by an effect and answered by a later input, so that it blocks no vote.
9. Membership comes from the application: `applied(height)` brings the members for `height + 2`. A
   replica does not enter a height whose members it does not know; that also bounds how far
   agreement runs ahead of execution. An engine of open membership (`OPEN`) gets no members: it
   delivers what lies deep enough under its tip, and says with `Head` where the tip is.
10. Unix time matters only to engines of open membership. The host writes it to `wall_ms` before
   each input, and it may step; what follows from it is never remembered as a fact of a block.

The sets of inputs and effects are closed; the effects are in `effects`, and re-exported here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from quorate.base.errors import Unavailable
from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height, Member, Milliseconds, Nanoseconds
from quorate.consensus.effects import (
    NOTHING,
    Accuse,
    AddressBytes,
    Base,
    Blame,
    Broadcast,
    CancelTimer,
    Check,
    Checkpoint,
    Decision,
    Deliver,
    Effect,
    HashBytes,
    Head,
    HeightNumber,
    Message,
    Persist,
    Readable,
    Recall,
    Recalled,
    Record,
    RoundNumber,
    Seal,
    Send,
    SetTimer,
    SignatureBytes,
    Situation,
    StateClaim,
    Timer,
    Value,
    Want,
)
from quorate.crypto.hashes import compute_seal

__all__ = [
    "NOTHING",
    "Accuse",
    "AddressBytes",
    "Base",
    "Blame",
    "Broadcast",
    "CancelTimer",
    "Check",
    "Checkpoint",
    "Decision",
    "Deliver",
    "Effect",
    "HashBytes",
    "Head",
    "HeightNumber",
    "Keys",
    "Message",
    "Persist",
    "Readable",
    "Recall",
    "Recalled",
    "Record",
    "Replica",
    "RoundNumber",
    "Seal",
    "Send",
    "SetTimer",
    "SignatureBytes",
    "Situation",
    "StateClaim",
    "Timer",
    "Value",
    "Want",
]


@mypyc_attr(allow_interpreted_subclasses=True)
class Keys(ABC):
    """The signing key of this replica and the verification of everybody's: pure functions.

    Injected, so that the simulator can use cheap ones. `address` is the replica's identity.
    """

    address: Address
    are_cheap: bool = False
    """Whether to verify a signature costs less than to remember that it was verified."""

    @abstractmethod
    def sign(self, digest: Hash) -> bytes:
        """Return the signature over a 32-byte digest (secp256k1: 65 bytes, r, s, parity)."""

    @abstractmethod
    def verify(self, address: Address, digest: Hash, signature: bytes) -> bool:
        """Whether `signature` over `digest` was made by the key of `address`; never raises."""

    def verify_seal(self, header: bytes, nonce: int, target: int) -> bool:
        """Whether the work of this nonce over a header meets the target; needs no key."""
        return compute_seal(header, nonce) <= target


@mypyc_attr(allow_interpreted_subclasses=True)
class Replica(ABC):
    """One member's part of an engine. See the module's rules; `__init__` has no effect.

    `settings` is the engine's own frozen Struct with defaults (timeouts and the like), the last
    argument of every engine's `__init__`; `chain` is the 32-byte domain (hash of the genesis block)
    that every signature covers.
    """

    __slots__ = ("chain", "dropped", "keys", "leader", "me", "out", "rng", "wall_ms")

    WIRE: ClassVar[tuple[type[Message], ...]]
    """The messages of this engine, `Decision` among them."""
    RECORDS: ClassVar[tuple[type[Record], ...]]
    HANDLERS: ClassVar[dict[type[Message], Callable[[Any, Nanoseconds, Address, Any], None]]]
    ECHO: ClassVar[bool] = True
    """Whether this engine needs the copies of its own broadcasts; without, none may come."""
    TAKES_STATE: ClassVar[bool] = False
    """Whether the application may jump to a height instead of executing its way there."""
    OPEN: ClassVar[bool] = False
    """Whether anybody may take part without being a member: blocks form a tree, and may be seen,
    and abandoned, before they are final.
    """

    def __init__(self, keys: Keys, chain: Hash, rng: Rng) -> None:
        self.me, self.keys, self.chain, self.rng = keys.address, keys, chain, rng
        self.out: list[Effect] = []
        self.dropped: dict[str, int] = {}
        self.leader: Address | None = None
        """Who alone proposes at present, as far as is known; None: nobody, or not one alone."""
        self.wall_ms: Milliseconds = 0
        """Unix time at the current input, told to open engines only."""

    def read_journal(
        self, journal: list[bytes], decode: Callable[[bytes], Record], height: Height
    ) -> list[Record]:
        """Return what `start` needs of a journal if the application stands at `height`."""
        return [decode(record) for record in journal]

    @abstractmethod
    def start(self, now: Nanoseconds, base: Base, journal: Iterable[Record]) -> None:
        """Begin from the application's state and the records that survived, oldest first."""

    @abstractmethod
    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        """A timer fell. A timer that was cancelled or replaced never does."""

    @abstractmethod
    def submit(self, now: Nanoseconds, height: Height, payload: bytes) -> None:
        """The answer to `Want(height)`; stale ones are ignored."""

    @abstractmethod
    def checked(
        self, now: Nanoseconds, height: Height, payload: bytes, valid: bool, envelope: Hash = b""
    ) -> None:
        """The answer to `Check`; stale ones are ignored.

        `envelope` is the effect's: one payload may come in several envelopes, over several parents,
        and be acceptable in one of them only.
        """

    @abstractmethod
    def applied(self, now: Nanoseconds, height: Height, members: list[Member]) -> None:
        """The application executed `height`; `members` hold at `height + 2`.

        Open engines: `height` is the last final one, and there are no members.
        """

    def read(self, now: Nanoseconds, number: int) -> None:
        """Ask for a height at which a read is linearizable; answered once, by `Readable(number)`.

        An engine that has no cheaper way than to agree on something refuses: whoever needs such a
        read of it lets an operation be decided and reads after that one.
        """
        self.out.append(Readable(number, -1))

    def find_state_fault(self, claim: StateClaim) -> str:
        """Say why a state cannot be taken over from a peer, or ""."""
        return "this engine takes over no state: what vouches for members who came since is missing"

    def install(self, now: Nanoseconds, base: Base) -> None:
        """The application has jumped to the state after a height, durably, as far as
        `find_state_fault` found nothing: begin anew from there, but for what must never be
        forgotten, such as votes.
        """
        raise Unavailable("this engine takes over no state")

    def hand_over(self, now: Nanoseconds, to: Address | None) -> str:
        """Let another member lead, chosen by the engine if `to` is None; return why not, or "".

        It is an attempt: nothing is lost, and nothing changes, if the other does not take it up.
        """
        return "this engine has no leader that could hand over"

    @abstractmethod
    def get_situation(self, now: Nanoseconds) -> Situation:
        """Describe the state for people; changes nothing."""

    def get_safe_depth(self) -> int:
        """How many blocks must lie above one that is called safe, though it is not final (open
        engines).
        """
        return 0

    def get_target(self) -> Height | None:
        """The height that is being caught up with, as far as the engine itself knows of one."""
        return None

    def met(self, now: Nanoseconds, peer: Address) -> None:
        """A peer has introduced itself (told to open engines, whose peers nobody knows before)."""
        return

    def parted(self, now: Nanoseconds, peer: Address) -> None:
        """The link to a peer is down (told to open engines)."""
        return

    def get_facts(self) -> dict[str, int]:
        """Numbers that only this engine has, for status and metrics."""
        return {}

    def get_alarm(self) -> str:
        """What people have to look at, in one line; empty: nothing."""
        return ""

    def sealed(self, now: Nanoseconds, header: bytes, nonce: int) -> None:
        """The answer to `Seal`; stale ones are ignored."""
        return

    def receive(self, now: Nanoseconds, sender: Address, message: Message) -> None:
        self.HANDLERS[type(message)](self, now, sender, message)

    def get_shown(self, message: Message) -> Height:
        """Return the height that a message shows its sender to have finished and executed; -1 if it
        shows none. Peers who say such messages need not tell it, and whoever hears them knows what
        it lacks.
        """
        return -1

    def drop(self, reason: str) -> None:
        """Count a message that was not acted upon."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def take(self) -> list[Effect]:
        """Return the effects since the last call, in order, and forget them."""
        effects, self.out = self.out, []
        return effects
