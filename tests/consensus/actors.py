"""Members that lie, each in its own way, around an otherwise correct replica."""

from msgspec.structs import replace

from consensus.network import CHAIN, Machine
from quorate.base.types import Address, Hash
from quorate.consensus.certificate import (
    NIL,
    PRECOMMIT,
    PREVOTE,
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


class Silent(Liar):
    """Hears everything and says nothing."""

    def twist(self, to: Address, m: Message) -> list[Message]:
        return [m] if to == self.me else []


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


class Turncoat(Equivocator):
    """Helps different members to different locks while links fail, and then falls silent."""

    def twist(self, to: Address, m: Message) -> list[Message]:
        if self.world.deaf or to == self.me:
            return super().twist(to, m)
        return []


class TwoFaced(Liar):
    """Several of these, in one conspiracy, show one world to every other member."""

    def twist(self, to: Address, m: Message) -> list[Message]:
        if to == self.me or not self.is_mine(m):
            return [m]
        if isinstance(m, Proposal):
            other = self.sign_proposal(m, m.payload + b"other txn")
            shown = [m, other][list(self.world.machines).index(to) % 2]
            self.world.shown[to, m.height, m.round] = keccak256(shown.envelope)
            return [shown]
        assert isinstance(m, Vote)
        value = self.world.shown.get((to, m.height, m.round))
        if value is None:
            return [m]
        return [self.sign_vote(replace(m, kind=kind), value) for kind in (PREVOTE, PRECOMMIT)]


class Withholder(Liar):
    """Tells each thing to some members only."""

    def twist(self, to: Address, m: Message) -> list[Message]:
        return [m] if to == self.me or self.world.rng.below(2) else []


class InvalidProposer(Liar):
    """Proposes what the application refuses."""

    def twist(self, to: Address, m: Message) -> list[Message]:
        if isinstance(m, Proposal) and self.is_mine(m) and to != self.me:
            return [self.sign_proposal(m, m.payload[:64] + bytes(8) + m.payload[72:])]
        return [m]


class Amnesiac(Liar):
    """Forgets its lock, and precommits whatever was proposed."""

    def twist(self, to: Address, m: Message) -> list[Message]:
        replica = self.replica
        replica.locked_round, replica.locked_value = -1, None
        if isinstance(m, Vote) and self.is_mine(m) and to != self.me and m.kind == PRECOMMIT:
            state = replica.rounds.get(m.round)
            if state is not None and state.proposal is not None and m.height == replica.height:
                return [self.sign_vote(m, state.proposal[0])]
        return [m]


class Flooder(Liar):
    """Adds votes of far rounds, heights and strangers to everything it says."""

    def twist(self, to: Address, m: Message) -> list[Message]:
        if not isinstance(m, Vote) or to == self.me:
            return [m]
        rng = self.world.rng
        far = replace(m, round=m.round + 1 + rng.below(2**20))
        late = replace(m, height=m.height + rng.below(2**20))
        return [
            m,
            self.sign_vote(far, m.value),
            self.sign_vote(late, m.value),
            replace(m, voter=bytes(20)),
            replace(m, signature=bytes(65)),
        ]


ALL = (Silent, Equivocator, Turncoat, Withholder, InvalidProposer, Amnesiac, Flooder)
