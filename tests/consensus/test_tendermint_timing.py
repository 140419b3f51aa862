"""Work on demand, block times, silent proposers, and what is said of it all."""

import pytest

from consensus.network import MS, Links, World
from consensus.single import PAYLOAD, Single, proposals_of, wants_of
from quorate.base.errors import Invalid
from quorate.consensus.certificate import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    decode_certificate,
    decode_envelope,
)
from quorate.consensus.replica import NOTHING, SetTimer, Timer, Want
from quorate.consensus.tendermint_types import Settings


def give_all(world: World, number: int) -> None:
    for machine in world.all:
        machine.give(number)


def test_idle_network_has_no_timers_and_no_messages() -> None:
    world = World(1).boot()
    give_all(world, 1)
    world.run(2)
    assert world.heights() == [1] * 4
    sent = dict(world.sent)
    world.run(600)
    assert world.sent == sent
    assert world.is_idle()


def test_work_that_only_one_knows_wakes_nobody_else() -> None:
    world = World(1).boot()
    proposer = next(m for m in world.all if m.replica.is_proposer())
    other = next(m for m in world.all if m is not proposer)
    other.give(1)
    world.run(10)
    assert [m.replica.awake for m in world.all if m is not other] == [False] * 3
    proposer.give(1)
    world.run(1)
    assert world.heights() == [1] * 4


