"""Failure detectors that a tester can plug in beside the nodes of a run, and watch.

`detector` is the interface; `timeouts`, `phi` and `swim` are detectors as systems have them,
`oracles` those of theory, as scripts; `quality` measures them and `host` runs them on machines.
"""

from quorate.base.errors import Invalid
from quorate.simulator.detectors.detector import Detector
from quorate.simulator.detectors.oracles import EventuallyPerfect, Omega, Perfect
from quorate.simulator.detectors.phi import PhiAccrual
from quorate.simulator.detectors.swim import Swim
from quorate.simulator.detectors.timeouts import Heartbeat, PingAck

__all__ = ["DETECTORS", "get_detector"]

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
    """Return a detector by name. Raises Invalid."""
    found = DETECTORS.get(name)
    if found is None:
        raise Invalid(f"detector {name!r}: expected one of {', '.join(DETECTORS)}")
    return found
