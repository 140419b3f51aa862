"""A comparison as one document: what was asked, what each engine did, and what that means.

`Comparison.run` yields a line for people before each step, since a step may take a while; then
`make_document` returns everything, ready for JSON. The same conditions give the same bytes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from quorate import __version__
from quorate.base.types import Milliseconds, Nanoseconds
from quorate.consensus import ENGINES
from quorate.simulator.compare.advice import write_advice
from quorate.simulator.compare.experiment import (
    DRAIN_NS,
    SETTLE_NS,
    Conditions,
    Run,
    find_saturation,
    run_load,
)
from quorate.simulator.compare.load import PATIENCE_NS
from quorate.simulator.compare.measures import (
    Recovery,
    compute_band,
    compute_percentile,
    compute_recovery,
    compute_series,
    compute_window,
    find_longest_gap,
    to_us,
)
from quorate.simulator.compare.script import SCRIPTS, describe_fault
from quorate.simulator.compare.trials import Trial, list_runs, list_trials
from quorate.simulator.compare.workload import Workload
from quorate.simulator.plan import MS, Plan

__all__ = ["FORMAT", "Comparison", "Wishes"]

FORMAT = "quorate compare"
QUIET_MS: Milliseconds = 15_000
"""How long the run without faults lasts at most."""
PERCENTILES = (50.0, 95.0, 99.0)
CURVE = 100
"""Points of a distribution's curve."""
STEPS = 120
"""About so many steps of a plot over time."""


class Wishes(Struct, frozen=True, kw_only=True):
    """What is measured beyond load and faults."""

    most: int
    """Where the search for the highest rate ends; 0: no search."""
    trials: bool = True


class Subject(Struct, kw_only=True):
    """All that was measured of one engine."""

    base: Plan
    quiet: Run
    faulty: Run | None = None
    saturation: dict[str, Any] | None = None
    trials: list[Trial] = []


class Comparison:
    """Several engines under the same conditions."""

    def __init__(
        self, bases: Sequence[Plan], conditions: Conditions, workload: Workload, wishes: Wishes
    ) -> None:
        """`bases` has a plan for each engine: its machines and settings."""
        self.bases, self.conditions = list(bases), conditions
        self.workload, self.wishes = workload, wishes
        self.subjects: list[Subject] = []

    def count_steps(self) -> int:
        """Return how many lines `run` yields."""
        steps = 1 + self.has_faults() + bool(self.wishes.most)
        members = len([m for m in self.bases[0].machines if m.power])
        return len(self.bases) * (steps + self.wishes.trials * len(list_trials(members)))

    def has_faults(self) -> bool:
        return bool(self.conditions.script.faults) or self.conditions.profile is not None

    def run(self) -> Iterator[str]:
        """Measure everything; yield what comes next before each step."""
        conditions, workload = self.conditions, self.workload
        calm = msgspec.structs.replace(
            conditions,
            script=SCRIPTS["none"],
            profile=None,
            length_ms=min(conditions.length_ms, QUIET_MS),
        )
        for base in self.bases:
            name = base.engine
            yield f"{name}: without faults"
            subject = Subject(base=base, quiet=run_load(base, calm, workload))
            self.subjects.append(subject)
            if self.has_faults():
                yield f"{name}: with faults"
                subject.faulty = run_load(base, conditions, workload)
            if self.wishes.most:
                yield f"{name}: the highest rate"
                latencies = [o.final_ns for o in subject.quiet.operations]
                usual = compute_percentile(latencies, 50) or DRAIN_NS
                subject.saturation = find_saturation(base, calm, workload, usual, self.wishes.most)
            if self.wishes.trials:
                for text, run in list_runs(base, calm):
                    yield f"{name}: {text}"
                    subject.trials.append(run())

    def make_document(self, command: str) -> dict[str, Any]:
        """Return everything that was measured."""
        engines = [self.describe(subject) for subject in self.subjects]
        document: dict[str, Any] = {
            "format": FORMAT,
            "version": __version__,
            "command": command,
            "conditions": describe_conditions(self.conditions, self.workload, self.bases[0]),
            "engines": engines,
            "double_spend": None,
            "real": None,
        }
        document["advice"] = write_advice(document)
        return document

    def describe(self, subject: Subject) -> dict[str, Any]:
        """Return what was measured of one engine."""
        engine = ENGINES[subject.base.engine]
        quiet = subject.quiet
        latencies = [o.final_ns for o in quiet.operations]
        band = compute_band(latencies)
        length = self.conditions.length_ms * MS
        quiet_ns = min(length, QUIET_MS * MS)
        step = choose_step(length)
        found: dict[str, Any] = {
            "engine": engine.name,
            "tolerates": engine.faults,
            "source": engine.source,
            "caution": engine.caution,
            "proves": engine.proves,
            "quiet": describe_run(quiet, quiet_ns),
            "band_us": to_us(band),
            "curve_us": describe_curve(latencies),
            "saturation": subject.saturation,
            "series": {
                "step_ms": step // MS,
                "quiet": compute_series(quiet.operations, quiet_ns, step),
            },
            "faulty": None,
            "trials": [
                {**msgspec.to_builtins(trial), "as_claimed": trial.is_as_claimed()}
                for trial in subject.trials
            ],
        }
        if subject.faulty is not None:
            found["faulty"] = describe_run(subject.faulty, length)
            found["faulty"]["recoveries"] = self.describe_recoveries(subject, band)
            found["series"]["faulty"] = compute_series(subject.faulty.operations, length, step)
        return found

    def describe_recoveries(
        self, subject: Subject, band: Nanoseconds | None
    ) -> list[dict[str, Any]]:
        """Return what each fault did to the service."""
        run, length = subject.faulty, self.conditions.length_ms * MS
        assert run is not None
        window = compute_window(self.conditions.rate)
        members = len([m for m in subject.base.machines if m.power])
        rows = []
        begins = [struck.fault.at_ms * MS for struck in run.struck]
        for number, struck in enumerate(run.struck):
            fault, start = struck.fault, begins[number]
            # Faults that begin together share a span.
            end = min([length, *(at for at in begins if at > start)])
            recovery = Recovery(False, None, end - start, None)
            if band is not None:
                recovery = compute_recovery(
                    run.operations, start, end, window_ns=window, band_ns=band
                )
            rows.append(
                {
                    "text": describe_fault(fault, members),
                    "kind": fault.kind,
                    "at_ms": fault.at_ms,
                    "for_ms": fault.for_ms,
                    "members": struck.members,
                    **describe_recovery(recovery, fault.for_ms * MS),
                }
            )
        return rows


