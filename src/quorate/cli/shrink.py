"""`quorate shrink`: a failing run made small."""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from quorate.cli.options import option
from quorate.cli.output import emit, get_program, is_terminal, say
from quorate.cli.regression import write_test
from quorate.cli.sim import count_processors
from quorate.cli.sim_summary import describe_plan
from quorate.cli.target import (
    Target,
    advise,
    describe_outcome,
    get_names,
    open_target,
    target_options,
    tell,
    write_recording,
)
from quorate.cli.workers import Workers
from quorate.simulator.edits import describe_choice
from quorate.simulator.replay import Recording, replay
from quorate.simulator.shrink import (
    MAX_RUNS,
    Progress,
    Shrinker,
    attempt,
    count_faults,
)
from quorate.simulator.tracer import Tracer

EVERY_S = 0.2
SAVE_S = 2.0
LINES = 60
MAX_STREAMS = 24
"""That are listed with what is left on them."""


@click.command()
@target_options
@option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="Where the small run goes.  [default: small-SEED.json, or FILE with -small]",
)
@option("--runs", type=click.IntRange(1, MAX_RUNS), default=3000, help="At most so many runs.")
@option(
    "--seconds",
    type=click.FloatRange(0, 1e6, min_open=True),
    default=120.0,
    help="At most so much time.",
)
@option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=None,
    show_default=False,
    help="Processes at a time; the result is the same.  [default: one for each processor]",
)
@option(
    "--fresh/--same",
    default=True,
    help="Look for the same failure at other seeds too if this one stays large, or do not.",
)
@option(
    "--export-test",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="Write a test for pytest that fails as long as the small run does.",
)
def shrink(
    target: str,
    out: Path | None,
    runs: int,
    seconds: float,
    jobs: int | None,
    fresh: bool,
    export_test: Path | None,
    **asked: Any,
) -> int:
    """Make a failing run small: the same property fails, with as few faults as possible.

    Takes away faults, delays, machines and time for as long as the run still fails in the same way,
    then writes it as a run file. Ctrl-C keeps the best so far; the file can be shrunk further.

    Exit code 0: it is as small as it gets; 2: the budget was used up before.

    \b
    quorate shrink 4711 --bug t4-amnesia          as `quorate sim` printed it, `replay` replaced
    quorate shrink run.json --out small.json
    quorate shrink small-4711.json --seconds 600  go on where it stopped
    quorate shrink 4711 --export-test tests/test_found.py
    """
    found = open_target(target, asked)
    path = out or make_path(found, target)
    wanted = jobs or count_processors()
    line = Line()
    say(f"{found.title}: repeated first, then run again and again with less")
    end = time.monotonic() + seconds
    with Workers(wanted) as workers:
        shrinker = Shrinker(
            found.recording,
            evaluate=lambda candidates: workers.map(attempt, candidates),
            width=wanted,
            max_runs=runs,
            fresh=fresh,
            is_expired=lambda: time.monotonic() >= end,
        )
        saving = Saving(path, shrinker)
        shrinker.on_progress = lambda progress: follow(line, saving, progress)
        first = shrinker.get_progress()
        done, interrupted = False, False
        try:
            done = shrinker.shrink()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            line.end()
    write_recording(path, shrinker.get_recording())
    if export_test is not None:
        write_test(export_test, shrinker.get_recording())
    show(found, shrinker, first, path)
    if interrupted:
        say("interrupted: this is the best so far")
    elif not done:
        say(f"the budget is used up: {get_program()} shrink {path} goes on")
    if export_test is not None:
        say(f"a test: pytest {export_test}")
    small = Target(recording=shrinker.get_recording(), words=str(path), title=str(path))
    advise(small, "replay", "diagram", "why")
    return 0 if done else 2


def make_path(found: Target, target: str) -> Path:
    """Return where the small run goes unless somebody says so."""
    path = Path(target)
    if not path.is_file():
        return Path(f"small-{found.recording.plan.seed}.json")
    if path.stem.startswith("small-") or path.stem.endswith("-small"):
        return path
    return path.with_name(f"{path.stem}-small{path.suffix}")


class Saving:
    """Writes the best run now and then, so that nothing is lost with the process."""

    def __init__(self, path: Path, shrinker: Shrinker) -> None:
        self.path, self.shrinker = path, shrinker
        self.next = time.monotonic() + SAVE_S
        self.saved: tuple[int, ...] = ()

    def save(self, progress: Progress) -> None:
        now = time.monotonic()
        if now >= self.next and self.shrinker.cost != self.saved:
            self.saved, self.next = self.shrinker.cost, now + SAVE_S
            write_recording(self.path, self.shrinker.get_recording())


def follow(line: "Line", saving: Saving, progress: Progress) -> None:
    """Show and keep how far it is."""
    line.show(progress)
    saving.save(progress)


class Line:
    """One moving line on a terminal; elsewhere one line for each step that helped."""

    def __init__(self) -> None:
        self.moving = is_terminal(sys.stderr)
        self.next = 0.0
        self.told = ("", 0)

    def show(self, progress: Progress) -> None:
        text = (
            f"{progress.runs:,} runs  {progress.faults} faults  {progress.choices} choices  "
            f"{progress.events:,} events  {progress.machines} machines  ({progress.doing})"
        )
        if not self.moving:
            told = (progress.doing, progress.faults + progress.choices)
            if told[0] != self.told[0] and told[1] != self.told[1]:
                say(text)
                self.told = told
            return
        now = time.monotonic()
        if now >= self.next:
            self.next = now + EVERY_S
            width = max(20, (shutil.get_terminal_size().columns or 80) - 1)
            click.echo("\r\x1b[2K" + text[:width], err=True, nl=False)

    def end(self) -> None:
        if self.moving:
            click.echo("\r\x1b[2K", err=True, nl=False)


def show(found: Target, shrinker: Shrinker, first: Progress, path: Path) -> None:
    """Print the small run, and how much smaller it is."""
    recording = shrinker.get_recording()
    tracer = Tracer()
    outcome = replay(recording, tracer)
    choices = sum(value != 0 for row in (recording.tape or {}).values() for value in row)
    emit(f"{path}: {describe_plan(recording.plan)}")
    emit()
    tell(tracer, LINES)
    emit()
    for line in describe_outcome(outcome, get_names(tracer)):
        emit(line)
    emit()
    emit(
        f"{found.title} had {first.faults} faults, {first.choices:,} choices and "
        f"{shrinker.first.outcome.events:,} events; {path} has {count_faults(outcome)}, "
        f"{choices} and {outcome.events:,} ({shrinker.runs:,} runs)"
    )
    emit("what is left of the choices:")
    for text in list_left(recording):
        emit(f"  {text}")


def list_left(recording: Recording) -> list[str]:
    """Return each stream that is not all zeros with its choices, by their numbers."""
    lines = []
    for name, row in sorted((recording.tape or {}).items()):
        chosen = []
        for index, value in enumerate(row):
            word = describe_choice(recording.plan, name, value) if value else ""
            if value:
                chosen.append(f"[{index}]={value}{f' ({word})' if word else ''}")
        if chosen:
            more = f" and {len(chosen) - 8} more" if len(chosen) > 8 else ""
            lines.append(f"{name}: {' '.join(chosen[:8])}{more}")
    if len(lines) > MAX_STREAMS:
        lines = [*lines[:MAX_STREAMS], f"... and {len(lines) - MAX_STREAMS} more streams"]
    return lines or ["none: it fails without any fault, first come first served"]
