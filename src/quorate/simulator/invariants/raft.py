"""The rules of Raft, judged by what members say and write.

Source: Ongaro and Ousterhout, extended version, figure 3 (the properties) and figure 2; the thesis,
section 4, for changing members. The judge follows every member's durable log and counts majorities
by itself.

Properties:

    election safety   at most one leader in a term
    one vote          a member votes for one candidate in a term, in all its lives
    write first       a vote or an acknowledgement is said only when it is durable
    log matching      entries of one index and term are the same everywhere
    commitment        what a leader calls committed is durable in a majority of the members of its
                      height, and of those of the next, and stays; what nobody called so before is
                      of the leader's own term (section 5.4.2)
"""

from collections.abc import Callable

from quorate.base.types import Address, Height, Member
from quorate.consensus.raft_certificate import decode_certificate
from quorate.consensus.raft_types import (
    Append,
    Appended,
    Ballot,
    Based,
    Entry,
    Learned,
    VoteReply,
    Written,
)
from quorate.crypto.hashes import keccak256
from quorate.simulator.invariants.chain import Report

__all__ = ["RaftRules"]

NOBODY = bytes(20)


class Durable:
    """What is durable of one member: its votes and its log, as index -> term."""

    __slots__ = ("base", "last", "log", "term", "votes")

    def __init__(self) -> None:
        self.term = 0
        """The last one that it wrote down."""
        self.votes: dict[int, Address] = {}
        self.log: dict[int, int] = {}
        self.last = 0
        """The highest index of the log."""
        self.base = 0
        """Everything up to here was learned to be decided."""

    def has(self, index: int, term: int) -> bool:
        return index <= self.base or self.log.get(index) == term

    def put(self, entry: Entry) -> None:
        self.log[entry.index] = entry.term
        self.last = max(self.last, entry.index)

    def truncate(self, index: int, gone: dict[int, int]) -> None:
        """Forget what follows an index, and note in `gone` what that was at first."""
        for at in range(index + 1, self.last + 1):
            term = self.log.pop(at, None)
            if term is not None:
                gone.setdefault(at, term)
        self.last = min(self.last, index)

    def clear(self, gone: dict[int, int]) -> None:
        """Forget all of the log, likewise."""
        self.log, old = {}, self.log
        self.last = 0
        for index, term in old.items():
            gone.setdefault(index, term)


