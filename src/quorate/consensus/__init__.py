"""Engines: ways to agree on opaque payloads, all on the contract in `replica`."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from quorate.base.types import Address
from quorate.consensus import pow_headers, pow_types, raft_certificate, raft_types
from quorate.consensus.certificate import decode_certificate
from quorate.consensus.pow import Pow
from quorate.consensus.raft import Raft
from quorate.consensus.replica import Message, Record, Replica
from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import Settings


class Engine(Struct, frozen=True):
    """What others need to know of an engine."""

    name: str
    replica: Callable[..., Replica]
    """Called with (keys, chain, rng, settings)."""
    settings: type[Any]
    wire: tuple[type[Message], ...]
    """Everything that replicas send each other; decode `Union[wire]`."""
    records: tuple[type[Record], ...]
    """Everything that is in the journal."""
    faults: str
    source: str
    proves: bool
    """Whether its certificates convince a stranger; if not, members trust each other."""
    byzantine: bool
    """Whether it tolerates members that lie; if not, only crashes."""
    quorum: str
    """What must be left to go on, in words."""
    share: tuple[int, int]
    """More than this share of the voting power decides, as numerator and denominator."""
    caution: str
    """What an operator has to know before relying on it, one line; empty: nothing beyond that."""
    get_signers: Callable[[bytes], list[Address]]
    """Who stands for a certificate, as far as it says. Raises Invalid."""
    open: bool = False
    """Whether members join without asking: anybody may take part, and tips move sideways."""
    leads: bool = False
    """Whether a member leads until another one takes over, and can be asked to hand over."""

    def list_cautions(self, settings: dict[str, Any]) -> list[str]:
        """Return what an operator has to know of the engine and of what its settings ask for."""
        cautions = [self.caution] if self.caution else []
        if settings.get("lease_reads"):
            drift = settings.get("clock_drift_percent", raft_types.Settings().clock_drift_percent)
            cautions.append(
                f"{self.name}: leases answer reads; one may be stale if a clock runs more than "
                f"{drift} percent too fast or too slow, or stands still"
            )
        return cautions

    def compute_needed(self, total: int) -> int:
        """Return the least voting power of a quorum, of so much in all."""
        numerator, denominator = self.share
        return total * numerator // denominator + 1


ENGINES: dict[str, Engine] = {
    "tendermint": Engine(
        name="tendermint",
        replica=Tendermint,
        settings=Settings,
        wire=Tendermint.WIRE,
        records=Tendermint.RECORDS,
        faults="Byzantine, less than a third of the voting power; partial synchrony",
        source="Buchman, Kwon, Milosevic: The latest gossip on BFT consensus, arXiv 1807.04938",
        proves=True,
        byzantine=True,
        quorum="more than two thirds of the voting power",
        share=(2, 3),
        caution="",
        get_signers=lambda data: [who for who, _ in decode_certificate(data).signatures],
    ),
    "raft": Engine(
        name="raft",
        replica=Raft,
        settings=raft_types.Settings,
        wire=Raft.WIRE,
        records=Raft.RECORDS,
        faults="crashes, less than half of the voting power; members trust each other",
        source="Ongaro, Ousterhout: In search of an understandable consensus algorithm, 2014",
        proves=False,
        byzantine=False,
        quorum="more than half of the voting power",
        share=(1, 2),
        caution="raft: the members trust each other; one that lies can rewrite what all hold, and "
        "nothing convinces a stranger",
        get_signers=lambda data: raft_certificate.decode_certificate(data).holders,
        leads=True,
    ),
    "pow": Engine(
        name="pow",
        replica=Pow,
        settings=pow_types.Settings,
        wire=Pow.WIRE,
        records=Pow.RECORDS,
        faults="Byzantine, less than half of the hash power; synchrony; agreement is probabilistic",
        source="Nakamoto: Bitcoin: A peer-to-peer electronic cash system, 2008",
        proves=False,
        byzantine=True,
        quorum="one who mines",
        share=(0, 1),
        caution="pow: whoever has more hash power than all miners together can rewrite this chain; "
        "below 1 TH/s that is anyone, with machines rented for minutes",
        get_signers=lambda data: [pow_headers.decode_certificate(data).header.proposer],
        open=True,
    ),
}
