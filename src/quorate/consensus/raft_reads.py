"""Raft's linearizable reads without the log: ReadIndex and leases (thesis, sections 6.4 and 6.4.1).

ReadIndex. The leader, once it has committed an entry of its own term, notes its commit index and
lets a majority confirm that it leads; reads wait for that and for the application to be as far as
the index. All reads that come while one round is under way share the next. A follower asks its
leader for a height, also once for all reads that wait.

Why the members of the height after the committed one are the right ones to ask, whatever changes:
let the leader of term T have committed height C and be asked to read, and let T1 be the first later
term that anybody won before that. Its winner's log ends at height C or C + 1: it holds C (leader
completeness), and a payload at C + 2 would prove that C + 1 was committed, which the leader would
know, since it holds every entry of earlier terms that was. So a majority of the members of C + 1
chose it, and one of those would have to confirm T after that.

Leases. A member that hears its leader votes for nobody else for `election_ms` by its own clock, and
so does one that has just started, which may have heard one before. A round that a majority
confirmed is therefore as good as new for as long, counted from its beginning and shortened by what
clocks may be off: the leader's may be slow and the others' fast. An election that the leader itself
asked for (TimeoutNow) waits for nobody, and the order may be late, so that a leader that ever gave
it has no lease in that term any more.
"""

from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.base.types import MILLISECOND, Address, Hash, Height, Nanoseconds
from quorate.consensus.raft_certificate import has_majority
from quorate.consensus.raft_elections import Elections
from quorate.consensus.raft_types import Confirm, Confirmed, ReadReply, ReadRequest, Settings
from quorate.consensus.replica import Keys, Readable, Send

__all__ = ["Reads"]

REFUSED: Height = -1


class Round:
    """Reads that wait for a majority to confirm the leader."""

    __slots__ = ("asks", "began", "heard", "height", "number", "numbers")

    def __init__(
        self,
        number: int,
        began: Nanoseconds,
        height: Height,
        numbers: list[int],
        asks: dict[Address, int],
    ) -> None:
        self.number, self.began, self.height = number, began, height
        self.numbers, self.asks = numbers, asks
        self.heard: dict[Address, None] = {}


