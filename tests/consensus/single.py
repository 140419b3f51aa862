"""One replica under test, fed by hand; it is at height 1 of four equal members unless said so."""

from collections.abc import Sequence

from consensus.network import CHAIN, CheapKeys
from quorate.base.rng import Rng
from quorate.base.types import Hash, Member
from quorate.consensus.certificate import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    PROPOSAL,
    Certificate,
    Envelope,
    compute_digest,
    encode_certificate,
    encode_envelope,
    hash_envelope,
)
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.replica import (
    NOTHING,
    Base,
    Broadcast,
    Check,
    Decision,
    Effect,
    Persist,
    Record,
    Want,
)
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import (
    Entered,
    Proposal,
    Proposed,
    Settings,
    Vote,
    Voted,
)
from quorate.crypto.hashes import hash_payload

MS = 1_000_000
PAYLOAD, OTHER = b"payload".ljust(80, b"."), b"another".ljust(80, b".")


class Single:
    """A replica with the keys of all members.

    `turn` says in which round of height 1 the replica proposes (four members: and every fourth).
    """

    def __init__(
        self,
        powers: Sequence[int] = (1, 1, 1, 1),
        *,
        turn: int = 3,
        settings: Settings | None = None,
        kind: type[Tendermint] = Tendermint,
        member: bool = True,
        journal: Sequence[Record] = (),
    ) -> None:
        self.kind, self.settings = kind, settings or Settings()
        keys = sorted((CheapKeys(i) for i in range(len(powers))), key=lambda key: key.address)
        self.members = [Member(k.address, p) for k, p in zip(keys, powers, strict=True)]
        self.set = ValidatorSet(self.members)
        self.keys = {key.address: key for key in keys}
        self.me = CheapKeys(99).address
        if member:
            turns = range(turn, turn + 1000)
            self.me = next(self.set.get_proposer(1, r) for r in turns)
        self.keys.setdefault(self.me, CheapKeys(99))
        self.others = [key.address for key in keys if key.address != self.me]
        self.now = 0
        self.parent = CHAIN
        self.height = 1
        self.boot(journal)

    def boot(self, journal: Sequence[Record] = (), base: Base | None = None) -> None:
        self.replica = self.kind(self.keys[self.me], CHAIN, Rng(1), self.settings)
        start = base or Base(0, CHAIN, b"", [], self.members, self.members)
        self.replica.start(self.now, start, journal)
        self.first = self.take()
        """The effects of the start, but for the mark that a first start writes."""
        if self.first and self.first[0] == Persist(Entered(1, 0, [])):
            del self.first[0]

    # ---- what others say

    def proposer(self, round: int = 0) -> bytes:
        return self.set.get_proposer(self.height, round)

    def envelope(self, payload: bytes = PAYLOAD, round: int = 0) -> Envelope:
        return Envelope(
            "tendermint",
            self.height,
            round,
            self.proposer(round),
            self.parent,
            self.set.hash,
            self.set.hash,
            hash_payload(payload),
        )

    def value(self, payload: bytes = PAYLOAD, round: int = 0) -> Hash:
        return hash_envelope(self.envelope(payload, round))

    def proposal(
        self, payload: bytes = PAYLOAD, round: int = 0, valid_round: int = -1, first: int = -1
    ) -> Proposal:
        """A proposal of `round`; `first` is the round of its envelope if that is another."""
        envelope = self.envelope(payload, round if first < 0 else first)
        digest = compute_digest(
            CHAIN, PROPOSAL, self.height, round, hash_envelope(envelope), valid_round
        )
        signature = self.keys[self.proposer(round)].sign(digest)
        encoded = encode_envelope(envelope)
        return Proposal(self.height, round, valid_round, encoded, payload, signature)

    def vote(self, kind: int, who: bytes, value: Hash = NIL, round: int = 0) -> Vote:
        digest = compute_digest(CHAIN, kind, self.height, round, value)
        signature = self.keys[who].sign(digest)
        return Vote(kind, self.height, round, value, who, signature)

    def decision(self, payload: bytes = PAYLOAD, round: int = 0) -> Decision:
        envelope = self.envelope(payload, round)
        value = hash_envelope(envelope)
        signatures = [
            (who, self.vote(PRECOMMIT, who, value, round).signature) for who in self.set.addresses
        ]
        encoded = encode_certificate(Certificate(envelope, round, signatures))
        return Decision(self.height, [payload], encoded)

    # ---- inputs; each returns the effects

    def take(self) -> list[Effect]:
        return self.replica.take()

    def hear(self, *messages: Proposal | Vote | Decision) -> list[Effect]:
        for m in messages:
            sender = m.voter if isinstance(m, Vote) else self.others[0]
            self.replica.receive(self.now, sender, m)
        return self.take()

    def prevotes(self, value: Hash = NIL, round: int = 0, count: int = 2) -> list[Effect]:
        return self.hear(*(self.vote(PREVOTE, w, value, round) for w in self.others[:count]))

    def precommits(self, value: Hash = NIL, round: int = 0, count: int = 2) -> list[Effect]:
        return self.hear(*(self.vote(PRECOMMIT, w, value, round) for w in self.others[:count]))

    def check(self, payload: bytes = PAYLOAD, valid: bool = True) -> list[Effect]:
        self.replica.checked(self.now, self.height, payload, valid)
        return self.take()

    def submit(self, payload: bytes = NOTHING) -> list[Effect]:
        self.replica.submit(self.now, self.height, payload)
        return self.take()

    def fall(self, kind: str) -> list[Effect]:
        """Let a running timer fall."""
        timer, due = self.replica.timers[kind]
        self.now = due
        self.replica.timeout(self.now, timer)
        return self.take()

    def apply(self, height: int) -> list[Effect]:
        self.replica.applied(self.now, height, self.members)
        return self.take()

    # ---- scenes

    def to_round(self, round: int) -> list[Effect]:
        """Fail rounds by precommits for nil until the replica is in `round`."""
        effects: list[Effect] = []
        while self.replica.round < round:
            effects = self.precommits(NIL, self.replica.round, 3)
        return effects

    def lock(self, payload: bytes = PAYLOAD, round: int = 0) -> Hash:
        """Make the replica lock and precommit a value in the current round."""
        self.hear(self.proposal(payload, round))
        self.check(payload)
        self.prevotes(self.value(payload, round), round)
        assert self.replica.locked_round == round
        return self.value(payload, round)


def votes_of(effects: list[Effect]) -> list[tuple[int, int, Hash]]:
    """(kind, round, value) of the votes that are sent; each must be written just before."""
    found = []
    for before, effect in zip([None, *effects], effects, strict=False):
        if isinstance(effect, Broadcast) and isinstance(effect.message, Vote):
            vote = effect.message
            assert before == Persist(Voted(vote))
            found.append((vote.kind, vote.round, vote.value))
    return found


def proposals_of(effects: list[Effect]) -> list[Proposal]:
    """The proposals that are sent; each must be written just after."""
    found = []
    for effect, after in zip(effects, [*effects[1:], None], strict=False):
        if isinstance(effect, Broadcast) and isinstance(effect.message, Proposal):
            assert after == Persist(Proposed(effect.message))
            found.append(effect.message)
    return found


def wants_of(effects: list[Effect]) -> list[Want]:
    return [effect for effect in effects if isinstance(effect, Want)]


def checks_of(effects: list[Effect]) -> list[Check]:
    return [effect for effect in effects if isinstance(effect, Check)]
