"""What a run is made of, besides its tape: the network, the faults, the time it is given."""

from typing import Any, Final, Literal

from msgspec import Struct

from quorate.base.types import Address, Milliseconds, Nanoseconds
from quorate.simulator.profiles import PROFILES, Profile, get_profile
from quorate.simulator.timing import AnyTiming

__all__ = ["MS", "PROFILES", "SECOND", "Fork", "MemberPlan", "Plan", "Profile", "get_profile"]

MS: Final = 1_000_000
SECOND: Final = 1_000 * MS


class MemberPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine of the network."""

    name: str
    address: Address
    power: int
    """At genesis; 0: a follower that may become a member."""
    secret: bytes = b""
    """For real signatures."""


class Fork(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A moment at which runs of neighbouring seeds part."""

    at_permille: int
    """Of the time of faults."""
    ways: int
    """How many futures the run has from there on."""


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a run depends on besides its tape; `seed` draws the tape."""

    seed: int
    machines: list[MemberPlan]
    name: str = "network"
    engine: str = "tendermint"
    engine_settings: dict[str, Any] = {}
    node_settings: dict[str, Any] = {}
    """Of `quorate.node.settings.Settings`."""
    application: str = "opaque"
    """`opaque`, or as a network file names it: ethereum, keyvalue, package.module:Class."""
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
    discovery: bool = True
    """Whether nodes of an open engine find each other; without, all machines are connected."""
    discovery_settings: dict[str, Any] = {}
    """Of `quorate.node.contacts.OpenSettings`."""
    bootnodes: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    """Machines that everybody knows, where membership is open; those of them that there are. Who
    starts while none of them is there, and knows nobody else, stays alone."""
    hosts: list[str] = []
    """Addresses of the first machines; each other one has a range of its own."""
    bug: str = ""
    """A known bug to put back, from `quorate.simulator.bugs`."""
    max_events: int = 5_000_000
    """A run that takes more ends with verdict unknown."""
    forks: tuple[Fork, ...] = ()
    """Where runs of neighbouring seeds part that share their beginning, in order; none: each seed
    has a beginning of its own. See `quorate.simulator.forks`."""
