"""Every scenario comes out as it says, with its mitigation and without."""

import inspect
import re

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


@pytest.mark.parametrize("seed", [2, 11, 18, 24])
@pytest.mark.parametrize("name", ["figure-8", "stale-read", "voted-out-leader", "majority-reorg"])
def test_scene_is_set_whatever_the_seed(name: str, seed: int) -> None:
    scenario = SCENARIOS[name]
    results = [scenario.run(mitigated, seed) for mitigated in (True, False)]
    assert [result.verdict for result in results] == ["true", "false"]
    assert results[1].outcome.findings[0].property == scenario.breaks


@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_majority_held_is_overwritten_with_the_mitigation_too(seed: int) -> None:
    tracer = Tracer()
    assert SCENARIOS["figure-8"].run(True, seed, tracer).verdict == "true"
    for machine in (1, 2):
        persisted = [e.text for e in tracer.events if (e.kind, e.machine) == ("persist", machine)]
        terms = [re.findall(r"Entry\(term=(\d) index=2 ", text) for text in persisted]
        assert [found for found in terms if found] == [["1"], ["2"]]


def test_twins_are_split_in_every_way() -> None:
    assert SCENARIOS["twins"].run(True).numbers == {"networks": 4 * 8}


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
