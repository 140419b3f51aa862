"""The life of a height: entering it when the application is there, leaving it, and crashes.

The journal holds, for each height above the last checkpoint: the proposals a replica made or voted
for, its votes, the polkas it acted upon, and the decision. Any prefix of it is a state the replica
was in, and whatever others may have seen of it is in that prefix: replayed, it never votes or
proposes differently in a round where it already did. Decisions are delivered again where the
application lags behind.
"""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable

from quorate.base.errors import Corrupt
from quorate.base.native import mypyc_attr
from quorate.base.types import MILLISECOND, Hash, Height, Member, Nanoseconds
from quorate.consensus.certificate import (
    NIL,
    PRECOMMIT,
    decode_certificate,
    decode_envelope,
    encode_envelope,
)
from quorate.consensus.replica import (
    Base,
    Broadcast,
    Checkpoint,
    Decision,
    Deliver,
    Persist,
    Record,
)
from quorate.consensus.tendermint_links import Links
from quorate.consensus.tendermint_rounds import Round
from quorate.consensus.tendermint_types import (
    Decided,
    Entered,
    Polka,
    Proposal,
    Proposed,
    Vote,
    Voted,
)
from quorate.crypto.hashes import keccak256


@mypyc_attr(allow_interpreted_subclasses=True)
class Heights(Links):
    """The part of a replica that goes from height to height."""

    __slots__ = (
        "bytes_since_checkpoint",
        "doubts",
        "heights_since_checkpoint",
        "journaled",
        "opened_at",
        "owed",
        "tail",
    )

    tail: list[Record]
    """Records of the height under way that survived a crash."""
    journaled: dict[Hash, None]
    """Values whose payload is in the journal."""
    owed: Record | None
    """The last decision, while it is not journaled: it goes before any record of later heights."""
    doubts: dict[tuple[Height, int], None]
    """Rounds in which this replica may have proposed before it restarted."""
    opened_at: Nanoseconds | None
    """When the last height began, once its time had come."""
    heights_since_checkpoint: int
    bytes_since_checkpoint: int

    def read_journal(
        self, journal: list[bytes], decode: Callable[[bytes], Record], height: Height
    ) -> list[Record]:
        """Records lie in the order of their heights, and what was decided and executed is over."""
        first = bisect_right(journal, height, key=lambda record: _get_height(decode(record)))
        return [decode(record) for record in journal[first:]]

    def start(self, now: Nanoseconds, base: Base, journal: Iterable[Record]) -> None:
        self.height = base.height + 1
        self.parent = base.envelope
        if base.certificate:
            self.last = Decision(base.height, base.payloads, base.certificate)
        self.know_members(self.height, base.members)
        self.know_members(self.height + 1, base.next_members)
        self.validators = self.sets[self.height]
        records = list(journal)
        self.replay(base.height, records)
        if base.height or records:
            self.doubts = {(self.height, 0): None, (self.height + 1, 0): None}
        else:
            # Whoever finds this record, or anything else, knows that it is not the first start.
            self.persist(Entered(1, 0, []))
        if self.height == base.height + 1:
            self.enter_height(now)

    def applied(self, now: Nanoseconds, height: Height, members: list[Member]) -> None:
        if height + 2 >= self.height and height + 2 not in self.sets:
            self.know_members(height + 2, members)
        if self.entered:
            return
        if height == self.height - 1:
            self.enter_height(now)
        elif self.height in self.sets:
            self.release_decision(now)

    def forget_height(self) -> None:
        """Reset what belongs to one height (L6-9, L53)."""
        self.round = 0
        self.step = "propose"
        self.rounds = {}
        self.values = {}
        self.verdicts = {}
        self.pending = []
        self.journaled = {}
        self.locked_value, self.locked_round = None, -1
        self.valid_value, self.valid_round = None, -1
        self.awake = self.stirred = self.moved = False
        self.highest = {}
        self.offered = {}

    def advance_height(self, value: Hash, decision: Decision) -> None:
        """Leave a decided height (L51-53)."""
        self.last = decision
        self.parent = value
        self.sets.pop(self.height, None)
        self.height += 1
        self.entered = False
        self.tail = []
        self.heights_since_checkpoint += 1
        self.bytes_since_checkpoint += sum(len(payload) for payload in decision.payloads)

    def enter_height(self, now: Nanoseconds) -> None:
        """Begin the next height; the application has executed the last one (L54)."""
        validators = self.sets[self.height]
        if validators is not self.validators:
            self.validators = validators
            self.suspects = {who: None for who in self.suspects if who in validators.powers}
        self.forget_height()
        self.entered = True
        self.rounds[0] = Round(validators.total)
        settings = self.settings
        if not self.tail and (
            self.heights_since_checkpoint >= settings.checkpoint_heights
            or self.bytes_since_checkpoint >= settings.checkpoint_bytes
        ):
            self.heights_since_checkpoint = self.bytes_since_checkpoint = 0
            self.journal_owed()
            self.out.append(Checkpoint(self.height - 1, []))
        interval_ns = max(settings.block_time_ms, settings.min_interval_ms) * MILLISECOND
        if self.tail:
            self.restore(now)
        elif interval_ns and self.opened_at is not None and now < self.opened_at + interval_ns:
            self.set_timer(now, "pace", self.opened_at + interval_ns - now)
        else:
            self.open_height(now)
        self.release_held(now)

    def persist(self, record: Record) -> None:
        """Write a record, behind the decision that is owed."""
        if self.owed is not None:
            self.journal_owed()
        self.out.append(Persist(record))

    def journal_owed(self) -> None:
        """Write down the last decision."""
        if self.owed is not None:
            self.out.append(Persist(self.owed))
            self.owed = None

    def is_in_doubt(self) -> bool:
        """Whether this replica may have proposed in this round before it crashed.

        What it sends for a height is visible only once the decision two heights below is durable,
        and what it sends for a later round once its entry is. A proposal that left no record was
        thus made at the height of the restart, in the round in which the journal ends, or in the
        first round of the next height.
        """
        return (self.height, self.round) in self.doubts

    def open_height(self, now: Nanoseconds) -> None:
        """Ask for something to agree on (L10: StartRound(0)); with a block time, it is due."""
        self.opened_at = now
        if self.settings.block_time_ms:
            self.awake = True
            self.stir(now)
        self.begin_round(now)

    def replay(self, height: Height, journal: Iterable[Record]) -> None:
        """Deliver the decisions in the journal above `height`, and keep what comes after them."""
        for record in journal:
            found = _get_height(record)
            if found <= height:
                continue
            if found != self.height:
                raise Corrupt(f"journal: a record of height {found}, expected {self.height}")
            if not isinstance(record, Decided):
                if not isinstance(record, Entered) or record.round:
                    self.tail.append(record)
                continue
            envelope = encode_envelope(decode_certificate(record.certificate).envelope)
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
            value = keccak256(envelope)
            self.out.append(Deliver(found, payloads, value, record.certificate))
            self.advance_height(value, Decision(found, payloads, record.certificate))

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
                self.restore_votes(record.votes)
                self.valid_value, self.valid_round = first.value, first.round
            elif isinstance(record, Entered):
                self.round = max(self.round, record.round)
                self.restore_votes(record.votes)
        self.doubts[self.height, self.round] = None
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
        # Whoever restarts has missed things: it asks in its first status interval.
        self.moved = False

    def restore_proposal(self, proposal: Proposal) -> None:
        value = keccak256(proposal.envelope)
        state = self.make_round(proposal.round)
        if state.proposal is None:
            state.proposal = (value, proposal)
        state.proposals[value] = proposal
        self.values[value] = (decode_envelope(proposal.envelope), proposal.payload)
        self.verdicts[value] = True
        self.journaled[value] = None
        if self.validators.get_proposer(self.height, proposal.round) == self.me:
            self.round = max(self.round, proposal.round)

    def restore_votes(self, votes: list[Vote]) -> None:
        """Take up votes of others, and our own, that justified what we did."""
        for vote in votes:
            known = self.make_round(vote.round).get_votes(vote.kind)
            if not known.has(vote.voter, vote.value):
                known.add(vote, self.validators.powers[vote.voter])

    def restore_vote(self, vote: Vote) -> None:
        self.restore_votes([vote])
        self.round = max(self.round, vote.round)
        if vote.kind == PRECOMMIT and vote.value != NIL:
            self.locked_value, self.locked_round = vote.value, vote.round

    def journal_value(self, value: Hash) -> None:
        """Make the payload of a value durable, once."""
        if value in self.journaled:
            return
        for state in self.rounds.values():
            proposal = state.proposals.get(value)
            if proposal is not None:
                self.journaled[value] = None
                self.persist(Proposed(proposal))
                return

    @abstractmethod
    def begin_round(self, now: Nanoseconds) -> None:
        """Go on in the current round."""


def _get_height(record: Record) -> Height:
    # By type, since to ask whether a value is an instance of another one's class takes ten times
    # as long.
    if type(record) is Voted:
        return record.vote.height
    if type(record) is Proposed:
        return record.proposal.height
    if type(record) is Polka:
        return record.votes[0].height
    if type(record) is Decided:
        return record.height
    assert type(record) is Entered
    return record.height
