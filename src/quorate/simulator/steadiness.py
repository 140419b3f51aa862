"""Whether a network goes on, under one leader, while something small stays broken.

Partial synchrony promises progress once everything is mended. Operators see more of another kind:
one link is down for hours, one machine hears nobody, and all others are well. Whoever misses the
leader then wants another one, and as far as it is heard it can depose one after the other, with a
pause for everybody each time (Howard and Abraham, "Raft does not guarantee liveness in the face of
network faults", 2020; Jensen, Howard and Mortier, 2021; Ng, Haridi and Carbone, "Omni-Paxos",
2023). So after a run has made progress, a link or the ears of one machine are cut and stay so. A
group of machines that hear each other still holds a quorum of every set of members there may be:
they have to make progress, and then to keep one leader.

Engines without elections have no leader that could stay, and are not judged.
"""

from typing import TYPE_CHECKING, Final

from quorate.base.types import Nanoseconds
from quorate.consensus import ENGINES
from quorate.simulator.budget import Budget
from quorate.simulator.faults import Faults
from quorate.simulator.plan import MS
from quorate.simulator.progress import judge_progress

if TYPE_CHECKING:
    from quorate.simulator.machine import Machine
    from quorate.simulator.network import Link
    from quorate.simulator.workload import Clients
    from quorate.simulator.world import World

__all__ = ["STEADY", "judge_steadiness"]

STEADY: Final = "a leader that others hear stays"
"""The property."""
KINDS: Final = ("", "", "", "", "", "link", "deaf", "one way")
"""What stays broken, as often as it stands here: usually nothing; a link, both ways or one way; or
all links to a machine.
"""
WINDOW_TIMEOUTS: Final = 4
"""A leader without a successor for so many election timeouts stays: within two of them anybody who
misses it stands.
"""
WINDOWS: Final = 8
"""In each of so many windows a new term has to begin before leaders are said not to stay, where the
leader itself is not sure of a quorum that it hears and is heard by; elsewhere one is enough.
"""


def judge_steadiness(world: "World", faults: Faults, budget: Budget, clients: "Clients") -> None:
    """Break something small, if the tape says so, and judge what it does to all others."""
    window_ns = compute_window(world)
    stream = world.tape.stream("nemesis stays")
    kind = KINDS[stream.choose(len(KINDS))]
    struck, who, step = (stream.choose(n) for n in (4, len(world.machines), len(world.machines)))
    live = [m for m in world.machines if m.is_honest and m.node is not None]
    leader = find_leader(live)
    if not kind or not window_ns or leader is None:
        return
    # The leader's own links matter most.
    one = leader if struck else world.machines[who]
    others = [m for m in world.machines if m is not one]
    other = others[step % len(others)] if others else one
    # A deaf leader is another matter than a deaf follower, and both have to be survived.
    deaf = other if struck > 1 else one
    ends = [(deaf, deaf)] if kind == "deaf" else [(one, other), (other, one)]
    # Who has no quorum left beside whom it does not hear is owed nothing.
    spared = [
        end for end, lost in ends if not is_enough(budget, [m for m in live if m is not lost])
    ]
    if len(spared) == len(ends):
        return
    spared += [deaf] if kind == "deaf" else []
    cuts = cut(faults, kind, one, other, deaf)
    world.witness(f"{kind} stays broken")
    well = [m for m in live if m not in spared]
    judge_progress(world, clients, well)
    if not world.findings:
        lost = dict(ends)
        leader = find_leader(well)
        heard = [m for m in well if leader is not None and m is not lost.get(leader)]
        watch_terms(world, well, kind, window_ns, 1 if is_sure(budget, leader, heard) else WINDOWS)
    for links in cuts:
        faults.mend(links)


def find_leader(machines: list["Machine"]) -> "Machine | None":
    """Return the first of some machines that leads, as far as it knows."""
    return next((m for m in machines if m.node is not None and m.node.leads()), None)


def compute_window(world: "World") -> Nanoseconds:
    """Return how long a leader has to stay; 0 where nobody is elected."""
    settings = ENGINES[world.plan.engine].settings(**world.engine_settings)
    election_ms: int = getattr(settings, "election_ms", 0)
    return WINDOW_TIMEOUTS * election_ms * MS


def is_enough(budget: Budget, group: list["Machine"]) -> bool:
    """Whether machines that hear each other hold a quorum of all sets that may be in force."""
    inside = {machine.address for machine in group}
    return all(
        budget.parts * sum(power for address, power in powers.items() if address in inside)
        > (budget.parts - 1) * sum(powers.values())
        for powers in budget.sets
    )


def is_sure(budget: Budget, leader: "Machine | None", heard: list["Machine"]) -> bool:
    """Whether nobody has a reason to depose a leader that these machines hear."""
    stays = leader is not None and all(leader.address in powers for powers in budget.current)
    return stays and is_enough(budget, heard)


def cut(
    faults: Faults, kind: str, one: "Machine", other: "Machine", deaf: "Machine"
) -> list[list["Link"]]:
    """Cut what stays broken; return the cuts."""
    if kind == "deaf":
        return [faults.deafen(deaf.index)]
    cuts = [faults.deafen(other.index, one.index)]
    if kind == "link":
        cuts.append(faults.deafen(one.index, other.index))
    return cuts


def watch_terms(
    world: "World", live: list["Machine"], kind: str, window_ns: Nanoseconds, windows: int
) -> None:
    """Find that new terms begin in each of so many windows."""
    first = get_term(live)
    for _ in range(windows):
        begin = get_term(live)
        world.run(world.now + window_ns)
        if world.findings or world.is_exhausted() or get_term(live) == begin:
            return
    text = (
        f"terms {first} to {get_term(live)} in {windows * window_ns // MS} ms, "
        f"while one thing is broken ({kind}) and a quorum hear each other"
    )
    world.find(STEADY, text)


def get_term(live: list["Machine"]) -> int:
    """Return the highest term that any of these machines knows."""
    replicas = [m.node.replica for m in live if m.node is not None]
    return max((getattr(replica, "term", 0) for replica in replicas), default=0)
