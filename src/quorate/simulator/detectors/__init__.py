"""Failure detectors that a tester can plug in beside the nodes of a run, and watch.

`detector` is the interface; `timeouts`, `phi` and `swim` are detectors as systems have them,
`oracles` those of theory, as scripts; `quality` measures them and `host` runs them on machines.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from quorate.base.errors import Invalid
from quorate.base.plugins import load_class
from quorate.simulator.detectors.detector import Detector
from quorate.simulator.detectors.oracles import EventuallyPerfect, Omega, Perfect
from quorate.simulator.detectors.phi import PhiAccrual
from quorate.simulator.detectors.swim import Swim
from quorate.simulator.detectors.timeouts import Heartbeat, PingAck

__all__ = ["DETECTORS", "get_detector", "make_settings"]

DETECTORS: dict[str, type[Detector]] = {
    "ping": PingAck,
    "heartbeat": Heartbeat,
    "phi": PhiAccrual,
    "swim": Swim,
    "perfect": Perfect,
    "eventually-perfect": EventuallyPerfect,
    "omega": Omega,
}


def get_detector(name: str) -> type[Detector]:
    """Return a detector by name, or one of a user's own as `package.module:Class`. Raises
    Invalid.
    """
    found = DETECTORS.get(name)
    if found is not None:
        return found
    if ":" not in name:
        raise Invalid(
            f"detector {name!r}: expected one of {', '.join(DETECTORS)}, or package.module:Class"
        )
    return load_class("detector", name, Detector)  # type: ignore[type-abstract]


def make_settings(name: str, settings: Mapping[str, Any]) -> Any:
    """Return the settings of a detector, defaults where nothing is said. Raises Invalid."""
    kind = get_detector(name).SETTINGS
    known = [field.name for field in msgspec.structs.fields(kind)]
    strange = sorted(settings.keys() - set(known))
    if strange:
        raise Invalid(
            f"settings of detector {name!r}: {strange[0]!r}, expected one of {', '.join(known)}"
        )
    try:
        return msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"settings of detector {name!r}: {error}") from None
