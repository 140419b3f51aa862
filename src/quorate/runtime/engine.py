"""The engine of a validator process and its settings, from network.toml and the genesis file."""

from typing import Any, Final

import msgspec

from quorate.base.errors import Invalid
from quorate.consensus import ENGINES, Engine
from quorate.ledger.genesis import get_pow_rules
from quorate.runtime.config import Network

__all__ = ["check_sizes", "get_engine", "read_engine_settings"]

FRAME_OVERHEAD: Final = 1 << 20
"""Of a frame around payloads: certificates, envelopes of other entries."""


def get_engine(network: Network) -> Engine:
    """Return the engine of a network. Raises Invalid."""
    engine = ENGINES.get(network.engine)
    if engine is None:
        names = ", ".join(ENGINES)
        raise Invalid(f"network.toml: engine: found {network.engine!r}, expected one of {names}")
    return engine


def read_engine_settings(network: Network, engine: Engine, genesis: bytes) -> Any:
    """Return the engine's settings: those of the network file, and what genesis prescribes.

    Raises Invalid.
    """
    unknown = set(network.engine_settings) - set(engine.settings.__struct_fields__)
    if unknown:
        names = ", ".join(engine.settings.__struct_fields__)
        raise Invalid(
            f"network.toml: engine_settings.{min(unknown)}: unknown key, expected one of {names}"
        )
    given = dict(network.engine_settings)
    if engine.open:
        for name, value in get_pow_rules(genesis).items():
            if given.get(name, value) != value:
                raise Invalid(
                    f"network.toml: engine_settings.{name}: found {given[name]}, "
                    f"expected {value} as in {network.genesis}"
                )
            given[name] = value
        given.setdefault("mine", network.mining.enabled)
    try:
        settings = msgspec.convert(given, engine.settings)
    except msgspec.ValidationError as error:
        raise Invalid(f"network.toml: engine_settings: {error}") from None
    check_sizes(network, settings)
    return settings


def check_sizes(network: Network, settings: Any) -> None:
    """Raise Invalid where a block would not get through: the network would stop at it for ever."""
    block = network.blocks.max_bytes
    found = getattr(settings, "max_payload_bytes", block)
    if found < block:
        raise Invalid(
            f"network.toml: engine_settings.max_payload_bytes: found {found}, "
            f"expected at least blocks.max_bytes, {block}"
        )
    least = max(block, getattr(settings, "max_append_bytes", 0)) + FRAME_OVERHEAD
    if network.peers.max_frame_bytes < least:
        raise Invalid(
            f"network.toml: peers.max_frame_bytes: found {network.peers.max_frame_bytes}, "
            f"expected at least {least}, for what blocks.max_bytes and engine_settings allow"
        )
