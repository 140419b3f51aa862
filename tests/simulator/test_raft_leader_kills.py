"""The leader of a Raft network is killed every ten seconds under load, for two minutes: nothing
that was acknowledged is lost, by an independent check of linearizability.
"""

import pytest

from quorate.simulator.faults import Faults
from quorate.simulator.history import History
from quorate.simulator.linearizability import check_history
from quorate.simulator.models import Log
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.run import run
from quorate.simulator.world import World
from simulator.networks import make_plan

MINUTES_MS = 120_000
EVERY_NS = 10 * SECOND


class Killer:
    """Kills whoever leads, and starts it again three seconds later."""

    def __init__(self, world: World) -> None:
        self.world, self.faults, self.killed = world, Faults(world), 0
        for time_ns in range(EVERY_NS, MINUTES_MS * MS, EVERY_NS):
            world.after(time_ns, self.strike)

    def strike(self) -> None:
        for machine in self.world.machines:
            if machine.node is not None and machine.node.leads():
                self.killed += 1
                self.faults.crash(machine.index, 3 * SECOND)
                return
        # Between two leaders: a little later there is one.
        self.world.after(100 * MS, self.strike)


@pytest.mark.parametrize(("count", "seed"), [(3, 1), (5, 2)])
def test_leader_is_killed_every_ten_seconds_and_no_answer_is_taken_back(
    count: int, seed: int
) -> None:
    worlds: list[World] = []
    killers: list[Killer] = []

    def on_world(world: World) -> None:
        worlds.append(world)
        killers.append(Killer(world))

    plan = make_plan(
        seed, count=count, engine="raft", duration_ms=MINUTES_MS, clients=4, submit_ms=400
    )
    outcome = run(plan, on_world=on_world)
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert killers[0].killed == 11
    clients = worlds[0].clients
    assert clients is not None
    history = History()
    for event in clients.list_events():
        history.add(event)
    operations = history.get_operations()
    assert sum(o.outcome == "ok" for o in operations) > 800
    report = check_history(operations, Log)
    assert report.verdict == "true"
