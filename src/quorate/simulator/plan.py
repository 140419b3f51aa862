"""What a run is made of, besides its tape: the network, the faults, the time it is given."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from quorate.base.errors import Invalid
from quorate.base.types import Address, Milliseconds, Nanoseconds
from quorate.simulator.timing import AnyTiming

__all__ = ["MS", "PROFILES", "SECOND", "MemberPlan", "Plan", "Profile", "get_profile"]

MS: Nanoseconds = 1_000_000
SECOND: Nanoseconds = 1_000 * MS

Permille = Annotated[int, Meta(ge=0, le=1000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which faults may happen, and how often. Each seed turns some of them off (swarm testing).

    Rates of links are for each frame; weights are relative, among all acts of the nemeses, which
    act `acts` times in a run on average.
    """

    name: str
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
    partition: Count = 0
    one_way: Count = 0
    isolate_leader: Count = 0
    swizzle: Count = 0
    priority: Count = 0
    """PCT: for a while, links get random priorities and the low ones wait."""
    crash: Count = 0
    crash_at_sync: Count = 0
    crash_leader: Count = 0
    crash_all: Count = 0
    pause: Count = 0
    slow: Count = 0
    clock: Count = 0
    disk: Count = 0
    """Errors that stop a node: I/O error, full disk, failing sync, detected rot."""
    stall_permille: Permille = 0
    """Writes of a journal or store that take 200 times as long."""
    lie: Count = 0
    """Disks that lose what they acknowledged: counts as a traitor."""
    membership: Count = 0
    upgrade: Count = 0
    # Traitors.
    traitors: Permille = 0
    """Share of seeds in which as many members lie as the engine tolerates."""
    twins: Permille = 0
    """Among those, share in which the traitors are twins."""
    knobs: Permille = 0
    """Share of settings that a seed sets to an extreme (buggify)."""
    unbounded: bool = False
    """Faults beyond the budget: only safety is judged, and traitors stay within it."""


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="none"),
        Profile(
            name="network",
            loss_permille=50,
            duplicate_permille=20,
            tail_permille=20,
            corrupt_permille=1,
            acts=12,
            partition=3,
            one_way=2,
            isolate_leader=2,
            swizzle=1,
            priority=1,
            knobs=250,
        ),
        Profile(
            name="default",
            loss_permille=30,
            duplicate_permille=20,
            tail_permille=10,
            corrupt_permille=1,
            acts=20,
            partition=3,
            one_way=2,
            isolate_leader=2,
            swizzle=1,
            priority=1,
            crash=2,
            crash_at_sync=4,
            crash_leader=2,
            crash_all=1,
            pause=1,
            slow=1,
            clock=1,
            disk=1,
            stall_permille=5,
            lie=1,
            membership=1,
            upgrade=1,
            traitors=400,
            twins=200,
            knobs=250,
        ),
    )
}


def get_profile(name: str) -> Profile:
    """Return a profile by name. Raises Invalid."""
    found = PROFILES.get(name)
    if found is None:
        raise Invalid(f"fault profile {name!r}: expected one of {', '.join(PROFILES)}")
    return found


class MemberPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine of the network."""

    name: str
    address: Address
    power: int
    """At genesis; 0: a follower that may become a member."""
    secret: bytes = b""
    """For real signatures."""


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a run depends on besides its tape; `seed` draws the tape."""

    seed: int
    machines: list[MemberPlan]
    name: str = "network"
    engine: str = "tendermint"
    engine_settings: dict[str, Any] = {}
    node_settings: dict[str, Any] = {}
    """Of `quorate.node.settings.Settings`."""
    application: Literal["opaque", "ethereum"] = "opaque"
    genesis: bytes = b""
    """The genesis file of the Ethereum ledger; empty: a development network's."""
    signatures: Literal["simulated", "real"] = "simulated"
    profile: Profile = PROFILES["none"]
    timing: AnyTiming | None = None
    """What the network promises in spite of the profile; None: nothing while faults happen, and
    everything after."""
    base_delay_ns: Nanoseconds = MS // 2
    """The shortest way of a frame."""
    jitter_ns: Nanoseconds = 5 * MS
    """What is added at most, tails apart."""
    delays_ns: list[list[Nanoseconds]] = []
    """The shortest way from each machine to each; empty: `base_delay_ns` everywhere."""
    sync_ns: Nanoseconds = MS // 2
    work_ns: Nanoseconds = MS // 4
    """Of a call of the application."""
    duration_ms: Milliseconds = 10_000
    """How long faults happen and clients submit."""
    patience_ms: Milliseconds = 120_000
    """How long a healed network may take to make everything final."""
    clients: int = 2
    submit_ms: Milliseconds = 250
    """Between two items of a client, on average."""
    detector: str = ""
    """A failure detector that runs beside the nodes, from `quorate.simulator.detectors`."""
    detector_settings: dict[str, Any] = {}
    bug: str = ""
    """A known bug to put back, from `quorate.simulator.bugs`."""
    max_events: int = 5_000_000
    """A run that takes more ends with verdict unknown."""
