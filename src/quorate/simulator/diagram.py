"""The space-time diagram of a run as one page that needs nothing else."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from quorate.simulator.listing import render_text
from quorate.simulator.plan import Plan
from quorate.simulator.trace import Event
from quorate.simulator.verdict import Outcome

__all__ = ["make_diagram", "write_diagram"]


def write_diagram(path: Path, events: Sequence[Event], plan: Plan, outcome: Outcome) -> None:
    """Write the page of a traced run."""
    path.write_text(make_diagram(events, plan, outcome), encoding="utf-8")


def make_diagram(events: Sequence[Event], plan: Plan, outcome: Outcome) -> str:
    """Return the page of a traced run as HTML."""
    names = [machine.name for machine in plan.machines]
    title = f"Run {plan.seed}: {outcome.verdict}"
    found = "".join(f"<li>{escape(f'{f.property}: {f.message}')}</li>" for f in outcome.findings)
    listing = escape(render_text(events, names, all_kinds=True))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<h1>{escape(title)}</h1><ul>{found}</ul><pre>{listing}</pre></html>\n"
    )
