"""What a Tendermint replica makes of its journal after a crash.

The journal holds, for each height above the last checkpoint: the proposals it made or voted for,
its votes, the polkas it acted upon, and the decision. Any prefix of it is a state the replica was
in, and whatever others may have seen of it is in that prefix: replayed, it never votes or proposes
differently in a round where it already did. Decisions are delivered again where the application
lags behind.
"""

from abc import abstractmethod
from collections.abc import Iterable

from quorate.base.errors import Corrupt
from quorate.base.types import Hash, Height, Nanoseconds
from quorate.consensus.certificate import (
    NIL,
    PRECOMMIT,
    decode_certificate,
    hash_envelope,
)
from quorate.consensus.replica import Broadcast, Decision, Deliver, Record
from quorate.consensus.tendermint_links import Links
from quorate.consensus.tendermint_types import Decided, Polka, Proposal, Proposed, Vote, Voted


class Recovery(Links):
    """The part of a replica that reads its journal."""

    __slots__ = ("journaled", "opened_at", "tail")

    tail: list[Record]
    """Records of the height under way that survived a crash."""
    journaled: dict[Hash, None]
    """Values whose payload is in the journal."""
    opened_at: Nanoseconds | None

    def replay(self, height: Height, journal: Iterable[Record]) -> None:
        """Deliver the decisions in the journal above `height`, and keep what comes after them."""
        for record in journal:
            found = _get_height(record)
            if found <= height:
                continue
            if found != self.height:
                raise Corrupt(f"journal: a record of height {found}, expected {self.height}")
            if not isinstance(record, Decided):
                self.tail.append(record)
                continue
            envelope = decode_certificate(record.certificate).envelope
            payloads = (
                record.payloads
                or [
                    kept.proposal.payload
                    for kept in self.tail
                    if isinstance(kept, Proposed) and kept.proposal.envelope == envelope
                ][:1]
            )
            if not payloads:
                raise Corrupt(f"journal: height {found} was decided, its payload is missing")
            value = hash_envelope(envelope)
            self.out.append(Deliver(found, payloads, value, record.certificate))
            self.advance_height(value, Decision(found, payloads, record.certificate))
            self.tail.clear()

    def restore(self, now: Nanoseconds) -> None:
        """Go on where the journal ends: never a second vote or proposal in a round."""
        records, self.tail = self.tail, []
        for record in records:
            if isinstance(record, Proposed):
                self.restore_proposal(record.proposal)
            elif isinstance(record, Voted):
                self.restore_vote(record.vote)
            elif isinstance(record, Polka):
                first = record.votes[0]
                state = self.make_round(first.round)
                for vote in record.votes:
                    if not state.prevotes.has(vote.voter, vote.value):
                        state.prevotes.add(vote, self.validators.powers[vote.voter])
                self.valid_value, self.valid_round = first.value, first.round
        current = self.make_round(self.round)
        if self.me in current.precommits.votes:
            self.step = "precommit"
        elif self.me in current.prevotes.votes:
            self.step = "prevote"
        self.awake = True
        self.opened_at = now
        self.stir(now)
        if current.proposal is not None and self.is_proposer():
            self.out.append(Broadcast(current.proposal[1]))
        for votes in (current.prevotes, current.precommits):
            if self.me in votes.votes:
                self.out.append(Broadcast(votes.votes[self.me]))
        self.begin_round(now)

    def restore_proposal(self, proposal: Proposal) -> None:
        value = hash_envelope(proposal.envelope)
        state = self.make_round(proposal.round)
        if state.proposal is None:
            state.proposal = (value, proposal)
        state.proposals[value] = proposal
        self.values[value] = (proposal.envelope, proposal.payload)
        self.verdicts[value] = True
        self.journaled[value] = None
        if self.validators.get_proposer(self.height, proposal.round) == self.me:
            self.round = max(self.round, proposal.round)

    def restore_vote(self, vote: Vote) -> None:
        state = self.make_round(vote.round)
        state.get_votes(vote.kind).add(vote, self.validators.powers[self.me])
        self.round = max(self.round, vote.round)
        if vote.kind == PRECOMMIT and vote.value != NIL:
            self.locked_value, self.locked_round = vote.value, vote.round

    @abstractmethod
    def advance_height(self, value: Hash, decision: Decision) -> None:
        """Leave a decided height."""

    @abstractmethod
    def begin_round(self, now: Nanoseconds) -> None:
        """Go on in the current round."""


def _get_height(record: Record) -> Height:
    if isinstance(record, Proposed):
        return record.proposal.height
    if isinstance(record, Voted):
        return record.vote.height
    if isinstance(record, Polka):
        return record.votes[0].height
    assert isinstance(record, Decided)
    return record.height
