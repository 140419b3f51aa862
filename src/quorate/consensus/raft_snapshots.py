"""Raft's part in taking over the application's state at a height (sections as in `raft`).

InstallSnapshot (section 7, figure 13) in our words: what a leader no longer has in its log, others
hold as the state after a height. The host fetches that state from any member, in chunks, checks it
and installs it; here the log follows. What the paper's snapshot says of itself (last included index
and term) is in the certificate of its height, what it says of the configuration are the members.

Deviations: any member serves, not the leader alone, so a follower's need costs the leader nothing.
The state is durable before the log moves. A crash between the two leaves records in the journal
that end below the new base, or that contradict it; `Log.restore` knows them.
"""

from typing import ClassVar

from quorate.base.errors import Invalid
from quorate.base.native import mypyc_attr
from quorate.base.types import Height, Nanoseconds
from quorate.consensus.certificate import encode_envelope
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.raft_certificate import decode_certificate
from quorate.consensus.raft_reads import Reads
from quorate.consensus.raft_types import ENGINE, Ballot, Based, Written
from quorate.consensus.replica import Base, Checkpoint, Persist, Record, StateClaim
from quorate.crypto.hashes import keccak256


@mypyc_attr(allow_interpreted_subclasses=True)
class Snapshots(Reads):
    """A replica whose log can begin anew at a height that the application has jumped to."""

    __slots__ = ()

    TAKES_STATE: ClassVar[bool] = True

    def find_state_fault(self, claim: StateClaim) -> str:
        """A member's word suffices; all else is compared so that what is damaged is noticed."""
        height, envelope = claim.height, claim.envelope
        if not any(claim.sender in known.powers for known in self.sets.values()):
            return "offered by a stranger"
        try:
            lower = decode_certificate(claim.certificate).envelope
            upper = decode_certificate(claim.next_certificate).envelope
            own, following, last = (ValidatorSet(known).hash for known in claim.members)
        except (Invalid, ValueError) as error:
            return str(error)
        found = (lower.engine, lower.height, lower.members, lower.next_members)
        if found != (ENGINE, height, own, following):
            return f"its certificate is not of height {height} and its members"
        if keccak256(encode_envelope(lower)) != envelope:
            return "its certificate is about another envelope"
        found = (upper.engine, upper.height, upper.members, upper.next_members)
        if found != (ENGINE, height + 1, following, last) or upper.parent != envelope:
            return f"the certificate after it does not follow height {height}"
        return "" if upper.payload == claim.payload else "the payload after it is another one"

    def install(self, now: Nanoseconds, base: Base) -> None:
        """Figure 13, InstallSnapshot, rules 5 to 8."""
        known = decode_certificate(base.certificate)
        if self.role != "follower":
            # Whoever leads has the whole log, so others have elected somebody since.
            self.leader = None
            self.rest(now)
        self.log.rebase(known.index, known.envelope.round, base.height)
        self.matched = min(self.matched, self.log.last_index)
        self.commit = max(self.commit, known.index)
        self.applied_height = base.height
        if base.height > self.height:
            self.height, self.parent = base.height, base.envelope
        self.sets.clear()
        sets = (base.own_members, base.members, base.next_members)
        for height, members in enumerate(sets, base.height):
            self.know_members(height, members)
        self.out.append(Persist(Based(base.height, base.certificate)))
        self.rebase_journal(base.height, known.index)
        if "election" not in self.timers:
            self.rest(now)

    def rebase_journal(self, height: Height, index: int) -> None:
        """Let the journal begin behind an entry that is the application's last."""
        self.heights_since_checkpoint = self.bytes_since_checkpoint = 0
        records: list[Record] = [Ballot(self.term, self.voted_for)]
        later = self.log.entries[index - self.log.base_index :]
        if later:
            records.append(Written(index, later))
        self.out.append(Checkpoint(height, records))