@mypyc_attr(allow_interpreted_subclasses=True)
class Reads(Elections):
    """Reads of this member and of followers that ask it."""

    __slots__ = (
        "asked",
        "asking",
        "asks",
        "confirming",
        "lease_until",
        "lends",
        "numbers",
        "own_index",
        "questions",
    )

    def __init__(self, keys: Keys, chain: Hash, rng: Rng, settings: Settings | None = None) -> None:
        super().__init__(keys, chain, rng, settings)
        self.numbers: list[int] = []
        """Reads of this member that wait for the next round, or the next request."""
        self.asks: dict[Address, int] = {}
        """Requests of followers that wait for the next round, the last of each."""
        self.confirming: Round | None = None
        self.questions = 0
        """Rounds and requests so far, which gives them numbers."""
        self.asked: list[int] = []
        """Reads that wait for the leader's answer to request `asking`."""
        self.asking = 0
        self.own_index = 0
        """Where the entry is that this leader's term began with."""
        self.lease_until: Nanoseconds | None = None
        self.lends = False
        """Whether this leader may have a lease in this term."""

    # ---- questions

    def read(self, now: Nanoseconds, number: int) -> None:
        if self.role == "leader":
            if self.has_lease(now):
                self.out.append(Readable(number, self.height))
                return
            self.numbers.append(number)
            self.begin_round(now)
        elif self.leader is None or self.leader == self.me:
            self.out.append(Readable(number, REFUSED))
        else:
            self.numbers.append(number)
            self.ask_leader(now)

    def on_read_request(self, now: Nanoseconds, sender: Address, m: ReadRequest) -> None:
        if self.role != "leader":
            self.out.append(Send(sender, ReadReply(m.number, REFUSED)))
        elif self.has_lease(now):
            self.out.append(Send(sender, ReadReply(m.number, self.height)))
        elif sender in self.peers:
            self.asks[sender] = m.number
            self.begin_round(now)
        else:
            self.drop("stranger")

    def ask_leader(self, now: Nanoseconds) -> None:
        """Ask for a height for all reads that wait, one request at a time."""
        if self.asked or not self.numbers or self.leader is None:
            return
        self.asked, self.numbers = self.numbers, []
        self.questions += 1
        self.asking = self.questions
        self.out.append(Send(self.leader, ReadRequest(self.asking)))
        self.set_timer(now, "read", self.settings.election_ms * MILLISECOND)

    def on_read_reply(self, now: Nanoseconds, sender: Address, m: ReadReply) -> None:
        if sender != self.leader or m.number != self.asking or not self.asked:
            self.drop("stale read")
            return
        for number in self.asked:
            self.out.append(Readable(number, m.height))
        self.asked = []
        self.cancel_timer("read")
        self.ask_leader(now)

    def on_timeout_read(self, now: Nanoseconds) -> None:
        """The request or its answer was lost, or the leader is not sure that it is one."""
        self.refuse_reads()

    # ---- the leader

    def is_current(self) -> bool:
        """Whether an entry of the leader's own term is committed: only then it knows what is."""
        return self.commit >= self.own_index

    def has_lease(self, now: Nanoseconds) -> bool:
        """Whether nobody else can have been elected yet, if clocks are as good as was said."""
        return self.lease_until is not None and now < self.lease_until and self.is_current()

    def give_up_lease(self) -> None:
        """Somebody may be elected at any time from now on, in spite of what was confirmed."""
        self.lends, self.lease_until = False, None

    def begin_round(self, now: Nanoseconds, *, empty: bool = False) -> None:
        """Ask the others to confirm this leader, for all reads that wait; with `empty` also for
        none.
        """
        waits = self.numbers or self.asks or empty
        if self.confirming is not None or not waits or not self.is_current():
            return
        self.questions += 1
        self.confirming = Round(self.questions, now, self.height, self.numbers, self.asks)
        self.numbers, self.asks = [], {}
        for address in self.peers:
            self.out.append(Send(address, Confirm(self.term, self.questions)))
        self.note_confirmed(now, self.me)

    def repeat_round(self, now: Nanoseconds) -> None:
        """Ask those again that have not answered, since links lose; and keep a lease alive."""
        if self.confirming is None:
            self.begin_round(now, empty=self.settings.lease_reads)
            return
        for address in self.peers:
            if address not in self.confirming.heard:
                self.out.append(Send(address, Confirm(self.term, self.confirming.number)))

    def on_confirm(self, now: Nanoseconds, sender: Address, m: Confirm) -> None:
        """A heartbeat: it says nothing of the log."""
        if sender != self.leader and self.is_stranger(sender, 0):
            return
        if m.term < self.term:
            self.out.append(Send(sender, Confirmed(self.term, m.number)))
            return
        if not self.follow(now, sender, m.term):
            return
        self.out.append(Send(sender, Confirmed(self.term, m.number)))

    def on_confirmed(self, now: Nanoseconds, sender: Address, m: Confirmed) -> None:
        self.observe(now, m.term)
        if self.role != "leader" or m.term != self.term or sender not in self.peers:
            self.drop("stale confirmation")
            return
        self.peers[sender].heard = True
        if self.confirming is not None and m.number == self.confirming.number:
            self.note_confirmed(now, sender)

    def note_confirmed(self, now: Nanoseconds, who: Address) -> None:
        """Answer the reads of a round when a majority has confirmed it."""
        done = self.confirming
        assert done is not None
        done.heard[who] = None
        if not has_majority(self.sets[self.height + 1].members, done.heard):
            return
        self.confirming = None
        if self.settings.lease_reads and self.lends:
            self.lease_until = done.began + self.compute_lease()
        for number in done.numbers:
            self.out.append(Readable(number, done.height))
        for address, number in done.asks.items():
            self.out.append(Send(address, ReadReply(number, done.height)))
        self.begin_round(now)

    def compute_lease(self) -> Nanoseconds:
        """How long a lease lasts by this member's clock."""
        drift = self.settings.clock_drift_percent
        return self.settings.election_ms * MILLISECOND * (100 - drift) // (100 + drift)

    # ---- the end of it

    def refuse_reads(self) -> None:
        """Whoever leads now, this member cannot answer what it was asked."""
        numbers, asks = [*self.asked, *self.numbers], self.asks
        if self.confirming is not None:
            numbers, asks = [*self.confirming.numbers, *numbers], {**self.confirming.asks, **asks}
        self.asked, self.numbers, self.asks, self.confirming = [], [], {}, None
        self.lease_until = None
        self.cancel_timer("read")
        for number in numbers:
            self.out.append(Readable(number, REFUSED))
        for address, asked in asks.items():
            self.out.append(Send(address, ReadReply(asked, REFUSED)))

    def rest(self, now: Nanoseconds) -> None:
        if self.role == "leader":
            self.refuse_reads()
        super().rest(now)

    def observe(self, now: Nanoseconds, term: int) -> None:
        if term > self.term:
            self.refuse_reads()
        super().observe(now, term)

    def on_timeout_election(self, now: Nanoseconds) -> None:
        self.refuse_reads()
        super().on_timeout_election(now)
