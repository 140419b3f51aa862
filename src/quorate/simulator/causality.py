"""What happened before what: Lamport, vector and hybrid logical clocks over a run.

Sources:
* Lamport, "Time, clocks, and the ordering of events in a distributed system", CACM 21(7), 1978.
* Fidge, "Timestamps in message-passing systems that preserve the partial ordering", 1988; Mattern,
  "Virtual time and global states of distributed systems", 1989: vector clocks.
* Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical physical clocks", OPODIS 2014: hybrid ones.

An event follows the one before it on its machine and the one that caused it: the sending of what it
receives, the setting of its timer, the request whose answer it is. That is the whole partial order.
Lamport numbers cost an addition, so `tracer` gives one to every event; vector and hybrid clocks are
computed from a kept trace when somebody asks.

Complexity, for e events and n machines: Lamport numbers O(e); vectors O(e n) time and memory;
`is_before` O(1) once they are there.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from quorate.base.types import Nanoseconds

__all__ = [
    "Ahead",
    "Causality",
    "HybridAlarm",
    "HybridClock",
    "HybridTime",
    "Occurrence",
    "list_alarms",
    "run_hybrid_clocks",
]

NOWHERE = -1
"""The machine of events outside the machines, the cause of events without one."""


class Occurrence(Protocol):
    """What causality needs of an event of a trace; its number is its place in it."""

    @property
    def machine(self) -> int: ...

    @property
    def cause(self) -> int: ...


class Causality:
    """The partial order of a trace.

    A cause comes earlier in the trace than its effect; an event outside the machines (a fault that
    the world does) follows nothing but its cause.
    """

    __slots__ = ("causes", "machines", "places", "previous", "vectors", "width")

    def __init__(self, trace: Iterable[Occurrence]) -> None:
        self.machines: list[int] = []
        self.causes: list[int] = []
        self.previous: list[int] = []
        """The event before each one on its machine."""
        self.places: list[int] = []
        """Which event of its machine each is, counted from 1."""
        last: dict[int, tuple[int, int]] = {}
        for number, event in enumerate(trace):
            machine, cause = event.machine, event.cause
            if cause >= number:
                raise ValueError(f"event {number}: its cause is {cause}, expected an earlier one")
            before, place = last.get(machine, (NOWHERE, 0)) if machine != NOWHERE else (NOWHERE, 0)
            self.machines.append(machine)
            self.causes.append(max(cause, NOWHERE))
            self.previous.append(before)
            self.places.append(place + 1)
            last[machine] = number, place + 1
        self.width = max(self.machines, default=NOWHERE) + 1
        self.vectors: list[tuple[int, ...]] = []

    def compute_lamport(self) -> list[int]:
        """Return the Lamport number of every event."""
        times: list[int] = []
        for before, cause in zip(self.previous, self.causes, strict=True):
            mine = times[before] if before != NOWHERE else 0
            other = times[cause] if cause != NOWHERE else 0
            times.append(max(mine, other) + 1)
        return times

    def compute_vectors(self) -> list[tuple[int, ...]]:
        """Return for every event how many events of each machine are in its past, itself too."""
        if len(self.vectors) == len(self.machines):
            return self.vectors
        zero = (0,) * self.width
        vectors: list[tuple[int, ...]] = []
        for number, machine in enumerate(self.machines):
            before, cause = self.previous[number], self.causes[number]
            vector = vectors[before] if before != NOWHERE else zero
            if cause != NOWHERE:
                vector = tuple(map(max, vector, vectors[cause]))
            if machine != NOWHERE:
                place = self.places[number]
                vector = (*vector[:machine], place, *vector[machine + 1 :])
            vectors.append(vector)
        self.vectors = vectors
        return vectors

    def is_before(self, one: int, other: int) -> bool:
        """Whether event `one` happened before event `other`."""
        if one == other:
            return False
        machine = self.machines[one]
        if machine == NOWHERE:
            return one in self.get_past(other)
        return self.compute_vectors()[other][machine] >= self.places[one]

    def is_concurrent(self, one: int, other: int) -> bool:
        """Whether neither of two events could know of the other."""
        return one != other and not self.is_before(one, other) and not self.is_before(other, one)

    def get_past(self, number: int) -> list[int]:
        """Return everything that happened before an event, in order of the trace."""
        seen: dict[int, None] = {}
        waiting = [number]
        while waiting:
            event = waiting.pop()
            for before in (self.previous[event], self.causes[event]):
                if before != NOWHERE and before not in seen:
                    seen[before] = None
                    waiting.append(before)
        return sorted(seen)

    def get_future(self, number: int) -> list[int]:
        """Return everything that an event happened before, in order of the trace."""
        inside = bytearray(len(self.machines))
        inside[number] = 1
        future: list[int] = []
        for event in range(number + 1, len(self.machines)):
            before, cause = self.previous[event], self.causes[event]
            if (before != NOWHERE and inside[before]) or (cause != NOWHERE and inside[cause]):
                inside[event] = 1
                future.append(event)
        return future

    def get_cone(self, number: int) -> list[int]:
        """Return the past and the future of an event, and itself: what a diagram shows of it."""
        return [*self.get_past(number), number, *self.get_future(number)]

    def find_path(self, one: int, other: int) -> list[int]:
        """Return a shortest chain of events from one to another, both named; empty if none is."""
        if one != other and not self.is_before(one, other):
            return []
        towards: dict[int, int] = {other: NOWHERE}
        waiting = [other]
        for event in waiting:
            if event == one:
                break
            for before in (self.causes[event], self.previous[event]):
                if before >= one and before not in towards:
                    towards[before] = event
                    waiting.append(before)
        path = [one]
        while path[-1] != other:
            path.append(towards[path[-1]])
        return path

    def is_consistent(self, cut: Sequence[int]) -> bool:
        """Whether a cut could have been a state of the whole system (Mattern 1989, section 4).

        `cut[m]` is how many events of machine m are inside: whatever caused one of these is inside.
        """
        vectors = self.compute_vectors()
        for number, machine in enumerate(self.machines):
            if machine != NOWHERE and self.places[number] <= cut[machine]:
                vector = vectors[number]
                if any(known > inside for known, inside in zip(vector, cut, strict=True)):
                    return False
        return True


# ---- hybrid logical clocks


class HybridTime(Struct, frozen=True, order=True):
    """Close to physical time, and greater than that of everything that happened before."""

    l_ns: Nanoseconds
    """The greatest physical time heard of."""
    c: int
    """Counts events while that does not grow."""


class HybridAlarm(Struct, frozen=True):
    """A hybrid clock is further from its machine's physical clock than clocks may differ."""

    machine: int
    physical_ns: Nanoseconds
    hybrid: HybridTime
    sender: int
    """Whose time pulled it there; the machine itself: its own clock went back."""
    event: int = -1
    """The number of the event in a trace."""


