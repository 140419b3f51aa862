"""Algorithm 1 of arXiv 1807.04938, line by line: one input, the effects it must have."""

import pytest

from consensus.network import CHAIN
from consensus.single import (
    MS,
    OTHER,
    PAYLOAD,
    Single,
    checks_of,
    proposals_of,
    votes_of,
    wants_of,
)
from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE
from quorate.consensus.replica import (
    NOTHING,
    Broadcast,
    CancelTimer,
    Check,
    Deliver,
    Persist,
    SetTimer,
    Timer,
    Want,
)
from quorate.consensus.tendermint_types import (
    Decided,
    Entered,
    Polka,
    Proposed,
    Settings,
    Vote,
    Voted,
)


def test_l10_start_asks_for_work_and_nothing_else() -> None:
    assert Single(turn=3).first == [Want(1, CHAIN, build=False)]
    assert Single(turn=0).first == [Want(1, CHAIN, build=True)]


def test_l14_l19_proposer_sends_while_it_writes_then_prevotes() -> None:
    one = Single(turn=0)
    one.take()
    effects = one.submit(PAYLOAD)
    proposal = one.proposal()
    vote = one.vote(PREVOTE, one.me, one.value())
    assert effects == [
        Broadcast(proposal),
        Persist(Proposed(proposal)),
        SetTimer(Timer("status"), 250 * MS),
        SetTimer(Timer("propose", 1, 0), 1000 * MS),
        Persist(Voted(vote)),
        Broadcast(vote),
        CancelTimer(Timer("propose", 1, 0)),
    ]


def test_l15_l16_proposer_of_later_round_proposes_its_valid_value_again() -> None:
    one = Single(turn=1)
    value = one.lock()
    one.take()
    effects = one.to_round(1)
    (proposal,) = proposals_of(effects)
    assert (proposal.round, proposal.valid_round) == (1, 0)
    assert proposal.envelope == one.proposal().envelope
    # Others may lack the polka that the proposal refers to, so it comes along.
    shown = [
        effect
        for effect in effects
        if isinstance(effect, Broadcast)
        and isinstance(effect.message, Vote)
        and effect.message.round == 0
    ]
    assert [(e.message.kind, e.message.value) for e in shown] == [(PREVOTE, value)] * 3
    # It is known here, so the replica prevotes at once (L28-30).
    own = [effect for effect in effects if effect not in shown]
    assert votes_of(own) == [(PREVOTE, 1, value)]


def test_l18_proposer_of_later_round_insists_on_a_payload() -> None:
    one = Single(turn=1)
    one.take()
    assert wants_of(one.to_round(1)) == [Want(1, CHAIN, build=True, force=True)]


def test_l21_work_starts_the_propose_timeout() -> None:
    one = Single(turn=3)
    one.take()
    assert one.submit(NOTHING) == [
        SetTimer(Timer("status"), 250 * MS),
        SetTimer(Timer("propose", 1, 0), 1000 * MS),
    ]


def test_l22_prevote_waits_for_the_application() -> None:
    one = Single()
    effects = one.hear(one.proposal())
    assert checks_of(effects) == [Check(1, PAYLOAD)]
    assert votes_of(effects) == []
    vote = one.vote(PREVOTE, one.me, one.value())
    # L24: the payload is durable before anybody sees the vote.
    assert one.check() == [
        Persist(Proposed(one.proposal())),
        Persist(Voted(vote)),
        Broadcast(vote),
        CancelTimer(Timer("propose", 1, 0)),
    ]


def test_l22_only_the_proposer_of_the_round_is_heard() -> None:
    one = Single()
    one.take()
    forged = one.proposal()
    signature = one.vote(PREVOTE, one.others[0], one.value()).signature
    wrong = type(forged)(1, 0, -1, forged.envelope, PAYLOAD, signature)
    assert one.hear(wrong) == []
    assert one.replica.dropped == {"signature": 1}


def test_l26_invalid_value_gets_nil() -> None:
    one = Single()
    one.hear(one.proposal())
    assert votes_of(one.check(valid=False)) == [(PREVOTE, 0, NIL)]


def test_l23_l26_locked_replica_prevotes_nil_for_another_value() -> None:
    one = Single()
    one.lock()
    one.to_round(1)
    effects = one.hear(one.proposal(OTHER, 1))
    assert votes_of(effects) == [(PREVOTE, 1, NIL)]


