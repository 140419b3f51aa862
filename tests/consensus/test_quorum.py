"""Integer majorities and vote sets."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from quorate.consensus.quorum import CONFLICTS, VoteSet, get_majority, get_quorum, get_third


class Ballot(Struct, frozen=True):
    voter: bytes
    value: bytes


@given(st.integers(1, 2**100))
def test_quorum_is_the_least_power_above_two_thirds(total: int) -> None:
    quorum = get_quorum(total)
    assert 3 * quorum > 2 * total
    assert 3 * (quorum - 1) <= 2 * total


@given(st.integers(1, 2**100))
def test_third_is_the_least_power_above_one_third(total: int) -> None:
    third = get_third(total)
    assert 3 * third > total
    assert 3 * (third - 1) <= total


def test_majority_is_more_than_half() -> None:
    assert [get_majority(n) for n in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]


@given(st.integers(1, 2**100), st.integers(0, 2**100))
def test_two_quorums_share_more_than_byzantine_power(total: int, seed: int) -> None:
    byzantine = seed % get_third(total)
    assert 3 * byzantine < total or byzantine * 3 <= total
    assert 2 * get_quorum(total) - total > 0


def test_votes_count_once_by_power() -> None:
    votes: VoteSet[Ballot] = VoteSet(10)
    assert votes.add(Ballot(b"a", b"x"), 4) is None
    assert votes.has(b"a", b"x")
    assert votes.quorum is None
    votes.add(Ballot(b"b", b"x"), 2)
    assert (votes.power, votes.quorum) == (6, None)
    votes.add(Ballot(b"c", b"x"), 1)
    assert votes.quorum == b"x"


def test_mixed_votes_are_a_quorum_of_any() -> None:
    votes: VoteSet[Ballot] = VoteSet(3)
    for voter, value in ((b"a", b"x"), (b"b", b"y")):
        votes.add(Ballot(voter, value), 1)
    assert not votes.has_any_quorum()
    votes.add(Ballot(b"c", b"z"), 1)
    assert votes.has_any_quorum()
    assert votes.quorum is None


def test_liar_counts_for_each_value_but_once_in_power() -> None:
    votes: VoteSet[Ballot] = VoteSet(4)
    first = Ballot(b"d", b"y")
    votes.add(first, 1)
    votes.add(Ballot(b"a", b"x"), 1)
    votes.add(Ballot(b"b", b"x"), 1)
    assert votes.add(Ballot(b"d", b"x"), 1) is first
    assert (votes.power, votes.quorum) == (3, b"x")
    assert [vote.voter for vote in votes.get_votes(b"x")] == [b"a", b"b", b"d"]


def test_liar_can_make_us_keep_few_values() -> None:
    votes: VoteSet[Ballot] = VoteSet(4)
    kept = 0
    for number in range(50):
        value = bytes([number])
        if votes.has_room(b"d", value):
            votes.add(Ballot(b"d", value), 1)
            kept += 1
    # The first vote, and the conflicts up to the bound.
    assert kept == 1 + CONFLICTS
    votes.add(Ballot(b"a", b"x"), 1)
    votes.add(Ballot(b"b", b"x"), 1)
    # What more than a third voted for is still welcome.
    assert votes.has_room(b"d", b"x")
