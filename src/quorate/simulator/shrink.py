"""A failing run made small: fewer faults, fewer choices, fewer machines, and the same failure.

A candidate is a plan and a tape with something taken away; it is kept if it still fails by the same
property and costs less. What is tried, in this order: whole groups of streams at zero; acts one by
one (delta debugging, Zeller and Hildebrandt 2002); then every choice of every stream; pauses
joined; machines, clients and time taken from the plan; values made smaller, as Hypothesis does.
This is repeated until nothing helps. If much is left, it begins again where other seeds fail by the
same property on a quieter network.

Candidates are tried in an order that depends on the run alone. Several may run at the same time,
but the first that succeeds is taken and only what comes before it counts, so the result for a
number of runs is the same on any number of processors. There is no clock here: who calls says when
to stop, and can go on later from the best run so far.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from quorate.base.errors import Invalid
from quorate.simulator.edits import (
    PAUSE,
    QUIET,
    SETTINGS,
    Choices,
    count_choices,
    drop_machine,
    find_acts,
    get_groups,
    hasten,
    is_quiet,
    list_choices,
    order_by_time,
    retime,
    tidy,
    without,
    without_streams,
)
from quorate.simulator.plan import Plan
from quorate.simulator.replay import Recording, expect, make_tape
from quorate.simulator.run import run
from quorate.simulator.tape import Tape
from quorate.simulator.verdict import Outcome

__all__ = [
    "MAX_RUNS",
    "Attempt",
    "Candidate",
    "Progress",
    "Shrinker",
    "attempt",
    "attempt_all",
    "get_symptom",
]

MAX_RUNS = 20_000
FRESH_SEEDS = 200
"""That are tried on each quieter network."""
MAX_STARTS = 3
"""At other seeds, each only if much is left."""
MUCH = 12
"""Choices and faults that are too many for a person to keep in mind."""
MAX_PAUSE_MS = 60_000
"""Between two items of a client: longer ones make a run that does nothing."""
MAX_ROUNDS = 8
"""Of all passes; each must have helped for the next to come."""
STOPS = frozenset({"no node stops itself", "every node can start again"})
"""Properties of which the message says which of many failures it was."""
ENDS = frozenset(
    f"fault {name}" for name in ("heal", "mend", "restart", "resume", "round script ends")
)
"""Faults that end others: they are not counted."""


class Candidate(Struct, frozen=True, kw_only=True):
    """What may be tried."""

    plan: Plan
    choices: Choices | None
    """None: the plan's seed draws them."""
    quiet: tuple[str, ...] = ()
    """Streams that are not drawn but zero."""


class Attempt(Struct, frozen=True, kw_only=True):
    """What came of a candidate."""

    outcome: Outcome
    choices: Choices
    """As they were asked for: nothing is left of what the run did not take."""
    limits: dict[str, int]

    def count_faults(self) -> int:
        """Return how many faults happened, apart from the ends of others."""
        counters = self.outcome.counters
        return sum(
            n for name, n in counters.items() if name.startswith("fault ") and name not in ENDS
        )


class Progress(Struct, frozen=True, kw_only=True):
    """Where a shrinker stands."""

    doing: str
    runs: int
    faults: int
    choices: int
    events: int
    machines: int


class Exhausted(Exception):
    """The runs or the time are used up."""


def attempt(candidate: Candidate) -> Attempt:
    """Run a candidate."""
    plan = candidate.plan
    if candidate.choices is None:
        quiet = candidate.quiet
        tape = Tape(plan.seed, record=True, is_muted=lambda name: is_quiet(name, quiet))
    else:
        tape = Tape(plan.seed, spread(candidate.choices))
    outcome = run(plan, tape)
    return Attempt(outcome=outcome, choices=gather(tape.get_values()), limits=tape.get_limits())


def get_symptom(outcome: Outcome) -> str:
    """Return what stays the same while a run shrinks: "" for one that does not fail."""
    failed = [finding for finding in outcome.findings if finding.verdict == "false"]
    if not failed:
        return ""
    if failed[0].property not in STOPS:
        return failed[0].property
    return f"{failed[0].property}: {VALUES.sub('#', failed[0].message)}"


VALUES = re.compile(r"0x[0-9a-f]+|\d+")


