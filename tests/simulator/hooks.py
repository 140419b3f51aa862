"""What tests put into the worlds of workers in other processes, by name."""

import os
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
