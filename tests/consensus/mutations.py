"""Known bugs of Tendermint implementations, put back one by one (catalogue T1-T5)."""

from quorate.base.types import Hash, Nanoseconds
from quorate.consensus.certificate import NIL, PREVOTE
from quorate.consensus.evidence import Offence, Offences
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import Polka, Proposal, Round, Vote


class NeverUnlock(Tendermint):
    """T1: a lock yields to no polka, however new (L29 without `lockedRound <= vr`)."""

    def consider_proposal(self, value: Hash, proposal: Proposal) -> None:
        if self.locked_round != -1 and self.locked_value != value:
            self.cast(PREVOTE, NIL)
            self.step = "prevote"
            return
        super().consider_proposal(value, proposal)


class UnlockWithoutPolka(Tendermint):
    """T1: a new value is prevoted for in spite of a lock (L23 without the lock)."""

    def consider_proposal(self, value: Hash, proposal: Proposal) -> None:
        kept = self.locked_round, self.locked_value
        self.locked_round, self.locked_value = -1, None
        super().consider_proposal(value, proposal)
        self.locked_round, self.locked_value = kept


class NoPrecommitTimeout(Tendermint):
    """T2: precommits that disagree end no round (no L65-67)."""

    TIMEOUTS = {**Tendermint.TIMEOUTS, "precommit": lambda _self, _now: None}  # noqa: RUF012


class NoValidValue(Tendermint):
    """T3: no validValue: proposers offer something new every time (L15 without its branch)."""

    def consider_polka(self, state: Round) -> None:
        super().consider_polka(state)
        self.valid_value, self.valid_round = None, -1

    def restore(self, now: Nanoseconds) -> None:
        self.tail = [record for record in self.tail if not isinstance(record, Polka)]
        super().restore(now)


class AmnesiaAfterRestart(Tendermint):
    """T4: the lock is not in the journal."""

    def restore(self, now: Nanoseconds) -> None:
        self.tail = [record for record in self.tail if not isinstance(record, Polka)]
        super().restore(now)

    def restore_vote(self, vote: Vote) -> None:
        super().restore_vote(vote)
        self.locked_value, self.locked_round = None, -1


class VoteBeforeWrite(Tendermint):
    """A vote is sent before it is durable."""

    def cast(self, kind: int, value: Hash) -> None:
        at = len(self.out)
        super().cast(kind, value)
        if len(self.out) > at:
            self.out.insert(at, self.out.pop())


class NeverInDoubt(Tendermint):
    """A proposer that restarts proposes again where its first proposal left no record."""

    def is_in_doubt(self) -> bool:
        return False


class SmallQuorum(Tendermint):
    """More than a third is taken for a quorum."""

    def enter_height(self, now: Nanoseconds) -> None:
        super().enter_height(now)
        for state in self.rounds.values():
            weaken(state)

    def make_round(self, round: int) -> Round:
        state = super().make_round(round)
        weaken(state)
        return state


def weaken(state: Round) -> None:
    for votes in (state.prevotes, state.precommits):
        votes.quorum_power = votes.third_power


class Forgetful(Offences):
    """T5: offences are counted again, and never expire."""

    def admit(self, offence: Offence, height: int) -> bool:
        del offence, height
        return True
