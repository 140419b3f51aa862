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
    get_pace,
    make_plan,
    run_load,
)
from quorate.simulator.compare.load import PATIENCE_NS
from quorate.simulator.compare.measures import (
    Operation,
    Recovery,
    compute_band,
    compute_percentile,
    compute_recovery,
    compute_series,
    compute_spans,
    compute_throughput,
    compute_window,
    find_longest_gap,
    to_us,
)
from quorate.simulator.compare.script import SCRIPTS, Fault, describe_fault
from quorate.simulator.compare.trials import Trial, is_claimed, list_runs, list_trials
from quorate.simulator.compare.workload import Workload
from quorate.simulator.double_spend import measure_curve
from quorate.simulator.plan import MS, Plan

__all__ = [
    "FORMAT",
    "JOULES_PER_HASH",
    "Comparison",
    "Wishes",
    "describe_latencies",
    "describe_recoveries",
]

FORMAT = "quorate compare"
QUIET_MS: Milliseconds = 15_000
"""How long the run without faults lasts at most."""
QUIET_INTERVALS = 20
"""Unless so many blocks take longer."""
PERCENTILES = (50.0, 95.0, 99.0)
JOULES_PER_HASH = 1e-5
"""Ten watts for a million hashes a second: an assumption about one thread of a processor, which the
document states; miners made for it take a millionth of that.
"""
SHARES_PERMILLE = (100, 250, 400)
"""Of all hash power, that an attacker has."""
CONFIRMATIONS = (0, 1, 2, 3, 4, 6, 8, 10)
RACES = 3000
CURVE = 100
"""Points of a distribution's curve."""
STEPS = 120
"""About so many steps of a plot over time."""


