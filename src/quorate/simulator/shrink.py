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
from quorate.base.types import Nanoseconds
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
from quorate.simulator.forks import get_first_seed
from quorate.simulator.plan import MS, SECOND, Plan
from quorate.simulator.replay import Recording, expect
from quorate.simulator.run import make_outcome, run
from quorate.simulator.tape import Tape
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World

__all__ = [
    "MAX_RUNS",
    "Attempt",
    "Candidate",
    "Progress",
    "Shrinker",
    "attempt",
    "attempt_all",
    "count_faults",
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
SLOW = frozenset({"progress"})
"""Properties that take long to judge."""
SCREEN_NS: Nanoseconds = 30 * SECOND
"""A screened run has so long after the end of the faults: most that are not stuck need a few."""
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
    screened: bool = False
    """End a while after the faults: who has not finished by then is probably stuck."""


class Attempt(Struct, frozen=True, kw_only=True):
    """What came of a candidate."""

    outcome: Outcome
    choices: Choices
    """As they were asked for: nothing is left of what the run did not take."""
    limits: dict[str, int]
    is_stuck: bool = False
    """A screened run that had not finished, and has no verdict."""

    def count_faults(self) -> int:
        """Return how many faults happened, apart from the ends of others."""
        return count_faults(self.outcome)


class State(Struct, frozen=True, kw_only=True):
    """A run that was verified, and its cost."""

    cost: tuple[int, ...]
    plan: Plan
    best: Attempt
    full: Attempt
    """The same where candidates are not screened."""


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


class Screened(Exception):
    """The end of a screened run."""


def attempt(candidate: Candidate) -> Attempt:
    """Run a candidate."""
    plan = candidate.plan
    if candidate.choices is None:
        quiet = candidate.quiet
        first = get_first_seed(plan)
        tape = Tape(first, record=True, is_muted=lambda name: is_quiet(name, quiet))
    else:
        tape = Tape(plan.seed, spread(candidate.choices))
    worlds: list[World] = []

    def stop() -> None:
        raise Screened

    def arm(world: World) -> None:
        worlds.append(world)
        if candidate.screened:
            world.after(get_end(plan) + SCREEN_NS, stop)

    is_stuck = False
    try:
        outcome = run(plan, tape, on_world=arm)
    except Screened:
        is_stuck, outcome = True, make_outcome(worlds[0])
    return Attempt(
        outcome=outcome,
        choices=gather(tape.get_values()),
        limits=tape.get_limits(),
        is_stuck=is_stuck,
    )


def get_end(plan: Plan) -> Nanoseconds:
    """Return when progress may be expected."""
    promised = None if plan.timing is None else plan.timing.judge_from()
    return max(plan.duration_ms * MS, promised or 0)


def count_faults(outcome: Outcome) -> int:
    """Return how many faults happened, apart from the ends of others."""
    named = [(name, n) for name, n in outcome.counters.items() if name.startswith("fault ")]
    return sum(n for name, n in named if name not in ENDS)


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
    """Makes one failing run small by `shrink`; `get_recording` is always the best so far.

    Whether a network is stuck for good takes long to tell, so for that failure candidates are only
    screened: those that have not finished some time after the faults are taken for stuck, and after
    each pass the best is run in full. If it is not stuck then, the pass is undone, and from then on
    every run is a full one.

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
        tape = None if recording.tape is None else gather(recording.tape)
        self.best = self.first = attempt(Candidate(plan=self.plan, choices=tape))
        self.symptom = get_symptom(self.first.outcome)
        if not self.symptom:
            verdict = self.first.outcome.verdict
            raise Invalid(f"seed {self.plan.seed}: verdict {verdict}, expected a failure")
        drawn = Candidate(plan=self.plan, choices=self.first.choices)
        if tape is None and self.symptom not in SLOW:
            # Once more from the choices alone: a replayed tape knows what was asked.
            self.best = self.first = attempt(drawn)
        self.is_screening = False
        if self.symptom in SLOW:
            screened = attempt(replace(drawn, screened=True))
            if screened.is_stuck:
                self.best, self.is_screening = screened, True
        self.cost = self.compute_cost(self.plan, self.best)
        self.verified = State(cost=self.cost, plan=self.plan, best=self.best, full=self.first)
        """The last one that was run in full."""
        self.kept: State | None = None
        """The smallest, while a larger run is tried from another start."""

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
            len(plan.forks),
        )

    def get_recording(self) -> Recording:
        """Return the best run so far, to be kept."""
        state = self.get_state()
        if self.kept is not None and self.kept.cost < state.cost:
            state = self.kept
        return Recording(
            plan=state.plan,
            tape=spread(state.full.choices),
            expected=expect(state.full.outcome),
        )

    def get_state(self) -> State:
        """Return the last state that was run in full."""
        if self.is_screening:
            return self.verified
        return State(cost=self.cost, plan=self.plan, best=self.best, full=self.best)

    def restore(self, state: State) -> None:
        """Go on from a state that was run in full."""
        self.plan, self.verified = state.plan, state
        self.best = state.best if self.is_screening else state.full
        self.cost = self.compute_cost(self.plan, self.best)

    def verify(self) -> None:
        """Run the best in full if it was only screened, and go back if it is not stuck."""
        if not self.is_screening or self.cost == self.verified.cost:
            return
        (full,) = self.evaluate([Candidate(plan=self.plan, choices=self.best.choices)])
        self.runs += 1
        if get_symptom(full.outcome) == self.symptom:
            self.verified = State(cost=self.cost, plan=self.plan, best=self.best, full=full)
        else:
            self.is_screening = False
            self.tried.clear()
            self.restore(self.verified)

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
            self.verify()
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
        self.verify()
        self.kept = kept = self.get_state()
        self.cost = (1 << 60,)
        try:
            if self.calm(start):
                self.settle()
        finally:
            self.kept = None
            if kept.cost < self.get_state().cost or self.cost == (1 << 60,):
                self.restore(kept)

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
        self.verify()

    # ---- trying

    def try_first(self, candidates: Iterable[Candidate | None]) -> int | None:
        """Keep the first candidate that costs less; return its place, None: none does.

        None among the candidates is one that would change nothing.
        """
        numbered = self.select_new(candidates)
        while batch := list(islice(numbered, self.width)):
            batch = batch[: self.max_runs - self.runs]
            if not batch or self.is_expired():
                raise Exhausted
            found = self.evaluate([candidate for _, _, candidate in batch])
            for (place, key, candidate), result in zip(batch, found, strict=True):
                self.runs += 1
                self.tried.add(key)
                if not result.is_stuck and get_symptom(result.outcome) != self.symptom:
                    continue
                cost = self.compute_cost(candidate.plan, result)
                if cost < self.cost:
                    self.plan, self.best, self.cost = candidate.plan, result, cost
                    self.tell()
                    return place
            self.tell()
        return None

    def select_new(
        self, candidates: Iterable[Candidate | None]
    ) -> Iterator[tuple[int, bytes, Candidate]]:
        """Yield the place, a name and the candidate of those that were not tried before: costs only
        fall, so once is enough.
        """
        named: set[bytes] = set()
        for place, candidate in enumerate(candidates):
            if candidate is None:
                continue
            chosen = None if candidate.choices is None else list(list_choices(candidate.choices))
            key = hashlib.blake2b(
                msgspec.msgpack.encode((candidate.plan, chosen, candidate.quiet)), digest_size=16
            ).digest()
            if key not in self.tried and key not in named:
                named.add(key)
                yield place, key, replace(candidate, screened=self.is_screening)

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
                Candidate(plan=replace(self.plan, seed=seed, forks=()), choices=None, quiet=quiet)
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
        """Take forks, machines, clients and time from the plan."""
        if self.plan.forks:
            self.try_plans([replace(self.plan, forks=())])
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
