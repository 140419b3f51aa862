"""What a Tendermint replica keeps of the rounds of its height."""

from typing import Final

from quorate.base.types import Address, Hash
from quorate.consensus.certificate import PREVOTE
from quorate.consensus.quorum import VoteSet
from quorate.consensus.tendermint_types import Proposal, Vote

VERIFIED: Final = 4096
"""Signatures that are remembered as verified."""


class Round:
    """What is known of one round of the current height."""

    __slots__ = (
        "polka",
        "precommit_digests",
        "precommit_timeout",
        "precommits",
        "prevote_digests",
        "prevote_timeout",
        "prevotes",
        "proposal",
        "proposals",
    )

    def __init__(self, total: int) -> None:
        self.proposal: tuple[Hash, Proposal] | None = None
        """The first proposal and the hash of its envelope."""
        self.proposals: dict[Hash, Proposal] = {}
        """All of them, by envelope hash; more than one convicts the proposer."""
        self.prevotes: VoteSet[Vote] = VoteSet(total)
        self.precommits: VoteSet[Vote] = VoteSet(total)
        self.prevote_digests: dict[Hash, Hash] = {}
        self.precommit_digests: dict[Hash, Hash] = {}
        """What good votes signed, by value: it is the same for all voters."""
        self.polka = False
        """Whether L36 was done."""
        self.prevote_timeout = False
        """Whether L34 was done."""
        self.precommit_timeout = False
        """Whether L47 was done."""

    def get_votes(self, kind: int) -> VoteSet[Vote]:
        return self.prevotes if kind == PREVOTE else self.precommits

    def get_digests(self, kind: int) -> dict[Hash, Hash]:
        return self.prevote_digests if kind == PREVOTE else self.precommit_digests


class Verified:
    """Signatures that were found good, so that none is verified twice. Holds `VERIFIED` of them."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Address, Hash]] = {}

    def has(self, address: Address, digest: Hash, signature: bytes) -> bool:
        return self._known.get(signature) == (address, digest)

    def add(self, address: Address, digest: Hash, signature: bytes) -> None:
        known = self._known
        if len(known) >= VERIFIED:
            # The oldest half goes, since signatures matter for a height or two.
            for old in list(known)[: VERIFIED // 2]:
                del known[old]
        known[signature] = (address, digest)
