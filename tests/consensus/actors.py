"""Members that lie, for dialogues of a few replicas; all others are the simulator's."""

from msgspec.structs import replace

from consensus.network import CHAIN, Machine
from quorate.base.types import Address, Hash
from quorate.consensus.certificate import (
    NIL,
    PROPOSAL,
    compute_digest,
    decode_envelope,
    encode_envelope,
)
from quorate.consensus.replica import Broadcast, Message, Send
from quorate.consensus.tendermint_types import Proposal, Vote
from quorate.crypto.hashes import hash_payload, keccak256


class Liar(Machine):
    """Says the correct things, until a subclass twists them."""

    def do_broadcast(self, effect: Broadcast) -> None:
        for address in self.world.machines:
            for message in self.twist(address, effect.message):
                self.world.send(self, address, message)

    def do_send(self, effect: Send) -> None:
        for message in self.twist(effect.to, effect.message):
            self.world.send(self, effect.to, message)

    def twist(self, to: Address, m: Message) -> list[Message]:
        del to
        return [m]

    def sign_vote(self, vote: Vote, value: Hash) -> Vote:
        digest = compute_digest(CHAIN, vote.kind, vote.height, vote.round, value)
        return replace(vote, value=value, signature=self.keys.sign(digest))

    def sign_proposal(self, m: Proposal, payload: bytes) -> Proposal:
        """Return the proposal of another payload, where it may still be chosen."""
        if m.valid_round != -1:
            return m
        opened = replace(decode_envelope(m.envelope), payload=hash_payload(payload))
        envelope = encode_envelope(opened)
        digest = compute_digest(CHAIN, PROPOSAL, m.height, m.round, keccak256(envelope))
        return replace(m, envelope=envelope, payload=payload, signature=self.keys.sign(digest))

    def is_mine(self, m: Message) -> bool:
        if isinstance(m, Vote):
            return m.voter == self.me
        return (
            isinstance(m, Proposal)
            and self.replica.validators.get_proposer(m.height, m.round) == self.me
        )


class Equivocator(Liar):
    """Says different things to different members, sometimes both to one."""

    def twist(self, to: Address, m: Message) -> list[Message]:
        if to == self.me or not self.is_mine(m):
            return [m]
        choice = self.world.rng.below(8)
        other: Message
        if isinstance(m, Proposal):
            other = self.sign_proposal(m, m.payload + b"other txn")
        else:
            assert isinstance(m, Vote)
            known = [*self.replica.values, NIL, *self.world.decisions.values()]
            other = self.sign_vote(m, known[self.world.rng.below(len(known))])
        if choice == 7:
            return [m, other]
        return [other] if choice % 2 else [m]


class InvalidProposer(Liar):
    """Proposes what the application refuses."""

    def twist(self, to: Address, m: Message) -> list[Message]:
        if isinstance(m, Proposal) and self.is_mine(m) and to != self.me:
            return [self.sign_proposal(m, m.payload[:64] + bytes(8) + m.payload[72:])]
        return [m]