class RaftRules:
    """Told what is said and written; reports what breaks a rule."""

    __slots__ = (
        "committed",
        "entries",
        "get_members",
        "highest",
        "is_final",
        "leaders",
        "members",
        "report",
    )

    def __init__(
        self,
        get_members: Callable[[Height], list[Member] | None],
        report: Report,
        is_final: Callable[[Height], bool] = lambda _: False,
    ) -> None:
        """`get_members` returns who agrees on a height, None while that is not known; `is_final`
        whether a machine has made a height final.
        """
        self.get_members, self.report, self.is_final = get_members, report, is_final
        self.highest: Height = 0
        """Of the payloads that anybody wrote or sent."""
        self.members: dict[Address, Durable] = {}
        self.leaders: dict[int, Address] = {}
        self.entries: dict[tuple[int, int], tuple[bytes, int, bool]] = {}
        """(index, term) -> hash and height of the entry, and whether it holds a payload."""
        self.committed: dict[int, int] = {}
        """Index -> term of what leaders called committed."""

    def get(self, who: Address) -> Durable:
        found = self.members.get(who)
        if found is None:
            found = self.members[who] = Durable()
        return found

    # ---- what is written

    def keep(
        self, who: Address, records: list[object], *, start: bool = False, cut: bool = False
    ) -> None:
        """Records of a member are durable, together; with `start` it begins anew from them, with
        `cut` they replace all that it had written about what lies above its store.
        """
        kept = self.get(who)
        gone: dict[int, int] = {}
        if cut:
            kept.truncate(kept.base, gone)
        for record in records:
            if isinstance(record, Ballot):
                self.keep_ballot(who, kept, record)
            elif isinstance(record, Written):
                kept.truncate(record.prev_index, gone)
                for entry in record.entries:
                    kept.put(entry)
                    self.match(who, entry)
            elif isinstance(record, (Learned, Based)):
                certificate = decode_certificate(record.certificate)
                if kept.log.get(certificate.index) != certificate.envelope.round:
                    kept.clear(gone)
                kept.base = max(kept.base, certificate.index)
        if start:
            return
        for index, term in gone.items():
            # The same entries may have been written once more, when a journal was cut.
            if self.committed.get(index) == term and not kept.has(index, term):
                self.report("commitment", f"gives up entry {index}, which is committed", who)

    def trust(self, who: Address, certificate: bytes) -> None:
        """A member starts from a store that holds everything up to here."""
        kept, known = self.get(who), decode_certificate(certificate)
        if kept.log.get(known.index, known.envelope.round) != known.envelope.round:
            kept.clear({})
        kept.base = max(kept.base, known.index)

    def keep_ballot(self, who: Address, kept: Durable, record: Ballot) -> None:
        kept.term = max(kept.term, record.term)
        if record.voted_for == NOBODY:
            return
        known = kept.votes.setdefault(record.term, record.voted_for)
        if known != record.voted_for:
            self.report(
                "one vote",
                f"term {record.term}: votes for 0x{record.voted_for.hex()} "
                f"and voted for 0x{known.hex()}",
                who,
            )

    def match(self, who: Address, entry: Entry) -> None:
        """Log matching: the index and the term name the entry."""
        found = (
            keccak256(entry.envelope + entry.payload),
            entry.height,
            bool(entry.envelope),
        )
        known = self.entries.setdefault((entry.index, entry.term), found)
        self.highest = max(self.highest, entry.height)
        if known != found:
            self.report(
                "log matching",
                f"entry {entry.index} of term {entry.term} is of height {entry.height}, "
                f"and another has one of height {known[1]} there",
                who,
            )

    # ---- what is said

    def judge_append(self, who: Address, m: Append) -> None:
        leader = self.leaders.setdefault(m.term, who)
        if leader != who:
            self.report("election safety", f"leads term {m.term}, as 0x{leader.hex()} does", who)
        for entry in m.entries:
            self.match(who, entry)
        self.judge_commit(who, m.commit, m.term)

    def judge_commit(self, who: Address, commit: int, in_term: int) -> None:
        """Every index up to a commit index is durable with majorities, and the last one is of the
        leader's term unless it was known to be committed.
        """
        kept = self.get(who)
        index = commit
        last = kept.log.get(commit)
        known = None if last is None else self.entries.get((commit, last))
        # That a payload exists proves that the one below it is committed.
        if (
            known is not None
            and last != in_term
            and commit > kept.base
            and commit not in self.committed
            and known[1] >= self.highest
            and not self.is_final(known[1])
        ):
            text = f"calls entry {commit} of term {last} committed in term {in_term}"
            self.report("commitment", f"{text}, expected one of that term", who)
        while index > 0 and index not in self.committed:
            term = kept.log.get(index)
            if term is None and index > kept.base:
                # It leads, so what it has not kept yet is of its own term.
                term = in_term
            known = None if term is None else self.entries.get((index, term))
            if term is None or known is None:
                # Below what this member has in its log: decided before it led.
                return
            self.committed[index] = term
            if known[2] or index == commit:
                # What lies between is a no-op, which nobody ever delivers.
                self.judge_holders(who, index, term, known[1])
            index -= 1

    def judge_holders(self, who: Address, index: int, term: int, height: Height) -> None:
        for at in (height, height + 1):
            members = self.get_members(max(at, 1))
            if members is None:
                continue
            total = sum(member.power for member in members)
            held = sum(m.power for m in members if self.covers(m.address, index, term))
            if 2 * held <= total:
                self.report(
                    "commitment",
                    f"calls entry {index} of term {term} committed, which power {held} of {total} "
                    f"of the members of height {at} holds, expected more than half",
                    who,
                )

    def covers(self, who: Address, index: int, term: int) -> bool:
        kept = self.members.get(who)
        return kept is not None and kept.has(index, term)

    def judge_vote(self, who: Address, m: VoteReply) -> None:
        if m.granted and not m.trial and m.term not in self.get(who).votes:
            self.report("write first", f"says a vote of term {m.term} that is not kept", who)

    def judge_appended(self, who: Address, m: Appended) -> None:
        kept = self.get(who)
        if m.success and m.index > kept.base and m.index not in kept.log:
            self.report("write first", f"acknowledges entry {m.index}, which is not kept", who)
        leader = self.leaders.get(m.term)
        if not m.success or leader is None or leader == who:
            return
        # While both are in that term, what is acknowledged is what the leader has there.
        theirs = self.get(leader)
        ours, other = kept.log.get(m.index), theirs.log.get(m.index)
        same = ours is None or other is None or ours == other
        if not same and max(kept.term, theirs.term) <= m.term:
            text = f"acknowledges entry {m.index} of term {ours} in term {m.term}"
            self.report("log matching", f"{text}, whose leader has one of term {other} there", who)
