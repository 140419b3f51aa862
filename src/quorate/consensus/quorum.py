"""Majorities, voting power, and sets of votes: integers only, each voter counted once a value.

With total power `n` and Byzantine power below a third, two quorums (more than two thirds) share a
correct member, and a third (more than one third) holds one.
"""

from typing import Final, Generic, Protocol, TypeVar

from quorate.base.types import Address, Hash


def get_majority(n: int) -> int:
    """Return the least count that is more than half of `n`."""
    return n // 2 + 1


def get_quorum(total: int) -> int:
    """Return the least power that is more than two thirds of `total`."""
    return 2 * total // 3 + 1


def get_third(total: int) -> int:
    """Return the least power that is more than one third of `total`."""
    return total // 3 + 1


class Ballot(Protocol):
    """What a vote set needs to know of a vote."""

    @property
    def voter(self) -> Address: ...

    @property
    def value(self) -> Hash: ...


B = TypeVar("B", bound=Ballot)

CONFLICTS: Final = 3
"""How many further values of one voter are kept before only values with a third behind them are."""


class VoteSet(Generic[B]):
    """The votes of one kind in one round, weighted, with every value that may still matter.

    A voter that votes for several values counts once in `power`, but for each of them in `tally`:
    a correct replica may have seen a quorum that includes any of them, and refusing its proof would
    leave it locked alone. The bound: a voter's values beyond `1 + CONFLICTS` are kept only where
    more than a third voted for them, a correct voter among them, and correct voters vote once.
    """

    __slots__ = ("conflicts", "power", "quorum", "quorum_power", "tally", "third_power", "votes")

    def __init__(self, total: int) -> None:
        self.quorum_power = get_quorum(total)
        self.third_power = get_third(total)
        self.votes: dict[Address, B] = {}
        """The first vote of each voter."""
        self.conflicts: dict[Address, list[B]] = {}
        """Later votes of voters that contradict themselves."""
        self.tally: dict[Hash, int] = {}
        self.power = 0
        self.quorum: Hash | None = None
        """The value with a quorum, if one has it."""

    def has(self, voter: Address, value: Hash) -> bool:
        """Whether this voter's vote for this value is in the set."""
        first = self.votes.get(voter)
        if first is None:
            return False
        if first.value == value:
            return True
        return any(vote.value == value for vote in self.conflicts.get(voter, ()))

    def has_room(self, voter: Address, value: Hash) -> bool:
        """Whether `add` would keep this vote, which is not in the set."""
        if len(self.conflicts.get(voter, ())) < CONFLICTS:
            return True
        return self.tally.get(value, 0) >= self.third_power

    def add(self, vote: B, power: int) -> B | None:
        """Count a vote that is not in the set; return the voter's first vote if they conflict."""
        voter, value = vote.voter, vote.value
        first = self.votes.get(voter)
        if first is None:
            self.votes[voter] = vote
            self.power += power
        else:
            self.conflicts.setdefault(voter, []).append(vote)
        tally = self.tally[value] = self.tally.get(value, 0) + power
        if tally >= self.quorum_power and self.quorum is None:
            self.quorum = value
        return first

    def get_votes(self, value: Hash) -> list[B]:
        """Return the votes for a value, sorted by voter."""
        if not self.conflicts:
            votes = self.votes
            return [votes[voter] for voter in sorted(votes) if votes[voter].value == value]
        found = [vote for vote in self.votes.values() if vote.value == value]
        for more in self.conflicts.values():
            found += [vote for vote in more if vote.value == value]
        return sorted(found, key=_get_voter)

    def has_any_quorum(self) -> bool:
        """Whether a quorum voted, for whatever values."""
        return self.power >= self.quorum_power


def _get_voter(vote: Ballot) -> Address:
    return vote.voter
