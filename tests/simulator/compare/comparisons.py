"""Small comparisons for tests."""

from typing import Any

import msgspec

from quorate.simulator.compare.document import Comparison, Wishes
from quorate.simulator.compare.experiment import Conditions
from quorate.simulator.compare.latency import PRESETS
from quorate.simulator.compare.script import SCRIPTS, Fault, Script
from quorate.simulator.compare.workload import make_default_genesis, open_workload
from quorate.simulator.plan import Plan
from simulator.networks import make_plan

CRASH = Script(name="test", faults=(Fault(kind="crash", at_ms=1000, for_ms=1500),))


def make_base(engine: str, count: int = 4) -> Plan:
    base = make_plan(1, "none", count, engine=engine)
    return msgspec.structs.replace(base, genesis=make_default_genesis(base))


def make_conditions(**more: Any) -> Conditions:
    settings: dict[str, Any] = {
        "seed": 1,
        "rate": 50.0,
        "length_ms": 2000,
        "clients": 4,
        "latency": PRESETS["lan"],
        "script": SCRIPTS["none"],
    }
    return Conditions(**{**settings, **more})


def make_comparison(
    *engines: str, workload: str = "opaque", most: int = 0, trials: bool = False, **more: Any
) -> Comparison:
    bases = [make_base(engine) for engine in engines]
    return Comparison(
        bases,
        make_conditions(**more),
        open_workload(workload, bases[0].genesis),
        Wishes(most=most, trials=trials),
    )
