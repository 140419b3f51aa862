"""A run that a command line names by its seed or by its file, and how a run is told.

`replay`, `shrink`, `diagram` and `why` take the same words: a seed with what `quorate sim` was
given, or a run file, which holds all of that.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Nanoseconds
from quorate.cli.output import EXIT_USAGE, emit, fail, get_program, say, style
from quorate.cli.simulated import DEFAULTS, Setup, build_plan, format_setup, setup_options
from quorate.simulator.campaign.tally import name_fault
from quorate.simulator.detectors.words import describe_report
from quorate.simulator.listing import format_time
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.replay import (
    MAX_FILE_BYTES,
    Recording,
    decode_recording,
    encode_recording,
)
from quorate.simulator.story import compute_spans, tell_story
from quorate.simulator.tracer import Tracer
from quorate.simulator.verdict import Outcome

__all__ = [
    "Target",
    "describe_outcome",
    "get_names",
    "open_target",
    "parse_time",
    "read_recording",
    "target_options",
    "tell",
    "write_recording",
]

F = TypeVar("F", bound=Callable[..., Any])

COLOURS = {"true": "green", "false": "red", "unknown": "yellow"}
TONES = {"fault": "yellow", "lie": "red", "final": "green", "finding": "red", "round": "cyan"}
UNITS: dict[str, Nanoseconds] = {"ns": 1, "us": 1_000, "ms": MS, "s": SECOND, "min": 60 * SECOND}
MAX_SEED = (1 << 63) - 1


class Target(Struct, frozen=True, kw_only=True):
    """The run that is asked for."""

    recording: Recording
    words: str
    """What names it on a command line."""
    title: str


def target_options(function: F) -> F:
    """Add the argument SEED|FILE, and what a seed needs besides."""
    return click.argument("target", metavar="SEED|FILE")(setup_options(function))


def open_target(target: str, asked: dict[str, Any]) -> Target:
    """Return the run of a seed, or of a file. Raises Problem, one line for people."""
    setup = Setup(**asked)
    path = Path(target)
    if target.isdecimal() and not path.exists():
        seed = int(target)
        if seed > MAX_SEED:
            fail(f"seed {seed}: expected at most {MAX_SEED}", EXIT_USAGE)
        plan = build_plan(setup, seed)
        words = f"{target}{format_setup(setup)}"
        return Target(recording=Recording(plan=plan), words=words, title=f"seed {seed}")
    if not path.is_file():
        fail(f"{target}: expected a seed (a number) or a run file", EXIT_USAGE)
    if setup != DEFAULTS:
        fail(
            f"{target} holds its own network, faults and bug: leave out{format_setup(setup)}",
            EXIT_USAGE,
        )
    return Target(recording=read_recording(path), words=target, title=target)


def read_recording(path: Path) -> Recording:
    """Read a run file."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise Invalid(
            f"{path}: {path.stat().st_size} bytes, expected a run file of at most {MAX_FILE_BYTES}"
        )
    return decode_recording(path.read_bytes(), str(path))


def write_recording(path: Path, recording: Recording) -> None:
    """Write a run file whole or not at all."""
    other = path.with_name(path.name + ".part")
    other.write_bytes(encode_recording(recording))
    os.replace(other, path)


def parse_time(text: str) -> Nanoseconds:
    """Return a time like `1.5s`, `1500ms` or `1500`, which are milliseconds, in nanoseconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min)?", text.strip())
    if match is None:
        fail(f"time {text!r}: expected a number and ns, us, ms, s or min, as 1.5s", EXIT_USAGE)
    whole, _, part = match[1].partition(".")
    unit = UNITS[match[2] or "ms"]
    return int(whole) * unit + (int(part) * unit // 10 ** len(part) if part else 0)


# ---- what is told


def get_names(tracer: Tracer) -> list[str]:
    """Return the names of a traced world's machines: more than the plan's, if some are twins."""
    return [machine.name for machine in tracer.world.machines]


def tell(tracer: Tracer, limit: int | None = None) -> None:
    """Print what happened: faults, rounds and decisions; with `limit` only the last lines."""
    events, names = tracer.events, get_names(tracer)
    lines = tell_story(events, names, compute_spans(events, names))
    shown = lines if limit is None else lines[-limit:]
    if len(shown) < len(lines):
        emit(style(f"... {len(lines) - len(shown)} lines before; --all shows them", dim=True))
    for line in shown:
        text = f"{format_time(events[line.event].time_ns):>13}  {line.text}"
        emit(style(text, fg=TONES.get(line.tone)))


def describe_outcome(outcome: Outcome, names: list[str]) -> list[str]:
    """Return the verdict of a run and why, in lines."""
    lines = [style(outcome.verdict, fg=COLOURS[outcome.verdict], bold=True)]
    for finding in outcome.findings:
        who = "" if finding.machine is None else f" on {names[finding.machine]}"
        open_ = "" if finding.verdict == "false" else " (could not be judged)"
        lines.append(
            f"  {style(finding.property, bold=True)}{open_} at "
            f"{format_time(finding.time_ns).strip()}{who}: {finding.message}"
        )
    for claim, reason in outcome.unjudged.items():
        lines.append(f"  {claim} was not judged: {reason}")
    heights = outcome.heights
    told = f"{heights[0]}" if len(set(heights)) == 1 else ", ".join(map(str, heights))
    lines.append(
        f"  {outcome.events:,} events in {format_time(outcome.time_ns).strip()}, "
        f"heights {told}, digest {outcome.digest}"
    )
    faults = {fault: n for name, n in outcome.counters.items() if (fault := name_fault(name))}
    if faults:
        lines.append("  faults: " + ", ".join(f"{name} {n}" for name, n in faults.items()))
    if outcome.detection is not None:
        lines += [f"  {line}" for line in describe_report(outcome.detection, names)]
    return lines


def advise(target: Target, *commands: str) -> None:
    """Say what may be typed next."""
    say("\nnext:")
    for command in commands:
        say(f"  {get_program()} {command} {target.words}")
