"""Crashes: any prefix of the journal restarts safely."""

import pytest

from consensus.network import MS, Links, World
from consensus.single import OTHER, PAYLOAD, Single, proposals_of, votes_of, wants_of
from quorate.base.errors import Corrupt
from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE
from quorate.consensus.replica import (
    Base,
    Broadcast,
    Checkpoint,
    Deliver,
    Effect,
    Persist,
    Record,
    Want,
)
from quorate.consensus.tendermint_types import Decided, Entered, Polka, Proposed, Settings, Voted
from quorate.node.wire import encode, make_record_decoder


def records_of(effects: list[Effect]) -> list[Record]:
    return [effect.record for effect in effects if isinstance(effect, Persist)]


def run_to_lock(one: Single) -> list[Record]:
    effects = one.hear(one.proposal())
    effects += one.check()
    effects += one.prevotes(one.value())
    return records_of(effects)


def test_journal_of_a_height_is_proposal_vote_polka_vote() -> None:
    one = Single()
    assert [type(record) for record in run_to_lock(one)] == [Proposed, Voted, Polka, Voted]


def records_of_next_height(one: Single) -> list[Record]:
    """The owed decision, and a vote for nil of the next height that takes it along."""
    effects = one.apply(1)
    one.replica.submit(one.now, 2, b"")
    return records_of([*effects, *one.take(), *one.fall("propose")])


@pytest.mark.parametrize("kept", range(5))
def test_every_prefix_of_a_height_never_votes_twice(kept: int) -> None:
    one = Single()
    journal = run_to_lock(one)[:kept]
    one.boot(journal)
    said = votes_of_again(one.first)
    # Whatever comes now, a vote that was written is not contradicted.
    effects = one.hear(one.proposal(OTHER))
    effects += one.check(OTHER)
    effects += one.prevotes(one.value(OTHER), 0, 3)
    written = {(r.vote.kind, 0): r.vote.value for r in journal if isinstance(r, Voted)}
    for kind, round, value in [*said, *votes_of(effects)]:
        assert written.setdefault((kind, round), value) == value


def votes_of_again(effects: list[Effect]) -> list[tuple[int, int, bytes]]:
    """Votes that a restart sends again, which are in the journal already, and new ones."""
    return [
        (effect.message.kind, effect.message.round, effect.message.value)  # type: ignore[attr-defined]
        for effect in effects
        if isinstance(effect, Broadcast) and hasattr(effect.message, "voter")
    ]


def test_lock_survives() -> None:
    one = Single()
    value = one.value()
    one.boot(run_to_lock(one))
    replica = one.replica
    assert (replica.locked_value, replica.locked_round, replica.step) == (value, 0, "precommit")
    assert (replica.valid_value, replica.valid_round) == (value, 0)
    assert (PRECOMMIT, 0, value) in votes_of_again(one.first)
    one.to_round(1)
    assert votes_of(one.hear(one.proposal(OTHER, 1))) == [(PREVOTE, 1, NIL)]


def test_polka_survives_so_that_the_lock_can_be_shown_to_others() -> None:
    one = Single(turn=1)
    value = one.value()
    one.boot(run_to_lock(one))
    (proposal,) = proposals_of(one.to_round(1))
    assert proposal.valid_round == 0
    assert one.replica.rounds[0].prevotes.quorum == value


def test_crash_between_polka_and_precommit_precommits_after_it() -> None:
    one = Single()
    journal = run_to_lock(one)[:3]
    one.boot(journal)
    assert (PRECOMMIT, 0, one.value()) in votes_of_again(one.first)
    assert one.replica.locked_round == 0


def test_own_proposal_survives_and_is_not_made_anew() -> None:
    one = Single(turn=0)
    journal = records_of(one.submit(PAYLOAD))
    assert [type(record) for record in journal] == [Proposed, Voted]
    one.boot(journal[:1])
    assert wants_of(one.first) == []
    assert one.submit(OTHER) == []
    assert votes_of_again(one.first) == [(PREVOTE, 0, one.value())]
    assert Broadcast(one.proposal()) in one.first


def test_proposer_that_lost_its_record_does_not_propose_again_but_renounces() -> None:
    one = Single(turn=0)
    one.submit(PAYLOAD)
    # The mark of the first start is durable, the proposal was sent, and its record is lost.
    one.boot([Entered(1, 0, [])])
    assert one.first == [Want(1, one.parent, build=False)]
    assert one.submit(OTHER) == []
    assert votes_of(one.submit()) == [(PREVOTE, 0, NIL)]
    # Later rounds are free of doubt, since entering them is durable first.
    assert wants_of(one.to_round(4))[-1].build


def test_doubt_reaches_one_height_further_and_ends() -> None:
    one = Single(turn=0)
    one.boot([Entered(1, 0, [])])
    assert list(one.replica.doubts) == [(1, 0), (2, 0)]
    for height in (1, 2):
        one.hear(one.decision())
        one.parent, one.height = one.value(), height + 1
        one.apply(height)
        assert one.replica.is_in_doubt() == (height == 1)


def test_first_start_is_not_in_doubt() -> None:
    one = Single(turn=0)
    assert one.first == [Want(1, one.parent, build=True)]


