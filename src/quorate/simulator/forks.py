"""Runs that share their beginning: where they part, and which seed takes which way.

The seeds of a plan with forks come in families, as many in each as there are ways through all of
its forks. A family has one beginning, drawn by its first seed. At each fork the run has several
futures: one goes on as it began, and in each other one every choice is drawn anew from there on,
by the first seed that takes this way, the nemesis takes another style, and traitors take other
characters.

So a run is a function of its plan and seed as ever, and may be run alone. Who runs a family whole
(`campaign/families.py`) takes each part of the way once, and gives a deep state many futures
(as snapshot fuzzers do; Schumilo and others, "Nyx", USENIX Security 2021).
"""

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING

from msgspec.structs import replace

from quorate.base.errors import Invalid
from quorate.simulator.plan import Fork, Plan

if TYPE_CHECKING:
    from quorate.simulator.world import World

__all__ = [
    "SHAPES",
    "OnFork",
    "choose_way",
    "count_seeds",
    "get_first_seed",
    "make_forks",
    "split",
    "take_way",
    "verify_forks",
]

OnFork = Callable[["World", int], int]
"""Asked at a fork with its number; returns the first seed of those that take the way to go."""

MAX_BRANCHES = 256
MAX_FORKS = 8
MILLE = 1000
SHAPES: dict[int, tuple[tuple[int, int], ...]] = {
    2: ((700, 2),),
    4: ((600, 2), (800, 2)),
    8: ((500, 2), (700, 2), (850, 2)),
    16: ((500, 2), (700, 2), (850, 4)),
    32: ((600, 2), (800, 2), (920, 8)),
    64: ((600, 2), (800, 4), (920, 8)),
}
"""By number of branches: when a family's runs part, in permille of the time of faults, and in how
many ways. Early forks make futures different, late ones cheap.
"""


def make_forks(branches: int) -> tuple[Fork, ...]:
    """Return the forks of families of so many seeds. Raises Invalid if there are none."""
    if branches == 1:
        return ()
    shape = SHAPES.get(branches)
    if shape is None:
        expected = ", ".join(map(str, (1, *SHAPES)))
        raise Invalid(f"{branches} branches, expected one of {expected}")
    return tuple(Fork(at, ways) for at, ways in shape)


def verify_forks(forks: tuple[Fork, ...], name: str = "plan") -> None:
    """Verify forks that were read. Raises Invalid."""
    if len(forks) > MAX_FORKS:
        raise Invalid(f"{name}: {len(forks)} forks, expected at most {MAX_FORKS}")
    last = 0
    for i, fork in enumerate(forks):
        if not last < fork.at_permille < MILLE:
            raise Invalid(
                f"{name}: fork {i}: at_permille {fork.at_permille}, expected {last + 1} to "
                f"{MILLE - 1}"
            )
        if not 2 <= fork.ways <= MAX_BRANCHES:
            raise Invalid(f"{name}: fork {i}: ways {fork.ways}, expected 2 to {MAX_BRANCHES}")
        last = fork.at_permille
    if count_seeds(forks) > MAX_BRANCHES:
        raise Invalid(
            f"{name}: {count_seeds(forks)} branches of all forks, expected at most {MAX_BRANCHES}"
        )


def count_seeds(forks: tuple[Fork, ...], passed: int = 0) -> int:
    """Return how many seeds share a run that has come through so many of the forks."""
    return prod(fork.ways for fork in forks[passed:])


def get_first_seed(plan: Plan) -> int:
    """Return the seed that draws the beginning of a plan's run: the first of its family."""
    return plan.seed - plan.seed % count_seeds(plan.forks)


def choose_way(plan: Plan) -> OnFork:
    """Return what goes the way of the plan's seed."""

    def go(_: "World", number: int) -> int:
        return plan.seed - plan.seed % count_seeds(plan.forks, number + 1)

    return go


def split(forks: tuple[Fork, ...], number: int, first: int, last: int) -> list[tuple[int, int]]:
    """Return how seeds `first` to `last`, which came to a fork together, part there: the first and
    last seed of each way that one of them takes.
    """
    size = count_seeds(forks, number + 1)
    starts = range(first - first % size, last + 1, size)
    return [(max(first, start), min(last, start + size - 1)) for start in starts]


def take_way(world: "World", seed: int) -> bool:
    """Let a world go on as that of another seed; return whether it is another one."""
    if seed == world.plan.seed:
        return False
    world.plan = replace(world.plan, seed=seed)
    if world.tape.values is None:
        world.tape.reseed(seed)
    return True
