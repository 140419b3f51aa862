"""What can be done to a running network, by name: the words of scripts and of nemeses alike."""

from typing import TYPE_CHECKING

from quorate.base.types import Milliseconds, Nanoseconds
from quorate.simulator.clock import ClockError, Step
from quorate.simulator.network import Link
from quorate.simulator.plan import MS

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.world import World

__all__ = ["Faults"]


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

    def limit_frames(self, limit_bytes: int) -> None:
        """Let larger frames vanish on all links, until they are healed."""
        self.world.fault("frame limit", -1, text=f"{limit_bytes} bytes")
        self.world.network.limit_bytes = limit_bytes

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

    def crash_at_sync(self, index: int, nth: int = 1) -> None:
        """Crash a machine in the middle of its n-th sync from now."""
        machine = self.get(index)
        machine.crash_at_sync = machine.syncs + nth

    def start(self, index: int) -> None:
        """Start a machine that is down."""
        machine = self.get(index)
        if machine.node is None and not machine.refused:
            self.world.fault("restart", index)
            machine.start()

    def pause(self, index: int, duration_ns: Nanoseconds) -> None:
        """Stop a process for a while, as SIGSTOP does."""
        machine = self.get(index)
        if machine.node is None or machine.paused:
            return
        self.world.fault("pause", index)
        machine.paused = True
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
