"""`quorate diagram`: the space-time diagram of one run."""

from pathlib import Path
from typing import Any

import click

from quorate.cli.options import option
from quorate.cli.output import emit, say
from quorate.cli.target import describe_outcome, get_names, open_target, target_options
from quorate.simulator.diagram import write_diagram
from quorate.simulator.replay import compare, replay
from quorate.simulator.tracer import Tracer


@click.command()
@target_options
@option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="The page.  [default: run-SEED.html, or FILE with .html]",
)
def diagram(target: str, out: Path | None, **asked: Any) -> int:
    """Draw who said what to whom and when, with faults and causes, as one page for a browser.

    The page needs nothing else: send it to a colleague. A shrunk run is the one to look at.

    \b
    quorate diagram small-4711.json
    quorate diagram 4711 --bug t4-amnesia --out run.html
    """
    found = open_target(target, asked)
    recording = found.recording
    path = out or (
        Path(target).with_suffix(".html")
        if Path(target).is_file()
        else Path(f"run-{recording.plan.seed}.html")
    )
    tracer = Tracer()
    outcome = replay(recording, tracer)
    write_diagram(path, tracer.events, recording.plan, outcome, tracer.get_operations())
    for words in compare(recording, outcome):
        say(f"not as recorded: {words}")
    for line in describe_outcome(outcome, get_names(tracer)):
        say(line)
    emit(str(path))
    return 0
