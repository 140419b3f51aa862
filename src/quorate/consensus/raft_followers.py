"""What a Raft follower does with entries, and how any member delivers what is committed (5.3, F2).

Sections as in `quorate.consensus.raft`.
"""

from typing import Final

from quorate.base.errors import Invalid
from quorate.base.native import mypyc_attr
from quorate.base.types import Address, Hash, Height, Nanoseconds
from quorate.consensus.certificate import (
    encode_envelope,
    get_parent,
    names,
    verify_payloads,
)
from quorate.consensus.raft_certificate import compose_certificate, decode_certificate
from quorate.consensus.raft_snapshots import Snapshots
from quorate.consensus.raft_types import (
    ENGINE,
    LARGE_BYTES,
    Append,
    Appended,
    Commit,
    Entry,
    Learned,
    Written,
)
from quorate.consensus.replica import Decision, Deliver, Head, Persist, Send
from quorate.crypto.hashes import hash_payload, keccak256

ENGINE_NAME: Final = ENGINE.encode().ljust(16, b"\0")
"""As envelopes have it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Followers(Snapshots):
    """A replica that takes entries from a leader, and finished heights from any member."""

    __slots__ = ()

    def on_append(self, now: Nanoseconds, sender: Address, m: Append) -> None:
        """F2, AppendEntries."""
        if sender != self.leader and self.is_stranger(sender, max(m.prev_index, m.commit)):
            return
        if m.term < self.term:
            self.out.append(Send(sender, Appended(self.term, False, 0)))  # rule 1
            return
        if not self.follow(now, sender, m.term):
            return
        log, previous, entries = self.log, m.prev_index, m.entries
        if any(e.index != previous + 1 + i or e.term > m.term for i, e in enumerate(entries)):
            self.drop("entries")
            return
        if previous < log.base_index:
            # Everything up to the base is decided, so it is the same.
            entries = entries[log.base_index - previous :]
            previous = log.base_index
        elif log.get_term(previous) != m.prev_term:  # rule 2
            following = log.last_index
            if previous <= following:
                following = max(log.find_first(previous) - 1, log.base_index)
            self.out.append(Send(sender, Appended(self.term, False, following)))
            return
        if not are_sound(entries, log.get_height(previous)):
            self.drop("entries")
            return
        if sum(len(entry.payload) for entry in entries) >= LARGE_BYTES:
            # Writing it takes long as well; then it is executed meanwhile.
            self.foresee(entries)
        if not self.write(entries):
            return
        matching = previous + len(entries)
        self.matched = max(self.matched, matching)
        self.out.append(Send(sender, Appended(self.term, True, matching)))
        self.commit_to(min(m.commit, matching), {sender: None, self.me: None})  # rule 5
        self.foresee(entries)

    def on_commit(self, now: Nanoseconds, sender: Address, m: Commit) -> None:
        """F2, AppendEntries rule 5, of entries that were compared before."""
        if m.term != self.term or sender != self.leader or self.role == "leader":
            self.drop("stale commit")
            return
        self.commit_to(min(m.commit, self.matched), {sender: None, self.me: None})

    def write(self, entries: list[Entry]) -> bool:
        """Rules 3 and 4: what contradicts the leader goes, what is new is kept. Whether it could
        be: nothing that is committed is ever given up.
        """
        log = self.log
        for i, entry in enumerate(entries):
            known = log.get_term(entry.index)
            if known == entry.term:
                continue
            if known is not None:
                if entry.index <= self.commit:
                    self.drop("contradicts what is committed")
                    return False
                log.truncate(entry.index - 1)
            fresh = entries[i:]
            log.append(fresh)
            self.out.append(Persist(Written(entry.index - 1, fresh)))
            break
        return True

    def foresee(self, entries: list[Entry]) -> None:
        """Let the application execute ahead what will probably be committed, once the leader has
        its answer.
        """
        for entry in entries:
            if entry.envelope and entry.height > self.height:
                value = keccak256(entry.envelope)
                parent = get_parent(entry.envelope)
                self.out.append(Head(entry.height, entry.payload, value, parent))

    # ---- what is committed

    def commit_to(self, index: int, holders: dict[Address, None] | None) -> None:
        """Deliver payloads up to an index of the log, which are committed."""
        for at in range(self.commit + 1, min(index, self.log.last_index) + 1):
            entry = self.log.get(at)
            assert entry is not None
            self.commit = at
            if not entry.envelope or entry.height <= self.height:
                continue
            known = sorted(holders if holders is not None else {self.me: None})
            certificate = compose_certificate(entry.envelope, self.term, entry.index, known)
            self.deliver(entry.height, [entry.payload], keccak256(entry.envelope), certificate)

    def deliver(
        self, height: Height, payloads: list[bytes], value: Hash, certificate: bytes
    ) -> None:
        self.height, self.parent = height, value
        self.heights_since_checkpoint += 1
        self.bytes_since_checkpoint += sum(map(len, payloads))
        self.out.append(Deliver(height, payloads, value, certificate))

    def on_decision(self, now: Nanoseconds, sender: Address, m: Decision) -> None:
        """A finished height from a member, whose word suffices."""
        members = self.sets.get(m.height)
        if m.height != self.height + 1 or members is None:
            self.drop("stale" if m.height <= self.height else "ahead")
            return
        if not any(sender in known.powers for known in self.sets.values()):
            self.drop("stranger")
            return
        try:
            certificate = decode_certificate(m.certificate)
            envelope = certificate.envelope
            if (envelope.engine, envelope.height, envelope.parent, envelope.members) != (
                ENGINE,
                m.height,
                self.parent,
                members.hash,
            ):
                raise Invalid(f"decision: no successor at height {m.height}")
            verify_payloads(envelope, m.payloads)
        except Invalid:
            self.drop("decision")
            return
        if self.log.get_term(certificate.index) == envelope.round:
            self.commit_to(certificate.index, dict.fromkeys(certificate.holders))
            return
        if self.role == "leader":
            # Somebody else leads in a later term, or this could not have been decided without us.
            self.leader = None
            self.rest(now)
        self.out.append(Persist(Learned(m.height, m.payloads, m.certificate)))
        self.take_up(m.height, m.payloads, m.certificate)

    def take_up(self, height: Height, payloads: list[bytes], certificate: bytes) -> None:
        """Make a decided height the base of the log, and deliver it."""
        known = decode_certificate(certificate)
        self.log.rebase(known.index, known.envelope.round, height)
        self.commit = max(self.commit, known.index)
        self.deliver(height, payloads, keccak256(encode_envelope(known.envelope)), certificate)


def are_sound(entries: list[Entry], height: Height) -> bool:
    """Whether entries can follow one whose height is `height`: heights count payloads, and each
    envelope is one of this engine around the payload beside it.
    """
    for entry in entries:
        height += bool(entry.envelope)
        if entry.height != height or (entry.payload and not entry.envelope):
            return False
        if entry.envelope and not names(
            entry.envelope, ENGINE_NAME, height, entry.term, hash_payload(entry.payload)
        ):
            return False
    return True
