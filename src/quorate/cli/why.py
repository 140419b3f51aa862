"""`quorate why`: when a run became doomed, and by what."""

import json
import shutil
import sys
from typing import Any

import click

from quorate.cli.options import format_option, option
from quorate.cli.output import EXIT_INTERRUPTED, emit, is_terminal, say, style
from quorate.cli.sim import count_processors
from quorate.cli.sim_summary import describe_plan
from quorate.cli.target import Target, open_target, target_options
from quorate.cli.workers import Workers
from quorate.simulator.edits import describe_choice
from quorate.simulator.listing import format_event, format_time
from quorate.simulator.plan import Plan
from quorate.simulator.trace import Event
from quorate.simulator.why import Explanation, Jump, Point, explain, sample

BAR = 40
HEAD = f"{'ms':>13}  {'fails':>5}  95 % interval"
SHOWN = 4
"""Events that are named at a jump."""


@click.command()
@target_options
@option("--points", type=click.IntRange(2, 200), default=12, help="Moments that are looked at.")
@option(
    "--samples",
    type=click.IntRange(1, 10_000),
    default=40,
    help="Continuations of each; twice as many are 1.4 times as exact.",
)
@option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=None,
    show_default=False,
    help="Processes at a time; the result is the same.  [default: one for each processor]",
)
@format_option
def why(target: str, points: int, samples: int, jobs: int | None, output: str, **asked: Any) -> int:
    """Say when a failing run became doomed, and what happened at that moment.

    From moments of the run on, everything is drawn anew, many times: the share of continuations
    that fail in the same way says how lost the run was by then. Where it jumps, something happened
    that mattered. Ctrl-C shows the moments that were judged until then.

    \b
    quorate why small-4711.json
    quorate why 4711 --bug t4-amnesia --samples 200
    quorate why small-4711.json -o json | jq '.points[] | [.time_ns, .share]'
    """
    explanation: Explanation | None
    found = open_target(target, asked)
    dots = Dots(points)
    with Workers(jobs or count_processors()) as workers:
        try:
            explanation = explain(
                found.recording,
                points=points,
                samples=samples,
                evaluate=lambda samples: workers.map(sample, samples),
                on_progress=dots.show,
            )
        except KeyboardInterrupt:
            explanation = None
        finally:
            dots.end()
    if explanation is None:
        return show_part(dots.seen, output)
    if output == "json":
        emit(json.dumps(make_document(explanation), indent=2))
    else:
        show(found, explanation)
    return 0


def show_part(seen: list[Point], output: str) -> int:
    """Print the moments that were judged before Ctrl-C; return the exit code."""
    points = sorted(seen, key=lambda point: point.time_ns)
    if output == "json":
        emit(json.dumps({"interrupted": True, "points": list(map(make_row, points))}, indent=2))
    elif points:
        emit(HEAD)
        for point in points:
            emit(format_row(point, is_jump=False))
    say("interrupted: these are the moments that were judged, no jump was narrowed down")
    return EXIT_INTERRUPTED


class Dots:
    """Says on a terminal which moment was judged."""

    def __init__(self, points: int) -> None:
        self.count, self.points = 0, points
        self.seen: list[Point] = []
        self.moving = is_terminal(sys.stderr)

    def show(self, point: Point) -> None:
        self.count += 1
        self.seen.append(point)
        if self.moving:
            doing = f"{self.count}/{self.points}" if self.count <= self.points else "the jumps"
            text = f"{doing}  at {format_time(point.time_ns).strip()}: {format_share(point)}"
            width = max(20, (shutil.get_terminal_size().columns or 80) - 1)
            click.echo("\r\x1b[2K" + text[:width], err=True, nl=False)

    def end(self) -> None:
        if self.moving:
            click.echo("\r\x1b[2K", err=True, nl=False)


def format_share(point: Point) -> str:
    return f"{100 * point.share:.0f} %"


