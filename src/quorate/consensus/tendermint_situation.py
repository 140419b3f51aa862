"""A Tendermint replica's situation in words, for `status` and `why-stalled`."""

from quorate.base.types import Address
from quorate.consensus.certificate import NIL
from quorate.consensus.quorum import VoteSet
from quorate.consensus.replica import Situation
from quorate.consensus.tendermint_links import Links
from quorate.consensus.tendermint_types import Vote

NAMES = {"status": "asking the others again", "pace": "the time of the next block"}
"""Of timers, where people would not know what they are for."""


def describe_situation(replica: Links) -> Situation:
    """Return what the replica waits for, which quorum is missing, and who is silent."""
    falling = sorted((kind == "status", due, kind) for kind, (_, due) in replica.timers.items())
    # The rules' own timeouts first: a status only asks others again.
    next_timeout = (NAMES.get(falling[0][2], falling[0][2]), falling[0][1]) if falling else None
    leader = replica.validators.get_proposer(replica.height, replica.round)
    waiting_for, missing, silent = _explain(replica, leader)
    return Situation(
        replica.height,
        replica.round,
        replica.step if replica.entered else "applying",
        leader if replica.entered else None,
        waiting_for,
        missing,
        silent,
        next_timeout,
    )


def _explain(replica: Links, leader: Address) -> tuple[str, str, list[Address]]:
    height, round = replica.height, replica.round
    if not replica.entered:
        return f"the application to execute height {height - 1}", "", []
    if "pace" in replica.timers:
        return f"the time of the next block, height {height}", "", []
    if not replica.awake:
        return f"something to agree on at height {height}", "", []
    state = replica.rounds[round]
    name = "prevotes" if replica.step == "prevote" else "precommits"
    if replica.step == "propose":
        if state.proposal is None:
            who = "our own" if leader == replica.me else f"0x{leader.hex()}'s"
            silent = [] if leader == replica.me else [leader]
            return f"{who} proposal of round {round}", _find_quorum(replica), silent
        valid_round = state.proposal[1].valid_round
        if valid_round >= 0:
            waiting_for = f"the prevotes of round {valid_round} that the proposal refers to"
            return waiting_for, _find_quorum(replica), []
        return f"the application to check the proposal of round {round}", "", []
    votes = state.prevotes if replica.step == "prevote" else state.precommits
    value = votes.quorum
    if value is not None and value != NIL and value not in replica.values:
        return f"the value that {name} of round {round} agree on", "", []
    silent = [
        who for who in replica.validators.addresses if who != replica.me and who not in votes.votes
    ]
    return f"{name} of round {round}", _count(replica, votes, name, round), silent


def _count(replica: Links, votes: VoteSet[Vote], name: str, round: int) -> str:
    """Say how much power a quorum lacks, for one value if all have voted."""
    needed, total = replica.validators.quorum, replica.validators.total
    have = votes.power
    text = f"{name} of round {round}: power {have} of {needed} needed (of {total})"
    if have < needed:
        return f"{text}, {needed - have} more"
    best = max(votes.tally.values(), default=0)
    return f"{text}, but the most for one value is {best}, {max(0, needed - best)} more"


def _find_quorum(replica: Links) -> str:
    """While no proposal is there: whether enough members are at work in this height at all."""
    powers = replica.validators.powers
    have = sum(powers[who] for who in replica.highest) + powers.get(replica.me, 0)
    needed, total = replica.validators.quorum, replica.validators.total
    if have >= needed:
        return ""
    return (
        f"members seen at height {replica.height}: power {have} of {needed} needed "
        f"(of {total}), {needed - have} more"
    )
