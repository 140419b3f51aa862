"""What tests put into the worlds of workers in other processes, by name."""

import os
import resource
import signal
from pathlib import Path

from quorate.simulator.plan import MS
from quorate.simulator.world import World

FATAL_SEED = 5
MARKER = "QUORATE_TEST_MARKER"
"""A file that says that a worker has died."""
NAMES = {f"name {i}" for i in range(32)}


def iterate_over_a_set(world: World) -> None:
    """Let something depend on the order in which strings hash, in the middle of a run."""
    world.after(700 * MS, note_names, world)


def note_names(world: World) -> None:
    for name in NAMES:
        world.fault(name, 0)


def die(world: World) -> None:
    """Take the process along, as memory that runs out would."""
    if world.plan.seed == FATAL_SEED:
        os.kill(os.getpid(), signal.SIGKILL)


def die_once(world: World) -> None:
    marker = Path(os.environ[MARKER])
    if world.plan.seed == FATAL_SEED and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def fail(world: World) -> None:
    """Be in error, as the simulator itself may be."""
    if world.plan.seed == FATAL_SEED:
        raise ValueError("a bug of the simulator")


def find_in_some(world: World) -> None:
    """Let some seeds fail, in two ways."""
    for divisor in (4, 6):
        if world.plan.seed % divisor == 0:
            world.after(divisor * 100 * MS, world.find, f"not {divisor}", "found one")


# ---- in the middle of runs that share their beginning

LATE = 1400 * MS
"""After the last fork of runs whose faults last 1500 ms."""
EARLY = 100 * MS
"""Before the first."""


def die_late(world: World) -> None:
    world.after(LATE, die, world)


def die_late_once(world: World) -> None:
    world.after(LATE, die_once, world)


def fail_late(world: World) -> None:
    world.after(LATE, fail, world)


def exit_late(world: World) -> None:
    """Try to go on as the program that runs the simulator."""
    world.after(LATE, leave, world)


def leave(world: World) -> None:
    if world.plan.seed == FATAL_SEED:
        raise SystemExit("a run ends its program")


def hang_once(world: World) -> None:
    world.after(LATE, hang, world)


def hang(world: World) -> None:
    """Say who one is, and never end."""
    marker = Path(os.environ[MARKER])
    if world.plan.seed == FATAL_SEED and not marker.exists():
        marker.with_suffix(".part").write_text(str(os.getpid()))
        marker.with_suffix(".part").rename(marker)
        while True:
            pass


def find_early(world: World) -> None:
    """Fail before runs part, if their beginning is that of seed 8."""
    if world.plan.seed == 8:
        world.after(EARLY, world.find, "early", "found one")


def fail_early(world: World) -> None:
    if world.plan.seed == 8:
        world.after(EARLY, throw)


def throw() -> None:
    raise ValueError("a bug of the simulator")


def find_in_some_late(world: World) -> None:
    world.after(LATE, judge_seed, world)


def judge_seed(world: World) -> None:
    for divisor in (4, 6):
        if world.plan.seed % divisor == 0:
            world.find(f"not {divisor}", "found one")


def find_limits(world: World) -> None:
    """Tell which runs are in a process whose time is limited."""
    world.after(LATE, judge_limit, world)


def judge_limit(world: World) -> None:
    limit = resource.getrlimit(resource.RLIMIT_CPU)[0]
    if limit != resource.RLIM_INFINITY:
        world.find("limited", f"{limit} s")
