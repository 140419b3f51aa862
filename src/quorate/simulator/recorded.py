"""Judges what a real network has written: its validators' journals, and what their stores hold.

The judges are those of simulated runs. What differs is what can be known: a journal holds a
validator's own votes, and the votes of others that justified what it did; it is cut from time to
time, and some validators' files may not be at hand. So at each height:

* one vote and one proposal in a round are judged for everybody, by all that any journal holds;
* that a vote was kept before others saw it, for validators whose journal covers the height;
* polkas and locks, if the journals of all members cover it: the polka that allowed a vote may have
  been written down by another member.

Journals of validators that run are read one after another. To be sound all the same, what others
have seen (`Recorded.seen`) is read before what a validator has kept (`Recorded.records`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from msgspec import Struct

from quorate.base.types import Address, Hash, Height, Member
from quorate.consensus.certificate import PREVOTE
from quorate.consensus.membership import ValidatorSet
from quorate.consensus.replica import Record
from quorate.consensus.tendermint_types import (
    Decided,
    Entered,
    Polka,
    Proposal,
    Proposed,
    Vote,
    Voted,
)
from quorate.crypto.hashes import keccak256
from quorate.simulator.invariants.chain import (
    ENVELOPE_AT,
    ENVELOPE_END,
    Chain,
    Verify,
    compute_statement,
)
from quorate.simulator.invariants.tendermint import TendermintRules

__all__ = ["Decision", "Judged", "Recorded", "RecordedJudge"]

MEMBERS = slice(84, 116)
"""The hash of the members of its height in an envelope."""
MAX_FOUND = 100
"""Violations that are told; more would be the same ones again."""


class Decision(Struct, frozen=True):
    """What a store holds of a height."""

    height: Height
    block: Hash
    time_ms: int
    members: list[Member]
    """After it: they agree on the height two above."""
    envelope: Hash
    certificate: bytes
    payloads: list[bytes]


class Recorded(Struct, frozen=True):
    """The journal of one validator, read twice: `seen` before all others' `records`."""

    address: Address
    seen: list[Record]
    records: list[Record]


class Judged(Struct):
    """What was found, and how much was looked at."""

    found: list[tuple[str, str, Address]]
    """Property, what was found and expected, whose it is."""
    journals: int = 0
    records: int = 0
    votes: int = 0
    """Different ones, with a signature of their voter's."""
    proposals: int = 0
    heights: int = 0
    """Of which journals tell."""
    complete: int = 0
    """Heights at which polkas and locks could be judged too."""
    decisions: int = 0
    """Of all stores."""


class StoreJudge(ABC):
    """Told of stores first, then of all journals at once."""

    def __init__(self, chain: Hash, genesis: list[Member], verify: Verify | None) -> None:
        """`chain` is the genesis block's hash, `genesis` its members; `verify` None: certificates
        are no signatures of members.
        """
        self.judged = Judged([])
        self.chain = Chain(chain, genesis, verify, self.report)

    def report(self, property: str, message: str, who: Address) -> None:
        if len(self.judged.found) < MAX_FOUND and (property, message, who) not in self.judged.found:
            self.judged.found.append((property, message, who))

    def judge_store(self, who: Address, decisions: Iterable[Decision]) -> None:
        """Judge what a validator has made final, in the order of heights, from the first on."""
        self.chain.start(who, 0)
        for found in decisions:
            self.judged.decisions += 1
            self.chain.decide(
                who,
                found.height,
                found.block,
                found.time_ms,
                found.members,
                found.envelope,
                found.certificate,
                found.payloads,
            )
            self.judge_certificate(who, found)

    @abstractmethod
    def judge_certificate(self, who: Address, found: Decision) -> None:
        """Judge what `Chain` does not know of: signatures are all that it looks at."""

    @abstractmethod
    def judge_journals(self, journals: list[Recorded]) -> None:
        """Judge all journals of one network."""


