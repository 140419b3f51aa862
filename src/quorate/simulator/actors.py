"""Members that lie, each in its own way, around an otherwise correct node.

An actor stands between a traitor's node and its links: it sees each frame on its way to each peer,
and sends what it likes instead. It may read its own node, and signs with its own key only, so it
can say anything in its own name and nothing in another's.

Every choice is drawn for every frame, whether or not it is used, and zero is the truth.
"""

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from quorate.base.native import mypyc_attr
from quorate.base.types import Address, Hash
from quorate.consensus.certificate import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    PROPOSAL,
    compute_digest,
    decode_envelope,
    encode_envelope,
)
from quorate.consensus.replica import Decision
from quorate.consensus.tendermint_types import Proposal, Vote
from quorate.crypto.hashes import HEAD_BYTES, hash_payload, keccak256
from quorate.ledger.payload import compose, parse_head
from quorate.node.wire import MAX_COUNT, Decisions, GetDecisions, Hello, Tip, Transactions, encode

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine

__all__ = [
    "ACTORS",
    "Actor",
    "Amnesiac",
    "Equivocator",
    "Flooder",
    "InvalidProposer",
    "Moody",
    "Mutator",
    "Replayer",
    "Silent",
    "SyncLiar",
    "Turncoat",
    "Twin",
    "TwoFaced",
    "Withholder",
]

KEPT_FRAMES = 64
"""Old frames that a replayer can say again."""
FAR = 1 << 20


@mypyc_attr(allow_interpreted_subclasses=True)
class Actor:
    """Says the truth, until a subclass twists it."""

    title = "tells the truth"

    def __init__(self, machine: "Machine", shared: dict[Any, Any] | None = None) -> None:
        self.machine, self.world = machine, machine.world
        self.shared: dict[Any, Any] = {} if shared is None else shared
        """What all members of a conspiracy know."""
        stream = machine.world.tape.stream
        self.acts = stream(f"traitor {machine.index} act")
        self.hows = stream(f"traitor {machine.index} how")
        self.act = self.how = 0

    def before_start(self) -> None:
        """The node is about to read its journal."""

    def send(self, peer: Address, frame: bytes) -> None:
        """Take a frame that the node sends to a peer."""
        message = self.world.decode(frame)
        self.act, self.how = self.acts.choose(16), self.hows.choose(1 << 16)
        for twisted in self.twist(peer, message):
            if isinstance(twisted, bytes):
                self.carry(peer, twisted)
                continue
            for hook in self.world.on_message.get(type(twisted), ()):
                hook(self.machine, twisted)
            self.carry(peer, frame if twisted is message else encode(twisted))

    def carry(self, peer: Address, frame: bytes) -> None:
        links = self.machine.routes.get(peer)
        if links is None:
            self.world.network.carry_elsewhere(self.machine, peer, frame)
            return
        for link in links:
            link.carry(frame)

    def twist(self, to: Address, m: Any) -> list[Any]:
        """Return what is sent instead: messages, or bytes as they are."""
        return [m]

    # ---- what liars need

    @property
    def replica(self) -> Any:
        assert self.machine.node is not None
        return self.machine.node.replica

    def is_mine(self, m: Any, kind: type[Any] | None = None) -> bool:
        """Whether this is our own statement (of this kind), and not one that we relay."""
        if isinstance(m, Vote):
            return kind is not Proposal and m.voter == self.machine.address
        if not isinstance(m, Proposal) or kind is Vote:
            return False
        sets = self.replica.sets
        proposer = m.height in sets and sets[m.height].get_proposer(m.height, m.round)
        return bool(proposer == self.machine.address)

    def sign_vote(self, m: Vote, value: Hash | None = None) -> Vote:
        """Return a vote as our own, for another value perhaps."""
        value = m.value if value is None else value
        me, keys = self.machine.address, self.machine.keys
        digest = compute_digest(self.world.chain, m.kind, m.height, m.round, value)
        return replace(m, value=value, voter=me, signature=keys.sign(digest))

    def sign_proposal(self, m: Proposal) -> Proposal:
        value = keccak256(m.envelope)
        digest = compute_digest(self.world.chain, PROPOSAL, m.height, m.round, value, m.valid_round)
        return replace(m, signature=self.machine.keys.sign(digest))

    def with_payload(self, m: Proposal, payload: bytes) -> Proposal:
        """Return the proposal of another payload, where we may still choose."""
        if m.valid_round != -1:
            return m
        opened = replace(decode_envelope(m.envelope), payload=hash_payload(payload))
        return self.sign_proposal(replace(m, envelope=encode_envelope(opened), payload=payload))

    def make_other(self, m: Proposal) -> Proposal:
        """Return another proposal that is as good."""
        parent, time, proposer = parse_head(m.payload)
        payload = compose(parent, time + 1, proposer, m.payload[HEAD_BYTES:])
        return self.with_payload(m, payload)

    def choose_value(self, m: Vote) -> Hash:
        """Return something to vote for: a value that is known, or nil."""
        known = [NIL, *self.replica.values] if m.height == self.replica.height else [NIL]
        return bytes(known[self.how % len(known)])


