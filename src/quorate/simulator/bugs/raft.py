"""Known bugs of Raft implementations (catalogue R1-R14), as our Raft could have them.

R11 concerns joint configurations as first published. Ours come from the ledger, and lose liveness
by the same gap: a member that the newest set does not hold leaves, though it is needed.
"""

from typing import Any

from msgspec import structs

from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height, Nanoseconds
from quorate.consensus.raft import Raft
from quorate.consensus.raft_certificate import has_majority
from quorate.consensus.raft_types import (
    Append,
    Appended,
    Ballot,
    Entry,
    RequestVote,
    Settings,
    VoteReply,
    Written,
)
from quorate.consensus.replica import Base, Checkpoint, Keys, Persist, Send, SetTimer
from quorate.simulator.bugs import Bug, register, replace_replica
from quorate.simulator.reads import LINEARIZABLE


class CommitsOldTerms(Raft):
    """R1: an entry of an older term is committed by counting who holds it (figure 8)."""

    def advance_commit(self, now: Nanoseconds) -> None:
        for index in range(self.log.last_index, self.commit, -1):
            holders = self.get_holders(index)
            if self.is_chosen(holders, self.log.get_height(index)):
                self.commit_to(index, holders)
                self.tell_commit(self.commit)
                return


class ForgetsVotes(Raft):
    """R2: votedFor is not durable."""

    def take(self) -> list[Any]:
        return [
            Persist(Ballot(e.record.term, bytes(20)))
            if type(e) is Persist and isinstance(e.record, Ballot)
            else e
            for e in super().take()
        ]


class VotesForAnyLog(Raft):
    """R3: a vote is given without a look at the candidate's log."""

    def on_request_vote(self, now: Nanoseconds, sender: Address, m: RequestVote) -> None:
        best = RequestVote(m.term, 1 << 40, 1 << 30, m.trial, m.told)
        super().on_request_vote(now, sender, best)

    HANDLERS = {**Raft.HANDLERS, RequestVote: on_request_vote}  # noqa: RUF012


class AlwaysTruncates(Raft):
    """R4: every AppendEntries cuts the log after its previous entry."""

    def write(self, entries: list[Entry]) -> bool:
        if entries and self.log.get(entries[0].index) is not None:
            self.log.truncate(entries[0].index - 1)
            self.out.append(Persist(Written(entries[0].index - 1, [])))
        return super().write(entries)


class HalfIsEnough(Raft):
    """R5: half of the members are taken for a majority."""

    def is_chosen(self, holders: dict[Address, None], height: Height) -> bool:
        for at in (height, height + 1):
            members = self.sets.get(at)
            if members is None:
                return False
            power = sum(members.powers.get(holder, 0) for holder in holders)
            if 2 * power < members.total:
                return False
        return True


class TakesOldTerms(Raft):
    """R6: AppendEntries of a term that is over is taken."""

    def on_append(self, now: Nanoseconds, sender: Address, m: Append) -> None:
        renewed = Append(max(m.term, self.term), m.prev_index, m.prev_term, m.entries, m.commit)
        super().on_append(now, sender, renewed)

    HANDLERS = {**Raft.HANDLERS, Append: on_append}  # noqa: RUF012


class NeverCompares(Raft):
    """R7: entries are taken without a look at the term of the one before them."""

    def on_append(self, now: Nanoseconds, sender: Address, m: Append) -> None:
        term = self.log.get_term(m.prev_index)
        blind = Append(
            m.term, m.prev_index, m.prev_term if term is None else term, m.entries, m.commit
        )
        super().on_append(now, sender, blind)

    HANDLERS = {**Raft.HANDLERS, Append: on_append}  # noqa: RUF012


class CommitsWhatItHas(Raft):
    """R8: a follower commits up to its last entry, not up to the last one that was compared."""

    def on_append(self, now: Nanoseconds, sender: Address, m: Append) -> None:
        super().on_append(now, sender, m)
        if self.role == "follower" and m.term == self.term:
            self.commit_to(min(m.commit, self.log.last_index), {sender: None})

    HANDLERS = {**Raft.HANDLERS, Append: on_append}  # noqa: RUF012


class VotesTwice(Raft):
    """R9: a member votes for whoever asks first and last."""

    def on_request_vote(self, now: Nanoseconds, sender: Address, m: RequestVote) -> None:
        if not m.trial and m.term == self.term and self.role == "follower":
            self.voted_for = bytes(20)
        super().on_request_vote(now, sender, m)

    HANDLERS = {**Raft.HANDLERS, RequestVote: on_request_vote}  # noqa: RUF012


