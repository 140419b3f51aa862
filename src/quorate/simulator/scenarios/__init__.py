"""Scenarios by name: known ways in which agreement goes wrong, with and without what prevents it.

Each is a short script on a small network, with its source, its timing model, and the verdict that
is expected with the mitigation and without. Families are modules; importing this package registers
all of them.
"""

from quorate.simulator.scenarios import (
    basics,
    byzantine,
    crashes,
    eclipse,
    fallacies,
    halts,
    light,
    pools,
    storage,
    work,
)
from quorate.simulator.scenarios.registry import SCENARIOS, Result, Scenario, get_scenario

__all__ = [
    "SCENARIOS",
    "Result",
    "Scenario",
    "basics",
    "byzantine",
    "crashes",
    "eclipse",
    "fallacies",
    "get_scenario",
    "halts",
    "light",
    "pools",
    "storage",
    "work",
]
