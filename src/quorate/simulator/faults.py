"""What can be done to a running network, by name: the words of scripts and of nemeses alike."""

from typing import TYPE_CHECKING

from quorate.base.errors import Invalid
from quorate.base.rng import Rng
from quorate.base.types import Address, Milliseconds, Nanoseconds
from quorate.node.settings import Settings
from quorate.simulator.budget import Budget
from quorate.simulator.clock_errors import ClockError, Step
from quorate.simulator.disk import EFFECTS
from quorate.simulator.network import Link
from quorate.simulator.plan import MS
from quorate.simulator.rounds import RoundScript

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["Faults"]

PRIORITY_STEP_NS: Nanoseconds = 4 * MS
"""How much longer a frame waits for each link that goes before its own."""

RATES = {
    "loss": 1000,
    "duplicate": 1000,
    "corrupt": 1000,
    "tail": 1000,
    "tail_factor": 1_000_000,
    "bandwidth": 1_000_000_000,
}
"""What a script may set of links, and the most of each."""


class Faults:
    """Acts on one world. Machines are named by their index."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.cuts: list[list[Link]] = []

    def get(self, index: int) -> "Machine":
        return self.world.machines[index]

    # ---- links

    def partition(self, *group: int, notice: bool = True) -> list[Link]:
        """Cut the links between these machines and all others, both ways; return what was cut."""
        inside = [m.index in group for m in self.world.machines]
        links = self.world.network.select(lambda a, b: inside[a.index] != inside[b.index])
        return self.cut(links, "partition", group, notice)

    def silence(self, source: int, *targets: int) -> list[Link]:
        """Cut the links from a machine to others (to all if none is named), one way."""
        links = self.world.network.select(
            lambda a, b: a.index == source and (not targets or b.index in targets)
        )
        return self.cut(links, "one-way cut", (source,), False)

    def deafen(self, target: int, *sources: int) -> list[Link]:
        """Cut the links to a machine from others, one way."""
        links = self.world.network.select(
            lambda a, b: b.index == target and (not sources or a.index in sources)
        )
        return self.cut(links, "one-way cut", (target,), False)

    def cut(self, links: list[Link], kind: str, group: tuple[int, ...], notice: bool) -> list[Link]:
        self.world.fault(kind, group[0] if group else -1, text=f"machines {list(group)}")
        for link in links:
            self.world.network.block(link, notice=notice)
        self.cuts.append(links)
        return links

    def mend(self, links: list[Link]) -> None:
        """Take one cut away."""
        if links in self.cuts:
            self.cuts.remove(links)
            self.world.fault("mend", -1)
            for link in links:
                self.world.network.unblock(link)

    def set_rates(self, **rates: int) -> None:
        """Let frames on all links suffer at other rates from now on, until they are healed.

        In permille: `loss`, `duplicate`, `corrupt`, and `tail`, which come `tail_factor` times as
        late; `bandwidth` is how many bytes go through a link in a millisecond.
        """
        for name, value in rates.items():
            if name not in RATES or not 0 <= value <= RATES[name]:
                known = ", ".join(f"{name} to {most}" for name, most in RATES.items())
                raise Invalid(f"rate {name} {value}: expected one of {known}")
        self.world.fault("rates", -1, text=", ".join(f"{n} {v}" for n, v in rates.items()))
        for name, value in rates.items():
            setattr(self.world.network.rates, name, value)

    def limit_frames(self, limit_bytes: int) -> None:
        """Let larger frames vanish on all links, until they are healed."""
        self.world.fault("frame limit", -1, text=f"{limit_bytes} bytes")
        self.world.network.limit_frames(limit_bytes)

    def swizzle(self, order: int, gap_ns: Nanoseconds) -> None:
        """Cut all links of a machine one after another, and mend them in another order."""
        links = list(self.world.network.links.values())
        rng = Rng(order)
        count = 1 + rng.below(len(links)) if links else 0
        cut = shuffle(links, rng)[:count]
        step = gap_ns // max(count, 1)
        for i, link in enumerate(cut):
            self.world.after(i * step, self.swizzle_one, link, True)
        for i, link in enumerate(shuffle(cut, rng)):
            self.world.after(gap_ns + i * step, self.swizzle_one, link, False)

    def swizzle_one(self, link: Link, cut: bool) -> None:
        if self.world.healed:
            return
        name = "swizzle cut" if cut else "swizzle mend"
        self.world.fault(name, link.source.index, link.target.index)
        if cut:
            self.world.network.block(link)
        else:
            self.world.network.unblock(link)

    def prioritize(self, order: int, length_ns: Nanoseconds, changes: int) -> None:
        """Give links random priorities that change at a few points; frames of low ones wait.

        Source: Burckhardt and others, "A randomized scheduler with probabilistic guarantees of
        finding bugs" (PCT), ASPLOS 2010; Ozkan and others, "Randomized testing of distributed
        systems with probabilistic guarantees", OOPSLA 2018.
        """
        rng = Rng(order)
        links = shuffle(list(self.world.network.links.values()), rng)
        if not links:
            return
        self.world.fault("priorities", -1, text=f"{changes} changes")
        for rank, link in enumerate(links):
            link.penalty_ns = rank * PRIORITY_STEP_NS
        for number in range(changes):
            link = links[rng.below(len(links))]
            at = length_ns * (1 + number) // (1 + changes)
            self.world.after(at, self.set_penalty, link, (len(links) + number) * PRIORITY_STEP_NS)
        for link in links:
            self.world.after(length_ns, self.set_penalty, link, 0)

    def set_penalty(self, link: Link, penalty_ns: Nanoseconds) -> None:
        """Let frames of a link wait so long."""
        if not self.world.healed:
            link.penalty_ns = penalty_ns

    def hear_by(self, script: RoundScript) -> None:
        """Let a script say who hears what."""
        self.world.fault("round script", -1, text=f"{script.permille} of 1000 rounds")
        self.world.network.hear(script.is_unheard)

    def hear_all(self, script: RoundScript) -> None:
        """End a script."""
        if self.world.network.unheard == script.is_unheard:
            self.world.fault("round script ends", -1)
            self.world.network.hear(None)

    def heal(self) -> None:
        """Mend all links and forget all rates."""
        self.cuts.clear()
        self.world.fault("heal", -1)
        self.world.network.heal()

    # ---- machines

    def crash(self, index: int, restart_ns: Nanoseconds | None = None) -> None:
        """Crash a machine; with `restart_ns` it starts again after that time."""
        machine = self.get(index)
        if machine.node is None:
            return
        self.world.fault("crash", index)
        machine.crash()
        if restart_ns is not None:
            self.world.after(restart_ns, self.start, index)

    def crash_at_sync(
        self, index: int, nth: int = 1, restart_ns: Nanoseconds | None = None
    ) -> None:
        """Crash a machine in the middle of its n-th sync from now; it may start again later."""
        machine = self.get(index)
        machine.crash_at_sync = machine.syncs + nth
        machine.restart_ns = restart_ns

    def crash_when_struck(self, index: int, restart_ns: Nanoseconds) -> None:
        """Crash a machine in the middle of the next sync after its disk has failed or lied, before
        anything hides what was lost.
        """
        machine = self.get(index)
        machine.crash_when_struck = True
        machine.restart_ns = restart_ns

    def upgrade(
        self, index: int, software: str, settings: dict[str, int], down_ns: Nanoseconds
    ) -> None:
        """Stop a machine in good order; it starts again with other software and settings."""
        machine = self.get(index)
        if machine.node is None or machine.paused or self.world.healed:
            return
        self.world.fault("upgrade", index, text=f"software {software}")
        machine.end()
        machine.software = software
        machine.settings = Settings(**{**settings, **self.world.plan.node_settings})
        self.world.after(down_ns, self.start, index)

    # ---- disks

    def break_disk(self, budget: Budget, index: int, kind: str, nth: int) -> bool:
        """Let a fault befall a machine's disk at its n-th operation, if the budget has it."""
        machine = self.get(index)
        disk = machine.disk
        if kind in ("bit rot", "bit rot at the end"):
            return self.rot_disk(budget, machine, late=kind != "bit rot")
        if EFFECTS[kind] == "loses" and not budget.lie(machine.address, kind):
            return False
        if kind == "full disk":
            disk.fill(nth * 100)
        else:
            disk.script(kind, nth)
        return True

    def rot_disk(self, budget: Budget, machine: "Machine", *, late: bool) -> bool:
        """Flip a bit of what a journal keeps: of what was written last, or of what came before."""
        files = [(name, file) for name, file in sorted(machine.disk.files.items()) if file.size]
        if not files or not budget.stop(machine.address, "bit rot"):
            return False
        name, file = files[-1]
        first, end = (file.settled, file.size) if late else (0, file.settled)
        if first >= end or (late and not budget.lie(machine.address, "bit rot at the end")):
            return False
        return machine.disk.rot(name, first + machine.disk.errors.choose(end - first))

    def repair_disk(self, index: int) -> None:
        """End the faults of a disk that are still to come; a machine that it stopped starts."""
        machine = self.get(index)
        machine.disk.calm()
        self.start(index)

    # ---- starts

    def start(self, index: int) -> None:
        """Start a machine that is down."""
        machine = self.get(index)
        if machine.node is None and not machine.refused:
            self.world.fault("restart", index)
            machine.start()

    def hand_over(self, index: int, to: Address | None = None) -> None:
        """Ask a leader to let another member lead."""
        node = self.get(index).node
        if node is not None and not node.hand_over(to):
            self.world.fault("hand over", index)

    def pause(self, index: int, duration_ns: Nanoseconds) -> None:
        """Stop a process for a while, as SIGSTOP does."""
        machine = self.get(index)
        if machine.node is None or machine.paused:
            return
        self.world.fault("pause", index)
        machine.set_paused(True)
        self.world.after(duration_ns, self.resume, index, machine.life)

    def resume(self, index: int, life: int) -> None:
        machine = self.get(index)
        if machine.life == life and machine.paused:
            self.world.fault("resume", index)
            machine.resume()

    def slow(self, index: int, factor: int) -> None:
        """Make disk and calls of a machine slower; 1 is usual again."""
        self.world.fault("slow", index, text=f"factor {factor}")
        self.get(index).slowness = factor

    def step_clock(self, index: int, by_ms: Milliseconds) -> None:
        """Set a machine's wall clock forward or back."""
        self.break_clock(index, Step(self.world.now, by_ms * MS))

    def break_clock(self, index: int, error: ClockError) -> None:
        """Let something go wrong with a machine's wall clock."""
        self.world.fault(f"clock {type(error).__name__.lower()}", index, text=str(error))
        self.get(index).clock.add_error(error)

    def drift(self, index: int, ppm: int) -> None:
        """Let a machine's monotonic clock, and its timers, run faster or slower."""
        self.world.fault("clock rate", index, text=f"{ppm} ppm")
        self.get(index).set_drift(ppm)

    def correct_clock(self, index: int) -> None:
        """Set a machine's clocks right."""
        machine = self.get(index)
        machine.clock.correct()
        if machine.clock.drift_ppm:
            machine.set_drift(0)


def shuffle(links: list[Link], rng: Rng) -> list[Link]:
    """Return links in a random order."""
    left, mixed = list(links), []
    while left:
        mixed.append(left.pop(rng.below(len(left))))
    return mixed
