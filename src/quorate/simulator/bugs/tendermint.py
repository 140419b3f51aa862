"""Known bugs of Tendermint implementations (catalogue T1-T5), and a few of our own making."""

from quorate.base.types import Hash, Nanoseconds
from quorate.consensus.certificate import NIL, PREVOTE
from quorate.consensus.evidence import Offence, Offences
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_rounds import Round
from quorate.consensus.tendermint_types import Polka, Proposal, Vote
from quorate.simulator.bugs import Bug, register, replace_replica


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

    def on_timeout_precommit(self, now: Nanoseconds) -> None:
        """Nothing follows."""


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


class CountedAgain(Tendermint):
    """T5: a replica that accuses somebody of the same offence again and again."""

    def forget_height(self) -> None:
        super().forget_height()
        if not isinstance(self.offences, Forgetful):
            self.offences = Forgetful()


register(
    Bug(
        "t1-never-unlock",
        "a lock yields to no polka, however new",
        "Cachin, Vukolic 2017; tendermint issues 1047, 9251",
        "progress",
        replace_replica(NeverUnlock),
        "tendermint",
    ),
    Bug(
        "t1-unlock-without-polka",
        "a new value is prevoted for in spite of a lock",
        "Cachin, Vukolic 2017",
        "lock",
        replace_replica(UnlockWithoutPolka),
        "tendermint",
    ),
    Bug(
        "t2-no-precommit-timeout",
        "precommits that disagree end no round",
        "tendermint issue 7900",
        "progress",
        replace_replica(NoPrecommitTimeout),
        "tendermint",
    ),
    Bug(
        "t3-no-valid-value",
        "proposers offer something new every time, whatever has a polka",
        "malachite issue 956; IBFT issue 305",
        "valid value",
        replace_replica(NoValidValue),
        "tendermint",
    ),
    Bug(
        "t4-amnesia",
        "the lock is not in the journal",
        "CometBFT accountability specification, scenarios 3 and 4",
        "lock",
        replace_replica(AmnesiaAfterRestart),
        "tendermint",
    ),
    Bug(
        "t5-counted-again",
        "evidence of one offence is counted again, and never expires",
        "catalogue T5",
        "one accusation",
        replace_replica(CountedAgain),
        "tendermint",
    ),
    Bug(
        "vote-before-write",
        "a vote is sent before it is durable",
        "contract of an engine, rule 2",
        "one vote",
        replace_replica(VoteBeforeWrite),
        "tendermint",
    ),
    Bug(
        "never-in-doubt",
        "a proposer that restarts proposes again where its first proposal left no record",
        "found by seeds",
        "one proposal",
        replace_replica(NeverInDoubt),
        "tendermint",
    ),
    Bug(
        "small-quorum",
        "more than a third is taken for a quorum",
        "the canary of every campaign",
        "agreement",
        replace_replica(SmallQuorum),
        "tendermint",
    ),
)
