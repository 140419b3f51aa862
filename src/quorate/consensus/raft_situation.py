"""A Raft replica's situation in words, for `status` and `why-stalled`."""

from typing import TYPE_CHECKING

from quorate.base.types import Address
from quorate.consensus.replica import Situation

if TYPE_CHECKING:
    from quorate.consensus.raft import Raft


def describe_situation(replica: "Raft") -> Situation:
    """Return what the replica waits for, which majority is missing, and who is silent."""
    falling = sorted((due, kind) for kind, due in replica.timers.items())
    waiting_for, missing, silent = _explain(replica)
    return Situation(
        replica.height + 1,
        replica.term,
        replica.role,
        replica.leader,
        waiting_for,
        missing,
        silent,
        (falling[0][1], falling[0][0]) if falling else None,
    )


def _explain(replica: "Raft") -> tuple[str, str, list[Address]]:
    others = replica.get_others()
    idle = f"something to agree on at height {replica.height + 1}"
    if replica.applied_height < replica.height:
        return f"the application to execute height {replica.applied_height + 1}", "", []
    if replica.role == "leader":
        if replica.commit == replica.log.last_index:
            return idle, "", []
        holders = replica.get_holders(replica.log.last_index)
        silent = [who for who in others if who not in holders]
        what = f"acknowledgements of entry {replica.log.last_index} in term {replica.term}"
        return what, _count_power(replica, holders), silent
    if replica.role in ("candidate", "trial"):
        silent = [who for who in others if who not in replica.votes]
        return f"votes of term {replica.term}", _count_power(replica, replica.votes), silent
    if replica.leader is None:
        return "a leader", "", others
    return idle, "", []


def _count_power(replica: "Raft", holders: dict[Address, None]) -> str:
    """Say how much power a majority lacks."""
    members = replica.get_sets()[-1]
    have = sum(members.powers.get(who, 0) for who in holders)
    needed = members.total // 2 + 1
    text = f"power {have} of {needed} needed (of {members.total})"
    return text if have >= needed else f"{text}, {needed - have} more"
