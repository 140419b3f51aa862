"""Profiles: which faults may happen, by name. What `--faults` takes."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from quorate.base.errors import Invalid

__all__ = ["PROFILES", "Profile", "get_profile"]

Permille = Annotated[int, Meta(ge=0, le=1000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which faults may happen, and how often.

    Rates of links are for each frame; weights are relative, among all acts of the nemeses, of which
    a run has `acts` on average. Where it is `mixed`, each seed draws a style that leaves some of
    this out (`quorate.simulator.nemesis`), so no seed has it all.
    """

    name: str
    about: str = ""
    """One line for people."""
    # Links.
    loss_permille: Permille = 0
    duplicate_permille: Permille = 0
    tail_permille: Permille = 0
    """Frames that take `tail_factor` times as long."""
    tail_factor: Count = 50
    corrupt_permille: Permille = 0
    """Frames whose damage the channel notices: the connection is reset, as TLS does."""
    reorder: bool = True
    """False: a connection delivers in order, as TCP does."""
    bandwidth_bytes_per_ms: Count = 0
    """Of each link in each direction; 0: no limit."""
    # Nemeses: weights.
    acts: Count = 0
    outage_ms: Count = 250
    """How long an act lasts on average; some seeds take a fraction or a multiple of it."""
    partition: Count = 0
    """Any group is cut off from the others."""
    isolate: Count = 0
    """One machine is cut off from all others."""
    one_way: Count = 0
    """A machine is deaf, or nobody hears it."""
    swizzle: Count = 0
    """Links are cut one after another, and mended in another order."""
    priority: Count = 0
    """PCT: links get random priorities that change at a few points, and the low ones wait."""
    rounds: Count = 0
    """Who hears whom is chosen anew for each kind of message in each round of each height."""
    crash: Count = 0
    crash_at_sync: Count = 0
    """In the middle of writing to the journal."""
    crash_all: Count = 0
    pause: Count = 0
    slow: Count = 0
    clock: Count = 0
    disk: Count = 0
    """Errors that stop a node: I/O error, full disk, failing sync, detected rot."""
    stall_permille: Permille = 0
    """Writes of a journal or store that take 200 times as long."""
    lie: Count = 0
    """Disks that lose what they acknowledged: the machine counts as a traitor."""
    membership: Count = 0
    """Members in and out, and other powers."""
    upgrade: Count = 0
    """Machines restart one after another with other software and other settings."""
    # Traitors.
    traitors: Permille = 0
    """Share of seeds in which as many members lie as the engine tolerates."""
    twins: Permille = 0
    """Among those, share in which the traitors are twins."""
    knobs: Permille = 0
    """Share of settings that a seed sets to an extreme (buggify)."""
    harsh: Permille = 0
    """Share of seeds in which acts last many times as long."""
    mixed: bool = False
    """Each seed draws a style, and rates of its own; otherwise all is as it stands here."""
    unbounded: bool = False
    """Faults beyond the budget: only safety is judged, and liars stay within it."""


NETWORK: dict[str, Any] = {
    "loss_permille": 30,
    "duplicate_permille": 20,
    "tail_permille": 10,
    "corrupt_permille": 1,
    "partition": 2,
    "isolate": 3,
    "one_way": 3,
    "swizzle": 1,
    "priority": 2,
    "rounds": 3,
}
EVERYTHING: dict[str, Any] = {
    **NETWORK,
    "crash": 3,
    "crash_at_sync": 4,
    "crash_all": 1,
    "pause": 2,
    "slow": 1,
    "clock": 2,
    "disk": 2,
    "stall_permille": 5,
    "lie": 2,
    "membership": 2,
    "upgrade": 1,
    "traitors": 500,
    "twins": 150,
    "knobs": 250,
}

ALL = (
    Profile(name="none", about="No faults."),
    Profile(
        name="gentle",
        about="What a good network does: few lost frames, short outages, a crash now and then.",
        loss_permille=2,
        tail_permille=2,
        reorder=False,
        acts=4,
        isolate=1,
        crash=2,
        pause=1,
    ),
    Profile(
        name="network",
        mixed=True,
        about="Loss, disorder, delay, partitions of all kinds; machines and disks are good.",
        acts=20,
        knobs=250,
        **NETWORK,
    ),
    Profile(
        name="disk",
        mixed=True,
        about="Crashes in the middle of writes, disks that fail or forget.",
        acts=16,
        crash=1,
        crash_at_sync=5,
        crash_all=1,
        slow=1,
        disk=5,
        stall_permille=20,
        lie=2,
        knobs=250,
    ),
    Profile(
        name="clock",
        mixed=True,
        about="Clocks that step, drift and stand still; slow and paused machines.",
        tail_permille=10,
        acts=16,
        clock=6,
        pause=2,
        slow=2,
        crash=1,
        knobs=250,
    ),
    Profile(
        name="byzantine",
        mixed=True,
        about="As many members lie as the engine tolerates, over links that fail.",
        acts=16,
        traitors=1000,
        twins=200,
        knobs=100,
        **NETWORK,
    ),
    Profile(
        name="membership",
        mixed=True,
        about="Members come and go, powers shift, software is upgraded; crashes and outages.",
        loss_permille=5,
        tail_permille=5,
        acts=24,
        isolate=2,
        crash=3,
        crash_at_sync=1,
        membership=6,
        upgrade=2,
        traitors=250,
        knobs=100,
    ),
    Profile(
        name="default",
        mixed=True,
        about="All kinds of fault, a different mixture in each seed.",
        acts=24,
        harsh=60,
        **EVERYTHING,
    ),
    Profile(
        name="harsh",
        mixed=True,
        about="All kinds of fault, more often and for longer.",
        acts=40,
        outage_ms=1500,
        harsh=250,
        **{**EVERYTHING, "loss_permille": 150, "tail_permille": 50},
    ),
    Profile(
        name="unbounded",
        mixed=True,
        about="More faults than any protocol tolerates; only safety is judged.",
        acts=40,
        outage_ms=1500,
        harsh=250,
        unbounded=True,
        **{**EVERYTHING, "loss_permille": 150, "disk": 4},
    ),
)
PROFILES: dict[str, Profile] = {profile.name: profile for profile in ALL}
"""By name."""


def get_profile(name: str) -> Profile:
    """Return a profile by name. Raises Invalid."""
    found = PROFILES.get(name)
    if found is None:
        raise Invalid(f"fault profile {name!r}: expected one of {', '.join(PROFILES)}")
    return found
