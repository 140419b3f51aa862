"""Every scenario comes out as it says, with its mitigation and without."""

import inspect

import pytest

from quorate.base.errors import Invalid
from quorate.simulator.scenarios import SCENARIOS, get_scenario
from quorate.simulator.tracer import Tracer


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("mitigated", [True, False], ids=["mitigated", "bare"])
def test_scenario_comes_out_as_it_says(name: str, mitigated: bool) -> None:
    scenario = SCENARIOS[name]
    result = scenario.run(mitigated)
    assert (result.verdict, result.lines) == (result.expected, result.lines)
    failed = [f.property for f in result.outcome.findings]
    assert failed[:1] == ([] if mitigated else [scenario.breaks])


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_is_short_and_tells_its_story(name: str) -> None:
    scenario = SCENARIOS[name]
    source = inspect.getsource(scenario.script)
    body = source[source.index("def ") :]
    assert len(body.splitlines()) <= 40
    assert scenario.story
    assert scenario.source


def test_scenario_plays_the_same_for_the_same_seed() -> None:
    runs = [SCENARIOS["split-brain"].run(True, seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0].outcome.digest != runs[2].outcome.digest


def test_scenario_is_found_by_name_and_by_id() -> None:
    assert get_scenario("s4") is get_scenario("split-brain")
    with pytest.raises(Invalid, match="scenario 'nothing': expected one of"):
        get_scenario("nothing")


@pytest.mark.parametrize("name", ["split-brain", "clock-ahead", "twins", "lunatic"])
def test_a_traced_scenario_is_the_same_one(name: str) -> None:
    tracer = Tracer()
    scenario = SCENARIOS[name]
    assert scenario.run(True, 1, tracer) == scenario.run(True, 1)
    assert tracer.events[0].number == 0
    assert {event.kind for event in tracer.events} >= {"send", "receive", "final"}