class RecordedJudge(StoreJudge):
    """The rules of Tendermint."""

    def __init__(self, chain: Hash, genesis: list[Member], verify: Verify) -> None:
        super().__init__(chain, genesis, verify)
        self.hash, self.verify = chain, verify
        # Without members there is no counting, and no rule that needs it.
        self.strict = TendermintRules(self.chain.members.get, self.report)
        self.lenient = TendermintRules(lambda _: None, self.report)
        self.genesis = ValidatorSet(genesis)
        self.turns: dict[Hash, ValidatorSet] = {}

    def judge_certificate(self, who: Address, found: Decision) -> None:
        """Its certificates are signatures."""

    def judge_journals(self, journals: list[Recorded]) -> None:
        """Judge all journals of one network."""
        judged = self.judged
        judged.journals = len(journals)
        heights: dict[Height, dict[Address, tuple[list[Record], list[Record]]]] = {}
        covered: dict[Address, Height] = {}
        for journal in journals:
            judged.records += len(journal.records)
            covered[journal.address] = get_first_covered(journal.records)
            for place, records in enumerate((journal.seen, journal.records)):
                for record in records:
                    mine = heights.setdefault(get_height(record), {})
                    mine.setdefault(journal.address, ([], []))[place].append(record)
        judged.heights = len(heights)
        for height in sorted(heights):
            covering = {who for who, first in covered.items() if height >= first}
            self.judge_height(height, heights[height], covering)

    def judge_height(
        self,
        height: Height,
        journals: dict[Address, tuple[list[Record], list[Record]]],
        covering: set[Address],
    ) -> None:
        """Judge what all journals tell of one height; `covering` are those that tell all of it."""
        members = self.find_members(height, journals)
        complete = members is not None and all(member.address in covering for member in members)
        self.judged.complete += complete
        rules = self.strict if complete else self.lenient
        votes: dict[tuple[int, int, Address, Hash], Vote] = {}
        proposals: dict[bytes, Proposal] = {}
        for who, (seen, kept) in sorted(journals.items()):
            for record in (*seen, *kept):
                if isinstance(record, Proposed):
                    proposals.setdefault(record.proposal.signature, record.proposal)
                elif isinstance(record, Decided):
                    self.judge_decision(who, record)
                for vote in get_votes(record):
                    votes.setdefault((vote.round, vote.kind, vote.voter, vote.value), vote)
            for record in kept:
                if isinstance(record, Voted):
                    rules.keep(who, record.vote)
        genuine = [vote for _, vote in sorted(votes.items()) if self.check_signature(vote)]
        self.judged.votes += len(genuine)
        for vote in genuine:
            rules.collect(vote)
        for vote in genuine:
            rules.judge_vote(vote, written=vote.voter in covering)
        if members is None:
            return
        for _, proposal in sorted(proposals.items(), key=lambda item: item[1].round):
            self.judge_proposal(rules, members, proposal)

    def find_members(
        self, height: Height, journals: dict[Address, tuple[list[Record], list[Record]]]
    ) -> list[Member] | None:
        """Return who agrees on a height: by the stores, or those of genesis if all envelopes name
        them.
        """
        known = self.chain.members.get(height)
        if known is None:
            named = {
                envelope[MEMBERS]
                for seen, kept in journals.values()
                for record in (*seen, *kept)
                if (envelope := get_envelope(record))
            }
            if named == {self.genesis.hash}:
                known = self.chain.members[height] = self.chain.members[1]
        return known

    def judge_decision(self, who: Address, record: Decided) -> None:
        """A journal's decision is the one of the stores, or at least that of other journals."""
        envelope = keccak256(record.certificate[ENVELOPE_AT:ENVELOPE_END])
        known = self.chain.envelopes.setdefault(record.height, envelope)
        if known != envelope:
            self.report(
                "agreement",
                f"height {record.height}: decided 0x{envelope.hex()}, "
                f"and another decided 0x{known.hex()}",
                who,
            )

    def judge_proposal(
        self, rules: TendermintRules, members: list[Member], proposal: Proposal
    ) -> None:
        key = keccak256(b"".join(m.address + m.power.to_bytes(8, "big") for m in sorted(members)))
        turns = self.turns.get(key)
        if turns is None:
            turns = self.turns[key] = ValidatorSet(members)
        who = turns.get_proposer(proposal.height, proposal.round)
        value = keccak256(proposal.envelope)
        digest = compute_statement(
            self.hash, 0, proposal.height, proposal.round, value, proposal.valid_round
        )
        if not self.verify(who, digest, proposal.signature):
            self.report(
                "signature",
                f"height {proposal.height}, round {proposal.round}: a proposal that is not of "
                "the proposer's making",
                who,
            )
            return
        self.judged.proposals += 1
        rules.judge_proposal(who, proposal)

    def check_signature(self, vote: Vote) -> bool:
        digest = compute_statement(self.hash, vote.kind, vote.height, vote.round, vote.value)
        if self.verify(vote.voter, digest, vote.signature):
            return True
        self.report(
            "signature",
            f"height {vote.height}, round {vote.round}: a journal holds a "
            f"{'prevote' if vote.kind == PREVOTE else 'precommit'} that its voter did not sign",
            vote.voter,
        )
        return False


GET_VOTES: dict[type[Record], Callable[..., list[Vote]]] = {
    Voted: lambda record: [record.vote],
    Polka: lambda record: record.votes,
    Entered: lambda record: record.votes,
}


def get_votes(record: Record) -> list[Vote]:
    """Return the votes that a record holds, its owner's and others'."""
    get = GET_VOTES.get(type(record))
    return [] if get is None else get(record)


def get_envelope(record: Record) -> bytes:
    """Return the envelope that a record is about, nothing if it tells of none."""
    if isinstance(record, Proposed):
        return record.proposal.envelope
    return record.certificate[ENVELOPE_AT:ENVELOPE_END] if isinstance(record, Decided) else b""


def get_height(record: Record) -> Height:
    if isinstance(record, Proposed):
        return record.proposal.height
    if isinstance(record, Decided | Entered):
        return record.height
    votes = get_votes(record)
    return votes[0].height if votes else 0


def get_first_covered(records: list[Record]) -> Height:
    """Return the first height of which a journal tells all.

    It begins with the mark of the first start, or was cut in the midst of its lowest height.
    """
    if not records:
        return 1 << 62
    first = records[0]
    if isinstance(first, Entered) and (first.height, first.round) == (1, 0):
        return 1
    return min(map(get_height, records)) + 1
