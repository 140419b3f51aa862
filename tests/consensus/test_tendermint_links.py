"""What a replica holds, asks for, sends again, and refuses to hold."""

import pytest

from consensus.network import CHAIN, MS, CheapKeys, Links, World
from consensus.single import OTHER, PAYLOAD, Single, votes_of
from quorate.base.types import Address
from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE
from quorate.consensus.replica import Base, Decision, Deliver, Effect, Message, Send, SetTimer
from quorate.consensus.tendermint_types import (
    HELD_PER_SENDER,
    KEPT_ROUNDS,
    Held,
    Proposal,
    Status,
    Vote,
)


def sent(effects: list[Effect]) -> list[tuple[Address, Message]]:
    return [(effect.to, effect.message) for effect in effects if isinstance(effect, Send)]


def ask(one: Single, status: Status, who: int = 0) -> list[Message]:
    one.now += 1000 * MS
    one.replica.receive(one.now, one.others[who], status)
    return [message for _, message in sent(one.take())]


def make_status(*rounds: Held, height: int = 1, round: int = 0, awake: bool = False) -> Status:
    return Status(height, round, awake, list(rounds))


NOTHING_OF_0 = Held(0, False, False, b"", b"")


def test_no_progress_asks_three_members_what_it_lacks() -> None:
    one = Single()
    one.hear(one.proposal())
    one.check()
    one.fall("status")
    asked = sent(one.fall("status"))
    assert sorted(to for to, _ in asked) == sorted(one.others)
    mine = 1 << one.set.addresses.index(one.me)
    expected = Status(1, 0, True, [Held(0, True, False, bytes([mine]), b"\0")])
    assert [message for _, message in asked] == [expected] * 3


def test_progress_asks_nobody() -> None:
    one = Single()
    one.hear(one.proposal())
    assert sent(one.fall("status")) == []
    one.check()
    assert sent(one.fall("status")) == []
    one.prevotes(one.value(), 0, 1)
    assert sent(one.fall("status")) == []
    assert sent(one.fall("status")) != []


def test_idle_replica_has_no_timer() -> None:
    one = Single()
    assert one.replica.timers == {}
    bystander = next(who for who in one.others if who != one.proposer())
    one.hear(one.vote(PREVOTE, bystander))
    assert one.replica.timers == {}


def test_answer_is_exactly_what_the_other_lacks() -> None:
    one = Single()
    value = one.lock()
    answer = ask(one, make_status(NOTHING_OF_0))
    voters = sorted([one.me, *one.others[:2]])
    assert answer == [
        one.proposal(),
        *(one.vote(PREVOTE, who, value) for who in voters),
        one.vote(PRECOMMIT, one.me, value),
    ]
    bits = bytes([sum(1 << one.set.addresses.index(who) for who in voters)])
    mine = bytes([1 << one.set.addresses.index(one.me)])
    assert ask(one, make_status(Held(0, True, True, bits, mine))) == []
    assert ask(one, make_status(Held(0, True, True, bits, b""))) == [
        one.vote(PRECOMMIT, one.me, value)
    ]


def test_polka_is_sent_whole_to_who_has_other_votes_of_its_voters() -> None:
    one = Single()
    value = one.lock()
    answer = ask(one, make_status(Held(0, True, False, b"\x0f", b"\x0f")))
    assert answer == [one.vote(PREVOTE, who, value) for who in sorted([one.me, *one.others[:2]])]


def test_answers_are_not_answered() -> None:
    one, other = Single(turn=3), Single(turn=2)
    value = one.lock()
    for message in ask(one, make_status(NOTHING_OF_0)):
        assert isinstance(message, Proposal | Vote)
        assert sent(other.hear(message)) == []
    assert other.replica.rounds[0].prevotes.tally[value] >= 2


def test_impatient_peer_is_not_answered_twice() -> None:
    one = Single()
    one.lock()
    one.replica.receive(one.now, one.others[0], make_status(NOTHING_OF_0))
    assert sent(one.take()) != []
    one.replica.receive(one.now, one.others[0], make_status(NOTHING_OF_0))
    assert sent(one.take()) == []
    one.replica.receive(one.now, one.others[1], make_status(NOTHING_OF_0))
    assert sent(one.take()) != []


def test_peer_one_height_behind_gets_the_decision() -> None:
    one = Single()
    decision = one.decision()
    one.hear(decision)
    assert ask(one, make_status(NOTHING_OF_0, height=1)) == [decision]
    one.apply(1)
    assert ask(one, make_status(NOTHING_OF_0, height=1)) == [decision]
    assert ask(one, make_status(NOTHING_OF_0, height=0)) == []


