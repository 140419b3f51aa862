"""The rules of Tendermint, judged by what members say and write.

Source: Buchman, Kwon, Milosevic, arXiv 1807.04938, lemmas 2 to 4 and Algorithm 1; the rules on
restarts are our own. `L29` means line 29 there. The judge is told of every vote that anybody says,
liars too, and counts polkas by itself.

Properties:

    one vote         an honest voter says one value in a round, for each kind, in all its lives
    one proposal     an honest proposer proposes one value in a round, in all its lives
    polka            who precommits a value can have seen more than two thirds prevote for it (L36)
    lock             who precommitted a value prevotes for another one only if a polka for that one
                     came in the same or a later round (L23, L29)
    valid value      who precommitted a value proposes it, or one with a later polka (L15-16)
    write first      a vote is said only when it is durable
    one accusation   an offence is reported once, and by evidence that convicts somebody who lied
"""

from collections.abc import Callable
from typing import Final

from quorate.base.types import Address, Hash, Height, Member
from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE
from quorate.consensus.tendermint_types import Proposal, Vote
from quorate.crypto.hashes import keccak256
from quorate.simulator.invariants.chain import Report

__all__ = ["TendermintRules"]

KEPT_HEIGHTS: Final = 64
"""Heights whose votes are kept below the highest. What a member says of lower ones, having been
away for so long, rests on votes that are not known any more, and is not judged.
"""


class HeightVotes:
    """What was said at one height."""

    __slots__ = ("locks", "polkas", "proposals", "said", "tally")

    def __init__(self) -> None:
        self.said: dict[tuple[Address, int, int], Hash] = {}
        """(voter, kind, round) -> value, of honest voters."""
        self.proposals: dict[tuple[Address, int], tuple[Hash, int]] = {}
        """(proposer, round) -> (value, valid round), of honest proposers."""
        self.tally: dict[tuple[int, Hash], dict[Address, None]] = {}
        """(round, value) -> who prevoted for it, honest or not."""
        self.polkas: dict[Hash, list[int]] = {}
        """Rounds in which a value had a polka."""
        self.locks: dict[Address, dict[int, Hash]] = {}
        """What honest voters precommitted, by round."""