class HybridClock:
    """Figure 5 of the paper, with the check of the bound from its part on resilience.

    `epsilon_ns` is how far apart any two physical clocks are promised to be. A physical clock that
    goes back or lags leaves `l` standing; a message from one that is ahead would drag everybody
    along, so with `refuse` (the paper's defence) such a message moves the clock only by `c`.
    """

    __slots__ = ("alarms", "count", "epsilon_ns", "event", "machine", "refuse", "time")

    MAX_ALARMS = 1_000
    """Kept; later ones are only counted."""

    def __init__(self, machine: int, epsilon_ns: Nanoseconds, *, refuse: bool = False) -> None:
        self.machine, self.epsilon_ns, self.refuse = machine, epsilon_ns, refuse
        self.time = HybridTime(0, 0)
        self.alarms: list[HybridAlarm] = []
        self.count = 0
        self.event = -1
        """What its alarms are given as their event."""

    def tick(self, physical_ns: Nanoseconds) -> HybridTime:
        """A local event or a sending."""
        old = self.time
        if physical_ns > old.l_ns:
            self.time = HybridTime(physical_ns, 0)
        else:
            self.time = HybridTime(old.l_ns, old.c + 1)
        self.watch(physical_ns, self.time, self.machine)
        return self.time

    def merge(self, physical_ns: Nanoseconds, received: HybridTime, sender: int) -> HybridTime:
        """A receipt."""
        if self.watch(physical_ns, received, sender) and self.refuse:
            return self.tick(physical_ns)
        old = self.time
        l_ns = max(old.l_ns, received.l_ns, physical_ns)
        if l_ns == old.l_ns == received.l_ns:
            c = max(old.c, received.c) + 1
        elif l_ns == old.l_ns:
            c = old.c + 1
        elif l_ns == received.l_ns:
            c = received.c + 1
        else:
            c = 0
        self.time = HybridTime(l_ns, c)
        return self.time

    def watch(self, physical_ns: Nanoseconds, time: HybridTime, sender: int) -> bool:
        """Raise an alarm if a time is ahead of this machine's clock by more than the bound."""
        if time.l_ns - physical_ns <= self.epsilon_ns:
            return False
        self.count += 1
        if len(self.alarms) < self.MAX_ALARMS:
            self.alarms.append(HybridAlarm(self.machine, physical_ns, time, sender, self.event))
        return True