class Wishes(Struct, frozen=True, kw_only=True):
    """What is measured beyond load and faults."""

    most: int
    """Where the search for the highest rate ends; 0: no search."""
    trials: bool = True
    joules_per_hash: float = JOULES_PER_HASH


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
            conditions, script=SCRIPTS["none"], profile=None, length_ms=QUIET_MS
        )
        for base in self.bases:
            name = base.engine
            yield f"{name}: without faults"
            subject = Subject(base=base, quiet=self.run_quiet(base))
            self.subjects.append(subject)
            if self.has_faults():
                yield f"{name}: with faults"
                subject.faulty = run_load(base, conditions, workload)
            if self.wishes.most:
                yield f"{name}: the highest rate"
                shown = [o.get_shown() for o in subject.quiet.operations]
                usual = compute_percentile(shown, 95) or DRAIN_NS
                subject.saturation = find_saturation(base, calm, workload, usual, self.wishes.most)
            if self.wishes.trials:
                for text, run in list_runs(base, calm):
                    yield f"{name}: {text}"
                    subject.trials.append(run())

    def run_quiet(self, base: Plan) -> Run:
        """Run one engine without faults, for as long as tells something about its pace."""
        conditions = self.conditions
        pace = get_pace(make_plan(base, conditions, self.workload))
        length_ms = min(conditions.length_ms, QUIET_MS)
        quiet = msgspec.structs.replace(
            conditions,
            script=SCRIPTS["none"],
            profile=None,
            length_ms=max(length_ms, QUIET_INTERVALS * pace.interval_ns // MS),
        )
        return run_load(base, quiet, self.workload)

    def make_document(self, command: str) -> dict[str, Any]:
        """Return everything that was measured."""
        engines = [self.describe(subject) for subject in self.subjects]
        document: dict[str, Any] = {
            "format": FORMAT,
            "version": __version__,
            "command": command,
            "conditions": describe_conditions(self.conditions, self.workload, self.bases[0]),
            "engines": engines,
            "double_spend": self.describe_double_spend(),
            "real": None,
        }
        document["advice"] = write_advice(document)
        return document

    def describe_double_spend(self) -> dict[str, Any] | None:
        """Return how often payments are taken back, if there is an engine that lets them be."""
        if not any(ENGINES[base.engine].open for base in self.bases):
            return None
        curves: list[dict[str, Any]] = []
        for permille in SHARES_PERMILLE:
            points = measure_curve(permille, CONFIRMATIONS, RACES, self.conditions.seed, ahead=1)
            name = f"{permille / 10:g} % of the power"
            for kind, formula in (("rate", False), ("nakamoto", True)):
                curves.append(
                    {
                        "name": f"{name}, {'by Nakamoto' if formula else 'raced'}",
                        "share": permille / 1000,
                        "formula": formula,
                        "points": [[p.confirmations, round(getattr(p, kind), 6)] for p in points],
                    }
                )
        text = (
            f"{RACES:,} races for each point, in which every block reaches everybody at once: an "
            "attacker pays, mines in secret, and publishes once the payment has so many "
            "confirmations and its own branch is the heavier one. As Nakamoto's formula (2008, "
            "section 11) does, the races give it one block in advance; the formula takes the time "
            "of the confirmations for the average, which puts it some percentage points off."
        )
        return {"text": text, "races": RACES, "curves": curves}

    def describe(self, subject: Subject) -> dict[str, Any]:
        """Return what was measured of one engine."""
        engine = ENGINES[subject.base.engine]
        quiet = subject.quiet
        shown = [o.get_shown() for o in quiet.operations]
        band = compute_band(shown)
        length, quiet_ns = self.conditions.length_ms * MS, quiet.length_ms * MS
        step = choose_step(length)
        found: dict[str, Any] = {
            "engine": engine.name,
            "tolerates": engine.faults,
            "source": engine.source,
            "caution": engine.caution,
            "proves": engine.proves,
            "pace": describe_pace(subject),
            "quiet": describe_run(quiet, quiet_ns),
            "band_us": to_us(band),
            "curve_us": describe_curve(shown),
            "saturation": subject.saturation,
            "series": {
                "step_ms": step // MS,
                "quiet": compute_series(quiet.operations, quiet_ns, step),
            },
            "faulty": None,
            "work": self.describe_work(quiet),
            "trials": [
                {**msgspec.to_builtins(trial), "as_claimed": trial.is_as_claimed()}
                for trial in subject.trials
            ],
        }
        if subject.faulty is not None:
            found["faulty"] = describe_run(subject.faulty, length)
            found["faulty"]["excused"] = self.has_too_many_liars(subject)
            found["faulty"]["recoveries"] = self.describe_recoveries(subject, band)
            found["series"]["faulty"] = compute_series(subject.faulty.operations, length, step)
        return found

    def has_too_many_liars(self, subject: Subject) -> bool:
        """Whether a script made more members lie than the engine claims to tolerate."""
        assert subject.faulty is not None
        liars = {i for s in subject.faulty.struck if s.fault.kind == "lie" for i in s.members}
        members = len([m for m in subject.base.machines if m.power])
        return bool(liars) and not is_claimed(subject.base.engine, "lie", len(liars), members)

    def describe_work(self, run: Run) -> dict[str, Any] | None:
        """Return what mining took in the run without faults, if there was any."""
        if not run.hashes:
            return None
        items = max(len(run.operations), 1)
        joules = run.hashes * self.wishes.joules_per_hash
        return {
            "hashes": run.hashes,
            "hashes_per_item": round(run.hashes / items),
            "joules_per_hash": self.wishes.joules_per_hash,
            "joules": round(joules, 3),
            "joules_per_item": round(joules / items, 3),
        }

    def describe_recoveries(
        self, subject: Subject, band: Nanoseconds | None
    ) -> list[dict[str, Any]]:
        """Return what each fault did to the service."""
        run = subject.faulty
        assert run is not None
        members = len([m for m in subject.base.machines if m.power])
        found = describe_recoveries(
            [(struck.fault, struck.members) for struck in run.struck],
            run.operations,
            self.conditions,
            band,
        )
        return [
            {"text": describe_fault(struck.fault, members), **row}
            for struck, row in zip(run.struck, found, strict=True)
        ]


def describe_recoveries(
    struck: Sequence[tuple[Fault, list[int]]],
    operations: Sequence[Operation],
    conditions: Conditions,
    band: Nanoseconds | None,
) -> list[dict[str, Any]]:
    """Return what each of these faults did to the service, in their order."""
    length, window = conditions.length_ms * MS, compute_window(conditions.rate)
    times = [(f.at_ms * MS, (f.at_ms + f.for_ms) * MS) for f, _ in struck]
    spans = compute_spans(times, length, band or 0)
    rows = []
    for (fault, members), (begin, _), (start, end) in zip(struck, times, spans, strict=True):
        recovery = Recovery(False, None, end - begin, None)
        if band is not None:
            recovery = compute_recovery(
                operations, start, end, window_ns=window, band_ns=band, begin_ns=begin
            )
        rows.append(
            {
                "kind": fault.kind,
                "at_ms": fault.at_ms,
                "for_ms": fault.for_ms,
                "members": members,
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
    items = max(len(operations), 1)
    return {
        "offered": len(operations),
        "answered": sum(o.final_ns is not None for o in operations),
        "throughput": round(compute_throughput(operations), 1),
        "latency": describe_latencies([o.final_ns for o in operations]),
        "first": describe_latencies([o.first_ns for o in operations]),
        "safe": describe_latencies([o.safe_ns for o in operations]),
        "longest_gap_ms": find_longest_gap(operations, 0, length_ns) // MS,
        "sent_again": sum(o.sent - 1 for o in operations),
        "refused": run.refused,
        "blocks": run.blocks,
        "items_per_block": round(len(operations) / run.blocks, 1) if run.blocks else None,
        "frames_per_item": round(run.frames / items, 2),
        "bytes_per_item": round(run.frame_bytes / items),
        "blocks_lost": run.blocks_lost,
        "hashes": run.hashes,
        "verdict": run.outcome.verdict,
        "excused": False,
        "findings": [
            {"property": f.property, "message": f.message, "time_ms": f.time_ns // MS}
            for f in run.outcome.findings
        ],
        "digest": run.outcome.digest,
    }


def describe_pace(subject: Subject) -> dict[str, Any] | None:
    """Return the rules by which blocks come and are final, where there are such rules."""
    pace = subject.quiet.pace
    return {"interval_ms": pace.interval_ns // MS, "depth": pace.depth} if pace.is_open else None


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