class Silent(Actor):
    """Hears everything and says nothing."""

    title = "is silent"

    def twist(self, to: Address, m: Any) -> list[Any]:
        return []


@mypyc_attr(allow_interpreted_subclasses=True)
class Equivocator(Actor):
    """Says different things to different members, sometimes both to one."""

    title = "equivocates"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not self.act or not self.is_mine(m):
            return [m]
        if isinstance(m, Proposal):
            other: Any = self.make_other(m)
        else:
            other = self.sign_vote(m, self.choose_value(m))
        if self.act >= 14:
            return [m, other]
        return [other] if self.act % 2 else [m]


class Turncoat(Equivocator):
    """Helps different members to different locks, and falls silent where it succeeds.

    It sees all of the world, as the adversary of the literature does. With two honest members
    locked on different values and one member silent, all others must agree, so every lock has to
    yield to a later polka.
    """

    title = "helps and falls silent"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not isinstance(m, Proposal | Vote | Decision):
            return [m]
        replica = self.replica
        if self.world.healed or self.are_locks_split(replica.height):
            return []
        if self.act:
            # It takes any new value that comes.
            replica.locked_round, replica.locked_value = -1, None
            replica.valid_round, replica.valid_value = -1, None
            if isinstance(m, Vote) and self.is_mine(m) and m.kind == PRECOMMIT:
                # It helps to lock, and not to decide.
                return [self.sign_vote(m, NIL)]
        return super().twist(to, m)

    def are_locks_split(self, height: int) -> bool:
        """Whether honest members are locked on different values."""
        locks: dict[Hash, None] = {}
        for machine in self.world.machines:
            if machine.node is not None and machine.is_honest:
                replica: Any = machine.node.replica
                if replica.height == height and replica.locked_value is not None:
                    locks[replica.locked_value] = None
        if len(locks) > 1:
            self.world.witness("locks split")
        return len(locks) > 1


class Withholder(Actor):
    """Tells each thing to some members only."""

    title = "withholds"

    def twist(self, to: Address, m: Any) -> list[Any]:
        return [] if self.act % 2 and isinstance(m, Proposal | Vote) else [m]


class TwoFaced(Actor):
    """Several of these, in one conspiracy, show one world to every other member."""

    title = "is two-faced"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not self.is_mine(m):
            return [m]
        if isinstance(m, Proposal):
            shown = self.make_other(m) if self.act % 2 else m
            self.shared[to, m.height, m.round] = keccak256(shown.envelope)
            return [shown]
        value = self.shared.get((to, m.height, m.round))
        if value is None:
            return [m]
        return [self.sign_vote(replace(m, kind=k), value) for k in (PREVOTE, PRECOMMIT)]