def attempt_all(candidates: list[Candidate]) -> list[Attempt]:
    """Run candidates one after another."""
    return [attempt(candidate) for candidate in candidates]


def spread(choices: Choices) -> dict[str, list[int]]:
    """Return choices as lists with their zeros."""
    values = {}
    for name, chosen in choices.items():
        row = [0] * (max(chosen, default=-1) + 1)
        for index, value in chosen.items():
            row[index] = value
        values[name] = row
    return values


def gather(values: dict[str, list[int]]) -> Choices:
    """Return the choices that are not zero."""
    return {name: {i: v for i, v in enumerate(row) if v} for name, row in values.items()}


class Shrinker:
    """Makes one failing run small: `begin`, then `shrink`; `best` is always what is known so far.

    `evaluate` runs several candidates, at the same time if it can. With `fresh` the same failure is
    also looked for by other seeds on quieter networks; without, the result is this run with things
    taken away, and usually larger. Raises Invalid if the run does not fail.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        evaluate: Callable[[list[Candidate]], list[Attempt]] = attempt_all,
        width: int = 1,
        max_runs: int = 2000,
        fresh: bool = True,
        is_expired: Callable[[], bool] = lambda: False,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.evaluate, self.width = evaluate, max(width, 1)
        self.fresh = fresh
        self.max_runs, self.is_expired = min(max_runs, MAX_RUNS), is_expired
        self.on_progress = on_progress
        self.runs = 0
        self.tried: set[bytes] = set()
        self.doing = "repeat"
        self.plan = recording.plan
        tape = make_tape(recording)
        outcome = run(recording.plan, tape)
        self.symptom = get_symptom(outcome)
        if not self.symptom:
            raise Invalid(f"seed {self.plan.seed}: verdict {outcome.verdict}, expected a failure")
        drawn = Candidate(plan=self.plan, choices=gather(tape.get_values()))
        # Once more from the choices alone: a replayed tape knows what was asked.
        self.best = self.first = attempt(drawn)
        if self.best.outcome.digest != outcome.digest:
            raise Invalid(
                f"seed {self.plan.seed}: repetition has digest {self.best.outcome.digest}, "
                f"expected {outcome.digest}"
            )
        self.cost = self.compute_cost(self.plan, self.best)
        self.kept: tuple[tuple[int, ...], Plan, Attempt] | None = None
        """Cost, plan and best while a larger run is tried from another start."""

    # ---- what is kept

    def compute_cost(self, plan: Plan, found: Attempt) -> tuple[int, ...]:
        """Return what is made small, the most important first."""
        bits = sum(value.bit_length() for _, _, value in list_choices(found.choices))
        return (
            found.count_faults() + count_choices(found.choices),
            len(plan.machines),
            plan.clients,
            found.outcome.events,
            bits,
            plan.duration_ms,
        )

    def get_recording(self) -> Recording:
        """Return the best run so far, to be kept."""
        plan, best = self.plan, self.best
        if self.kept is not None and self.kept[0] < self.cost:
            _, plan, best = self.kept
        return Recording(plan=plan, tape=spread(best.choices), expected=expect(best.outcome))

    def tell(self) -> None:
        self.on_progress(self.get_progress())

    def get_progress(self) -> Progress:
        return Progress(
            doing=self.doing,
            runs=self.runs,
            faults=self.best.count_faults(),
            choices=count_choices(self.best.choices),
            events=self.best.outcome.events,
            machines=len(self.plan.machines),
        )

    def shrink(self) -> bool:
        """Make the run smaller; return whether it is as small as it gets, False: budget used up."""
        try:
            if self.fresh:
                self.settle_within(self.max_runs // 2)
                for start in range(MAX_STARTS):
                    if self.cost[0] > MUCH:
                        self.start_elsewhere(start)
            self.settle()
        except Exhausted:
            return False
        return True

    def settle_within(self, runs: int) -> None:
        """Settle, but leave runs for other starts."""
        kept, self.max_runs = self.max_runs, runs
        try:
            self.settle()
        except Exhausted:
            if self.is_expired():
                raise
        finally:
            self.max_runs = kept

    def start_elsewhere(self, start: int) -> None:
        """Shrink the same failure of another seed instead, and keep the smaller result."""
        self.kept = kept = (self.cost, self.plan, self.best)
        self.cost = (1 << 60,)
        try:
            if self.calm(start):
                self.settle()
        finally:
            self.kept = None
            if kept[0] < self.cost:
                self.cost, self.plan, self.best = kept

    def settle(self) -> None:
        """Take things away until nothing more can be taken."""
        for _ in range(MAX_ROUNDS):
            before = self.cost
            self.shrink_once()
            if self.cost == before:
                return

    def shrink_once(self) -> None:
        self.step("groups of streams", self.drop_groups)
        self.step("acts", self.drop_acts)
        self.step("streams", self.drop_streams)
        self.step("choices", self.drop_choices)
        self.step("times", self.retime)
        self.step("plan", self.shrink_plan)
        self.step("values", self.lower_values)

    def step(self, name: str, act: Callable[[], None]) -> None:
        self.doing = name
        self.tell()
        act()

    # ---- trying

    def try_first(self, candidates: Iterable[Candidate | None]) -> int | None:
        """Keep the first candidate that costs less; return its place, None: none does.

        None among the candidates is one that would change nothing.
        """
        numbered = ((i, c) for i, c in enumerate(candidates) if c is not None and self.is_new(c))
        while batch := list(islice(numbered, self.width)):
            batch = batch[: self.max_runs - self.runs]
            if not batch or self.is_expired():
                raise Exhausted
            found = self.evaluate([candidate for _, candidate in batch])
            for (place, candidate), result in zip(batch, found, strict=True):
                self.runs += 1
                if get_symptom(result.outcome) != self.symptom:
                    continue
                cost = self.compute_cost(candidate.plan, result)
                if cost < self.cost:
                    self.plan, self.best, self.cost = candidate.plan, result, cost
                    self.tell()
                    return place
            self.tell()
        return None

    def is_new(self, candidate: Candidate) -> bool:
        """Whether a candidate was not tried before: costs only fall, so once is enough."""
        chosen = None if candidate.choices is None else list(list_choices(candidate.choices))
        key = msgspec.msgpack.encode((candidate.plan, chosen, candidate.quiet))
        digest = hashlib.blake2b(key, digest_size=16).digest()
        if digest in self.tried:
            return False
        self.tried.add(digest)
        return True

    def try_choices(self, edited: Choices) -> Candidate | None:
        """Return the candidate of other choices, None if they are the same."""
        if edited == self.best.choices:
            return None
        return Candidate(plan=self.plan, choices=edited)

    def reduce(self, atoms: list[tuple[str, int]]) -> None:
        """Take away as many of these choices as the failure does not need (ddmin)."""
        size = len(atoms)
        while size:
            at = 0
            while at < len(atoms):
                chunks = [atoms[i : i + size] for i in range(at, len(atoms), size)]
                hit = self.try_first(
                    self.try_choices(without(self.best.choices, chunk)) for chunk in chunks
                )
                if hit is None:
                    break
                at += hit * size
                del atoms[at : at + size]
            size //= 2

    # ---- passes

    def drop_groups(self) -> None:
        """Set whole groups of streams to zero, the largest first."""
        while True:
            choices = self.best.choices
            groups = get_groups(choices)
            # All but the nemeses at once is what succeeds most often.
            noise = [name for name in choices if not name.startswith("nemesis ")]
            edits = [without_streams(choices, noise)]
            edits += [without_streams(choices, names) for names in groups]
            if self.try_first(self.try_choices(edit) for edit in [tidy(choices), *edits]) is None:
                break

    def calm(self, start: int) -> bool:
        """Look for the same failure on a quieter network, where delays and losses are zero.

        A failure that needs its moment is lost when thousands of delays become zero at once; it is
        often found again sooner than each delay is taken away alone. Return whether it was found.
        """
        self.doing = "quieter networks"
        base = self.plan.seed + start * FRESH_SEEDS
        for quiet in QUIET:
            if not any(c and is_quiet(name, quiet) for name, c in self.best.choices.items()):
                continue
            candidates = (
                Candidate(plan=replace(self.plan, seed=seed), choices=None, quiet=quiet)
                for seed in range(base, base + FRESH_SEEDS)
            )
            if self.try_first(candidates) is not None:
                return True
        return False

    def drop_streams(self) -> None:
        """Set whole streams to zero."""
        for names in get_groups(self.best.choices):
            for name in names:
                self.try_first([self.try_choices(without_streams(self.best.choices, [name]))])

    def drop_acts(self) -> None:
        """Take away acts of nemeses and traitors, each with all that it drew."""
        self.try_first([self.try_choices(tidy(self.best.choices))])
        for names in find_acts(self.best.choices):
            self.reduce(order_by_time(self.best.choices, names))
            self.try_first([self.try_choices(tidy(self.best.choices))])

    def drop_choices(self) -> None:
        """Take away single choices, group by group."""
        for names in get_groups(self.best.choices):
            self.reduce(order_by_time(self.best.choices, names))

    def retime(self) -> None:
        """Let acts come in a plainer way, and earlier."""
        if PAUSE in self.best.limits:
            self.try_plain_settings(self.best.limits[PAUSE])
        if PAUSE in self.best.limits:
            edited = retime(self.best.choices, self.best.limits[PAUSE])
            self.try_first([self.try_edit(edited)])
        while self.try_first(map(self.try_choices, hasten(self.best.choices))) is not None:
            pass

    def try_plain_settings(self, most: int) -> None:
        """Give up the style of the seed, but not the times of its acts: how long pauses are depends
        on it, and only a run tells how long they are without.
        """
        choices = self.best.choices
        for names in (SETTINGS, *([name] for name in SETTINGS)):
            plain = without_streams(choices, names)
            if plain == choices:
                continue
            (found,) = self.evaluate([Candidate(plan=self.plan, choices=plain)])
            self.runs += 1
            edited = retime(plain, most, found.limits.get(PAUSE, most))
            if self.try_first([self.try_edit(edited)]) is not None:
                return

    def try_edit(self, edited: Choices | None) -> Candidate | None:
        return None if edited is None else self.try_choices(edited)

    def shrink_plan(self) -> None:
        """Take machines, clients and time from the plan."""
        while len(self.plan.machines) > 1:
            count = len(self.plan.machines)
            edits = (drop_machine(self.plan, self.best.choices, i) for i in reversed(range(count)))
            if self.try_first(Candidate(plan=p, choices=c) for p, c in edits) is None:
                break
        self.try_plans(replace(self.plan, clients=n) for n in range(self.plan.clients))
        self.try_plans(self.get_shorter())
        most = MAX_PAUSE_MS // self.plan.submit_ms
        self.try_plans(
            replace(self.plan, submit_ms=self.plan.submit_ms * times)
            for times in (8, 4, 2)
            if times <= most
        )

    def try_plans(self, plans: Iterable[Plan]) -> None:
        self.try_first(Candidate(plan=plan, choices=self.best.choices) for plan in plans)

    def get_shorter(self) -> Iterator[Plan]:
        """Return plans with less time for faults, in which acts keep their pace."""
        plan = self.plan
        acts = plan.profile.acts
        if not acts:
            for eighths in (1, 2, 4, 6):
                yield replace(plan, duration_ms=max(plan.duration_ms * eighths // 8, 1))
        for fewer in sorted({1, acts // 8, acts // 4, acts // 2, acts * 3 // 4, acts - 1}):
            if 0 < fewer < acts:
                profile = replace(plan.profile, acts=fewer)
                time = max(plan.duration_ms * fewer // acts, 1)
                yield replace(plan, profile=profile, duration_ms=time)

    def lower_values(self) -> None:
        """Make single values smaller."""
        for name, index, _ in list(list_choices(self.best.choices)):
            value = self.best.choices.get(name, {}).get(index, 0)
            # Binary search from below: the first that fails is near the least.
            lows = sorted({1, *(value >> shift for shift in (12, 8, 4, 2, 1)), value - 1})
            self.try_first(
                self.try_choices(self.set_choice(name, index, low)) for low in lows if low < value
            )

    def set_choice(self, name: str, index: int, value: int) -> Choices:
        choices = self.best.choices
        kept = {i: v for i, v in choices.get(name, {}).items() if i != index}
        return {**choices, name: {**kept, index: value} if value else kept}
