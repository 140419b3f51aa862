"""`quorate scenario`: known ways in which agreement goes wrong, and what prevents each."""

import difflib
import importlib.util
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import click

from quorate.base.errors import Invalid
from quorate.cli.options import format_option, option
from quorate.cli.output import EXIT_USAGE, emit, emit_table, fail, get_program, say, style
from quorate.cli.target import COLOURS, get_names, tell
from quorate.simulator.diagram import write_diagram
from quorate.simulator.listing import format_time, render_text
from quorate.simulator.scenarios import SCENARIOS, Result, Scenario, get_scenario
from quorate.simulator.timing import describe_timing
from quorate.simulator.tracer import Tracer

EXIT_SURPRISE = 1
LINES = 40
WIDTH = 88


@click.group()
def scenario() -> None:
    """List and run named scenarios: known ways in which agreement goes wrong.

    \b
    quorate scenario list
    quorate scenario run split-brain
    quorate scenario run S4 --without-mitigation --diagram split.html
    """


@scenario.command("list")
@format_option
def list_scenarios(output: str) -> int:
    """Show all scenarios: what is expected with what prevents it, and without.

    \b
    quorate scenario list
    quorate scenario list -o json | jq '.[].name'
    """
    if output == "json":
        emit(json.dumps([describe(s) for s in SCENARIOS.values()], indent=2))
        return 0
    rows = [
        [
            s.id,
            s.name,
            s.title,
            s.timing.synchrony,
            s.get_expected(True),
            f"{s.get_expected(False)} ({s.breaks})",
        ]
        for s in SCENARIOS.values()
    ]
    emit_table(["id", "name", "what goes wrong", "timing", "prevented", "not prevented"], rows)
    say(f"\nrun one: {get_program()} scenario run {next(iter(SCENARIOS))}")
    return 0


def describe(s: Scenario) -> dict[str, Any]:
    """Return a scenario, ready for JSON."""
    return {
        "id": s.id,
        "name": s.name,
        "title": s.title,
        "story": " ".join(s.story.split()),
        "source": s.source,
        "mitigation": s.mitigation,
        "timing": describe_timing(s.timing),
        "breaks": s.breaks,
        "expected": {
            "with_mitigation": s.get_expected(True),
            "without_mitigation": s.get_expected(False),
        },
    }


@scenario.command()
@click.argument("name")
@option(
    "--seed",
    type=click.IntRange(0, (1 << 63) - 1),
    default=1,
    help="Of what the script leaves to chance. The expected verdicts are those of seed 1; where "
    "luck decides, as in mining, others may come out otherwise.",
)
@option("--without-mitigation", is_flag=True, help="Only the side on which nothing prevents it.")
@option("--with-mitigation", is_flag=True, help="Only the side on which it is prevented.")
@option(
    "--diagram",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="Draw it; of both sides, each gets its own page.",
)
@option("--text", is_flag=True, help="Show every event.")
@option("--story", is_flag=True, help="Tell what happened: faults, rounds and decisions.")
@format_option
def run(
    name: str,
    seed: int,
    without_mitigation: bool,
    with_mitigation: bool,
    diagram: Path | None,
    text: bool,
    story: bool,
    output: str,
) -> int:
    """Play a scenario with and without its mitigation; say whether it went as expected.

    NAME is a name or id, or all, or a file of Python with scenarios of your own (docs/simulator.md
    shows one). Exit code 0: every verdict was the expected one; 1: not; 2: it could not be played.

    \b
    quorate scenario run split-brain
    quorate scenario run S4 --story                 what happened, in a few lines
    quorate scenario run S4 --diagram split.html    split-with.html and split-without.html
    quorate scenario run all                        a line for each
    quorate scenario run mine.py --story            one of your own
    """
    if with_mitigation and without_mitigation:
        fail("--with-mitigation and --without-mitigation: give one of them", EXIT_USAGE)
    wanted = {True: not without_mitigation, False: not with_mitigation}
    chosen = find_all(name)
    if len(chosen) > 1:
        if diagram is not None or text or story:
            fail("--diagram, --text and --story: name one scenario", EXIT_USAGE)
        return run_all(chosen, wanted, seed, output)
    (found,) = chosen
    sides = [side for side in found.sides if wanted[side]]
    if not sides:
        fail(f"--without-mitigation: {found.name} has no such side", EXIT_USAGE)
    results = []
    if output == "text":
        show_head(found)
    for mitigated in sides:
        tracer = Tracer() if diagram is not None or text or story else None
        result = found.run(mitigated, seed, tracer)
        results.append(result)
        if output == "text":
            show_result(found, result, tracer, text=text, story=story)
        if diagram is not None and tracer is not None:
            draw(diagram, tracer, result, both=len(sides) > 1)
    if output == "json":
        emit(json.dumps([make_row(found, result) for result in results], indent=2))
    surprises = [result for result in results if not result.is_as_expected]
    return EXIT_SURPRISE if surprises else 0


