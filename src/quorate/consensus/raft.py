"""Raft: a replicated log under crashes, with one leader a term.

Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm (Extended
Version)", 2014: `5.3` at a line is a section there, `F2` a rule of its figure 2. Ongaro,
"Consensus: Bridging Theory and Practice", 2014 (the thesis): `T9.6` is a section there.

Model: members by voting power of which less than half may crash and come back; nobody lies. Safety
needs no synchrony, progress needs a network that is mostly timely. Links may lose, repeat, delay
and reorder; the leader sends again what was not acknowledged. Who is told something by a member
believes it, so nothing here convinces a stranger.

In our words. Time is divided into terms with at most one leader each, elected by a majority; only
a member whose log is as complete as that of each voter wins. The leader alone appends to its log
and copies it to the others; an entry that a majority holds is committed, in the order of the log.
A follower whose log differs is corrected by the leader's.

Invariants: one vote of a member in a term, across crashes; an entry is acknowledged only when it
is durable; entries of one index and term are the same and so are all before them (log matching);
what is committed is in the log of every later leader (leader completeness).

Cost for n members and one height: n - 1 messages with the payload, n - 1 acknowledgements, one
write to disk each; the commit travels with the next entries if those follow soon, else in a message
of its own. An idle network exchanges heartbeats.

What goes beyond the paper, and deviations:
* Log index and height differ: a new leader's no-op (section 8) has an index and no height. Only
  entries with a payload are delivered, and a leader asks for the next payload when the last one
  was applied, so that a log never holds two undecided payloads: that the one of height h exists
  proves that h - 1 is committed.
* PreVote (T9.6), CheckQuorum (T6.2), and members that do not vote while they hear a leader (T4.2.3)
  are always on: a member that was cut off cannot depose a leader when it returns.
* Membership comes from the ledger: executing height h fixes the members of h + 2. Instead of joint
  configurations in the log (section 6), consecutive sets are joint: whatever concerns a log that
  ends at height h, its commitment as well as an election, takes a majority of the members of h and
  one of the members of h + 1. Why that is safe: let D be decided, and a candidate's log end at L
  without it. Entry L exists, so L - 1 is committed, and L is at most D. If L is D, election and
  decision need majorities of the same sets, so some voter held the decided entry. If L is less,
  L + 1 was decided as well, by a majority of the members of L + 1 among others, and the election
  needs one too: some voter held entry L + 1 and had the more complete log. Either refused its vote.
* A follower that is behind the base of its leader's log is helped by its host: block sync brings
  finished heights as `Decision`, which a member's word suffices for, or state sync the state at a
  height (`raft_snapshots`). Either becomes the base of its log.
* Only power counts, not heads; with equal powers that is the paper's majority.
* Reads without the log are in `raft_reads`, what a follower does with entries in `raft_followers`.
* A leader hands over by TimeoutNow (T3.10) when it is asked to, and when it is voted out once that
  is decided.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from quorate.base.errors import Corrupt
from quorate.base.native import mypyc_attr
from quorate.base.types import MILLISECOND, Address, Hash, Height, Member, Nanoseconds
from quorate.consensus.certificate import (
    Envelope,
    encode_envelope,
)
from quorate.consensus.raft_certificate import decode_certificate
from quorate.consensus.raft_elections import Progress
from quorate.consensus.raft_followers import Followers
from quorate.consensus.raft_log import Log
from quorate.consensus.raft_situation import describe_situation
from quorate.consensus.raft_types import (
    ENGINE,
    LARGE_BYTES,
    MAX_ENTRIES,
    Append,
    Appended,
    Ballot,
    Based,
    Commit,
    Confirm,
    Confirmed,
    Entry,
    Learned,
    ReadReply,
    ReadRequest,
    RequestVote,
    TimeoutNow,
    VoteReply,
    Written,
)
from quorate.consensus.replica import (
    NOTHING,
    Base,
    Decision,
    Message,
    Persist,
    Record,
    Send,
    Situation,
    Timer,
    Want,
)
from quorate.crypto.hashes import hash_payload

MAX_DOUBLINGS = 6
"""Of the pause before entries are sent again that were not acknowledged."""
BYTES_PER_MS = 1000
"""How thin a link may be before that pause is made longer for large entries."""
COMMIT_PAUSE = MILLISECOND
"""How long the next entries may keep others from learning what was committed, if the last ones came
as soon.
"""


@mypyc_attr(allow_interpreted_subclasses=True)
class Raft(Followers):
    """One member, or a follower that waits to become one."""

    __slots__ = ()

    WIRE: ClassVar[tuple[type[Message], ...]] = (
        Decision,
        RequestVote,
        VoteReply,
        Append,
        Appended,
        TimeoutNow,
        Confirm,
        Confirmed,
        ReadRequest,
        ReadReply,
        Commit,
    )
    RECORDS: ClassVar[tuple[type[Record], ...]] = (Ballot, Written, Learned, Based)
    TIMEOUTS: ClassVar[dict[str, Callable[[Any, Nanoseconds], None]]]

    # ---- start

    def start(self, now: Nanoseconds, base: Base, journal: Iterable[Record]) -> None:
        self.heard_at = now
        self.height = self.applied_height = base.height
        self.parent = base.envelope
        index = term = 0
        if base.certificate:
            known = decode_certificate(base.certificate)
            index, term = known.index, known.envelope.round
        self.log = Log(index, term, base.height)
        self.commit = index
        own = base.own_members or base.members
        for height, members in enumerate((own, base.members, base.next_members), base.height):
            self.know_members(height, members)
        for record in journal:
            self.replay(record)
        # A payload exists only if the one before it was committed.
        before = self.log.find_payload(self.log.last_height - 1)
        if before is not None:
            self.commit_to(before.index, None)
        self.rest(now)

    def replay(self, record: Record) -> None:
        """Take up a record that survived."""
        log = self.log
        if isinstance(record, Ballot):
            self.term, self.voted_for = record.term, record.voted_for
        elif isinstance(record, Written):
            log.restore(record.prev_index, record.entries)
        else:
            assert isinstance(record, (Learned, Based))
            if record.height <= self.height:
                log.settle(decode_certificate(record.certificate).index)
                return
            if isinstance(record, Based):
                raise Corrupt(f"journal: the state was taken over at height {record.height}")
            before = log.find_payload(record.height - 1)
            if before is not None:
                self.commit_to(before.index, None)
            if record.height != self.height + 1:
                raise Corrupt(
                    f"journal: a record of height {record.height}, expected {self.height + 1}"
                )
            self.take_up(record.height, record.payloads, record.certificate)

    # ---- inputs

    def submit(self, now: Nanoseconds, height: Height, payload: bytes) -> None:
        if (
            self.role != "leader"
            or self.successor is not None
            or payload == NOTHING
            or height != self.log.last_height + 1
            or height != self.applied_height + 1
        ):
            return
        if len(payload) > self.settings.max_payload_bytes:
            self.drop("own payload too large")
            return
        envelope = Envelope(
            ENGINE,
            height,
            self.term,
            self.me,
            self.parent,
            self.sets[height].hash,
            self.sets[height + 1].hash,
            hash_payload(payload),
        )
        self.lead(now, height, encode_envelope(envelope), payload)

    def checked(
        self, now: Nanoseconds, height: Height, payload: bytes, valid: bool, envelope: Hash = b""
    ) -> None:
        """Never asked for: what a leader proposes is believed, and a divergence shows in the hash
        of the block that the next payload names.
        """

    def applied(self, now: Nanoseconds, height: Height, members: list[Member]) -> None:
        self.applied_height = height
        self.know_members(height + 2, members)
        for old in [known for known in self.sets if known < height]:
            del self.sets[old]
        self.checkpoint(height)
        if self.role == "leader":
            if self.me not in self.sets[height + 1].powers:
                self.resign(now)
                return
            self.know_followers()
            self.replicate(now)
            self.want()
        elif "election" not in self.timers:
            self.rest(now)

    def timeout(self, now: Nanoseconds, timer: Timer) -> None:
        if self.timers.pop(timer.kind, None) is not None:
            self.TIMEOUTS[timer.kind](self, now)

    # ---- the leader

    def become_leader(self, now: Nanoseconds) -> None:
        """F2, leaders; section 8: an entry of its own term makes it commit what came before."""
        self.role, self.leader = "leader", self.me
        self.cancel_timer("election")
        self.know_followers()
        for progress in self.peers.values():
            progress.next = self.log.last_index + 1
        self.kept = 0
        self.own_index, self.lends = self.log.last_index + 1, True
        self.set_timer(now, "quorum", self.settings.election_ms * MILLISECOND)
        self.set_timer(now, "heartbeat", self.settings.heartbeat_ms * MILLISECOND)
        self.lead(now, self.log.last_height, b"", b"")
        self.want()

    def know_followers(self) -> None:
        """Keep progress of all who are members now or will be at the next height."""
        for address in self.get_others():
            if address not in self.peers:
                self.peers[address] = Progress(self.log.last_index + 1)

    def lead(self, now: Nanoseconds, height: Height, envelope: bytes, payload: bytes) -> None:
        """Append an entry and copy it to the others, while it is written here."""
        previous = self.log.last_index
        entry = Entry(self.term, previous + 1, height, envelope, payload)
        self.log.append([entry])
        self.is_large = len(payload) >= LARGE_BYTES
        self.hurries = not self.is_large and now - self.committed_at <= COMMIT_PAUSE
        self.cancel_timer("commit")
        self.replicate(now)
        self.out.append(Persist(Written(previous, [entry])))
        self.out.append(Send(self.me, Appended(self.term, True, entry.index)))

    def want(self) -> None:
        """Ask for the next payload once everything in the log has been applied."""
        height = self.log.last_height + 1
        idle = self.applied_height == height - 1 and self.successor is None
        if idle and self.wanted != height:
            self.wanted = height
            self.out.append(Want(height, self.parent))

    def replicate(self, now: Nanoseconds) -> None:
        """Send followers what they were not sent yet."""
        said: Append | None = None
        for address, progress in self.peers.items():
            if progress.next <= self.log.last_index:
                said = self.send_entries(now, address, progress, said)

    def send_entries(
        self, now: Nanoseconds, to: Address, progress: Progress, said: Append | None = None
    ) -> Append:
        """F2, AppendEntries from nextIndex on, which moves on as if it had been received.

        Returns the message. One that was `said` to another just now is said again if it is the
        same, since it is encoded but once.
        """
        log = self.log
        start = max(progress.next, log.base_index + 1)
        if said is None or said.prev_index != start - 1:
            entries = log.read(start, MAX_ENTRIES, self.settings.max_append_bytes)
            term = log.get_term(start - 1)
            assert term is not None
            said = Append(self.term, start - 1, term, entries, self.commit)
        self.out.append(Send(to, said))
        progress.next = start + len(said.entries)
        size = sum(len(entry.payload) for entry in said.entries)
        pause_ms = (self.settings.heartbeat_ms + size // BYTES_PER_MS) << progress.tries
        progress.tries = min(progress.tries + 1, MAX_DOUBLINGS)
        progress.due = now + pause_ms * MILLISECOND
        return said

    def on_timeout_heartbeat(self, now: Nanoseconds) -> None:
        """F2, leaders: be heard when idle, and send again what was not acknowledged."""
        log = self.log
        for address, progress in self.peers.items():
            if progress.match < log.last_index and now >= progress.due:
                progress.next = max(progress.match, log.base_index) + 1
                self.send_entries(now, address, progress)
                continue
            known = max(progress.match, log.base_index)
            term = log.get_term(known)
            assert term is not None
            self.out.append(Send(address, Append(self.term, known, term, [], self.commit)))
        self.repeat_round(now)
        self.urge_successor()
        self.set_timer(now, "heartbeat", self.settings.heartbeat_ms * MILLISECOND)

    def on_timeout_quorum(self, now: Nanoseconds) -> None:
        """T6.2: who does not hear from a majority for an election timeout is no leader."""
        heard = {address: None for address, progress in self.peers.items() if progress.heard}
        heard[self.me] = None
        if not self.is_chosen(heard, self.log.last_height):
            self.leader = None
            self.rest(now)
            return
        for progress in self.peers.values():
            progress.heard = False
        self.set_timer(now, "quorum", self.settings.election_ms * MILLISECOND)

    def on_appended(self, now: Nanoseconds, sender: Address, m: Appended) -> None:
        self.observe(now, m.term)
        if self.role != "leader" or m.term != self.term:
            self.drop("stale acknowledgement")
            return
        if sender == self.me:
            self.kept = max(self.kept, m.index)
            if m.index > self.commit:
                self.advance_commit(now)
            return
        progress = self.peers.get(sender)
        if progress is None:
            self.drop("stranger")
            return
        progress.heard = True
        if not m.success:
            # 5.3: try where the follower says, but only once for each answer.
            following = max(m.index, progress.match) + 1
            if following <= self.log.base_index:
                # Block sync brings what is no longer here. Sending the first entry that is would be
                # refused and lead here again, as fast as the network carries it.
                return
            if following < progress.next:
                progress.next = following
                self.send_entries(now, sender, progress)
            return
        if m.index > min(progress.match, self.log.last_index):
            progress.match = min(m.index, self.log.last_index)
            progress.tries = 0
            progress.next = max(progress.next, progress.match + 1)
            if progress.match > self.commit:
                self.advance_commit(now)
        if self.role == "leader" and progress.next <= self.log.last_index:
            self.send_entries(now, sender, progress)
        self.urge_successor()

    def advance_commit(self, now: Nanoseconds) -> None:
        """F2, leaders, last rule: what majorities hold and is of this term (figure 8)."""
        log = self.log
        for index in range(log.last_index, self.commit, -1):
            if log.get_term(index) != self.term:
                return
            holders = self.get_holders(index)
            if all(
                self.is_chosen(self.get_holders(last), height)
                for height, last in self.get_heights(index)
            ):
                if self.is_large:
                    # First of all, since to carry it out here takes a while.
                    self.tell_commit(index)
                self.commit_to(index, holders)
                self.committed_at = now
                # Others learn of it with the next entries if those are about to come.
                if self.hurries:
                    self.set_timer(now, "commit", COMMIT_PAUSE)
                elif not self.is_large:
                    self.tell_commit(index)
                self.begin_round(now)
                return

    def get_heights(self, index: int) -> list[tuple[Height, int]]:
        """Return the heights that end above the commit index up to an index, each with the index
        that concerns it last.
        """
        found: dict[Height, int] = {}
        for at in range(self.commit + 1, index + 1):
            found[self.log.get_height(at)] = at
        if len(found) > 1:
            # No-ops behind a payload that is committed need no majority of their own: its members
            # may be gone, and the next payload's majorities hold them as well.
            found.pop(self.log.get_height(self.commit), None)
        return list(found.items())

    def get_holders(self, index: int) -> dict[Address, None]:
        """Return who is known to hold an entry durably."""
        holders = {a: None for a, p in self.peers.items() if p.match >= index}
        if self.kept >= index:
            holders[self.me] = None
        return holders

    def on_timeout_commit(self, now: Nanoseconds) -> None:
        """The next entries are not there yet: nothing is in a hurry."""
        self.hurries = False
        self.tell_commit(self.commit)

    def tell_commit(self, index: int) -> None:
        """Let followers execute what is committed without waiting for the next message."""
        news = Commit(self.term, index)
        for address, progress in self.peers.items():
            # Who keeps a large one later than others shall not wait for the next message either.
            known = progress.next - 1 if self.is_large else progress.match
            if known >= index:
                self.out.append(Send(address, news))

    def hand_over(self, now: Nanoseconds, to: Address | None) -> str:
        """T3.10: take up no more payloads, and let another stand once its log is complete. If it
        does not within an election timeout, go on leading.
        """
        if self.role != "leader":
            return "this member does not lead"
        members = self.sets[self.height + 1].powers
        if to is None:
            to = self.find_best([who for who in self.peers if who in members])
        if to is None or to == self.me or to not in members or to not in self.peers:
            return f"0x{(to or self.me).hex()} is no other member"
        self.successor = to
        self.set_timer(now, "successor", self.settings.election_ms * MILLISECOND)
        self.urge_successor()
        return ""

    def urge_successor(self) -> None:
        """Tell the successor to stand, if it has the whole log; again, since links lose."""
        progress = self.peers.get(self.successor or b"")
        if progress is not None and progress.match == self.log.last_index:
            assert self.successor is not None
            self.give_up_lease()
            self.out.append(Send(self.successor, TimeoutNow(self.term)))

    def on_timeout_successor(self, now: Nanoseconds) -> None:
        """The successor did not come: it is down, or cannot win."""
        self.successor, self.wanted = None, 0
        self.want()

    def find_best(self, candidates: list[Address]) -> Address | None:
        """Return the follower with the most complete log among those lately heard, if any."""
        peers = self.peers
        return max(
            candidates, key=lambda who: (peers[who].heard, peers[who].match, who), default=None
        )

    def resign(self, now: Nanoseconds) -> None:
        """T3.10: no member any more, let the most complete follower stand at once."""
        if "commit" in self.timers:
            self.tell_commit(self.commit)
        best = self.find_best(list(self.peers))
        if best is not None:
            self.out.append(Send(best, TimeoutNow(self.term)))
        self.leader = None
        self.rest(now)

    def get_shown(self, message: Message) -> Height:
        """A payload is asked for when the one before it was executed, which entries show of their
        leader.
        """
        if type(message) is Append and message.entries:
            return message.entries[0].height - 1
        return -1

    # ---- memory

    def checkpoint(self, height: Height) -> None:
        """Let the journal be cut now and then, and forget old entries."""
        settings, log = self.settings, self.log
        if (
            self.heights_since_checkpoint < settings.checkpoint_heights
            and self.bytes_since_checkpoint < settings.checkpoint_bytes
        ):
            return
        entry = log.find_payload(height)
        index = log.base_index if entry is None else entry.index
        if entry is None and height != log.base_height:
            return
        self.rebase_journal(height, index)
        log.forget(index, settings.kept_entries)

    def get_situation(self, now: Nanoseconds) -> Situation:
        return describe_situation(self)


# Tables of functions stand behind their class: inside of it, a compiler may not have made them yet.
Raft.TIMEOUTS = {
    "election": Raft.on_timeout_election,
    "heartbeat": Raft.on_timeout_heartbeat,
    "quorum": Raft.on_timeout_quorum,
    "read": Raft.on_timeout_read,
    "successor": Raft.on_timeout_successor,
    "commit": Raft.on_timeout_commit,
}
Raft.HANDLERS = {
    Append: Raft.on_append,
    Appended: Raft.on_appended,
    RequestVote: Raft.on_request_vote,
    VoteReply: Raft.on_vote_reply,
    TimeoutNow: Raft.on_timeout_now,
    Decision: Raft.on_decision,
    Confirm: Raft.on_confirm,
    Confirmed: Raft.on_confirmed,
    ReadRequest: Raft.on_read_request,
    ReadReply: Raft.on_read_reply,
    Commit: Raft.on_commit,
}