class OnlyNewMembers(Raft):
    """R10: a change of members counts the new set alone, so that old and new need not meet."""

    def is_chosen(self, holders: dict[Address, None], height: Height) -> bool:
        members = self.sets.get(height + 1)
        return members is not None and has_majority(members.members, holders)


class CountsUnion(Raft):
    """R13: old and new members are counted as one set, half of which may be all of either."""

    def is_chosen(self, holders: dict[Address, None], height: Height) -> bool:
        first, second = self.sets.get(height), self.sets.get(height + 1)
        if first is None or second is None:
            return False
        together = {m.address: m for m in (*first.members, *second.members)}
        return has_majority(tuple(together.values()), holders)


class LeavesAtOnce(Raft):
    """R11: whom the newest set does not hold stands for nothing any more, though others may need
    its log or its vote until that set has decided something.
    """

    def may_be_needed(self) -> bool:
        return self.me in self.sets[max(self.sets)].powers


class NoTrialNoQuorum(Raft):
    """R12: no PreVote, no CheckQuorum, and votes are given beside a leader that is heard."""

    def on_timeout_election(self, now: Nanoseconds) -> None:
        self.rest(now)
        if self.log.last_height + 1 in self.sets:
            self.stand(now, told=True)

    def on_timeout_quorum(self, now: Nanoseconds) -> None:
        self.set_timer(now, "quorum", 10**9)

    TIMEOUTS = {  # noqa: RUF012
        **Raft.TIMEOUTS,
        "election": on_timeout_election,
        "quorum": on_timeout_quorum,
    }


class CountsRefusals(Raft):
    """R13: an answer that refuses entries counts as one that holds them (commit on NACK)."""

    def on_appended(self, now: Nanoseconds, sender: Address, m: Appended) -> None:
        super().on_appended(now, sender, m)
        progress = self.peers.get(sender)
        if self.role == "leader" and progress is not None and m.term == self.term:
            progress.match = max(progress.match, min(progress.next - 1, self.log.last_index))
            self.advance_commit(now)

    HANDLERS = {**Raft.HANDLERS, Appended: on_appended}  # noqa: RUF012


class ReadsOldCommit(Raft):
    """R14: ReadIndex by a leader without an entry of its own term, which may lag behind."""

    def is_current(self) -> bool:
        return True


class ReadsUnconfirmed(Raft):
    """R14, in its simplest form: whoever thinks that it leads answers reads."""

    def begin_round(self, now: Nanoseconds, *, empty: bool = False) -> None:
        super().begin_round(now, empty=empty)
        if self.confirming is not None:
            for address in list(self.sets[self.height + 1].addresses):
                if self.confirming is not None:
                    self.note_confirmed(now, address)


class LongLease(Raft):
    """R14: leases that outlast the promise of those who gave them, as by clocks that are off."""

    def __init__(self, keys: Keys, chain: Hash, rng: Rng, settings: Settings | None = None) -> None:
        lends = structs.replace(settings or Settings(), lease_reads=True)
        super().__init__(keys, chain, rng, lends)

    def compute_lease(self) -> Nanoseconds:
        return 6 * super().compute_lease()


class AcknowledgesEarly(Raft):
    """An acknowledgement, or a vote, is said before what it is about is durable."""

    def take(self) -> list[Any]:
        effects = super().take()
        said = [
            e for e in effects if type(e) is Send and isinstance(e.message, Appended | VoteReply)
        ]
        return said + [e for e in effects if e not in said]


class CommitsAlone(Raft):
    """A leader counts itself before its own entry is durable, which it writes while it waits for
    the others: with its next heartbeat. (Written at once, nothing that the leader says could come
    before it, by the order of effects.)
    """

    def __init__(self, keys: Keys, chain: Hash, rng: Rng, settings: Settings | None = None) -> None:
        super().__init__(keys, chain, rng, settings)
        self.unwritten: list[Any] = []

    def get_holders(self, index: int) -> dict[Address, None]:
        return {**super().get_holders(index), self.me: None}

    def take(self) -> list[Any]:
        effects = super().take()
        if self.role != "leader" or any(self.has_to_follow(e) for e in effects):
            effects, self.unwritten = [*self.unwritten, *effects], []
            return effects
        own = [e for e in effects if type(e) is Persist]
        self.unwritten += own
        return [e for e in effects if e not in own]

    def has_to_follow(self, effect: Any) -> bool:
        """Whether an effect is one that the leader writes its own entries before."""
        if type(effect) is SetTimer:
            return effect.timer.kind == "heartbeat"
        return type(effect) is Checkpoint or (
            type(effect) is Persist and not isinstance(effect.record, Written)
        )