def test_base_answers_for_its_own_height_after_a_restart() -> None:
    one = Single()
    decision = one.decision()
    base = Base(1, one.value(), decision.certificate, [PAYLOAD], one.members, one.members)
    one.boot(base=base)
    assert ask(one, make_status(NOTHING_OF_0, height=1)) == [decision]


def test_status_of_who_has_more_makes_us_ask() -> None:
    one = Single()
    one.replica.receive(one.now, one.others[0], make_status(Held(0, True, False, b"", b"")))
    assert one.take() == [SetTimer(one.replica.timers["status"][0], 250 * MS)]
    assert len(sent(one.fall("status"))) == 3
    # Once: unless somebody shows more again, it falls silent.
    one.fall("status")
    assert one.replica.timers == {}


def test_a_third_at_work_wakes() -> None:
    one = Single()
    status = make_status(NOTHING_OF_0, awake=True)
    ask(one, status, 0)
    assert not one.replica.awake
    ask(one, status, 1)
    assert one.replica.awake
    assert "propose" in one.replica.timers


def test_a_third_at_work_makes_the_proposer_insist() -> None:
    one = Single(turn=0)
    effects = one.hear(*(one.vote(PREVOTE, who) for who in one.others[:2]))
    assert [(want.build, want.force) for want in effects if hasattr(want, "force")] == [
        (True, True)
    ]


def test_statuses_of_a_third_in_a_higher_round_are_followed() -> None:
    one = Single()
    for who in (0, 1):
        ask(one, make_status(round=6, awake=True), who)
    assert one.replica.round == 6


def test_messages_of_the_next_height_are_held_and_taken_up() -> None:
    one = Single()
    one.lock()
    value = one.value()
    one.height, one.parent = 2, value
    proposal = one.proposal(OTHER)
    ahead = one.vote(PREVOTE, one.others[1], one.value(OTHER))
    assert votes_of(one.hear(proposal, ahead)) == []
    one.height, one.parent = 1, CHAIN
    one.precommits(value)
    one.apply(1)
    assert one.replica.height == 2
    assert one.replica.rounds[0].proposal is not None
    assert one.replica.rounds[0].prevotes.power == 1


def test_message_of_the_next_height_makes_us_ask_for_the_decision() -> None:
    one = Single()
    one.height = 2
    one.hear(one.vote(PREVOTE, one.others[0]))
    one.height = 1
    assert len(sent(one.fall("status"))) == 3


def test_what_is_held_for_each_sender_is_bounded() -> None:
    one = Single()
    one.height = 2
    for round in range(100):
        one.hear(one.vote(PREVOTE, one.others[0], NIL, round))
        one.replica.receive(0, one.others[0], one.proposal(bytes([round]) * 80))
    held = one.replica.held
    assert list(held) == [one.others[0]]
    assert len(held[one.others[0]]) == HELD_PER_SENDER
    assert sum(isinstance(m, Proposal) for m in held[one.others[0]]) == 1
    one.replica.receive(0, CheapKeys(50).address, one.vote(PREVOTE, one.others[0]))
    assert list(held) == [one.others[0]]


@pytest.mark.parametrize("height", [0, 3, 2**40])
def test_far_heights_are_dropped(height: int) -> None:
    one = Single()
    one.height = height
    assert one.hear(one.vote(PREVOTE, one.others[0])) == []
    one.height = 1
    assert one.replica.held == {}


def test_far_rounds_cost_no_memory() -> None:
    one = Single()
    for round in (10, 10**6, 2**31 - 1):
        one.hear(one.vote(PREVOTE, one.others[0], NIL, round))
    assert list(one.replica.rounds) == [0]
    assert one.replica.highest == {one.others[0]: 2**31 - 1}


def test_old_rounds_are_forgotten_but_not_the_valid_one() -> None:
    one = Single()
    one.lock()
    one.hear(*(one.vote(PRECOMMIT, who, NIL, 100) for who in one.others))
    assert one.replica.round == 101 or one.replica.round == 100
    assert min(r for r in one.replica.rounds if r) >= 100 - KEPT_ROUNDS
    assert 0 in one.replica.rounds
    assert one.value() in one.replica.values
    one.hear(one.vote(PRECOMMIT, one.others[0], NIL, 3))
    assert 3 not in one.replica.rounds


