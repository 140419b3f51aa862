"""The fault budget: how much may go wrong so that the verdict on what is left stays sound.

An engine with voting power n promises agreement while the power of those who lie stays below n/3.
Whoever lies on purpose counts (traitors, twins), and so does an honest member whose disk lost what
it had acknowledged: it may vote twice and not know. All of them together stay below a third, in
every validator set that the run may ever have. Where an engine tolerates crashes only, nobody may
lie or forget, and half takes the place of a third.

Liveness needs more: at the end of all faults more than two thirds of the power must be honest and
able to start, so machines that will never start again (their disk is known to be damaged, which
needs people) are paid from the same purse. In an unbounded run they are free, and only safety is
judged. Crashes, cuts and slowness cost nothing in either: they end.

Wall clocks have a limit of their own. A block's time is accepted by a quorum, so it is right as
long as a third of the power looks at a right clock and tells no lies; were it far ahead, no block
could follow until the true time has come there. So liars and wrong clocks together hold at most two
thirds.

This is also the atlas of good copies: whatever was decided is in the journals of a quorum, and no
fault of a disk is allowed that could leave it in none.
"""

from typing import TYPE_CHECKING

from quorate.base.types import Address
from quorate.consensus import ENGINES

if TYPE_CHECKING:
    from quorate.simulator.world import World

__all__ = ["Budget", "Powers"]

Powers = dict[Address, int]
"""A validator set."""


class Budget:
    """What was spent, on whom, and what is left."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.unbounded = world.plan.profile.unbounded
        self.byzantine = ENGINES[world.plan.engine].byzantine
        self.open = ENGINES[world.plan.engine].open
        """Whether power is hash power, and may come and go."""
        self.parts = 3 if self.byzantine else 2
        """Less than one part of so many may be faulty."""
        self.sets: list[Powers] = [{m.address: m.power for m in world.plan.machines if m.power}]
        """All validator sets that were or may yet be in force."""
        self.current: list[Powers] = list(self.sets)
        """The one that is in force, and the one that may follow it."""
        self.liars: dict[Address, str] = {}
        """Who may break safety, and why."""
        self.lost: dict[Address, str] = {}
        """Who will not start again, and why."""
        self.clocks: dict[Address, str] = {}
        """Whose wall clock is wrong, or was."""

    def can_lie(self, address: Address) -> bool:
        """Whether one more identity may say or forget anything."""
        if not self.byzantine:
            return False
        return address in self.liars or (
            self.is_sound(self.sets, {**self.liars, address: ""})
            and self.is_timely(self.sets, {**self.clocks, address: ""})
        )

    def can_stop(self, address: Address) -> bool:
        """Whether one more machine may be down for good."""
        if address in self.lost or self.unbounded:
            return True
        return self.is_sound(self.sets, {**self.liars, address: ""})

    def can_change(self, powers: Powers) -> bool:
        """Whether a validator set may come into force."""
        return (
            bool(powers)
            and self.is_sound([powers], self.liars)
            and self.is_timely([powers], self.clocks)
        )

    def lie(self, address: Address, reason: str) -> bool:
        """Let an identity lie if that can be afforded; whether it can."""
        if not self.can_lie(address):
            return False
        self.liars.setdefault(address, reason)
        return True

    def stop(self, address: Address, reason: str) -> bool:
        """Let a machine be down for good if that can be afforded; whether it can."""
        if not self.can_stop(address):
            return False
        self.lost.setdefault(address, reason)
        return True

    def mistime(self, address: Address, reason: str) -> bool:
        """Let a wall clock be wrong if that can be afforded; whether it can."""
        if not self.is_timely(self.sets, {**self.clocks, address: reason}):
            return False
        self.clocks.setdefault(address, reason)
        return True

    def change(self, powers: Powers) -> bool:
        """Let a validator set come into force if that can be afforded; whether it can."""
        if not self.can_change(powers):
            return False
        if powers not in self.sets:
            self.sets.append(powers)
        self.current = [self.current[-1], powers]
        return True

    def is_sound(self, sets: list[Powers], liars: dict[Address, str]) -> bool:
        """Whether liars and lost machines hold less than the engine's share of each set."""
        faulty = liars if self.unbounded else {**self.lost, **liars}
        return all(
            self.parts * sum(powers.get(address, 0) for address in faulty) < sum(powers.values())
            for powers in sets
        )

    def is_timely(self, sets: list[Powers], clocks: dict[Address, str]) -> bool:
        """Whether every quorum of each set has somebody honest who has the right time."""
        wrong = {**self.liars, **clocks}
        if self.open:
            # What most of the work says is right, to them: blocks of the future are their chain.
            return self.unbounded or all(
                2 * sum(powers.get(address, 0) for address in wrong) < sum(powers.values())
                for powers in sets
            )
        return self.unbounded or all(
            self.parts * sum(powers.get(address, 0) for address in wrong)
            <= (self.parts - 1) * sum(powers.values())
            for powers in sets
        )

    def has_live_core(self) -> bool:
        """Whether honest machines that can run hold a quorum of the power."""
        running = {m.address: m for m in self.world.machines if m.is_honest and not m.refused}
        return all(
            self.parts * sum(power for address, power in powers.items() if address in running)
            > (self.parts - 1) * sum(powers.values())
            for powers in self.current
        )