class ForgetsSuffix(Raft):
    """A state that is taken over throws away all of the log, also what follows the state."""

    def install(self, now: Nanoseconds, base: Base) -> None:
        self.log.entries.clear()
        super().install(now, base)


PAPER = "Ongaro, Ousterhout 2014"
THESIS = "Ongaro, thesis"
OURS = "contract of an engine, rule 2"
PROFILES = {"r11-leaves-at-once": "membership"}
"""It takes a member with half of the power that is voted out in the right moment."""
_BUGS: tuple[tuple[str, str, str, str, type[Raft]], ...] = (
    (
        "r1-old-term",
        "an entry of an older term is committed by counting",
        f"{PAPER}, figure 8",
        "commitment",
        CommitsOldTerms,
    ),
    ("r2-vote-not-kept", "votedFor is not durable", PAPER, "write first", ForgetsVotes),
    (
        "r3-any-log",
        "votes are given to candidates whose log lacks what is committed",
        f"{PAPER}, section 5.4.1",
        "commitment",
        VotesForAnyLog,
    ),
    (
        "r4-truncate",
        "every AppendEntries truncates the log",
        f"{PAPER}, figure 2, rule 3; a sibling in CCF",
        "commitment",
        AlwaysTruncates,
    ),
    ("r5-half", "half of the members are a majority", "catalogue R5", "commitment", HalfIsEnough),
    (
        "r6-old-leader",
        "entries of a term that is over are taken",
        PAPER,
        "agreement",
        TakesOldTerms,
    ),
    (
        "r7-no-match",
        "entries are taken without comparing the one before them",
        f"{PAPER}, figure 2, rule 2",
        "agreement",
        NeverCompares,
    ),
    (
        "r8-last-entry",
        "a follower commits up to its last entry instead of the last that was compared",
        f"{PAPER}, figure 2, rule 5",
        "agreement",
        CommitsWhatItHas,
    ),
    ("r9-two-votes", "a member votes twice in a term", PAPER, "one vote", VotesTwice),
    (
        "r10-new-members",
        "a change of members counts the new ones alone",
        "Amos, Zhang 2015; Ongaro 2015",
        "commitment",
        OnlyNewMembers,
    ),
    (
        "r11-leaves-at-once",
        "a member that is voted out stands no more, though its log or vote is needed",
        f"{PAPER}, section 6, as published; {THESIS}, section 4.2.2",
        "progress",
        LeavesAtOnce,
    ),
    (
        "r12-no-prevote",
        "no PreVote and no CheckQuorum: a member that hears nobody deposes leaders for ever",
        "Howard, Abraham 2020; Jensen 2021",
        "progress",
        NoTrialNoQuorum,
    ),
    (
        "r13-nack",
        "a refusal counts as an acknowledgement",
        "Howard and others, Smart Casual Verification, NSDI 2025",
        "commitment",
        CountsRefusals,
    ),
    (
        "r13-union",
        "majorities of old and new members are counted over both together",
        "Howard and others, Smart Casual Verification, NSDI 2025",
        "commitment",
        CountsUnion,
    ),
    (
        "r14-old-commit",
        "a new leader answers reads before it has committed an entry of its own term",
        f"{THESIS}, section 6.4",
        LINEARIZABLE,
        ReadsOldCommit,
    ),
    (
        "r14-unconfirmed",
        "a leader answers reads without asking whether it is one still",
        f"{THESIS}, section 6.4",
        LINEARIZABLE,
        ReadsUnconfirmed,
    ),
    (
        "r14-long-lease",
        "a lease lasts longer than others keep it, as by clocks that drift beyond the margin",
        f"{THESIS}, section 6.4.1",
        LINEARIZABLE,
        LongLease,
    ),
    ("raft-early-ack", "an acknowledgement leaves early", OURS, "write first", AcknowledgesEarly),
    (
        "raft-forgets-suffix",
        "a snapshot replaces all of the log, also what was acknowledged behind it",
        f"{PAPER}, figure 13, rule 6",
        "commitment",
        ForgetsSuffix,
    ),
    (
        "raft-own-count",
        "a leader counts itself before it is durable",
        OURS,
        "commitment",
        CommitsAlone,
    ),
)
register(
    *(
        Bug(name, title, source, breaks, replace_replica(replica), "raft", PROFILES.get(name, ""))
        for name, title, source, breaks, replica in _BUGS
    )
)
