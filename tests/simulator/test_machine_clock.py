"""A machine lives by its own clocks: timers, time and wall time."""

from quorate.consensus.replica import Timer
from quorate.simulator.clock import START_MS
from quorate.simulator.clock_errors import Frozen
from quorate.simulator.faults import Faults
from quorate.simulator.plan import MS, Profile
from quorate.simulator.run import run
from quorate.simulator.tape import Tape
from quorate.simulator.world import World
from simulator.networks import make_plan

TIMER = Timer("test")


class Bell:
    """A node that does nothing but hear its timers."""

    def __init__(self, world: World) -> None:
        self.world, self.heard = world, list[int]()

    def timeout(self, timer: Timer) -> None:
        self.heard.append(self.world.now // MS)


def make_world() -> tuple[World, Bell]:
    world = World(make_plan(), Tape(0, {}))
    bell = Bell(world)
    world.machines[0].node = bell  # type: ignore[assignment]
    return world, bell


def test_timers_of_a_slow_clock_fall_late_and_of_a_fast_one_early() -> None:
    for ppm, expected in ((0, 100), (-500_000, 200), (250_000, 80)):
        world, bell = make_world()
        Faults(world).drift(0, ppm)
        world.machines[0].set_timer(TIMER, 100 * MS)
        world.run(1_000 * MS)
        assert bell.heard == [expected]


def test_a_running_timer_follows_a_change_of_its_clock() -> None:
    world, bell = make_world()
    machine = world.machines[0]
    machine.set_timer(TIMER, 100 * MS)
    world.run(50 * MS)
    machine.set_drift(-500_000)
    world.run(100 * MS)
    assert (machine.now(), bell.heard) == (75 * MS, [])
    Faults(world).correct_clock(0)
    world.run(1_000 * MS)
    assert bell.heard == [125]


def test_wall_time_is_the_machines_own() -> None:
    world, _ = make_world()
    faults = Faults(world)
    faults.step_clock(0, -300)
    faults.break_clock(1, Frozen(0, 50 * MS))
    world.run(20 * MS)
    assert [m.wall_ms() - START_MS for m in world.machines] == [-280, 0, 20, 20]
    faults.correct_clock(0)
    assert world.machines[0].wall_ms() == START_MS + 20


def test_broken_clocks_break_no_agreement_and_no_progress() -> None:
    clocks = Profile(name="clocks", acts=25, clock=3, crash=1, partition=1, loss_permille=20)
    faults: dict[str, int] = {}
    for seed in range(6):
        outcome = run(make_plan(seed, clocks, duration_ms=5_000))
        assert (outcome.verdict, outcome.findings) == ("true", [])
        for name, times in outcome.counters.items():
            faults[name] = faults.get(name, 0) + times
    assert faults["fault clock rate"] > 0
    assert faults["fault clock step"] > 0
