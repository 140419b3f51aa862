"""Nemeses: who decides which faults happen, by the profile's weights and the tape.

An act is drawn at intervals; zero on the tape is no act, and the longest interval. Every act draws
the same choices, whether it needs them or not, and a number means the same act in every seed, so
that an edited act moves no other.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from quorate.base.types import Nanoseconds
from quorate.simulator.clock import choose_drift, choose_error
from quorate.simulator.faults import Faults
from quorate.simulator.plan import MS, SECOND

if TYPE_CHECKING:
    from quorate.simulator.world import World

__all__ = ["Nemesis"]

ACTS = (
    "partition",
    "one_way",
    "isolate_leader",
    "crash",
    "crash_at_sync",
    "crash_leader",
    "crash_all",
    "pause",
    "slow",
    "clock",
)


class Nemesis:
    """Acts by the profile's weights until it is told to stop."""

    def __init__(self, world: "World", faults: Faults, until_ns: Nanoseconds) -> None:
        self.world, self.faults, self.until_ns = world, faults, until_ns
        profile = world.plan.profile
        stream = world.tape.stream
        self.act_choice, self.who = stream("nemesis act"), stream("nemesis who")
        self.how, self.length = stream("nemesis how"), stream("nemesis length")
        self.pause = stream("nemesis pause")
        self.clock_kind = stream("nemesis clock")
        # Swarm testing (Groce and others, 2012): each seed leaves out about half of the faults.
        # What is left out keeps its numbers and does nothing, so acts are drawn twice as often.
        swarm = stream("nemesis swarm")
        weights = {name: getattr(profile, name) for name in ACTS}
        self.bag = [name for name, weight in weights.items() for _ in range(weight)]
        self.left_out = {name for name, weight in weights.items() if weight and swarm.choose(2)}
        self.mean_ns = until_ns // max(2 * profile.acts, 1)

    def start(self) -> None:
        if self.bag:
            self.plan_next()

    def plan_next(self) -> None:
        delay = MS + 2 * self.mean_ns - self.pause.choose(2 * self.mean_ns)
        if self.world.now + delay < self.until_ns:
            self.world.after(delay, self.act)

    def act(self) -> None:
        world = self.world
        # The first choice is not to act.
        number = self.act_choice.choose(len(self.bag) + 1)
        who = self.who.choose(len(world.machines))
        how = self.how.choose(1 << 16)
        length = MS + self.length.choose(4 * SECOND)
        if number and self.bag[number - 1] not in self.left_out:
            self.DO[self.bag[number - 1]](self, who, how, length)
        self.plan_next()

    def get_leader(self) -> int:
        """Return the machine that leads as most see it, -1 if nobody knows."""
        for machine in self.world.machines:
            if machine.node is not None:
                leader = machine.node.replica.get_situation(self.world.now).leader
                if leader is not None:
                    return self.world.get_machine(leader).index
        return -1

    def do_partition(self, who: int, how: int, length: int) -> None:
        group = [i for i in range(len(self.world.machines)) if how >> i & 1] or [who]
        self.world.after(length, self.faults.mend, self.faults.partition(*group))

    def do_one_way(self, who: int, how: int, length: int) -> None:
        cut = self.faults.silence if how & 1 else self.faults.deafen
        self.world.after(length, self.faults.mend, cut(who))

    def do_isolate_leader(self, who: int, how: int, length: int) -> None:
        leader = self.get_leader()
        cut = self.faults.partition(leader if leader >= 0 else who)
        self.world.after(length, self.faults.mend, cut)

    def do_crash(self, who: int, how: int, length: int) -> None:
        self.faults.crash(who, length)

    def do_crash_at_sync(self, who: int, how: int, length: int) -> None:
        self.faults.crash_at_sync(who, 1 + how % 3)
        self.world.after(length, self.faults.start, who)

    def do_crash_leader(self, who: int, how: int, length: int) -> None:
        leader = self.get_leader()
        self.faults.crash(leader if leader >= 0 else who, length)

    def do_crash_all(self, who: int, how: int, length: int) -> None:
        for machine in self.world.machines:
            self.faults.crash(machine.index, length if how & 1 else length + machine.index * SECOND)

    def do_pause(self, who: int, how: int, length: int) -> None:
        self.faults.pause(who, length)

    def do_slow(self, who: int, how: int, length: int) -> None:
        self.faults.slow(who, 2 + how % 30)
        self.world.after(length, self.faults.slow, who, 1)

    def do_clock(self, who: int, how: int, length: int) -> None:
        kind = self.clock_kind.choose(3)
        if kind == 1:
            self.faults.drift(who, choose_drift(self.clock_kind))
            return
        error = choose_error(self.clock_kind, self.world.now) if kind else None
        if error is None:
            self.faults.step_clock(who, how % 8000 - 4000)
        else:
            self.faults.break_clock(who, error)

    DO: dict[str, Callable[["Nemesis", int, int, int], None]] = {  # noqa: RUF012  (never changed)
        "partition": do_partition,
        "one_way": do_one_way,
        "isolate_leader": do_isolate_leader,
        "crash": do_crash,
        "crash_at_sync": do_crash_at_sync,
        "crash_leader": do_crash_leader,
        "crash_all": do_crash_all,
        "pause": do_pause,
        "slow": do_slow,
        "clock": do_clock,
    }