class InvalidProposer(Actor):
    """Proposes what the application refuses, or what no engine could decide."""

    title = "proposes what is invalid"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not self.act or not isinstance(m, Proposal) or not self.is_mine(m):
            return [m]
        if self.act < 8:
            return [self.with_payload(m, self.spoil_payload(m.payload))]
        if self.act == 8 and m.round:
            # A polka that never was.
            return [self.sign_proposal(replace(m, valid_round=self.how % m.round))]
        if self.act == 9:
            return [replace(m, payload=m.payload + b"x")]
        return [self.spoil_envelope(m)]

    def spoil_payload(self, payload: bytes) -> bytes:
        parent, time, proposer = parse_head(payload)
        body = payload[HEAD_BYTES:]
        kind = self.how % 6
        if kind == 0:
            return compose(parent, 0, proposer, body)
        if kind == 1:
            return compose(parent, time + 3_600_000, proposer, body)
        if kind == 2:
            return compose(keccak256(parent), time, proposer, body)
        if kind == 3:
            return payload + b"\xc1"
        if kind == 4:
            return payload[: self.how % len(payload)]
        return b"\xff" + payload[1:]

    def spoil_envelope(self, m: Proposal) -> Proposal:
        opened = decode_envelope(m.envelope)
        names = ("height", "round", "proposer", "parent", "members", "next_members", "engine")
        name = names[self.how % len(names)]
        value = getattr(opened, name)
        if isinstance(value, int):
            value += 1
        elif isinstance(value, bytes):
            value = value[::-1]
        else:
            value = "other"
        spoiled = replace(opened, **{name: value})
        return self.sign_proposal(replace(m, envelope=encode_envelope(spoiled)))


class Amnesiac(Actor):
    """Forgets its lock, precommits whatever was proposed, and restarts with an empty journal."""

    title = "forgets"

    def before_start(self) -> None:
        for name in self.machine.disk.names():
            self.machine.disk.remove(name)

    def twist(self, to: Address, m: Any) -> list[Any]:
        replica = self.replica
        if self.act:
            replica.locked_round, replica.locked_value = -1, None
        if self.act % 2 and isinstance(m, Vote) and self.is_mine(m) and m.kind == PRECOMMIT:
            state = replica.rounds.get(m.round)
            if state is not None and state.proposal is not None and m.height == replica.height:
                return [self.sign_vote(m, state.proposal[0])]
        return [m]


class Flooder(Actor):
    """Adds far rounds and heights, strangers, forgeries and garbage to what it says."""

    title = "floods"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if self.act == 15 and self.how < 1 << 12:
            return [m, self.how.to_bytes(4, "big") * (1 + self.how % 50)]
        if self.act == 14:
            return [m, Transactions([b"flood %d" % (self.how % 256)], bool(self.how % 2))]
        if not self.act or not isinstance(m, Vote):
            return [m]
        far = replace(m, round=m.round + 1 + self.how * 16)
        late = replace(m, height=m.height + self.how * 16)
        return [
            m,
            self.sign_vote(far),
            self.sign_vote(late),
            self.sign_vote(replace(m, round=m.round + 1)),
            replace(m, voter=bytes(20)),
            replace(m, value=self.choose_value(m)),
            replace(m, signature=bytes(65)),
        ]


@mypyc_attr(allow_interpreted_subclasses=True)
class Replayer(Actor):
    """Says old things again, its own and those of others that its node holds."""

    title = "replays"

    def __init__(self, machine: "Machine", shared: dict[Any, Any] | None = None) -> None:
        super().__init__(machine, shared)
        self.kept: list[Any] = []

    def twist(self, to: Address, m: Any) -> list[Any]:
        said = [m]
        if self.act % 4 == 3 and self.kept:
            said.append(self.kept[self.how % len(self.kept)])
        if self.act % 8 == 5:
            votes = [
                vote
                for state in self.replica.rounds.values()
                for votes in (state.prevotes, state.precommits)
                for vote in votes.votes.values()
            ]
            said += votes[self.how % 16 :][:4]
        self.kept.append(m)
        del self.kept[:-KEPT_FRAMES]
        return said