def show(found: Target, explanation: Explanation) -> None:
    """Print the curve as bars, and the jumps in words."""
    emit(f"{found.title}: {describe_plan(found.recording.plan)}")
    emit(f"chance of: {explanation.symptom}, if all after a moment is drawn anew")
    emit()
    ends = {jump.end.time_ns for jump in explanation.jumps if jump.is_certain}
    emit(HEAD)
    for point in explanation.points:
        emit(format_row(point, point.time_ns in ends))
    emit()
    for line in describe_jumps(explanation, found.recording.plan):
        emit(line)
    if explanation.points[0].low > 0.5:
        say("\nit fails from the very beginning in most runs: any seed shows it")


def format_row(point: Point, is_jump: bool) -> str:
    """Return a point as a bar; the interval is shown by its ends."""
    cells = ["#" if i < round(point.share * BAR) else " " for i in range(BAR + 1)]
    for end, mark in ((point.low, "["), (point.high, "]")):
        cells[min(round(end * BAR), BAR)] = mark
    bar = "".join(cells)
    row = (
        f"{format_time(point.time_ns):>13}  {format_share(point):>5}  {bar}  "
        f"{point.failed}/{point.samples}"
    )
    return style(row + "  <- jump", fg="red") if is_jump else row


def describe_jumps(explanation: Explanation, plan: Plan) -> list[str]:
    """Return in words when the run became doomed."""
    lines = []
    for number, jump in enumerate(explanation.jumps):
        if number and not jump.is_certain:
            continue
        lines += describe_jump(jump, plan, explanation.names)
    if explanation.doomed_ns is not None:
        at, found = format_time(explanation.doomed_ns), format_time(explanation.found_ns)
        lines.append(
            f"doomed from {at.strip()} on (nine of ten continuations fail or more); "
            f"it shows at {found.strip()}"
        )
    else:
        lines.append(
            "never doomed before it shows: to the end most continuations would have got away"
        )
    return lines


def describe_jump(jump: Jump, plan: Plan, names: list[str]) -> list[str]:
    begin, end = format_time(jump.begin.time_ns), format_time(jump.end.time_ns)
    doubt = "" if jump.is_certain else " (within the noise: more --samples would tell)"
    head = (
        f"from {begin.strip()} to {end.strip()} the chance goes from {format_share(jump.begin)} "
        f"to {format_share(jump.end)}{doubt}:"
    )
    lines = [style(head, bold=True)]
    chosen = []
    for one in jump.drawn[:SHOWN]:
        word = describe_choice(plan, one.stream, one.value)
        chosen.append(f"{one.stream} {one.value}{f' ({word})' if word else ''}")
    if chosen:
        more = len(jump.drawn) - len(chosen)
        lines.append(f"  chosen: {', '.join(chosen)}{f' and {more} more' if more else ''}")
    return lines + [f"  {format_event(event, names)}" for event in jump.events[:SHOWN]]


def make_document(explanation: Explanation) -> dict[str, Any]:
    """Return the answer, ready for JSON."""
    return {
        "symptom": explanation.symptom,
        "found_ns": explanation.found_ns,
        "doomed_ns": explanation.doomed_ns,
        "runs": explanation.runs,
        "points": [make_row(point) for point in explanation.points],
        "jumps": [
            {
                "begin": make_row(jump.begin),
                "end": make_row(jump.end),
                "certain": jump.is_certain,
                "chosen": [
                    {"time_ns": one.time_ns, "stream": one.stream, "value": one.value}
                    for one in jump.drawn
                ],
                "events": [make_event(event, explanation.names) for event in jump.events],
            }
            for jump in explanation.jumps
        ],
    }


def make_row(point: Point) -> dict[str, Any]:
    return {
        "time_ns": point.time_ns,
        "share": point.share,
        "low": round(point.low, 4),
        "high": round(point.high, 4),
        "failed": point.failed,
        "samples": point.samples,
    }


def make_event(event: Event, names: list[str]) -> dict[str, Any]:
    return {
        "number": event.number,
        "time_ns": event.time_ns,
        "kind": event.kind,
        "machine": names[event.machine] if event.machine >= 0 else None,
        "name": event.name,
        "text": event.text,
    }
