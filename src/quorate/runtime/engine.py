"""The engine of a validator process and its settings, from network.toml and the genesis file."""

from typing import Any

import msgspec

from quorate.base.errors import Invalid
from quorate.consensus import ENGINES, Engine
from quorate.ledger.genesis import get_pow_rules
from quorate.runtime.config import Network

__all__ = ["get_engine", "read_engine_settings"]


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
        return msgspec.convert(given, engine.settings)
    except msgspec.ValidationError as error:
        raise Invalid(f"network.toml: engine_settings: {error}") from None
