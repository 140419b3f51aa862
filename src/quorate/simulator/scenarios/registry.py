"""What a scenario is, and the table of all of them."""

from collections.abc import Callable

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.simulator.scenarios.stage import Stage
from quorate.simulator.timing import AnyTiming
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Outcome, Verdict

__all__ = ["SCENARIOS", "Result", "Scenario", "get_scenario", "scenario"]

Script = Callable[[Stage], Outcome]
"""Plays on a stage and returns what came of it."""


class Result(Struct, frozen=True, kw_only=True):
    """What a scenario came to, with or without its mitigation."""

    mitigated: bool
    expected: Verdict
    outcome: Outcome
    lines: list[str]
    """What was seen, one line each, for people."""
    numbers: dict[str, int]
    """What was measured, with units in the names."""

    @property
    def verdict(self) -> Verdict:
        return self.outcome.verdict

    @property
    def is_as_expected(self) -> bool:
        return self.outcome.verdict == self.expected


class Scenario(Struct, frozen=True, kw_only=True):
    """A known way in which agreement goes wrong, and what prevents it."""

    id: str
    """Of the catalogue: `S4`; variants have a letter."""
    name: str
    """What `quorate scenario run` takes."""
    title: str
    source: str
    mitigation: str
    """What is there in one run and missing in the other, in a few words."""
    timing: AnyTiming
    breaks: str
    """The property that fails without the mitigation; empty: it has only one side."""
    script: Script
    story: str
    """What happens, for people."""

    @property
    def sides(self) -> tuple[bool, ...]:
        """With the mitigation and without, or only as it is where nothing is known to break."""
        return (True, False) if self.breaks else (True,)

    def get_expected(self, mitigated: bool) -> Verdict:
        return "true" if mitigated else "false"

    def run(self, mitigated: bool, seed: int = 1, tracer: Tracer | None = None) -> Result:
        """Play it with or without its mitigation. The same seed plays the same."""
        stage = Stage(mitigated, seed, self.timing, tracer)
        outcome = self.script(stage)
        return Result(
            mitigated=mitigated,
            expected=self.get_expected(mitigated),
            outcome=outcome,
            lines=stage.lines,
            numbers=stage.numbers,
        )


SCENARIOS: dict[str, Scenario] = {}
"""By name, in the order of the catalogue within each family."""


def scenario(
    id: str,
    name: str,
    title: str,
    *,
    source: str = "",
    mitigation: str = "",
    timing: AnyTiming,
    breaks: str = "",
) -> Callable[[Script], Script]:
    """Register a script under its name; its docstring is the story."""

    def register(script: Script) -> Script:
        if name in SCENARIOS:
            raise ValueError(f"scenario {name!r} is registered twice")
        SCENARIOS[name] = Scenario(
            id=id,
            name=name,
            title=title,
            source=source,
            mitigation=mitigation,
            timing=timing,
            breaks=breaks,
            script=script,
            story=(script.__doc__ or "").strip(),
        )
        return script

    return register


def get_scenario(name: str) -> Scenario:
    """Return a scenario by its name or id. Raises Invalid."""
    found = SCENARIOS.get(name)
    if found is None:
        found = next((s for s in SCENARIOS.values() if s.id.lower() == name.lower()), None)
    if found is None:
        raise Invalid(f"scenario {name!r}: expected one of {', '.join(SCENARIOS)}")
    return found