def test_l23_locked_replica_prevotes_for_its_lock_proposed_anew() -> None:
    one = Single()
    value = one.lock()
    one.to_round(1)
    # The proposer knows of no polka, yet proposes the very value: not possible with an envelope of
    # its own, so the same payload in a new envelope is another value.
    assert one.value(PAYLOAD, 1) != value
    assert votes_of(one.hear(one.proposal(PAYLOAD, 1))) == [(PREVOTE, 1, NIL)]


def test_l28_proposal_with_valid_round_waits_for_its_polka() -> None:
    one = Single(turn=2)
    one.to_round(1)
    again = one.proposal(PAYLOAD, 1, valid_round=0, first=0)
    assert votes_of(one.hear(again)) == []
    assert votes_of(one.prevotes(one.value(), 0, 2)) == []
    assert votes_of(one.prevotes(one.value(), 0, 3)) == [(PREVOTE, 1, one.value())]


def test_l29_lock_yields_to_a_polka_of_its_own_round_or_later() -> None:
    one = Single(turn=3)
    one.lock(PAYLOAD)
    one.to_round(1)
    other = one.value(OTHER, 1)
    # Others prevoted for another value in round 1, which this replica had prevoted nil for.
    one.hear(one.proposal(OTHER, 1))
    one.prevotes(other, 1, 3)
    assert one.replica.valid_value == other
    one.to_round(2)
    again = one.proposal(OTHER, 2, valid_round=1, first=1)
    assert votes_of(one.hear(again)) == [(PREVOTE, 2, other)]


def test_l29_l32_lock_does_not_yield_to_an_older_polka() -> None:
    one = Single(turn=4)
    one.to_round(1)
    value = one.lock(PAYLOAD, 1)
    one.to_round(2)
    assert value != one.value(OTHER, 0)
    one.prevotes(one.value(OTHER, 0), 0, 3)
    again = one.proposal(OTHER, 2, valid_round=0, first=0)
    assert votes_of(one.hear(again)) == [(PREVOTE, 2, NIL)]


@pytest.mark.parametrize("valid_round", [1, 5])
def test_l28_valid_round_lies_below_the_round(valid_round: int) -> None:
    one = Single()
    one.to_round(1)
    assert one.hear(one.proposal(PAYLOAD, 1, valid_round=valid_round, first=0)) == []
    assert one.replica.dropped["proposal"] == 1


def test_l34_mixed_prevotes_start_one_prevote_timeout() -> None:
    one = Single()
    one.hear(one.proposal())
    one.check()
    effects = one.hear(
        one.vote(PREVOTE, one.others[0], NIL), one.vote(PREVOTE, one.others[1], one.value())
    )
    assert effects == [SetTimer(Timer("prevote", 1, 0), 300 * MS)]
    # A third opinion neither makes a polka nor another timeout.
    assert one.hear(one.vote(PREVOTE, one.others[2], one.value(OTHER))) == []


def test_l36_l43_polka_locks_and_precommits() -> None:
    one = Single()
    one.hear(one.proposal())
    one.check()
    effects = one.prevotes(one.value())
    vote = one.vote(PRECOMMIT, one.me, one.value())
    voters = sorted([one.me, *one.others[:2]])
    assert effects == [
        Persist(Polka([one.vote(PREVOTE, who, one.value()) for who in voters])),
        Persist(Voted(vote)),
        Broadcast(vote),
    ]
    replica = one.replica
    assert (replica.locked_value, replica.locked_round) == (one.value(), 0)
    assert (replica.valid_value, replica.valid_round) == (one.value(), 0)


def test_l36_polka_after_the_precommit_makes_valid_but_not_locked() -> None:
    one = Single()
    one.submit()
    one.fall("propose")
    one.prevotes(NIL)
    one.hear(one.proposal())
    one.take()
    effects = one.prevotes(one.value(), 0, 3)
    # Two of the voters said nil before: a polka of them and the third takes conflicting votes.
    assert votes_of(effects) == []
    assert one.replica.locked_round == -1
    assert one.replica.valid_round == -1
    late = Single()
    late.hear(late.proposal())
    late.check(valid=False)
    late.hear(late.vote(PREVOTE, late.others[0], late.value()))
    late.hear(late.vote(PREVOTE, late.others[1], late.value()))
    late.fall("prevote")
    assert late.replica.step == "precommit"
    effects = late.hear(late.vote(PREVOTE, late.others[2], late.value()))
    assert votes_of(effects) == []
    assert late.replica.locked_round == -1
    assert late.replica.valid_value == late.value()