def test_own_vote_of_a_forgotten_round_counts_when_others_bring_it() -> None:
    """One of two others has a polka of round 0 that our prevote is part of; the third is silent."""
    one = Single()
    value = one.value()
    one.hear(one.proposal())
    assert votes_of(one.check()) == [(PREVOTE, 0, value)]
    one.to_round(KEPT_ROUNDS + 2)
    assert 0 not in one.replica.rounds
    round = one.replica.round
    polka = [one.vote(PREVOTE, who, value) for who in (one.me, *one.others[:2])]
    one.hear(one.proposal(round=round, valid_round=0, first=0))
    for vote in polka:
        one.replica.receive(one.now, one.others[0], vote)
    assert votes_of(one.take()) == [(PREVOTE, round, value)]
    assert "duplicate" not in one.replica.dropped


def test_own_vote_of_the_current_round_is_never_taken_from_others() -> None:
    one = Single()
    forged = one.vote(PREVOTE, one.me, one.value())
    one.replica.receive(one.now, one.others[0], forged)
    assert one.replica.dropped == {"duplicate": 1}
    one.hear(one.proposal())
    assert votes_of(one.check()) == [(PREVOTE, 0, one.value())]


def test_signatures_are_verified_once_and_only_where_they_matter() -> None:
    class Counting(CheapKeys):
        count = 0

        def verify(self, address: Address, digest: bytes, signature: bytes) -> bool:
            Counting.count += 1
            return super().verify(address, digest, signature)

    one = Single()
    one.replica.keys = Counting(0)
    one.hear(one.proposal(), one.proposal())
    one.check()
    one.prevotes(one.value(), 0, 1)
    one.prevotes(one.value(), 0, 3)
    # The proposal and two prevotes; the third comes after the polka and changes nothing.
    assert Counting.count == 3
    one.hear(one.vote(PRECOMMIT, one.others[0], one.value()))
    one.hear(one.decision())
    # Of the four precommits in the certificate one was known: three are verified.
    assert Counting.count == 7
    assert one.replica.height == 2


def test_decision_delivers_and_decisions_in_sequence_run_one_ahead() -> None:
    one = Single()
    effects = one.hear(one.decision())
    assert [effect.height for effect in effects if isinstance(effect, Deliver)] == [1]
    one.height, one.parent = 2, one.value()
    second = one.decision(OTHER)
    # The members of height 2 are known before height 1 is applied.
    assert [e.height for e in one.hear(second) if isinstance(e, Deliver)] == [2]
    one.height, one.parent = 3, one.value(OTHER)
    assert one.hear(one.decision()) == []
    effects = one.apply(1)
    assert [effect.height for effect in effects if isinstance(effect, Deliver)] == [3]


def test_false_decisions_are_dropped() -> None:
    one = Single()
    good = one.decision()
    wrong = [
        Decision(1, [OTHER], good.certificate),
        Decision(1, [], good.certificate),
        Decision(1, [PAYLOAD], good.certificate[:-1]),
        Decision(1, [PAYLOAD], b""),
    ]
    for m in wrong:
        assert one.hear(m) == []
    one.parent = bytes(32)
    assert one.hear(one.decision()) == []
    assert one.replica.dropped == {"decision": 5}
    assert one.replica.height == 1


def test_network_that_is_connected_only_through_one_member_agrees() -> None:
    world = World(5)
    # A line: every link but those of machine 0 is cut.
    for one in world.all[1:]:
        for other in world.all[1:]:
            if one is not other:
                world.cut[one.me, other.me] = None
    world.boot()
    world.sync = False
    for number in range(5):
        for machine in world.all:
            machine.give(number)
        assert world.run(30, lambda n=number: min(world.heights()) > n)  # type: ignore[misc]


def test_every_message_lost_once_is_made_up_for() -> None:
    world = World(6, links=Links(loss=400)).boot()
    world.sync = False
    for number in range(10):
        for machine in world.all:
            machine.give(number)
        world.run(20)
    assert min(world.heights()) >= 10


def test_no_storm_when_a_quorum_is_missing() -> None:
    world = World(7).boot()
    world.all[2].crash()
    world.all[3].crash()
    for machine in world.all[:2]:
        machine.give(1)
    world.run(60)
    before = sum(world.sent.values())
    world.run(60)
    # Two replicas, a status to three others four times a second, and no more than a few votes.
    assert sum(world.sent.values()) - before < 60 * 2 * 3 * 4 + 200
