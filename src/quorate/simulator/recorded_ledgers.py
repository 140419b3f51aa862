"""Judges what networks of Raft and of proof of work have written, as `recorded` does for votes.

Of all stores: one block at a height, each naming the one before it and the payload that is there.
Of Raft's journals: one vote of a member in a term, and one entry for an index and a term, whoever
wrote it. Of chains of work: time, target and work of each header, by arithmetic of the judge's own.
"""

from abc import abstractmethod

from quorate.base.types import Address, Hash, Member
from quorate.crypto.hashes import keccak256
from quorate.simulator.invariants.chain import ENVELOPE_AT, ENVELOPE_END, name_payload
from quorate.simulator.invariants.pow import PowRules, VerifySeal
from quorate.simulator.invariants.raft import RaftRules
from quorate.simulator.recorded import Decision, Recorded, StoreJudge

__all__ = ["RaftJudge", "RecordedLedgers", "WorkJudge", "verify_seal"]

RAFT_PREFIX = 199
"""Bytes of a certificate of Raft before its holders, of 20 bytes each."""
WORK_BYTES = 221


def verify_seal(sealed: bytes, nonce: int, target: int) -> bool:
    """Whether a nonce is work for a header, which has none in it."""
    tried = keccak256(keccak256(sealed) + nonce.to_bytes(8, "big"))
    return int.from_bytes(tried, "big") <= target


class RecordedLedgers(StoreJudge):
    """Certificates that name an envelope, and what an engine adds to it instead of signatures."""

    def __init__(self, chain: Hash, genesis: list[Member]) -> None:
        super().__init__(chain, genesis, None)
        self.right: dict[bytes, None] = {}
        """Certificates in which nothing is wrong: most stores hold the same."""

    def judge_certificate(self, who: Address, found: Decision) -> None:
        if found.certificate in self.right:
            return
        fault = self.find_fault(found) or self.find_certificate_fault(found)
        if fault:
            self.report("certificate", f"height {found.height}: {fault}", who)
        else:
            self.right[found.certificate] = None

    def find_fault(self, found: Decision) -> str:
        """Return what is wrong with an envelope and its payload, or nothing."""
        envelope = found.certificate[ENVELOPE_AT:ENVELOPE_END]
        if keccak256(envelope) != found.envelope:
            return f"its certificate is of another envelope than 0x{found.envelope.hex()}"
        height = int.from_bytes(envelope[16:24], "big")
        if height != found.height:
            return f"the envelope is of height {height}"
        parent = self.chain.envelopes.get(height - 1)
        if envelope[52:84] != parent:
            return f"the parent is 0x{envelope[52:84].hex()}, which is not the block below"
        payloads = found.payloads
        payload = name_payload(payloads[0]) if payloads else b""
        if len(payloads) != 1 or envelope[148:180] != payload:
            return "the payload is not the one that the envelope names"
        return ""

    @abstractmethod
    def find_certificate_fault(self, found: Decision) -> str:
        """Return what is wrong with what an engine adds to an envelope."""

    def judge_journals(self, journals: list[Recorded]) -> None:
        self.judged.journals = len(journals)
        self.judged.records = sum(len(journal.records) for journal in journals)


class RaftJudge(RecordedLedgers):
    """What members that trust each other have written."""

    def find_certificate_fault(self, found: Decision) -> str:
        data = found.certificate
        count = int.from_bytes(data[RAFT_PREFIX - 2 : RAFT_PREFIX], "big")
        if data[0] != 2 or len(data) != RAFT_PREFIX + 20 * count:
            return f"{len(data)} bytes, expected a certificate of version 2"
        holders = [data[at : at + 20] for at in range(RAFT_PREFIX, len(data), 20)]
        sets = [self.chain.members.get(h, []) for h in (found.height, found.height + 1)]
        members = {member.address for members in sets for member in members}
        if not holders or len(set(holders)) != len(holders) or not members.issuperset(holders):
            return "its holders are no members, or named twice"
        return ""

    def judge_journals(self, journals: list[Recorded]) -> None:
        super().judge_journals(journals)
        rules = RaftRules(self.chain.members.get, self.report)
        for journal in journals:
            rules.keep(journal.address, list(journal.records), start=True)


class WorkJudge(RecordedLedgers):
    """What miners have written."""

    def __init__(
        self,
        chain: Hash,
        genesis: list[Member],
        settings: dict[str, int],
        verify: VerifySeal = verify_seal,
    ) -> None:
        """`settings` are those of the genesis file, by which blocks are valid."""
        super().__init__(chain, genesis)
        self.rules = PowRules(
            chain,
            interval_ms=settings["interval_ms"],
            window=settings["window"],
            initial_difficulty=settings["initial_difficulty"],
            min_difficulty=settings["min_difficulty"],
            verify_seal=verify,
            report=self.report,
        )

    def find_certificate_fault(self, found: Decision) -> str:
        data = found.certificate
        if data[0] != 3 or len(data) != WORK_BYTES:
            return f"{len(data)} bytes, expected a certificate of version 3"
        header = data[ENVELOPE_AT:ENVELOPE_END]
        fault = self.rules.find_header_fault(header)
        if fault:
            return fault
        work = self.rules.blocks[keccak256(header)].work
        told = int.from_bytes(data[ENVELOPE_END : ENVELOPE_END + 32], "big")
        return "" if told == work else f"it tells of {told} hashes from genesis on, expected {work}"
