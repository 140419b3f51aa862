"""`quorate replay`: one run again, and what happened in it."""

from pathlib import Path
from typing import Any

import click
import msgspec

from quorate.cli.options import option
from quorate.cli.output import EXIT_USAGE, emit, fail, get_program, say, style
from quorate.cli.regression import write_test
from quorate.cli.sim_summary import describe_plan
from quorate.cli.target import (
    Target,
    advise,
    describe_outcome,
    get_names,
    open_target,
    parse_time,
    target_options,
    tell,
    write_recording,
)
from quorate.simulator.causality import Causality, list_alarms
from quorate.simulator.history import encode_events
from quorate.simulator.listing import format_time, render_text
from quorate.simulator.plan import MS
from quorate.simulator.replay import Recording, compare, expect, make_tape, run_until
from quorate.simulator.run import run
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import EXIT_CODES, Outcome
from quorate.simulator.world import World

MAX_CLOCKS = 12
"""Pairs of clocks that are told."""
LINES = 60
"""Of the story, unless all are asked for."""
EXIT_DIFFERS = 2


@click.command()
@target_options
@option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="Keep the run in this file, with all its choices and what came of it.",
)
@option(
    "--history",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="Write what clients asked and were told, for `quorate history --model log`.",
)
@option("--text", is_flag=True, help="Show every event, with its number and its cause.")
@option(
    "--past",
    type=click.IntRange(0),
    default=None,
    metavar="EVENT",
    show_default=False,
    help="Show only what happened before this event, by causality; numbers are those of --text.",
)
@option("--all", "whole", is_flag=True, help=f"Show the whole story, not its last {LINES} lines.")
@option(
    "--until",
    default=None,
    metavar="TIME",
    show_default=False,
    help="Stop at this virtual time and show what each validator is doing: 1.5s, 300ms.",
)
@option(
    "--export-test",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="Write a test for pytest that fails as long as this run does.",
)
@option(
    "--clock-bound",
    type=click.IntRange(1, 86_400_000),
    metavar="MS",
    default=None,
    show_default=False,
    help="Say whose wall clock is further ahead of others than this (hybrid logical clocks).",
)
@option("--strict", is_flag=True, help="Exit code 2 if anything differs from what was recorded.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the answer.",
)
def replay(
    target: str,
    record: Path | None,
    history: Path | None,
    text: bool,
    past: int | None,
    whole: bool,
    until: str | None,
    export_test: Path | None,
    clock_bound: int | None,
    strict: bool,
    output: str,
    **asked: Any,
) -> int:
    """Repeat one run exactly and tell what happened: faults, rounds, decisions, the verdict.

    SEED is what `quorate sim` names; give it the same network and options. FILE is a run file, made
    by --record or `quorate shrink`; it needs nothing else, and is compared with what was recorded.

    Exit code 0: the run keeps all promises; 1: it does not; 2: not known.

    \b
    quorate replay 4711                           four validators, default faults
    quorate replay 4711 .quorate --bug t4-amnesia   as `quorate sim` printed it
    quorate replay 4711 --record run.json         keep it: a file for a colleague
    quorate replay run.json --text | less         every message
    quorate replay run.json --past 4711           what can have led to event 4711?
    quorate replay run.json --until 1.5s          what does each validator wait for?
    quorate replay run.json --export-test tests/test_found.py
    quorate replay 4711 --history clients.jsonl   what clients asked and were told
    """
    found = open_target(target, asked)
    if until is not None:
        return show_moment(found, parse_time(until), text, whole)
    tracer = None if output == "json" else Tracer()
    tape = make_tape(found.recording)
    worlds: list[World] = []
    outcome = run(found.recording.plan, tape, tracer, on_world=worlds.append)
    kept = Recording(plan=found.recording.plan, tape=tape.get_values(), expected=expect(outcome))
    if output == "json":
        emit(msgspec.json.format(msgspec.json.encode(outcome)).decode())
    elif tracer is not None:
        if past is not None:
            emit(render_past(tracer, past, text))
            return EXIT_CODES[outcome.verdict]
        show(found, outcome, tracer, text, None if whole else LINES)
        if clock_bound is not None:
            for line in describe_clocks(tracer, clock_bound):
                emit(line)
    differing = compare(found.recording, outcome)
    for words in differing:
        say(style(f"not as recorded: {words}", fg="yellow"))
    if found.recording.expected is not None and not differing:
        say("as recorded: verdict, property and digest are the same")
    if record is not None:
        write_recording(record, kept)
        say(f"kept in {record}: {get_program()} replay {record}")
    if history is not None:
        write_history(history, worlds[0])
    if export_test is not None:
        export(export_test, kept, outcome)
    if output == "text" and outcome.verdict == "false":
        advise(found, "shrink", "diagram", "why")
    if strict and differing:
        return EXIT_DIFFERS
    return EXIT_CODES[outcome.verdict]