def test_l36_polka_needs_no_own_verdict() -> None:
    one = Single()
    one.hear(one.proposal())
    one.check(valid=False)
    assert votes_of(one.prevotes(one.value(), 0, 3)) == [(PRECOMMIT, 0, one.value())]


def test_l36_not_while_proposing() -> None:
    one = Single()
    one.hear(one.proposal())
    assert votes_of(one.prevotes(one.value(), 0, 3)) == []
    effects = one.check()
    assert votes_of(effects) == [(PREVOTE, 0, one.value()), (PRECOMMIT, 0, one.value())]


def test_l44_nil_polka_precommits_nil() -> None:
    one = Single()
    one.submit()
    one.fall("propose")
    assert votes_of(one.prevotes(NIL)) == [(PRECOMMIT, 0, NIL)]


def test_l47_mixed_precommits_start_one_precommit_timeout() -> None:
    one = Single()
    one.lock()
    one.take()
    effects = one.hear(
        one.vote(PRECOMMIT, one.others[0], NIL), one.vote(PRECOMMIT, one.others[1], NIL)
    )
    assert effects == [SetTimer(Timer("precommit", 1, 0), 300 * MS)]


def test_l47_quorum_of_nil_precommits_starts_the_next_round_at_once() -> None:
    one = Single(turn=3)
    one.submit()
    effects = one.precommits(NIL, 0, 3)
    assert one.replica.round == 1
    votes = [one.vote(PRECOMMIT, who, NIL) for who in one.others]
    assert effects == [
        CancelTimer(Timer("propose", 1, 0)),
        Persist(Entered(1, 1, votes)),
        SetTimer(Timer("propose", 1, 1), 1500 * MS),
    ]


def test_l49_l54_quorum_of_precommits_decides() -> None:
    one = Single()
    value = one.lock()
    (deliver,) = one.precommits(value)
    assert isinstance(deliver, Deliver)
    assert (deliver.height, deliver.payloads, deliver.envelope) == (1, [PAYLOAD], value)
    assert one.replica.height == 2
    one.height, one.parent = 2, value
    assert one.apply(1) == [Want(2, value, build=one.proposer() == one.me)]
    # The payload is in the journal already; the decision goes there with the next record.
    one.submit()
    assert one.fall("propose")[0] == Persist(Decided(1, [], deliver.certificate))


def test_l49_any_round_decides() -> None:
    one = Single(turn=3)
    one.hear(one.proposal())
    one.hear(*(one.vote(PREVOTE, who, NIL, 2) for who in one.others[:2]))
    assert one.replica.round == 2
    effects = one.precommits(one.value(), 0, 3)
    assert [type(effect).__name__ for effect in effects] == ["CancelTimer", "Deliver"]


def test_l49_waits_for_the_value() -> None:
    one = Single()
    assert one.precommits(one.value(), 0, 3)[-1] != []
    assert one.replica.height == 1
    effects = one.hear(one.proposal())
    assert [effect.height for effect in effects if isinstance(effect, Deliver)] == [1]


def test_l55_a_third_in_a_higher_round_is_followed() -> None:
    one = Single(turn=2)
    assert one.hear(one.vote(PREVOTE, one.others[0], NIL, 7)) == []
    effects = one.hear(one.vote(PRECOMMIT, one.others[1], NIL, 5))
    # One of them is correct and passed round 5; round 7 may be a lie.
    assert one.replica.round == 5
    assert SetTimer(Timer("propose", 1, 5), 3500 * MS) in effects


def test_l55_one_voter_is_not_followed() -> None:
    one = Single()
    one.hear(*(one.vote(PREVOTE, one.others[0], NIL, round) for round in range(1, 30)))
    assert one.replica.round == 0
    assert len(one.replica.rounds) <= 3


def test_l57_propose_timeout_prevotes_nil() -> None:
    one = Single()
    one.submit()
    assert votes_of(one.fall("propose")) == [(PREVOTE, 0, NIL)]
    assert one.replica.step == "prevote"


def test_l57_proposer_without_an_answer_times_out_too() -> None:
    one = Single(turn=0)
    one.submit(NOTHING)
    assert votes_of(one.fall("propose")) == [(PREVOTE, 0, NIL)]
    assert one.submit(PAYLOAD) == []


def test_l57_nil_prevote_of_the_proposer_ends_the_wait() -> None:
    one = Single()
    effects = one.hear(one.vote(PREVOTE, one.proposer()))
    assert votes_of(effects) == [(PREVOTE, 0, NIL)]
    assert one.replica.awake
    other = Single()
    bystander = next(who for who in other.others if who != other.proposer())
    assert votes_of(other.hear(other.vote(PREVOTE, bystander))) == []


