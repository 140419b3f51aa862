"""A nemesis of Raft: a leader comes back just when the second one after it begins.

Whose log differs from that of a leader is noticed by the term of the entry before the new ones
(Ongaro, Ousterhout, extended version 2014, section 5.3 and figure 7). That is put to the test only
where both logs have an entry of the same height there: so a member is cut off while it is being
elected, and fills its log alone; others elect somebody, who puts as many entries in the same
places, and hands over; and now the first is heard again, and a leader that never saw it wrong takes
it for one of its followers. Random cuts come to this rarely, since each step is a matter of
milliseconds.
"""

from typing import TYPE_CHECKING, Any, Final

from quorate.base.types import Nanoseconds
from quorate.consensus.raft_types import RequestVote
from quorate.simulator.faults import Faults
from quorate.simulator.plan import MS, SECOND

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.network import Link
    from quorate.simulator.world import World

__all__ = ["Displacement"]

LOOK_NS: Final[Nanoseconds] = 2 * MS
PATIENCE_NS: Final[Nanoseconds] = 5 * SECOND
"""How long the others may take to elect somebody who decides something."""
PER_RUN: Final = 3
"""So often on average."""


class Displacement:
    """Displaces leaders until a time."""

    def __init__(self, world: "World", faults: Faults, until_ns: Nanoseconds) -> None:
        self.world, self.faults, self.until_ns = world, faults, until_ns
        stream = world.tape.stream
        self.pause, self.late, self.who = (
            stream(f"displace {name}") for name in ("pause", "late", "who")
        )
        self.first: Machine | None = None
        """Who is about to be elected and cut off."""
        self.cuts: list[list[Link]] = []
        self.deadline: Nanoseconds = 0
        world.expect("leader displaced")
        hooks = world.on_message
        hooks[RequestVote] = [*hooks.get(RequestVote, []), self.on_request_vote]

    def plan_next(self) -> None:
        most = 2 * self.until_ns // PER_RUN
        delay = MS + most - self.pause.choose(most)
        if self.world.now + delay < self.until_ns:
            self.world.after(delay, self.begin)

    def find_leader(self, *others: "Machine") -> "Machine | None":
        """Return who leads and is none of the others."""
        for machine in self.world.machines:
            node = machine.node
            if machine not in others and node is not None and not machine.paused and node.leads():
                return machine
        return None

    def begin(self) -> None:
        """Let another one be elected."""
        machines, who = self.world.machines, self.who.choose(len(self.world.machines))
        leader, first = self.find_leader(), machines[who]
        if leader is None or first is leader or first.node is None or len(machines) < 3:
            self.plan_next()
            return
        self.first, self.deadline = first, self.world.now + PATIENCE_NS
        self.faults.hand_over(leader.index, first.address)
        self.world.after(LOOK_NS, self.look)

    def on_request_vote(self, machine: "Machine", m: RequestVote) -> None:
        """Once it has asked for votes, nobody hears it any more."""
        if machine is self.first and not m.trial and not self.cuts:
            self.cuts = [[]]
            self.world.after(1, self.silence, machine.index)

    def silence(self, index: int) -> None:
        self.cuts = [self.faults.silence(index)]

    def look(self) -> None:
        """Wait until it was elected, and until somebody else has decided something after it."""
        first, world = self.first, self.world
        assert first is not None
        second = self.find_leader(first)
        if len(self.cuts) == 1 and first.node is not None and first.node.leads():
            self.cuts.append(self.faults.deafen(first.index))
        elif len(self.cuts) == 2 and second is not None and has_own_payload(second):
            third = [m for m in world.machines if m not in (first, second) and m.node is not None]
            if third:
                world.witness("leader displaced")
                self.faults.hand_over(second.index, third[-1].address)
            self.end(self.late.choose(4) * MS)
            return
        if world.now < min(self.deadline, self.until_ns):
            world.after(LOOK_NS, self.look)
        else:
            self.end(0)

    def end(self, late: Nanoseconds) -> None:
        """Let everybody hear each other again."""
        cuts, self.cuts, self.first = self.cuts, [], None
        for cut in cuts:
            self.world.after(late, self.faults.mend, cut)
        self.plan_next()


def has_own_payload(machine: "Machine") -> bool:
    """Whether the log of a leader ends with a payload of its own term."""
    replica: Any = None if machine.node is None else machine.node.replica
    last = replica.log.get(replica.log.last_index) if replica is not None else None
    return last is not None and bool(last.envelope) and last.term == replica.term
