"""Raft's terms and roles: who stands, who votes, and when a leader is one no more.

Sections as in `quorate.consensus.raft`.
"""

from abc import abstractmethod
from typing import Final

from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.base.types import MILLISECOND, Address, Hash, Height, Member, Nanoseconds
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.raft_certificate import has_majority
from quorate.consensus.raft_log import Log
from quorate.consensus.raft_types import Ballot, RequestVote, Settings, TimeoutNow, VoteReply
from quorate.consensus.replica import (
    CancelTimer,
    Keys,
    Message,
    Persist,
    Replica,
    Send,
    SetTimer,
    Timer,
)

NOBODY: Final = bytes(20)
TIMERS: Final = {
    kind: Timer(kind) for kind in ("election", "heartbeat", "quorum", "successor", "commit", "read")
}
MAX_TERM_JUMP: Final = 1 << 24
"""Elections that nobody here heard of; a term further ahead is nonsense, and could use up all."""


class Progress:
    """What a leader knows of a follower."""

    __slots__ = ("due", "heard", "match", "next", "tries")

    def __init__(self, next_index: int) -> None:
        self.next = next_index
        self.match = 0
        """nextIndex and matchIndex of figure 2."""
        self.heard = True
        """Since the last look for a quorum (T6.2)."""
        self.tries = 0
        self.due: Nanoseconds = 0
        """When what is not acknowledged may be sent again."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Elections(Replica):
    """The state of a Raft replica and its elections; replication is in a subclass."""

    __slots__ = (
        "applied_height",
        "bytes_since_checkpoint",
        "commit",
        "committed_at",
        "heard_at",
        "height",
        "heights_since_checkpoint",
        "hurries",
        "is_large",
        "kept",
        "log",
        "matched",
        "parent",
        "patience",
        "peers",
        "put_off",
        "role",
        "sets",
        "settings",
        "successor",
        "term",
        "timers",
        "told",
        "voted_for",
        "votes",
        "wanted",
    )

    log: Log
    parent: Hash
    height: Height
    """The last that was delivered."""

    def __init__(self, keys: Keys, chain: Hash, rng: Rng, settings: Settings | None = None) -> None:
        super().__init__(keys, chain, rng)
        self.settings = settings or Settings()
        self.sets: dict[Height, ValidatorSet] = {}
        self.told: tuple[list[Member], ValidatorSet] | None = None
        """The members that were told last, and their set."""
        self.timers: dict[str, Nanoseconds] = {}
        self.patience: Nanoseconds = 0
        """How long no leader must be heard before this follower stands (5.2)."""
        self.put_off = False
        """Whether a leader was heard since the election timer was set, which falls too early."""
        self.term = 0
        self.voted_for: Address = NOBODY
        self.role = "follower"
        """"follower", "trial" (T9.6), "candidate" or "leader"."""
        self.heard_at: Nanoseconds = 0
        """When a leader was last heard, or may have been: at the start."""
        self.votes: dict[Address, None] = {}
        self.peers: dict[Address, Progress] = {}
        self.commit = 0
        """commitIndex of figure 2."""
        self.committed_at: Nanoseconds = 0
        """When this leader found something committed last."""
        self.hurries = False
        """Whether the last entry came so soon after that that another may."""
        self.is_large = False
        """Whether the last entry is, so that the next one takes long to come."""
        self.successor: Address | None = None
        """Who shall lead instead of this leader, as soon as it has the whole log (T3.10)."""
        self.applied_height = 0
        self.wanted: Height = 0
        """The height that a payload was asked for in this term."""
        self.matched = 0
        """Up to which index this log is known to equal that of the leader of this term."""
        self.kept = 0
        """Up to which index this leader's own log is durable."""
        self.heights_since_checkpoint = self.bytes_since_checkpoint = 0

    # ---- roles

    def rest(self, now: Nanoseconds) -> None:
        """Be a follower that stands for election when no leader is heard for long (5.2)."""
        self.role = "follower"
        self.votes, self.peers = {}, {}
        self.wanted, self.successor = 0, None
        for kind in ("heartbeat", "quorum", "successor", "commit"):
            self.cancel_timer(kind)
        self.put_off = False
        if self.may_be_needed():
            wait = self.settings.election_ms * MILLISECOND
            self.patience = wait + self.rng.below(wait)
            self.set_timer(now, "election", self.patience)
        else:
            self.cancel_timer("election")

    def observe(self, now: Nanoseconds, term: int) -> None:
        """F2, all servers: a higher term makes a follower."""
        if term > self.term:
            self.term, self.voted_for, self.leader, self.matched = term, NOBODY, None, 0
            self.out.append(Persist(Ballot(term, NOBODY)))
            self.rest(now)

    def get_sets(self) -> list[ValidatorSet]:
        """Return the sets whose majorities count for a log that ends where this one does."""
        height = self.log.last_height
        return [self.sets[h] for h in (height, height + 1) if h in self.sets]

    def may_be_needed(self) -> bool:
        """Whether somebody may need this member's vote: whose log ends like this one's, or a height
        earlier. Whom it refuses by 5.4.1 depends on it to stand itself, though it decides nothing
        any more (section 6: a leader that is not part of the new configuration).
        """
        height = self.log.last_height
        heights = (height - 1, height, height + 1)
        return any(h in self.sets and self.me in self.sets[h].powers for h in heights)

    def is_chosen(self, holders: dict[Address, None], height: Height) -> bool:
        """Whether these are majorities of both sets that decide at a height."""
        first, second = self.sets.get(height), self.sets.get(height + 1)
        if first is None or second is None or not has_majority(first.members, holders):
            return False
        return second is first or has_majority(second.members, holders)

    def is_hearing(self, now: Nanoseconds) -> bool:
        """Whether there may be a leader as far as this member knows (T4.2.3)."""
        if self.role == "leader":
            return True
        # Whatever else it has heard meanwhile: the leader may rely on it (T6.4.1).
        return now < self.heard_at + self.settings.election_ms * MILLISECOND

    def follow(self, now: Nanoseconds, leader: Address, term: int) -> bool:
        """Who leads a term that is not over has said something; whether this member follows it."""
        self.observe(now, term)
        if self.role == "leader":
            self.drop("two leaders in a term")
            return False
        if self.role == "follower" and leader == self.leader and "election" in self.timers:
            # Most messages of a leader change nothing else, so the timer runs on as it is, and is
            # set again for what is left when it falls.
            self.heard_at = now
            self.timers["election"] = now + self.patience
            self.put_off = True
            return True
        self.leader, self.heard_at = leader, now
        self.rest(now)
        return True

    def is_stranger(self, sender: Address, index: int) -> bool:
        """Whether somebody is a member of no configuration that may hold (section 6).

        Whose log goes on behind the end of this one may be a member that is not known here yet.
        """
        if index > self.log.last_index or any(sender in s.powers for s in self.sets.values()):
            return False
        self.drop("stranger")
        return True

    def receive(self, now: Nanoseconds, sender: Address, message: Message) -> None:
        if getattr(message, "term", 0) > self.term + MAX_TERM_JUMP:
            self.drop("term")
            return
        super().receive(now, sender, message)

    def on_timeout_election(self, now: Nanoseconds) -> None:
        """5.2, T9.6: ask whether an election could be won before starting it."""
        if self.put_off:
            self.put_off = False
            left = self.heard_at + self.patience - now
            # A clock that stands still or jumps must not make the wait longer than any other.
            self.set_timer(now, "election", max(1, min(left, self.patience)))
            return
        self.rest(now)
        if "election" not in self.timers:
            # Nobody needs this member any more.
            return
        self.leader = None
        if self.log.last_height + 1 not in self.sets:
            return
        self.role = "trial"
        self.ask_for_votes(now, self.term + 1, trial=True, told=False)

    def stand(self, now: Nanoseconds, *, told: bool) -> None:
        """F2, candidates: a new term, a vote for oneself, RequestVote to all others."""
        self.rest(now)
        self.role, self.leader = "candidate", None
        self.term, self.voted_for, self.matched = self.term + 1, self.me, 0
        self.out.append(Persist(Ballot(self.term, self.me)))
        self.ask_for_votes(now, self.term, trial=False, told=told)

    def ask_for_votes(self, now: Nanoseconds, term: int, *, trial: bool, told: bool) -> None:
        request = RequestVote(term, self.log.last_index, self.log.last_term, trial, told)
        for address in self.get_others():
            self.out.append(Send(address, request))
        self.out.append(Send(self.me, VoteReply(term, True, trial)))

    def on_request_vote(self, now: Nanoseconds, sender: Address, m: RequestVote) -> None:
        """F2, RequestVote."""
        if self.is_stranger(sender, m.last_index):
            return
        if self.is_hearing(now) and not m.told:
            # T4.2.3: whoever missed the leader must not depose it.
            self.drop("vote while a leader is heard")
            return
        mine = (self.log.last_term, self.log.last_index)
        complete = (m.last_term, m.last_index) >= mine  # 5.4.1
        if m.trial:
            granted = m.term > self.term and complete
            self.out.append(
                Send(sender, VoteReply(m.term if granted else self.term, granted, True))
            )
            return
        self.observe(now, m.term)
        granted = m.term == self.term and complete and self.voted_for in (NOBODY, sender)
        if granted and self.voted_for == NOBODY:
            self.voted_for = sender
            self.out.append(Persist(Ballot(self.term, sender)))
        if granted:
            self.rest(now)
        self.out.append(Send(sender, VoteReply(self.term, granted, False)))

    def on_vote_reply(self, now: Nanoseconds, sender: Address, m: VoteReply) -> None:
        if not m.granted:
            self.observe(now, m.term)
            return
        wanted = ("trial", self.term + 1) if m.trial else ("candidate", self.term)
        if (self.role, m.term) != wanted:
            self.drop("stale vote")
            return
        self.votes[sender] = None
        if self.is_chosen(self.votes, self.log.last_height):
            if m.trial:
                self.stand(now, told=False)
            else:
                self.become_leader(now)

    def on_timeout_now(self, now: Nanoseconds, sender: Address, m: TimeoutNow) -> None:
        """T3.10."""
        if m.term == self.term and sender == self.leader and "election" in self.timers:
            self.stand(now, told=True)
        else:
            self.drop("stale order")

    @abstractmethod
    def become_leader(self, now: Nanoseconds) -> None:
        """Lead the term that was won."""

    # ---- memory

    def get_others(self) -> list[Address]:
        """Return everybody else in the sets that count or come next, each once."""
        height = self.log.last_height
        found: dict[Address, None] = {}
        for h in (height, height + 1, height + 2):
            if h in self.sets:
                found.update(dict.fromkeys(self.sets[h].addresses))
        found.pop(self.me, None)
        return list(found)

    def know_members(self, height: Height, members: list[Member]) -> None:
        """Remember who decides at a height; equal sets share one object."""
        if self.told is None or self.told[0] is not members:
            equal = (known for known in self.sets.values() if list(known.members) == members)
            self.told = members, next(equal, None) or ValidatorSet(members)
        self.sets[height] = self.told[1]

    def set_timer(self, now: Nanoseconds, kind: str, delay_ns: Nanoseconds) -> None:
        self.timers[kind] = now + delay_ns
        self.out.append(SetTimer(TIMERS[kind], delay_ns))

    def cancel_timer(self, kind: str) -> None:
        if self.timers.pop(kind, None) is not None:
            self.out.append(CancelTimer(TIMERS[kind]))
