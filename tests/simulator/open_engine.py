"""A least engine under which anybody may join: one machine decides, and all others follow."""

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from node.lone import Lone
from quorate.consensus import ENGINES, Engine

NAME = "lone"


class Settings(Struct, frozen=True):
    """There is nothing to set."""


class OpenLone(Lone):
    def __init__(self, keys: object, chain: bytes, rng: object, settings: Settings) -> None:
        super().__init__(keys, chain, rng)  # type: ignore[arg-type]


ENGINE = Engine(
    name=NAME,
    replica=OpenLone,
    settings=Settings,
    wire=OpenLone.WIRE,
    records=OpenLone.RECORDS,
    faults="none",
    source="none",
    proves=False,
    byzantine=False,
    quorum="the first member",
    share=(0, 1),
    caution="",
    get_signers=lambda data: [],
    open=True,
)


@contextmanager
def open_engine() -> Iterator[str]:
    """Let simulated networks be of this engine."""
    ENGINES[NAME] = ENGINE
    try:
        yield NAME
    finally:
        del ENGINES[NAME]
