"""Engines: ways to agree on opaque payloads, all on the contract in `replica`."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

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


ENGINES: dict[str, Engine] = {
    "tendermint": Engine(
        name="tendermint",
        replica=Tendermint,
        settings=Settings,
        wire=Tendermint.WIRE,
        records=Tendermint.RECORDS,
        faults="Byzantine, less than a third of the voting power; partial synchrony",
        source="Buchman, Kwon, Milosevic: The latest gossip on BFT consensus, arXiv 1807.04938",
    ),
}
