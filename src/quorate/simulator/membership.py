"""Members in and out during a run: who is in, who comes next, and what the budget allows.

One change is under way at a time: the next one waits until every running node has executed the
last. Each may be the last word on who agrees, so the budget must hold in every set on the way.
"""

from typing import TYPE_CHECKING

from quorate.base.types import Address, Height
from quorate.ledger.application import Executed
from quorate.ledger.opaque import make_member_change
from quorate.simulator.budget import Budget, Powers

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["Membership"]

MAX_POWER = 4


class Membership:
    """Changes who agrees, through clients' items like anybody else."""

    def __init__(self, world: "World", budget: Budget) -> None:
        self.world, self.budget = world, budget
        self.powers: Powers = {m.address: m.power for m in world.plan.machines if m.power}
        """As of the last change that was submitted."""
        self.pending: bytes = b""
        """The item that is under way."""
        self.said: dict[bytes, None] = {}
        """Items that were submitted: the ledger executes each only once."""
        self.height: Height = 0
        world.on_final.append(self.on_final)
        if world.plan.profile.membership and not budget.open:
            # With a ledger it never happens, which the summary of a campaign then says.
            world.expect("membership changed")

    def on_final(self, machine: "Machine", executed: Executed) -> None:
        """Somebody executed a height: the change may be in force."""
        if executed.height <= self.height:
            return
        self.height = executed.height
        if self.pending and {m.address: m.power for m in executed.members} == self.powers:
            self.pending = b""
            self.world.witness("membership changed")

    def change(self, who: int, how: int) -> None:
        """Change the power of a machine's identity, take it out, or in."""
        world = self.world
        if self.budget.open:
            self.change_hash_power(who, how)
            return
        if world.plan.application != "opaque":
            return
        if self.pending:
            # It may have been given to somebody who crashed.
            self.submit(self.pending, how)
            return
        address = world.machines[who].address
        powers = dict(self.powers)
        power = how % (MAX_POWER + 1) if how % 3 else 0
        if not power:
            power = 0 if address in powers else 1
        item = self.make_item(address, power)
        if power:
            powers[address] = power
        else:
            powers.pop(address, None)
        if powers == self.powers or not item or not self.budget.change(powers):
            return
        word = "removed" if not power else "changed" if address in self.powers else "added"
        world.fault(f"member {word}", who, text=f"power {power}")
        self.powers, self.pending = powers, item
        self.said[item] = None
        self.submit(item, how)

    def change_hash_power(self, who: int, how: int) -> None:
        """Let a machine mine faster, slower or not at all; nobody has to be asked."""
        machine = self.world.machines[who]
        power = how % (MAX_POWER + 1) if how % 3 else 0
        powers = {**self.powers, machine.address: power}
        if not self.budget.change({a: p for a, p in powers.items() if p}):
            return
        self.powers = powers
        self.world.fault("hash power", who, text=f"power {power}")
        self.world.witness("hash power changed")
        machine.rig.set_rate(power * machine.rig.unit)

    def make_item(self, address: Address, power: int) -> bytes:
        """Return an item that was not there before, empty if there is none."""
        item = make_member_change(address, power)
        return b"" if item in self.said else item

    def submit(self, item: bytes, how: int) -> None:
        machines = self.world.machines
        for i in range(len(machines)):
            if machines[(how + i) % len(machines)].submit([item], ignore):
                return


def ignore(verdicts: object) -> None:
    """A client that does not listen."""
