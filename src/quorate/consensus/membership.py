"""Validator sets and whose turn it is to propose.

Tendermint's proposer selection is a weighted round robin: each turn every member's priority grows
by its power, the highest proposes and loses the total power. Tendermint carries the priorities from
height to height; then a replica that missed heights must learn them from somebody.

Deviation: here the proposer is a pure function of (set, height, round). The round robin is run once
from zero priorities over a full period, after which all priorities are zero again, and turn
`height + round` modulo the period looks the proposer up. Every replica computes it for any height
and round from the set alone, after a restart or a catch-up as well as at any other time.

* It is safe: agreement holds for any proposer function on which correct replicas agree.
* It is fair: over one period every member proposes exactly in proportion to its weight, as evenly
  spread as the round robin makes it. As in Tendermint, rounds use up no turns of later heights.
* It is live: successive rounds walk through the period, in which every member has a turn.
* A change of the set starts another table at the same turn instead of carrying priorities over, so
  one period around a change may favour a member by less than one turn each.
* Powers are divided by their greatest common divisor; where they still sum to more than
  `MAX_PERIOD`, they are scaled to it and rounded down to at least 1, so shares are then exact to
  one part in `MAX_PERIOD`.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import gcd

from quorate.base.errors import Invalid
from quorate.base.native import mypyc_attr
from quorate.base.types import Address, Hash, Height, Member
from quorate.consensus.quorum import get_quorum, get_third
from quorate.crypto.hashes import keccak256

MAX_MEMBERS = 1024
MAX_POWER = 2**96 - 1
MAX_PERIOD = 4096
"""Turns until the rotation repeats, at most (plus one for each member that was rounded up)."""


def hash_members(members: Sequence[Member]) -> Hash:
    """Return keccak256 over 32 bytes a member, sorted by address: 20 of address, 12 of power.

    In Solidity: `keccak256(abi.encodePacked(words))` of a `bytes32[]`.
    """
    return keccak256(
        b"".join(m.address + m.power.to_bytes(12, "big") for m in sorted(members, key=_address))
    )


def _address(member: Member) -> Address:
    return member.address


@mypyc_attr(allow_interpreted_subclasses=True)
class ValidatorSet:
    """Who agrees on a height, sorted by address. Immutable."""

    __slots__ = ("_turns", "addresses", "hash", "members", "powers", "quorum", "third", "total")

    def __init__(self, members: Sequence[Member]) -> None:
        """Raises Invalid for an empty set, a repeated address, or a power outside 1..2**96-1."""
        self.members = tuple(sorted(members, key=_address))
        self.powers: dict[Address, int] = {m.address: m.power for m in self.members}
        if not 1 <= len(self.members) <= MAX_MEMBERS:
            raise Invalid(f"validator set: {len(self.members)} members, expected 1..{MAX_MEMBERS}")
        if len(self.powers) != len(self.members):
            raise Invalid("validator set: an address occurs twice, expected distinct ones")
        for member in self.members:
            if len(member.address) != 20 or not 1 <= member.power <= MAX_POWER:
                raise Invalid(
                    f"validator set: address 0x{member.address.hex()} with power {member.power}, "
                    "expected 20 bytes and 1..2**96-1"
                )
        self.addresses = tuple(self.powers)
        self.total = sum(self.powers.values())
        self.quorum = get_quorum(self.total)
        self.third = get_third(self.total)
        self.hash = hash_members(self.members)
        self._turns: tuple[Address, ...] = ()

    def get_proposer(self, height: Height, round: int) -> Address:
        """Return whose turn it is."""
        turns = self._turns
        if not turns:
            turns = self._turns = compute_turns(self.members)
        return turns[(height + round) % len(turns)]


@lru_cache(maxsize=256)
def make_validators(members: tuple[Member, ...]) -> ValidatorSet:
    """Return the set of these members, perhaps one that is known: equal sets are made again and
    again where many replicas start.
    """
    return ValidatorSet(members)


def compute_weights(powers: Sequence[int]) -> list[int]:
    """Return small integers in proportion to powers, each at least 1."""
    divisor = gcd(*powers)
    weights = [power // divisor for power in powers]
    total = sum(weights)
    if total > MAX_PERIOD:
        weights = [max(1, weight * MAX_PERIOD // total) for weight in weights]
    return weights


def compute_turns(members: Sequence[Member]) -> tuple[Address, ...]:
    """Return one period of the weighted round robin; ties go to the lower address."""
    weights = compute_weights([member.power for member in members])
    total = sum(weights)
    if total == len(members):
        return tuple(member.address for member in members)
    priorities = [0] * len(weights)
    turns: list[Address] = []
    for _ in range(total):
        priorities = [
            priority + weight for priority, weight in zip(priorities, weights, strict=True)
        ]
        chosen = priorities.index(max(priorities))
        priorities[chosen] -= total
        turns.append(members[chosen].address)
    return tuple(turns)