class Dated(Occurrence, Protocol):
    """An event whose machine's wall clock is known."""

    @property
    def wall_ns(self) -> Nanoseconds: ...


def run_hybrid_clocks(
    trace: Iterable[Dated], epsilon_ns: Nanoseconds, *, refuse: bool = False
) -> tuple[list[HybridTime], dict[int, HybridClock]]:
    """Return the hybrid time of every event of a trace, and each machine's clock with its alarms.

    It is computed afterwards, from what the machines' wall clocks said, so a trace can be looked at
    with one bound after another. What happens between machines has the time of its cause.
    """
    clocks: dict[int, HybridClock] = {}
    times: list[HybridTime] = []
    places: list[int] = []
    """Where each event, or what led to it, happened."""
    for number, event in enumerate(trace):
        machine, cause = event.machine, event.cause
        if machine == NOWHERE:
            times.append(times[cause] if cause >= 0 else HybridTime(0, 0))
            places.append(places[cause] if cause >= 0 else NOWHERE)
            continue
        clock = clocks.get(machine)
        if clock is None:
            clock = clocks[machine] = HybridClock(machine, epsilon_ns, refuse=refuse)
        clock.event = number
        if cause >= 0 and places[cause] not in (machine, NOWHERE):
            times.append(clock.merge(event.wall_ns, times[cause], places[cause]))
        else:
            times.append(clock.tick(event.wall_ns))
        places.append(machine)
    return times, clocks


class Ahead(Struct, frozen=True):
    """One machine's clock was ahead of another's; if both are one, it went back."""

    ahead: int
    behind: int
    event: int
    """The first at which it was noticed."""
    by_ns: Nanoseconds
    """At first."""
    times: int


def list_alarms(trace: Iterable[Dated], epsilon_ns: Nanoseconds) -> list[Ahead]:
    """Return which clocks were ahead of which by more than a bound, in order of first notice.

    Times that are ahead are refused, so nobody is blamed for what it was told.
    """
    _, clocks = run_hybrid_clocks(trace, epsilon_ns, refuse=True)
    found: dict[tuple[int, int], list[HybridAlarm]] = {}
    for clock in clocks.values():
        for alarm in clock.alarms:
            found.setdefault((alarm.sender, alarm.machine), []).append(alarm)
    pairs = [
        Ahead(ahead, behind, first.event, first.hybrid.l_ns - first.physical_ns, len(alarms))
        for (ahead, behind), alarms in found.items()
        for first in alarms[:1]
    ]
    return sorted(pairs, key=lambda pair: (pair.event, pair.ahead))
