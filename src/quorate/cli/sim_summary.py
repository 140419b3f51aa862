"""What `quorate sim` shows: one moving line while it runs, then what it came to."""

import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import click
import msgspec

from quorate import __version__
from quorate.cli.output import emit, emit_table, is_terminal, name_program, say, style
from quorate.cli.simulated import Setup, format_setup
from quorate.compiled import describe, is_used
from quorate.simulator.campaign.coordinator import Campaign, Coordinator
from quorate.simulator.campaign.summary import Summary
from quorate.simulator.campaign.tally import Reach, Tally, name_fault
from quorate.simulator.forks import count_seeds
from quorate.simulator.plan import Plan
from quorate.simulator.timing import describe_timing

__all__ = ["ProgressLine", "make_document", "show_summary"]

EVERY_S = 0.2
EVERY_LINE_S = 10.0
"""Where lines cannot be redrawn."""
MAX_SHOWN = 12
"""Failing classes that are shown; the results have all."""
COLOURS = {"true": "green", "false": "red", "unknown": "yellow"}


class ProgressLine:
    """Redrawn on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self.moving = is_terminal(sys.stderr)
        self.next = time.monotonic() + (0 if self.moving else EVERY_LINE_S)
        self.drawn = False

    def show(self, coordinator: Coordinator) -> None:
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + (EVERY_S if self.moving else EVERY_LINE_S)
        line = describe_progress(coordinator)
        if not self.moving:
            say(line)
            return
        self.drawn = True
        width = max(20, (shutil.get_terminal_size().columns or 80) - 1)
        click.echo("\r\x1b[2K" + line[:width], err=True, nl=False)

    def end(self) -> None:
        if self.drawn:
            click.echo("\r\x1b[2K", err=True, nl=False)


def describe_progress(coordinator: Coordinator) -> str:
    tally, seconds = coordinator.tally, max(coordinator.seconds, 1e-9)
    asked = coordinator.campaign.count
    parts = [
        f"{tally.runs:,}{'' if asked is None else f'/{asked:,}'} seeds",
        *describe_speed(tally, seconds),
        f"{tally.verdicts['false']:,} failing",
    ]
    left = estimate_left(coordinator)
    if left is not None:
        parts.append(f"{format_time(left)} left")
    return "  ".join(parts)


def format_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe_speed(tally: Tally, seconds: float) -> list[str]:
    rate = tally.runs / seconds
    words = [
        f"{rate:,.0f} seeds/s" if rate >= 10 else f"{rate:.1f} seeds/s",
        f"{tally.executed / seconds:,.0f} events/s",
    ]
    if tally.executed == tally.events:
        # Otherwise the time that runs share would count for each of them.
        words.append(f"{tally.virtual_ns / 1e9 / seconds:,.0f}x time")
    return words


def describe_sharing(plan: Plan, tally: Tally) -> str:
    """Return what runs that share their beginning have, and what was executed for them."""
    return (
        f"{count_seeds(plan.forks)} seeds share a beginning: {tally.events:,} events in all runs, "
        f"{tally.executed:,} of them executed, the others shared"
    )


def describe_cost(tally: Tally) -> str:
    """Return the processor time of an event, judges and all."""
    return f"{tally.cpu_ns / 1e3 / max(tally.executed, 1):.1f} us of CPU an event"


def estimate_left(coordinator: Coordinator) -> float | None:
    """Return how many seconds it will take, None while that is not known."""
    runs, seconds = coordinator.tally.runs, coordinator.seconds
    asked, limit = coordinator.campaign.count, coordinator.get_seconds_left()
    found = [] if limit is None else [limit]
    if asked is not None and runs:
        found.append((asked - runs) * seconds / runs)
    return min(found, default=None)


# ---- the end


APPLICATIONS = {"ethereum": "Ethereum ledger", "opaque": "light application"}


def describe_plan(plan: Plan) -> str:
    """Return what was simulated, in words."""
    members = sum(machine.power > 0 for machine in plan.machines)
    followers = len(plan.machines) - members
    ledger = APPLICATIONS.get(plan.application, f"application {plan.application}")
    return (
        f"network {plan.name}: {members} validator{'s' if members != 1 else ''}"
        f"{f' and {followers} followers' if followers else ''}, {plan.engine}, {ledger}, "
        f"{plan.signatures} signatures, faults: {plan.profile.name}"
        f"{f', timing: {describe_timing(plan.timing)}' if plan.timing is not None else ''}"
        f"{f', with the bug {plan.bug}' if plan.bug else ''}"
    )


def show_summary(
    campaign: Campaign, summary: Summary, replay: Callable[[int], str], *, on_ray: bool = False
) -> None:
    """Print what a campaign came to."""
    tally = summary.tally
    emit(describe_plan(campaign.plan))
    if tally.runs:
        one, more = ("worker", "workers") if on_ray else ("process", "processes")
        workers = f"{summary.slots} {one if summary.slots == 1 else more}"
        workers += " of Ray" if on_ray else ""
        took = f"{tally.runs:,} seeds from {summary.first} on in {summary.seconds:.1f} s"
        emit(name_program(f"{took}, {workers}, {describe()}"))
        per_hour = tally.runs / max(summary.seconds, 1e-9) * 3600
        speed = describe_speed(tally, max(summary.seconds, 1e-9))
        emit(f"{', '.join(speed)}, {per_hour:,.0f} seeds/h, {describe_cost(tally)}")
        if campaign.plan.forks:
            emit(describe_sharing(campaign.plan, tally))
        faults = {fault: r for name, r in tally.counters.items() if (fault := name_fault(name))}
        show_reach("faults", faults, tally.runs)
        show_reach("sometimes", tally.sometimes, tally.runs)
        if campaign.plan.detector:
            emit(f"\n{describe_detector(campaign.plan.detector, tally.counters)}")
        emit(f"\n{len(tally.states):,} different states of the network, digest {tally.digest:016x}")
    show_checks(summary)
    show_failures(summary, replay)
    show_verdict(summary)


def describe_detector(name: str, counters: dict[str, Reach]) -> str:
    """Return what the failure detectors of all runs came to, in words."""

    def count(what: str) -> int:
        found = counters.get(f"detector {what}")
        return 0 if found is None else found.times

    detected = count("detections")
    mean = f" after {count('ms to detect') // detected:,} ms on average" if detected else ""
    return (
        f"detector {name}: {detected:,} crashes noticed{mean}, "
        f"{count('crashes missed'):,} not before the restart, {count('mistakes'):,} mistakes"
    )


def show_reach(title: str, reaches: dict[str, Reach], runs: int) -> None:
    """Print how often things happened, and in which share of runs; then what never did."""
    rows = [
        [name, f"{reach.times:,}", format_share(reach.runs, runs)]
        for name, reach in sorted(reaches.items(), key=lambda item: (-item[1].runs, item[0]))
        if reach.times
    ]
    if rows:
        emit()
        emit_table([title, "times", "of runs"], rows)
    never = sorted(name for name, reach in reaches.items() if not reach.times)
    if never:
        emit(style(f"never happened: {', '.join(never)}", fg="yellow"))


def format_share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


def show_checks(summary: Summary) -> None:
    """Print what shows that the campaign itself works."""
    canary, audit = summary.canary, summary.audit
    if canary is not None and canary.found is not None:
        found = canary.found
        emit(f"canary: {canary.bug} was found by seed {found.seed} ({found.failure})")
    if audit.repeated and not audit.differing:
        runs = f"{audit.repeated:,} run{'s' if audit.repeated != 1 else ''}"
        form = " and by the sources" if is_used() else ""
        emit(f"audit: {runs} repeated with another hash seed{form}, all events equal")
    for death in summary.deaths:
        emit(style(f"{death}; run again", fg="yellow"))


def show_failures(summary: Summary, replay: Callable[[int], str]) -> None:
    """Print each failing class with its fastest seed and the line that replays it."""
    audit = summary.audit
    if audit.differing:
        emit()
        emit(
            style(f"NOT DETERMINISTIC: {len(audit.differing)} runs differ when repeated", fg="red")
        )
        for difference in audit.differences:
            emit(f"  {difference}")
    classes = sorted(
        summary.tally.classes.items(), key=lambda item: (-item[1].runs, item[1].fastest.get_cost())
    )
    if not classes:
        return
    rows = []
    for name, found in classes[:MAX_SHOWN]:
        first = found.fastest
        rows.append([name, f"{found.runs:,}", first.verdict, str(first.seed), f"{first.events:,}"])
    emit()
    emit_table(["failing", "runs", "verdict", "fastest seed", "events"], rows)
    for name, found in classes[:MAX_SHOWN]:
        emit(f"\n{style(name, bold=True)}: {found.fastest.message}")
        emit(f"  {replay(found.fastest.seed)}")
    if len(classes) > MAX_SHOWN:
        emit(f"\n{len(classes) - MAX_SHOWN} more classes are in the results (--report)")


def show_verdict(summary: Summary) -> None:
    verdict, tally = summary.verdict, summary.tally
    counts = ", ".join(f"{count:,} {name}" for name, count in tally.verdicts.items() if count)
    emit()
    emit(style(verdict, fg=COLOURS[verdict], bold=True) + (f": {counts}" if counts else ""))
    for doubt in summary.list_doubts():
        emit(f"  {doubt}")


# ---- for programs


def format_seeds(campaign: Campaign) -> str:
    """Return the words that ask for the same seeds."""
    words = f" --from {campaign.first}" if campaign.first else ""
    if campaign.count is not None:
        words += f" --seeds {campaign.count}"
    if campaign.seconds is not None:
        words += f" --minutes {campaign.seconds / 60:g}"
    return words


def make_document(
    campaign: Campaign, summary: Summary, setup: Setup, replay: Callable[[int], str]
) -> dict[str, Any]:
    """Return a campaign's result, ready for JSON."""
    tally, seconds = summary.tally, max(summary.seconds, 1e-9)
    plan = campaign.plan
    return {
        "version": __version__,
        "verdict": summary.verdict,
        "doubts": summary.list_doubts(),
        "command": f"quorate sim{format_setup(setup)}{format_seeds(campaign)}",
        "network": {
            "name": plan.name,
            "validators": sum(machine.power > 0 for machine in plan.machines),
            "engine": plan.engine,
            "application": plan.application,
            "signatures": plan.signatures,
            "faults": plan.profile.name,
            "bug": plan.bug,
            "duration_ms": plan.duration_ms,
            "branches": count_seeds(plan.forks),
        },
        "first": summary.first,
        "asked": summary.asked,
        "runs": tally.runs,
        "verdicts": tally.verdicts,
        "digest": f"{tally.digest:016x}",
        "workers": summary.slots,
        "compiled": is_used(),
        "seconds": summary.seconds,
        "cpu_seconds": round(tally.cpu_ns / 1e9, 3),
        "events": tally.events,
        "executed": tally.executed,
        "virtual_seconds": round(tally.virtual_ns / 1e9, 3),
        "seeds_per_second": round(tally.runs / seconds, 3),
        "events_per_second": round(tally.executed / seconds, 1),
        "cpu_us_per_event": round(tally.cpu_ns / 1e3 / max(tally.executed, 1), 3),
        "virtual_per_real": round(tally.virtual_ns / 1e9 / seconds, 1),
        "counters": {n: [r.times, r.runs] for n, r in sorted(tally.counters.items())},
        "sometimes": {n: [r.times, r.runs] for n, r in sorted(tally.sometimes.items())},
        "states": len(tally.states),
        "classes": [
            {
                "failure": name,
                "runs": found.runs,
                "verdict": found.fastest.verdict,
                "seed": found.fastest.seed,
                "events": found.fastest.events,
                "message": found.fastest.message,
                "digest": found.fastest.digest,
                "replay": replay(found.fastest.seed),
            }
            for name, found in sorted(tally.classes.items())
        ],
        "failures": [
            {"seed": f.seed, "failure": f.failure, "verdict": f.verdict, "digest": f.digest}
            for f in tally.failures
        ],
        "canary": msgspec.to_builtins(summary.canary),
        "audit": {
            "repeated": summary.audit.repeated,
            "differing": summary.audit.differing,
            "differences": [str(difference) for difference in summary.audit.differences],
            "lost": summary.audit.lost,
        },
        "deaths": summary.deaths,
        "interrupted": summary.interrupted,
        "curve": [list(msgspec.structs.astuple(point)) for point in summary.curve],
    }
