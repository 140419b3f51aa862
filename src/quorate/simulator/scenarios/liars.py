"""Members that lie by a script: always the same lie, whatever the seed."""

from typing import Any, TypeAlias

from msgspec.structs import replace

from quorate.base.types import Address, Hash
from quorate.consensus.certificate import NIL, PRECOMMIT, PREVOTE
from quorate.consensus.tendermint_types import Proposal, Vote
from quorate.crypto.hashes import keccak256
from quorate.simulator.actors import Actor
from quorate.simulator.machine import Machine
from quorate.simulator.plan import MS

__all__ = [
    "DoubleVoter",
    "Flooder",
    "Forger",
    "Liar",
    "NilVoter",
    "Silent",
    "SlowProposer",
    "TwoFaced",
]


Shown: TypeAlias = dict[tuple[Address, int, int], Hash]
"""Which value was shown to whom, by height and round."""


class Liar(Actor):
    """Knows two halves of the machines."""

    def get_side(self, to: Address) -> int:
        """Return 0 for one half of the machines and 1 for the other."""
        return self.world.get_machine(to).index % 2


class Silent(Liar):
    """Hears everything and says nothing of agreement."""

    def twist(self, to: Address, m: Any) -> list[Any]:
        return [] if isinstance(m, Proposal | Vote) else [m]


class TwoFaced(Liar):
    """Proposes one thing to one half and another to the other, and votes for what each half saw.

    Several of them share what was shown to whom.
    """

    def __init__(self, machine: Machine, shown: Shown | None = None) -> None:
        super().__init__(machine)
        self.shown: Shown = {} if shown is None else shown

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not self.is_mine(m):
            return [m]
        if isinstance(m, Proposal):
            said = self.make_other(m) if self.get_side(to) else m
            self.shown[to, m.height, m.round] = keccak256(said.envelope)
            return [said]
        value = self.shown.get((to, m.height, m.round))
        if value is None:
            return [m]
        return [self.sign_vote(replace(m, kind=kind), value) for kind in (PREVOTE, PRECOMMIT)]


class Forger(Liar):
    """Proposes two things, and sends each half everybody's votes for its one, forged."""

    def twist(self, to: Address, m: Any) -> list[Any]:
        if not isinstance(m, Proposal) or not self.is_mine(m):
            return [m]
        said = self.make_other(m) if self.get_side(to) else m
        value = keccak256(said.envelope)
        votes = [
            Vote(kind, m.height, m.round, value, machine.address, bytes(65))
            for kind in (PREVOTE, PRECOMMIT)
            for machine in self.world.machines
        ]
        return [said, *votes]


class SlowProposer(Liar):
    """Holds its own proposals back for a while."""

    delay_ns = 900 * MS

    def send(self, peer: Address, frame: bytes) -> None:
        if self.is_mine(self.world.decode(frame), Proposal):
            self.world.after(self.delay_ns, super().send, peer, frame)
        else:
            super().send(peer, frame)


class DoubleVoter(Liar):
    """Votes for nil too, whatever it votes for."""

    def twist(self, to: Address, m: Any) -> list[Any]:
        if isinstance(m, Vote) and self.is_mine(m):
            return [m, self.sign_vote(m, NIL)]
        return [m]


class NilVoter(Liar):
    """Prevotes and precommits nil, always."""

    def twist(self, to: Address, m: Any) -> list[Any]:
        return [self.sign_vote(m, NIL)] if isinstance(m, Vote) and self.is_mine(m) else [m]


class Flooder(NilVoter):
    """Votes nil in a hundred far rounds with each vote."""

    def twist(self, to: Address, m: Any) -> list[Any]:
        said = super().twist(to, m)
        if not isinstance(m, Vote) or not self.is_mine(m):
            return said
        return said + [
            self.sign_vote(replace(m, round=m.round + far), NIL) for far in range(1, 100)
        ]