def test_one_of_four_down_costs_the_short_timeout_not_the_full_one() -> None:
    world = World(1).boot()
    world.all[3].crash()
    intervals = []
    for number in range(24):
        start = world.now
        give_all(world, number)
        assert world.run(30, lambda n=number: min(world.heights()[:3]) > n)  # type: ignore[misc]
        intervals.append((world.now - start) // MS)
    # The first turn of the silent one costs the full timeout of each, every later one the short.
    slow = [interval for interval in intervals if interval > 90]
    assert len(slow) == 6
    assert slow[0] >= 1000
    assert max(slow[1:]) < 200


def test_silent_proposer_is_trusted_again_when_it_proposes() -> None:
    one = Single(turn=3)
    silent = one.proposer(0)
    one.submit()
    one.fall("propose")
    assert list(one.replica.suspects) == [silent]
    one.hear(one.decision())
    one.height, one.parent = 2, one.value()
    one.apply(1)
    # It is late, but it comes.
    one.height = 1
    one.replica.receive(one.now, silent, one.proposal())
    assert list(one.replica.suspects) == []


def test_suspected_proposers_get_longer_in_later_rounds() -> None:
    one = Single(turn=3)
    one.replica.suspects = dict.fromkeys(one.others)
    effects = one.submit()
    assert SetTimer(Timer("propose", 1, 0), 100 * MS) in effects
    for round, delay in ((1, 400), (2, 1600), (4, 3000)):
        assert SetTimer(Timer("propose", 1, round), delay * MS) in one.to_round(round)


def test_block_time_makes_blocks_without_work() -> None:
    world = World(1, settings=Settings(block_time_ms=500)).boot()
    world.run(10.2)
    heights = world.heights()
    assert min(heights) >= 19
    assert max(heights) <= 21


def test_block_time_is_kept_under_work() -> None:
    world = World(1, settings=Settings(block_time_ms=500)).boot()
    for number in range(100):
        give_all(world, number)
        world.run(0.1)
    assert max(world.heights()) <= 21


def test_least_interval_spaces_blocks_and_keeps_idleness() -> None:
    world = World(1, settings=Settings(min_interval_ms=200)).boot()
    for number in range(100):
        give_all(world, number)
        world.run(0.02)
    world.run(1)
    assert 9 <= max(world.heights()) <= 12
    world.run(5)
    assert world.is_idle()


def test_pace_measures_from_the_start_of_the_last_height() -> None:
    one = Single(turn=3, settings=Settings(min_interval_ms=1000))
    one.now = 300 * MS
    one.hear(one.decision())
    assert one.apply(1)[0] == SetTimer(Timer("pace", 2, 0), 700 * MS)
    one.parent, one.height = one.value(), 2
    assert one.fall("pace") == [Want(2, one.parent, build=one.proposer() == one.me)]


def test_proposal_of_a_faster_member_ends_the_pause() -> None:
    one = Single(turn=3, settings=Settings(min_interval_ms=1000))
    one.hear(one.decision())
    one.apply(1)
    one.height, one.parent = 2, one.value()
    if one.proposer() != one.me:
        one.hear(one.proposal())
        assert "pace" not in one.replica.timers


def test_answers_for_other_heights_are_ignored() -> None:
    one = Single(turn=0)
    for height in (0, 2):
        one.replica.submit(0, height, PAYLOAD)
        one.replica.submit(0, height, NOTHING)
        one.replica.checked(0, height, PAYLOAD, True)
    assert one.take() == []


def test_work_comes_with_a_later_round_too() -> None:
    one = Single(turn=1)
    assert wants_of(one.to_round(1)) == [Want(1, one.parent, build=True, force=True)]
    (proposal,) = proposals_of(one.submit(PAYLOAD))
    assert (proposal.round, decode_envelope(proposal.envelope).round) == (1, 1)


@pytest.mark.parametrize(
    ("name", "value"), [("status_ms", 0), ("propose_ms", -1), ("max_payload_bytes", 2**30)]
)
def test_senseless_settings_are_refused(name: str, value: int) -> None:
    with pytest.raises(Invalid, match=f"setting {name}: {value}, expected"):
        Settings(**{name: value})


# ---- words


def test_idle_situation() -> None:
    situation = Single().replica.get_situation(0)
    assert situation.waiting_for == "something to agree on at height 1"
    assert (situation.missing, situation.silent, situation.next_timeout) == ("", [], None)


def test_situation_names_the_silent_proposer() -> None:
    one = Single()
    one.submit()
    situation = one.replica.get_situation(0)
    assert situation.waiting_for == f"0x{one.proposer().hex()}'s proposal of round 0"
    assert situation.missing == "members seen at height 1: power 1 of 3 needed (of 4), 2 more"
    assert situation.silent == [one.proposer()]
    assert situation.next_timeout == ("propose", 1000 * MS)


def test_situation_names_the_missing_quorum() -> None:
    one = Single()
    one.hear(one.proposal())
    assert one.replica.get_situation(0).waiting_for == (
        "the application to check the proposal of round 0"
    )
    one.check()
    situation = one.replica.get_situation(0)
    assert situation.step == "prevote"
    assert situation.missing == "prevotes of round 0: power 1 of 3 needed (of 4), 2 more"
    assert situation.silent == one.others
    one.hear(one.vote(PREVOTE, one.others[0]), one.vote(PREVOTE, one.others[1]))
    assert one.replica.get_situation(0).missing == (
        "prevotes of round 0: power 3 of 3 needed (of 4), but the most for one value is 2, 1 more"
    )
    one.fall("prevote")
    situation = one.replica.get_situation(0)
    assert situation.missing == "precommits of round 0: power 1 of 3 needed (of 4), 2 more"


def test_situation_while_the_value_is_missing() -> None:
    one = Single()
    one.submit()
    one.fall("propose")
    one.hear(*(one.vote(PRECOMMIT, who, one.value()) for who in one.others))
    one.replica.step = "precommit"
    assert one.replica.get_situation(0).waiting_for == (
        "the value that precommits of round 0 agree on"
    )


def test_situation_while_the_application_is_behind() -> None:
    one = Single()
    one.hear(one.decision())
    situation = one.replica.get_situation(0)
    assert (situation.step, situation.leader) == ("applying", None)
    assert situation.waiting_for == "the application to execute height 1"


def test_two_of_four_down_are_named() -> None:
    world = World(1).boot()
    down = [machine.me for machine in world.all[2:]]
    for machine in world.all[2:]:
        machine.crash()
    give_all(world, 1)
    world.run(30)
    for machine in world.all[:2]:
        situation = machine.replica.get_situation(world.now)
        assert "2 more" in situation.missing or "1 more" in situation.missing
        assert set(situation.silent) & set(down)
    assert bytes(32) == NIL


# ---- membership


def test_members_change_by_height() -> None:
    world = World(1, (1, 1, 1, 1), spare=2)
    founders = world.members[1]
    new = [machine.me for machine in world.all[4:]]
    everybody = [*founders, *(type(founders[0])(who, 2) for who in new)]
    world.members[5] = sorted(everybody, key=lambda member: member.address)
    world.members[9] = [m for m in world.members[5] if m.address != world.all[0].me]
    world.boot()
    for number in range(12):
        give_all(world, number)
        assert world.run(20, lambda n=number: min(world.heights()) > n)  # type: ignore[misc]
    world.run(1)
    proposers = {}
    signers = {}
    for deliver in world.all[0].chain:
        certificate = decode_certificate(deliver.certificate)
        proposers[deliver.height] = certificate.envelope.proposer
        signers[deliver.height] = [who for who, _ in certificate.signatures]
    assert not any(who in new for h in range(1, 5) for who in signers[h])
    assert any(who in new for h in range(5, 13) for who in signers[h])
    assert any(proposers[h] in new for h in range(5, 13))
    assert not any(world.all[0].me in signers[h] for h in range(9, 13))
    # A light client can go from set to set.
    for lower, upper in zip(world.all[0].chain, world.all[0].chain[1:], strict=False):
        below = decode_certificate(lower.certificate).envelope
        above = decode_certificate(upper.certificate).envelope
        assert below.next_members == above.members


def test_members_change_under_faults() -> None:
    for seed in range(10):
        world = World(seed, (1, 1, 1, 1), spare=3, links=Links(loss=50, slow=20))
        founders = world.members[1]
        extra = [type(founders[0])(machine.me, 1) for machine in world.all[4:]]
        for height in range(2, 30):
            pool = [*founders, *extra]
            out = world.rng.below(len(pool))
            world.members[height] = sorted(
                (m for i, m in enumerate(pool) if i != out), key=lambda member: member.address
            )
        world.boot()
        for number in range(20):
            give_all(world, number)
            machine = world.all[world.rng.below(len(world.all))]
            machine.crash()
            world.run(world.rng.below(300) / 1000)
            machine.boot()
        world.links.loss = world.links.slow = 0
        give_all(world, 99)
        assert world.run(120, lambda w=world: not any(m.pool for m in w.all))  # type: ignore[misc]