def describe_recovery(recovery: Recovery, length_ns: Nanoseconds) -> dict[str, Any]:
    back = recovery.back_ns
    return {
        "masked": recovery.masked,
        "back_ms": None if back is None else back // MS,
        "after_end_ms": None if back is None or back < length_ns else (back - length_ns) // MS,
        "bad_ms": recovery.bad_ns // MS,
        "worst_us": to_us(recovery.worst_ns),
    }


def describe_run(run: Run, length_ns: Nanoseconds) -> dict[str, Any]:
    """Return the figures of one run."""
    operations = run.operations
    answered = [o for o in operations if o.final_ns is not None]
    in_time = [o for o in answered if o.due_ns + (o.final_ns or 0) < length_ns]
    items = max(len(in_time), 1)
    return {
        "offered": len(operations),
        "answered": len(answered),
        "answered_in_time": len(in_time),
        "throughput": round(len(in_time) * 1000 * MS / length_ns, 1),
        "latency": describe_latencies([o.final_ns for o in operations]),
        "first": describe_latencies([o.first_ns for o in operations]),
        "safe": describe_latencies([o.safe_ns for o in operations]),
        "longest_gap_ms": find_longest_gap(operations, 0, length_ns) // MS,
        "sent_again": sum(o.sent - 1 for o in operations),
        "refused": run.refused,
        "blocks": run.blocks,
        "items_per_block": round(len(in_time) / run.blocks, 1) if run.blocks else None,
        "frames_per_item": round(run.frames / items, 2),
        "bytes_per_item": round(run.frame_bytes / items),
        "blocks_lost": run.blocks_lost,
        "hashes": run.hashes,
        "verdict": run.outcome.verdict,
        "findings": [
            {"property": f.property, "message": f.message, "time_ms": f.time_ns // MS}
            for f in run.outcome.findings
        ],
        "digest": run.outcome.digest,
    }


def describe_latencies(latencies: Sequence[Nanoseconds | None]) -> dict[str, Any] | None:
    """Return percentiles in microseconds; None if nothing was ever answered."""
    if all(latency is None for latency in latencies):
        return None
    found = {f"p{p:g}_us": to_us(compute_percentile(latencies, p)) for p in PERCENTILES}
    return {**found, "max_us": to_us(compute_percentile(latencies, 100))}


def describe_curve(latencies: Sequence[Nanoseconds | None]) -> list[int | None]:
    """Return the latency of each hundredth of all operations, the fastest first."""
    return [to_us(compute_percentile(latencies, 100 * (i + 1) / CURVE)) for i in range(CURVE)]


def choose_step(length_ns: Nanoseconds) -> Nanoseconds:
    """Return a round step for plots over time."""
    for step_ms in (50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000, 60_000):
        if length_ns <= STEPS * step_ms * MS:
            return step_ms * MS
    return length_ns // STEPS


def describe_conditions(conditions: Conditions, workload: Workload, base: Plan) -> dict[str, Any]:
    """Return what is the same for all engines."""
    latency, members = conditions.latency, len([m for m in base.machines if m.power])
    return {
        "seed": conditions.seed,
        "network": base.name,
        "members": members,
        "machines": [m.name for m in base.machines],
        "workload": workload.name,
        "application": workload.application,
        "rate": conditions.rate,
        "length_ms": conditions.length_ms,
        "clients": conditions.clients,
        "settle_ms": SETTLE_NS // MS,
        "drain_ms": DRAIN_NS // MS,
        "patience_ms": PATIENCE_NS // MS,
        "window_ms": compute_window(conditions.rate) // MS,
        "latency": {
            **msgspec.to_builtins(latency),
            "placed": [latency.places[latency.get_place(i)] for i in range(len(base.machines))],
        },
        "model": msgspec.to_builtins(conditions.model),
        "faults": {
            "name": conditions.profile.name if conditions.profile else conditions.script.name,
            "script": [
                {**msgspec.to_builtins(fault), "text": describe_fault(fault, members)}
                for fault in conditions.script.faults
            ],
        },
    }