def test_l61_prevote_timeout_precommits_nil() -> None:
    one = Single()
    one.hear(one.proposal())
    one.check()
    one.hear(one.vote(PREVOTE, one.others[0]), one.vote(PREVOTE, one.others[1], one.value()))
    assert votes_of(one.fall("prevote")) == [(PRECOMMIT, 0, NIL)]


def test_l65_precommit_timeout_starts_the_next_round() -> None:
    one = Single()
    one.lock()
    one.hear(one.vote(PRECOMMIT, one.others[0]), one.vote(PRECOMMIT, one.others[1]))
    one.fall("precommit")
    assert (one.replica.round, one.replica.step) == (1, "propose")
    assert one.replica.locked_round == 0


def test_timeouts_of_other_rounds_and_heights_are_ignored() -> None:
    one = Single()
    one.submit()
    old = one.replica.timers["propose"][0]
    one.to_round(1)
    one.replica.timeout(one.now, old)
    assert one.take() == []
    assert one.replica.step == "propose"


def test_timeouts_grow_by_round_and_come_back_at_the_next_height() -> None:
    one = Single(turn=3)
    one.submit()
    for round in range(1, 5):
        effects = one.to_round(round)
        delay = (1000 + 500 * round) * MS
        assert SetTimer(Timer("propose", 1, round), delay) in effects
    one.hear(one.decision())
    one.apply(1)
    one.height = 2
    one.replica.parent = one.value()
    effects = one.submit()
    assert SetTimer(Timer("propose", 2, 0), 1000 * MS) in effects


def test_timeouts_stop_growing() -> None:
    one = Single(turn=3, settings=Settings(max_timeout_ms=5000))
    one.hear(*(one.vote(PREVOTE, who, NIL, 1000) for who in one.others))
    assert one.replica.timers["propose"][1] == 5000 * MS


def test_follower_follows_without_a_vote() -> None:
    one = Single(member=False)
    one.take()
    one.hear(one.proposal())
    assert votes_of(one.check()) == []
    assert votes_of(one.prevotes(one.value(), 0, 3)) == []
    effects = one.hear(*(one.vote(PRECOMMIT, who, one.value()) for who in one.others[:3]))
    assert [effect.height for effect in effects if isinstance(effect, Deliver)] == [1]


def test_single_validator_decides_alone() -> None:
    one = Single((5,), turn=0)
    effects = one.submit(PAYLOAD)
    assert votes_of(effects) == [(PREVOTE, 0, one.value()), (PRECOMMIT, 0, one.value())]
    assert any(isinstance(effect, Deliver) for effect in effects)


def test_power_counts_not_heads() -> None:
    one = next(
        one
        for one in (Single((1, 1, 1, 6), turn=turn) for turn in range(9))
        if one.set.powers[one.me] == 1
    )
    heavy = next(m.address for m in one.members if m.power == 6)
    one.hear(one.proposal())
    one.check()
    light = [who for who in one.others if who != heavy]
    for who in light:
        effects = one.hear(one.vote(PREVOTE, who, one.value()))
    assert votes_of(effects) == []
    effects = one.hear(one.vote(PREVOTE, heavy, one.value()))
    assert votes_of(effects) == [(PRECOMMIT, 0, one.value())]


def test_proposal_with_another_parent_or_set_is_dropped() -> None:
    one = Single()
    one.parent = bytes(32)
    assert one.hear(one.proposal()) == []
    assert one.replica.dropped == {"envelope": 1}


def test_payload_that_is_not_the_envelopes_is_dropped() -> None:
    one = Single()
    good = one.proposal()
    bad = type(good)(1, 0, -1, good.envelope, OTHER, good.signature)
    assert one.hear(bad) == []
    assert one.replica.dropped == {"payload hash": 1}


def test_payload_over_the_limit_is_dropped() -> None:
    one = Single(settings=Settings(max_payload_bytes=10))
    assert one.hear(one.proposal()) == []
    assert one.replica.dropped == {"payload too large": 1}


def test_value_that_was_checked_is_not_checked_again() -> None:
    one = Single(turn=3)
    one.hear(one.proposal())
    one.check()
    one.prevotes(one.value())
    one.to_round(1)
    effects = one.hear(one.proposal(PAYLOAD, 1, valid_round=0, first=0))
    assert checks_of(effects) == []
    assert votes_of(effects) == [(PREVOTE, 1, one.value())]