def test_nil_votes_survive() -> None:
    one = Single()
    one.submit()
    one.boot(records_of(one.fall("propose")))
    assert votes_of(one.hear(one.proposal())) == []
    assert votes_of(one.check()) == []
    assert one.replica.step == "prevote"


def test_decisions_that_the_application_lost_are_delivered_again() -> None:
    one = Single()
    journal = run_to_lock(one)
    one.precommits(one.value())
    journal += records_of_next_height(one)
    assert isinstance(journal[-2], Decided)
    journal.pop()
    one.boot(journal)
    (deliver,) = one.first
    assert isinstance(deliver, Deliver)
    assert (deliver.height, deliver.payloads) == (1, [PAYLOAD])
    assert one.apply(1) == [Want(2, one.value(), build=one.set.get_proposer(2, 0) == one.me)]


def test_decision_by_certificate_is_journaled_with_its_payload() -> None:
    one = Single()
    one.hear(one.decision())
    one.boot(records_of_next_height(one))
    (deliver,) = one.first
    assert isinstance(deliver, Deliver)
    assert deliver.payloads == [PAYLOAD]


def test_application_ahead_of_the_journal_goes_on_where_it_is() -> None:
    one = Single()
    journal = run_to_lock(one)
    decision = one.decision()
    base = Base(1, one.value(), decision.certificate, [PAYLOAD], one.members, one.members)
    one.boot(journal, base)
    assert one.replica.height == 2
    assert [type(effect) for effect in one.first] == [Want]


@pytest.mark.parametrize("height", range(5))
def test_what_the_application_holds_is_not_read_again(height: int) -> None:
    one = Single()
    first = run_to_lock(one)
    one.precommits(one.value())
    decided, *second = records_of_next_height(one)
    records = [Entered(1, 0, []), *first, decided, *second, Entered(2, 1, []), Entered(3, 0, [])]
    journal = [encode(record) for record in records]
    decode = make_record_decoder(type(one.replica).RECORDS).decode
    read: list[bytes] = []

    def count(data: bytes) -> Record:
        read.append(data)
        record: Record = decode(data)
        return record

    ends = [0, 1 + len(first) + 1, len(records) - 1, len(records), len(records)]
    assert one.replica.read_journal(journal, count, height) == records[ends[height] :]
    # A search by halves, and then what is needed.
    assert len(read) <= 4 + len(records) - ends[height]


def test_decision_while_the_tail_waits_forgets_the_tail() -> None:
    one = Single()
    one.hear(one.decision())
    value = one.value()
    first = records_of_next_height(one)[:1]
    one.height, one.parent = 2, value
    tail = run_to_lock(one)
    one.boot([*first, *tail])
    # Height 1 is not applied again yet when the decision of height 2 comes.
    one.hear(one.decision())
    assert one.replica.height == 3
    one.apply(1)
    one.apply(2)
    assert one.replica.rounds[0].proposal is None


def test_gap_in_the_journal_is_corruption() -> None:
    one = Single()
    one.height = 3
    with pytest.raises(Corrupt, match="a record of height 3, expected 1"):
        one.boot([Proposed(one.proposal())])


def test_decided_without_payload_is_corruption() -> None:
    one = Single()
    with pytest.raises(Corrupt, match="its payload is missing"):
        one.boot([Decided(1, [], one.decision().certificate)])


def test_checkpoints_come_by_heights_and_bytes() -> None:
    for settings in (Settings(checkpoint_heights=3), Settings(checkpoint_bytes=240)):
        one = Single(settings=settings)
        for height in (1, 2, 3):
            one.hear(one.decision())
            value = one.value()
            effects = one.apply(height)
            one.height, one.parent = height + 1, value
            cuts = [effect for effect in effects if isinstance(effect, Checkpoint)]
            assert cuts == ([Checkpoint(3, [])] if height == 3 else [])


def test_a_crash_at_every_persist_loses_nothing() -> None:
    """Crash whoever is writing at the n-th write, for every n of a short run."""
    crash = 0
    while True:
        world = World(11, links=Links(loss=30), settings=Settings(propose_ms=200))
        world.crash_at_persist = crash
        world.boot()
        for number in range(3):
            for machine in world.all:
                machine.give(number)
            world.run(1)
        assert world.run(60, lambda w=world: not any(m.pool for m in w.all))  # type: ignore[misc]
        if world.persists <= crash:
            break
        crash += 1
    assert crash > 30


def test_all_crash_at_once_again_and_again() -> None:
    world = World(12, fsync_ns=5 * MS).boot()
    for number in range(30):
        for machine in world.all:
            machine.give(number)
        world.run(world.rng.below(60) / 1000)
        for machine in world.all:
            machine.crash()
        for machine in world.all:
            machine.boot()
        assert world.run(60, lambda: not any(m.pool for m in world.all))


def test_decision_that_was_not_journaled_is_made_again_from_the_precommits() -> None:
    one = Single((5,), turn=0)
    journal = records_of(one.submit(PAYLOAD))
    assert [type(record) for record in journal] == [Proposed, Voted, Polka, Voted]
    one.boot(journal)
    assert [e.height for e in one.first if isinstance(e, Deliver)] == [1]
