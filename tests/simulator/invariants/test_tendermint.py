"""Each rule is broken once on purpose; what the paper allows raises no alarm."""

import pytest

from quorate.base.types import Hash, Member
from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE, Envelope, encode_envelope
from quorate.consensus.tendermint_types import Proposal, Vote
from quorate.crypto.hashes import keccak256
from quorate.simulator.invariants import TendermintRules

WHO = [bytes([i]) * 20 for i in range(1, 5)]
MEMBERS = [Member(who, 1) for who in WHO]
ENVELOPES = [
    encode_envelope(Envelope("tendermint", 1, 0, WHO[0], *(bytes([i]) * 32 for _ in range(4))))
    for i in (1, 2)
]
V, W = (keccak256(envelope) for envelope in ENVELOPES)


class Court:
    """Rules with what they reported."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.rules = TendermintRules(
            lambda height: MEMBERS if height < 10 else None,
            lambda property, message, who: self.found.append(property),
        )

    def say(self, who: int, kind: int, round: int, value: Hash, *, kept: bool = True) -> None:
        vote = Vote(kind, 1, round, value, WHO[who], bytes(65))
        if kept:
            self.rules.keep(WHO[who], vote)
        self.rules.collect(vote)
        self.rules.judge_vote(vote)

    def polka(self, round: int, value: Hash, *who: int) -> None:
        for voter in who:
            self.say(voter, PREVOTE, round, value)

    def propose(self, who: int, round: int, which: int, valid_round: int) -> None:
        proposal = Proposal(1, round, valid_round, ENVELOPES[which], b"", bytes(65))
        self.rules.judge_proposal(WHO[who], proposal)


@pytest.fixture
def court() -> Court:
    return Court()


def test_round_that_follows_the_rules_is_not_reported(court: Court) -> None:
    court.propose(0, 0, 0, -1)
    court.polka(0, V, 0, 1, 2)
    for who in (0, 1, 2):
        court.say(who, PRECOMMIT, 0, V)
    court.say(3, PREVOTE, 0, NIL)
    court.say(3, PRECOMMIT, 0, NIL)
    assert court.found == []


def test_same_vote_may_be_said_again(court: Court) -> None:
    court.say(0, PREVOTE, 0, V)
    court.say(0, PREVOTE, 0, V)
    assert court.found == []


def test_two_votes_in_a_round(court: Court) -> None:
    court.say(0, PREVOTE, 0, V)
    court.say(0, PREVOTE, 0, NIL)
    assert court.found == ["one vote"]


def test_vote_that_is_not_durable(court: Court) -> None:
    court.say(0, PREVOTE, 0, V, kept=False)
    assert court.found == ["write first"]


def test_precommit_needs_more_than_two_thirds_of_prevotes(court: Court) -> None:
    court.polka(0, V, 0, 1)
    court.say(0, PRECOMMIT, 0, V)
    assert court.found == ["polka"]


def test_polka_of_another_round_does_not_count(court: Court) -> None:
    court.polka(0, V, 0, 1, 2)
    court.say(3, PRECOMMIT, 1, V)
    assert court.found == ["polka"]


def test_member_that_was_away_for_very_long_is_not_judged_by_votes_that_are_forgotten() -> None:
    found: list[str] = []
    rules = TendermintRules(
        lambda height: MEMBERS, lambda property, message, who: found.append(property)
    )

    def say(who: int, kind: int, height: int) -> None:
        vote = Vote(kind, height, 0, V, WHO[who], bytes(65))
        rules.keep(WHO[who], vote)
        rules.judge_vote(vote)

    for height in range(1, 400):
        for who in (0, 1, 2):
            say(who, PREVOTE, height)
    # The votes of that height came to it only now: gate seed 3700946.
    say(3, PREVOTE, 56)
    say(3, PRECOMMIT, 56)
    assert found == []
    say(3, PRECOMMIT, 400)
    assert found == ["polka"]


def test_locked_voter_may_not_change_without_a_polka(court: Court) -> None:
    court.polka(0, V, 0, 1, 2)
    court.say(0, PRECOMMIT, 0, V)
    court.say(0, PREVOTE, 1, W)
    assert court.found == ["lock"]


def test_lock_yields_to_a_later_polka(court: Court) -> None:
    court.polka(0, V, 0, 1, 2)
    court.say(0, PRECOMMIT, 0, V)
    court.polka(1, W, 1, 2, 3)
    court.say(0, PREVOTE, 2, W)
    assert court.found == []


def test_lock_does_not_yield_to_an_earlier_polka(court: Court) -> None:
    court.polka(0, W, 1, 2, 3)
    court.polka(1, V, 0, 1, 2)
    court.say(0, PRECOMMIT, 1, V)
    court.say(0, PREVOTE, 2, W)
    assert court.found == ["lock"]


def test_two_proposals_in_a_round(court: Court) -> None:
    court.propose(0, 0, 0, -1)
    court.propose(0, 0, 1, -1)
    assert court.found == ["one proposal"]


def test_locked_proposer_must_propose_what_is_valid(court: Court) -> None:
    court.polka(0, V, 0, 1, 2)
    court.say(0, PRECOMMIT, 0, V)
    court.propose(0, 4, 1, -1)
    assert court.found == ["valid value"]


def test_valid_round_must_have_had_a_polka(court: Court) -> None:
    court.polka(0, V, 0, 1)
    court.propose(0, 1, 0, 0)
    assert court.found == ["valid value"]


def test_unknown_members_raise_no_alarm(court: Court) -> None:
    vote = Vote(PRECOMMIT, 20, 0, V, WHO[0], bytes(65))
    court.rules.keep(WHO[0], vote)
    court.rules.judge_vote(vote)
    assert court.found == []
