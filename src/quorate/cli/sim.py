"""`quorate sim`: a network through thousands of seeds, each with other faults."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from quorate.base.errors import Invalid, Unavailable
from quorate.cli.options import format_option, option
from quorate.cli.output import EXIT_CONFIG, Problem, emit, fail, get_program, say
from quorate.cli.sim_summary import ProgressLine, make_document, show_summary
from quorate.cli.simulated import Setup, build_plan, format_setup, setup_options
from quorate.simulator.campaign.coordinator import Campaign, Coordinator, make_job
from quorate.simulator.campaign.processes import Pool, Processes
from quorate.simulator.campaign.results import Results, open_results
from quorate.simulator.campaign.tasks import Job
from quorate.simulator.verdict import EXIT_CODES

SEED = click.IntRange(0, (1 << 63) - 1)
DEFAULT_SEEDS = 1000
AUDIT, AUDIT_SHARED = 5.0, 1.0
"""Percent of runs that are repeated. Of those that share a beginning each costs several."""


@click.command()
@setup_options
@option(
    "--seeds",
    type=click.IntRange(1, 1 << 40),
    default=None,
    show_default=False,
    help=f"How many.  [default: {DEFAULT_SEEDS}, or what --minutes allows]",
)
@option("--from", "first", type=SEED, default=0, help="The first seed.")
@option("--to", "last", type=SEED, default=None, show_default=False, help="The last seed.")
@option(
    "--minutes",
    type=click.FloatRange(0, 100_000, min_open=True),
    default=None,
    show_default=False,
    help="Begin no more seeds after this time.",
)
@option(
    "--jobs",
    type=click.IntRange(1, 1024),
    default=None,
    show_default=False,
    help="Processes at a time.  [default: one for each processor]",
)
@option(
    "--audit",
    type=click.FloatRange(0, 100),
    default=None,
    show_default=False,
    help="Percent of runs that are repeated whole with another hash seed, to compare every event.  "
    f"[default: {AUDIT:g}, or {AUDIT_SHARED:g} where runs share their beginning]",
)
@option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    show_default=False,
    help="A folder for a page to read (report.html) and a table of all runs.",
)
@option(
    "--cluster/--no-cluster",
    default=False,
    help="On Ray instead: the cluster at RAY_ADDRESS, or one started here.",
)
@format_option
def sim(
    seeds: int | None,
    first: int,
    last: int | None,
    minutes: float | None,
    jobs: int | None,
    audit: float | None,
    report: Path | None,
    cluster: bool,
    output: str,
    **asked: Any,
) -> int:
    """Run a network in virtual time, once for each seed, and judge every run.

    The same node code as in a real network, with messages, disks, clocks and crashes under the
    control of the seed. NETWORK.toml is a network's file or folder; without one, four validators
    are made up. A seed that fails is told with the command that replays it.

    Exit code 0: every run keeps all promises; 1: at least one does not; 2: not known, because runs
    could not be judged, Ctrl-C came first, or the campaign did not even find the bug that is put
    into a few of its runs on purpose.

    \b
    quorate sim                               a thousand seeds of four validators
    quorate sim .quorate                      the network that `quorate up` made
    quorate sim --minutes 10 --report out     ten minutes, then open out/report.html
    quorate sim --bug t3-no-valid-value       a known bug put back, and found
    quorate sim --branches 16                 sixteen futures for each beginning
    quorate sim --faults network --from 5000 --to 9999
    quorate sim deployment/network.toml --ledger --signatures real --seeds 100
    """
    setup = Setup(**asked)
    if last is not None:
        if seeds is not None:
            fail("--to and --seeds: give one of them", 2)
        if last < first:
            fail(f"--to {last}: before --from {first}", 2)
        seeds = last - first + 1
    if seeds is None and minutes is None:
        seeds = DEFAULT_SEEDS
    share = (AUDIT if setup.branches == 1 else AUDIT_SHARED) if audit is None else audit
    campaign = Campaign(
        plan=build_plan(setup, first),
        first=first,
        count=seeds,
        seconds=None if minutes is None else minutes * 60,
        audit_permille=round(share * 10),
        rows=report is not None,
    )
    replay = describe_replay(setup)
    results = open_folder(report)
    pool = open_pool(make_job(campaign), jobs, cluster)
    line = ProgressLine()
    coordinator = Coordinator(
        campaign, pool, on_progress=line.show, on_rows=None if results is None else results.add
    )
    try:
        summary = coordinator.run()
    except Unavailable as error:
        # Exit code 1 would say that a run had failed.
        raise Problem(str(error), EXIT_CODES["unknown"]) from None
    finally:
        line.end()
        pool.close()
    document = make_document(campaign, summary, setup, replay)
    if results is not None:
        close_results(results, document)
    if output == "json":
        emit(json.dumps(document, indent=2))
    else:
        show_summary(campaign, summary, replay, on_ray=cluster)
    return EXIT_CODES[summary.verdict]


def describe_replay(setup: Setup) -> Callable[[int], str]:
    """Return what makes the one line that replays a seed."""
    words = format_setup(setup)
    return lambda seed: f"{get_program()} replay {seed}{words}"


def count_processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def open_pool(job: Job, jobs: int | None, cluster: bool) -> Pool:
    if not cluster:
        return Processes(job, jobs or count_processors())
    from quorate.simulator.campaign.cluster import open_cluster

    try:
        return open_cluster(job, jobs)
    except Invalid as error:
        raise Problem(str(error), EXIT_CONFIG) from None
    except Unavailable as error:
        raise Problem(str(error), EXIT_CODES["unknown"]) from None


def open_folder(report: Path | None) -> Results | None:
    """Return where results are written, if they are asked for."""
    try:
        return None if report is None else open_results(report)
    except OSError as error:
        fail(f"--report {report}: {error.strerror}", EXIT_CODES["unknown"])


def close_results(results: Results, document: dict[str, Any]) -> None:
    """Write what comes last, and say where everything is."""
    results.close(document)
    for note in results.notes:
        say(note)
    say(f"Results are in {results.folder}: open {results.folder / 'report.html'}")