def write_history(path: Path, world: World) -> None:
    """Write what the clients of a run heard as JSON lines."""
    if world.clients is None:
        fail("--history: this run had no clients")
    events = world.clients.list_events()
    path.write_bytes(b"".join(encode_events(events)))
    say(f"history in {path}: {get_program()} history {path} --model log")


def export(path: Path, kept: Recording, outcome: Outcome) -> None:
    """Write a run as a test."""
    if outcome.verdict != "false":
        fail(f"--export-test: the verdict is {outcome.verdict}, expected a run that fails")
    write_test(path, kept)
    say(f"a test: pytest {path}")


def show(found: Target, outcome: Outcome, tracer: Tracer, text: bool, limit: int | None) -> None:
    """Print a run: what it is, what happened, what came of it."""
    plan = found.recording.plan
    emit(f"{found.title}: {describe_plan(plan)}")
    emit()
    if text:
        emit(render_text(tracer.events, get_names(tracer), all_kinds=True).rstrip())
    else:
        tell(tracer, limit)
    emit()
    for line in describe_outcome(outcome, get_names(tracer)):
        emit(line)


def render_past(tracer: Tracer, number: int, all_kinds: bool) -> str:
    """Return the causal past of an event as text, and the event itself."""
    events = tracer.events
    if number >= len(events):
        fail(f"--past {number}: the run has events 0 to {len(events) - 1}", EXIT_USAGE)
    chosen = [events[i] for i in (*Causality(events).get_past(number), number)]
    return render_text(chosen, get_names(tracer), all_kinds=all_kinds).rstrip()


def describe_clocks(tracer: Tracer, bound_ms: int) -> list[str]:
    """Return whose wall clock was ahead of whose by more than a bound, when first and how often."""
    names = get_names(tracer)
    alarms = list_alarms(tracer.events, bound_ms * MS)
    if not alarms:
        return [f"  clocks: none was ahead of another by more than {bound_ms:,} ms"]
    lines = [f"  clocks that were ahead by more than {bound_ms:,} ms:"]
    for found in alarms[:MAX_CLOCKS]:
        when = format_time(tracer.events[found.event].time_ns).strip()
        whose = "itself a moment before" if found.ahead == found.behind else names[found.behind]
        lines.append(
            f"    {names[found.ahead]} by {found.by_ns // MS:,} ms ahead of {whose} at {when}, "
            f"{found.times:,} times"
        )
    return lines


def show_moment(found: Target, time_ns: int, text: bool, whole: bool) -> int:
    """Print a run up to a time, and the state of every machine then."""
    tracer = Tracer()
    plan = found.recording.plan
    world, outcome = run_until(found.recording, time_ns, tracer)
    emit(f"{found.title}: {describe_plan(plan)}")
    emit()
    if text:
        emit(render_text(tracer.events, get_names(tracer), all_kinds=True).rstrip())
    else:
        tell(tracer, None if whole else LINES)
    emit()
    if outcome is not None:
        emit(f"the run ended before {format_time(time_ns).strip()}:")
        for line in describe_outcome(outcome, get_names(tracer)):
            emit(line)
        return EXIT_CODES[outcome.verdict]
    emit(style(f"at {format_time(time_ns).strip()}", bold=True))
    for line in describe_machines(world):
        emit(line)
    return 0


def describe_machines(world: World) -> list[str]:
    """Return what each machine does and waits for."""
    lines = []
    for machine in world.machines:
        node = machine.node
        if node is None:
            why = machine.refused or machine.failed
            lines.append(f"  {machine.name}: down{f' ({why})' if why else ''}")
            continue
        status = node.get_status()
        at = status.situation
        paused = "paused, " if machine.paused else ""
        lines.append(
            f"  {machine.name}: {paused}final height {status.height}, agreeing on {at.height}, "
            f"round {at.round}, step {at.step}"
        )
        lines.append(f"    {status.why_stalled}")
    return lines