class SyncLiar(Actor):
    """Boasts of heights, answers requests with wrong decisions, and asks without end."""

    title = "lies in sync"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not self.act:
            return [m]
        if isinstance(m, Tip | Hello):
            boast = replace(m, height=(m.height + 1 + self.how) << (self.act % 4) * 10)
            asked: list[Any] = [GetDecisions(1 + self.how % (m.height + 1), MAX_COUNT)]
            return [boast, *asked * (self.act % 3)] if isinstance(m, Tip) else [boast]
        if isinstance(m, Decisions):
            return [self.spoil_decisions(m)]
        if isinstance(m, Decision):
            return [self.spoil_decision(m)]
        return [m]

    def spoil_decisions(self, m: Decisions) -> Decisions:
        decisions = list(m.decisions)
        if self.act < 4 or not decisions:
            return replace(m, decisions=[])
        at = self.how % len(decisions)
        if self.act < 6:
            return replace(m, decisions=decisions[at:])
        if self.act < 8:
            return replace(m, decisions=decisions[::-1])
        if self.act == 8:
            return replace(m, decisions=decisions * 2)
        decisions[at] = self.spoil_decision(decisions[at])
        return replace(m, decisions=decisions)

    def spoil_decision(self, m: Decision) -> Decision:
        data = bytearray(m.certificate)
        kind = self.how % 5
        if kind == 0 and data:
            data[self.how % len(data)] ^= 1 << self.act % 8
        elif kind == 1:
            del data[len(data) // 2 :]
        elif kind == 2:
            return replace(m, payloads=[payload + b"x" for payload in m.payloads])
        elif kind == 3:
            return replace(m, payloads=m.payloads * 2)
        else:
            return replace(m, height=m.height + 1)
        return replace(m, certificate=bytes(data))


class Mutator(Actor):
    """Changes one field a little, and signs what is its own (small scope, ByzzFuzz)."""

    title = "mutates"

    def twist(self, to: Address, m: Any) -> list[Any]:
        if self.act < 8 or not isinstance(m, Proposal | Vote):
            return [m]
        step = 1 if self.act % 2 else -1
        names = ("height", "round", "value", "kind", "valid_round", "voter")
        name = names[self.how % len(names)]
        if name not in m.__struct_fields__:
            return [m]
        changed: Any
        if name == "value":
            assert isinstance(m, Vote)
            changed = replace(m, value=self.choose_value(m))
        elif name == "kind":
            assert isinstance(m, Vote)
            changed = replace(m, kind=PREVOTE + PRECOMMIT - m.kind)
        elif name == "voter":
            # Somebody else's name under our signature.
            changed = replace(m, voter=to)
            return [changed]
        else:
            least = -1 if name == "valid_round" else 0
            changed = replace(m, **{name: max(getattr(m, name) + step, least)})
        if not self.is_mine(m):
            return [changed]
        return [self.sign_vote(changed) if isinstance(m, Vote) else self.sign_proposal(changed)]


class Moody(Actor):
    """Takes on another of these characters at each height."""

    title = "changes its ways"

    def __init__(self, machine: "Machine", shared: dict[Any, Any] | None = None) -> None:
        super().__init__(machine, shared)
        self.moods = machine.world.tape.stream(f"traitor {machine.index} mood")
        kinds: list[type[Actor]] = [Actor, *ACTORS[:-1]]
        self.characters = [kind(machine, self.shared) for kind in kinds]
        self.mood, self.height = self.characters[0], 0

    def twist(self, to: Address, m: Any) -> list[Any]:
        height = self.replica.height
        if height != self.height:
            self.height = height
            self.mood = self.characters[self.moods.choose(len(self.characters))]
        self.mood.act, self.mood.how = self.act, self.how
        return self.mood.twist(to, m)


class Twin(Actor):
    """One of two machines of one identity, each correct by itself (Twins, OPODIS 2021)."""

    title = "is a twin"


ACTORS: tuple[type[Actor], ...] = (
    Silent,
    Equivocator,
    Turncoat,
    Withholder,
    TwoFaced,
    InvalidProposer,
    Amnesiac,
    Flooder,
    Replayer,
    SyncLiar,
    Mutator,
    Moody,
)
