"""Known bugs, to be put back by name: what the simulator must find.

They live here, outside the code that nodes run: each replaces a class or a function of one world.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.consensus.replica import Replica

if TYPE_CHECKING:
    from quorate.simulator.world import World

__all__ = ["BUGS", "Bug", "get_bug", "register", "replace_replica"]


class Bug(Struct, frozen=True):
    """One known bug."""

    name: str
    """What `--bug` takes: its id and a few words, `t1-never-unlock`."""
    title: str
    source: str
    """Who reported it, and where."""
    breaks: str
    """The property that must fail."""
    install: Callable[["World"], None]
    """Put it into a world, before its machines are made."""
    engine: str = ""
    """The only one that can have it; empty: any."""
    profile: str = ""
    """Whose seeds come to where it shows within the time of the gate; empty: `default`."""
    application: str = ""
    """The only one that can have it; empty: any, and the light one in the gate."""


BUGS: dict[str, Bug] = {}


def register(*bugs: Bug) -> None:
    """Make bugs known by their names."""
    for bug in bugs:
        BUGS[bug.name] = bug


def get_bug(name: str) -> Bug:
    """Return a bug by name. Raises Invalid."""
    load()
    found = BUGS.get(name)
    if found is None:
        raise Invalid(f"bug {name!r}: expected one of {', '.join(sorted(BUGS))}")
    return found


def replace_replica(replica: type[Replica]) -> Callable[["World"], None]:
    """Return what makes all machines of a world run this replica."""

    def install(world: "World") -> None:
        world.make_replica = replica

    return install


def load() -> None:
    """Register all bugs; each family is a module of this package."""
    # They register themselves.
    from quorate.simulator.bugs import pow, raft, storage, tendermint  # noqa: F401
