"""Validator sets and the rotation of proposers."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.network import CheapKeys
from quorate.base.errors import Invalid
from quorate.base.types import Member
from quorate.consensus.membership import MAX_PERIOD, ValidatorSet, compute_weights, hash_members
from quorate.crypto.hashes import keccak256


def make(*powers: int) -> ValidatorSet:
    return ValidatorSet([Member(CheapKeys(i).address, p) for i, p in enumerate(powers)])


def test_equal_powers_take_turns_in_order_of_address() -> None:
    validators = make(7, 7, 7, 7)
    turns = [validators.get_proposer(0, round) for round in range(8)]
    assert turns == [*validators.addresses, *validators.addresses]


def test_height_and_round_move_the_turn_alike() -> None:
    validators = make(3, 1, 2)
    for height in range(20):
        assert validators.get_proposer(height, 1) == validators.get_proposer(height + 1, 0)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_shares_of_a_period_are_exactly_the_powers(powers: list[int]) -> None:
    validators = make(*powers)
    weights = compute_weights([member.power for member in validators.members])
    turns = Counter(validators.get_proposer(h, 0) for h in range(sum(weights)))
    assert [turns[who] for who in validators.addresses] == weights


def test_turns_of_a_heavy_member_are_spread() -> None:
    validators = make(2, 1, 1)
    heavy = next(member.address for member in validators.members if member.power == 2)
    turns = [validators.get_proposer(h, 0) == heavy for h in range(40)]
    assert not any(all(turns[i : i + 3]) for i in range(38))


def test_huge_powers_have_a_bounded_period_in_which_all_propose() -> None:
    validators = make(2**96 - 1, 3, 2**95, 1)
    period = len({*range(MAX_PERIOD + 4)})
    assert {validators.get_proposer(h, 0) for h in range(period)} == set(validators.addresses)


@given(st.lists(st.integers(1, 2**96 - 1), min_size=1, max_size=20))
def test_weights_are_bounded_and_positive(powers: list[int]) -> None:
    weights = compute_weights(powers)
    assert min(weights) >= 1
    assert sum(weights) <= MAX_PERIOD + len(powers)


def test_hash_is_of_sorted_words() -> None:
    validators = make(5, 6)
    words = b"".join(m.address + m.power.to_bytes(12, "big") for m in validators.members)
    assert validators.hash == keccak256(words)
    assert hash_members(list(reversed(validators.members))) == validators.hash


@pytest.mark.parametrize(
    "members",
    [
        [],
        [Member(bytes(20), 0)],
        [Member(bytes(20), 2**96)],
        [Member(bytes(19), 1)],
        [Member(bytes(20), 1), Member(bytes(20), 2)],
    ],
)
def test_bad_sets_are_refused(members: list[Member]) -> None:
    with pytest.raises(Invalid, match="validator set"):
        ValidatorSet(members)