def find(name: str) -> Scenario:
    """Return a scenario by name or id, or say which were perhaps meant."""
    try:
        return get_scenario(name)
    except Invalid:
        near = difflib.get_close_matches(name, SCENARIOS, n=3, cutoff=0.4)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        fail(f"scenario {name!r}: unknown{meant} `quorate scenario list` shows all", EXIT_USAGE)


def find_all(name: str) -> list[Scenario]:
    """Return the scenarios of a name, of an id, of a file, or all."""
    if name == "all":
        return list(SCENARIOS.values())
    if not name.endswith(".py"):
        return [find(name)]
    return load_scenarios(Path(name))


def load_scenarios(path: Path) -> list[Scenario]:
    """Run a file of a user's own and return the scenarios that it registers."""
    if not path.is_file():
        fail(f"{path}: no such file", EXIT_USAGE)
    before = dict(SCENARIOS)
    spec = importlib.util.spec_from_file_location(f"scenarios in {path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Invalid(f"{path}: {type(error).__name__}: {error}") from error
    found = [one for name, one in SCENARIOS.items() if name not in before]
    if not found:
        fail(f"{path}: it registers no scenario; docs/simulator.md shows one", EXIT_USAGE)
    return found


def run_all(chosen: list[Scenario], wanted: dict[bool, bool], seed: int, output: str) -> int:
    """Play scenarios and print a line for each as soon as it is known."""
    titles = {True: "prevented", False: "not prevented"}
    widths = [
        max(len(word) for word in words) for words in zip(*map(name_both, chosen), strict=True)
    ]
    results: list[tuple[Scenario, Result]] = []
    surprises = 0
    if output == "text":
        shown = [title for side, title in titles.items() if wanted[side]]
        emit(style(pad(["id", "name", *shown], widths), bold=True))
    for found in chosen:
        played = [found.run(side, seed) for side in found.sides if wanted[side]]
        results += [(found, result) for result in played]
        surprises += not all(result.is_as_expected for result in played)
        told = [f"{r.verdict}{'' if r.is_as_expected else f' (!) {r.expected}'}" for r in played]
        if output == "text":
            emit(pad([*name_both(found), *told], widths))
    if output == "json":
        emit(json.dumps([make_row(found, result) for found, result in results], indent=2))
    else:
        emit(f"\n{len(chosen)} scenarios, {surprises} not as expected")
    return EXIT_SURPRISE if surprises else 0


def name_both(found: Scenario) -> tuple[str, str]:
    return found.id, found.name


def pad(cells: list[str], widths: list[int]) -> str:
    """Return cells below each other; `widths` are those of the first two."""
    every = [*widths, *[len("not prevented")] * (len(cells) - 2)]
    return "  ".join(cell.ljust(n) for cell, n in zip(cells, every, strict=True)).rstrip()


def show_head(found: Scenario) -> None:
    """Print what the scenario is about."""
    emit(style(f"{found.id} {found.title}", bold=True))
    emit()
    for line in textwrap.wrap(" ".join(found.story.split()), WIDTH):
        emit(f"  {line}")
    emit()
    emit(f"  timing: {describe_timing(found.timing)}")
    if found.source:
        emit(f"  source: {found.source}")


def show_result(
    found: Scenario, result: Result, tracer: Tracer | None, *, text: bool, story: bool
) -> None:
    """Print one side."""
    emit()
    if found.breaks:
        side = f"with: {found.mitigation}" if result.mitigated else "without that"
        emit(style(side, bold=True))
    if tracer is not None and tracer.events:
        if text:
            emit(render_text(tracer.events, get_names(tracer), all_kinds=True).rstrip())
        elif story:
            tell(tracer, LINES)
    for line in result.lines:
        emit(f"  {line}")
    verdict = style(result.verdict, fg=COLOURS[result.verdict], bold=True)
    judged = (
        "as expected"
        if result.is_as_expected
        else style(f"expected {result.expected}", fg="red", bold=True)
    )
    emit(f"  {verdict}, {judged}")
    for finding in result.outcome.findings:
        emit(f"    {finding.property} at {format_time(finding.time_ns).strip()}: {finding.message}")


def draw(path: Path, tracer: Tracer, result: Result, *, both: bool) -> None:
    """Write the diagram of one side."""
    side = "with" if result.mitigated else "without"
    page = path.with_name(f"{path.stem}-{side}{path.suffix or '.html'}") if both else path
    write_diagram(page, tracer.events, tracer.world.plan, result.outcome, tracer.get_operations())
    say(f"drawn: {page}")


def make_row(found: Scenario, result: Result) -> dict[str, Any]:
    """Return one side's result, ready for JSON."""
    return {
        "id": found.id,
        "name": found.name,
        "mitigated": result.mitigated,
        "expected": result.expected,
        "verdict": result.verdict,
        "as_expected": result.is_as_expected,
        "lines": result.lines,
        "numbers": result.numbers,
        "findings": [
            {"property": f.property, "message": f.message, "time_ns": f.time_ns}
            for f in result.outcome.findings
        ],
    }