class TendermintRules:
    """Told what is said and written; reports what breaks a rule."""

    __slots__ = ("forgotten", "get_members", "heights", "kept", "powers", "report")

    def __init__(
        self, get_members: Callable[[Height], list[Member] | None], report: Report
    ) -> None:
        """`get_members` returns who agrees on a height, None while that is not known."""
        self.get_members, self.report = get_members, report
        self.heights: dict[Height, HeightVotes] = {}
        self.forgotten: Height = -1
        """The highest height whose votes are not kept any more."""
        self.powers: dict[Height, tuple[dict[Address, int], int]] = {}
        self.kept: dict[Address, dict[tuple[int, int, int, Hash], None]] = {}
        """(kind, height, round, value) of each voter's durable votes."""

    # ---- what is said

    def collect(self, vote: Vote) -> None:
        """Count a vote, whoever says it."""
        if vote.kind != PREVOTE:
            return
        value = vote.value
        if value == NIL:
            return
        height, round = vote.height, vote.round
        if height <= self.forgotten or not self.knows_members(height):
            # Of heights that nobody has come to, liars alone speak.
            return
        votes = self.get_height(height)
        voters = votes.tally.get((round, value))
        if voters is None:
            voters = votes.tally[round, value] = {}
        voter = vote.voter
        if voter in voters:
            return
        voters[voter] = None
        if self.is_quorum(height, voters):
            rounds = votes.polkas.setdefault(value, [])
            if round not in rounds:
                rounds.append(round)

    def judge_vote(self, vote: Vote, *, written: bool = True) -> None:
        """Judge what an honest member says of itself; everything before it has been collected.

        With `written` it must be durable.
        """
        who, kind, height, round, value = (
            vote.voter,
            vote.kind,
            vote.height,
            vote.round,
            vote.value,
        )
        if height <= self.forgotten:
            return
        votes = self.get_height(height)
        known = votes.said.get((who, kind, round))
        if known == value:
            return
        if known is not None:
            self.report(
                "one vote",
                f"height {height}, round {round}: says 0x{value.hex()} and said 0x{known.hex()} "
                f"as its {'prevote' if kind == PREVOTE else 'precommit'}",
                who,
            )
            return
        votes.said[who, kind, round] = value
        if written and not self.is_kept(who, (kind, height, round, value)):
            self.report(
                "write first", f"height {height}, round {round}: says a vote that is not kept", who
            )
        if value == NIL:
            return
        if kind == PRECOMMIT:
            if round not in votes.polkas.get(value, ()) and self.knows_members(height):
                self.report(
                    "polka",
                    f"height {height}, round {round}: precommits 0x{value.hex()}, "
                    "which has no polka in that round",
                    who,
                )
            votes.locks.setdefault(who, {})[round] = value
        else:
            self.judge_lock(votes, vote)

    def judge_lock(self, votes: HeightVotes, vote: Vote) -> None:
        """L23, L29: a lock yields only to a polka of its own round or a later one."""
        lock = get_lock(votes, vote.voter, vote.round)
        if lock is None or lock[1] == vote.value or not self.knows_members(vote.height):
            return
        if not any(lock[0] <= r < vote.round for r in votes.polkas.get(vote.value, ())):
            self.report(
                "lock",
                f"height {vote.height}, round {vote.round}: prevotes 0x{vote.value.hex()}, which "
                f"has no polka from round {lock[0]} on, and is locked on 0x{lock[1].hex()} "
                "since then",
                vote.voter,
            )

    def judge_proposal(self, who: Address, proposal: Proposal) -> None:
        """Judge what an honest proposer says."""
        height, round = proposal.height, proposal.round
        value, valid_round = keccak256(proposal.envelope), proposal.valid_round
        if height <= self.forgotten:
            return
        votes = self.get_height(height)
        known = votes.proposals.setdefault((who, round), (value, valid_round))
        if known != (value, valid_round):
            self.report(
                "one proposal",
                f"height {height}, round {round}: proposes 0x{value.hex()} (valid round "
                f"{valid_round}) and proposed 0x{known[0].hex()} ({known[1]})",
                who,
            )
        lock = get_lock(votes, who, round)
        if lock is not None and valid_round < lock[0]:
            self.report(
                "valid value",
                f"height {height}, round {round}: proposes with valid round {valid_round}, "
                f"expected at least {lock[0]}, in which it precommitted a value",
                who,
            )
        if valid_round >= 0 and self.knows_members(height):
            rounds = votes.polkas.get(value, ())
            if valid_round not in rounds:
                self.report(
                    "valid value",
                    f"height {height}, round {round}: proposes a value with valid round "
                    f"{valid_round}, which had no polka there",
                    who,
                )

    # ---- what is written

    def keep(self, who: Address, vote: Vote) -> None:
        """A vote of a member is durable.

        It counts for polkas from now on: its voter may act upon it before anybody hears it.
        """
        self.collect(vote)
        kept = self.kept.get(who)
        if kept is None:
            kept = self.kept[who] = {}
        kept[vote.kind, vote.height, vote.round, vote.value] = None

    def is_kept(self, who: Address, vote: tuple[int, int, int, Hash]) -> bool:
        kept = self.kept.get(who)
        return kept is not None and vote in kept

    # ---- counting

    def get_height(self, height: Height) -> HeightVotes:
        found = self.heights.get(height)
        if found is None:
            found = self.heights[height] = HeightVotes()
            if len(self.heights) > 2 * KEPT_HEIGHTS:
                oldest = sorted(self.heights)[:KEPT_HEIGHTS]
                self.forgotten = oldest[-1]
                for old in oldest:
                    del self.heights[old]
                    self.powers.pop(old, None)
        return found

    def knows_members(self, height: Height) -> bool:
        return self.get_powers(height) is not None

    def get_powers(self, height: Height) -> tuple[dict[Address, int], int] | None:
        """Return the power of each member of a height, and all of it."""
        known = self.powers.get(height)
        if known is None:
            members = self.get_members(height)
            if members is None:
                return None
            powers = {member.address: member.power for member in members}
            known = self.powers[height] = (powers, sum(powers.values()))
        return known

    def is_quorum(self, height: Height, voters: dict[Address, None]) -> bool:
        """Whether these voters hold more than two thirds of the power."""
        known = self.get_powers(height)
        if known is None:
            return False
        powers, total = known
        return 3 * sum(powers.get(voter, 0) for voter in voters) > 2 * total


def get_lock(votes: HeightVotes, who: Address, round: int) -> tuple[int, Hash] | None:
    """Return the last value that a member precommitted before a round, and when."""
    locks = votes.locks.get(who)
    if not locks:
        return None
    earlier = [r for r in locks if r < round]
    if not earlier:
        return None
    last = max(earlier)
    return last, locks[last]
