"""`quorate history`: whether what clients were told can be explained, wherever it was recorded."""

import sys
import time
from pathlib import Path
from typing import IO

import click
import msgspec

from quorate.base.errors import Invalid
from quorate.cli.options import format_option, option
from quorate.cli.output import EXIT_CONFIG, Problem, emit, say, style
from quorate.simulator.history import Event, History, decode_events, merge_events
from quorate.simulator.linearizability import Report, check_history
from quorate.simulator.models import MODELS, get_model
from quorate.simulator.verdict import EXIT_CODES

COLOURS = {"true": "green", "false": "red", "unknown": "yellow"}
WORDS = {"true": "linearizable", "false": "not linearizable", "unknown": "not known"}


@click.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
@option(
    "--model",
    type=click.Choice(list(MODELS)),
    default="register",
    help="What each key is: what its operations do when one comes after another.",
)
@option(
    "--seconds",
    type=click.FloatRange(0.1, 86_400),
    default=60.0,
    help="How long to search at most.",
)
@format_option
def history(files: tuple[Path, ...], model: str, seconds: float, output: str) -> int:
    """Judge histories of clients: is there one order of operations that explains every answer?

    FILE holds JSON lines, one event a line; several files are merged by their times, and - is
    standard input. An operation begins with "invoke" and ends with "ok", "fail" (it never happened)
    or "info" (nobody knows); the same id again is a retry. Each key is an object of its own.

    \b
    {"kind":"invoke","time_ns":5,"id":"7","client":"a","key":"x","operation":"write","argument":1}
    {"kind":"ok","time_ns":9,"id":"7"}

    \b
    register   write v; read = v; cas [old, new] = whether it was swapped
    counter    add n; read = n
    set        add item; contains item = whether; read = all items
    log        append item; read = all items in order; length = n
    bank       transfer [from, to, amount] = whether; deposit [to, amount]; balance account; read

    Exit code 0: linearizable; 1: not, and the operations that contradict each other are told;
    2: not known within the time.

    \b
    quorate history clients.jsonl --model register
    quorate replay 4711 --history run.jsonl; quorate history run.jsonl --model log
    """
    try:
        found = merge_files(files)
        end = time.monotonic() + seconds
        report = check_history(
            found.get_operations(),
            lambda: get_model(model),
            max_steps=1 << 62,
            is_late=lambda: time.monotonic() > end,
        )
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    except OSError as error:
        raise Problem(f"{error.filename}: {error.strerror}", EXIT_CONFIG) from None
    tell(report, found, output)
    return EXIT_CODES[report.verdict]


def merge_files(files: tuple[Path, ...]) -> History:
    """Return the history of all files. Raises Invalid, naming file and line, and OSError."""
    observed = [read_file(path) for path in files]
    merged = History()
    for event in observed[0] if len(observed) == 1 else merge_events(observed):
        try:
            merged.add(event)
        except Invalid as error:
            raise Invalid(f"event {len(merged.events) + 1}: {error}") from None
    return merged


def read_file(path: Path) -> list[Event]:
    """Return the events of one file, - for standard input."""
    if str(path) == "-":
        return read_lines(path, sys.stdin.buffer)
    with path.open("rb") as lines:
        return read_lines(path, lines)


def read_lines(path: Path, lines: IO[bytes]) -> list[Event]:
    try:
        return list(decode_events(lines))
    except Invalid as error:
        raise Invalid(f"{path}: {error}") from None


def tell(report: Report, found: History, output: str) -> None:
    """Print what was found."""
    if output == "json":
        emit(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    for line in report.describe():
        emit(line)
    operations = sum(key.operations for key in report.keys)
    verdict = style(WORDS[report.verdict], fg=COLOURS[report.verdict], bold=True)
    keys = f"{len(report.keys)} key{'s' if len(report.keys) != 1 else ''}"
    emit(f"{verdict}: {operations} operations on {keys}, {len(found.events)} events")
    if report.verdict == "unknown":
        say("more time may help: --seconds")
