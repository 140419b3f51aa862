"""When a failing run became doomed: how likely it fails if all is drawn anew from some moment on.

The run is repeated up to a time, and from there on every choice is drawn from a fresh seed; the
share of such continuations that fail by the same property is the probability that the run was
lost by then. Where it jumps, something happened that mattered. The two largest jumps are bisected
to the moment of one event, and the events of that moment are named.

Every time is judged by the same fresh seeds, so that differences between times are not their noise,
and each share comes with Wilson's interval (Wilson 1927), which is right for few samples too.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import pairwise
from math import sqrt

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Nanoseconds
from quorate.simulator.forks import get_first_seed
from quorate.simulator.plan import MS
from quorate.simulator.replay import Recording, make_tape
from quorate.simulator.run import run
from quorate.simulator.shrink import get_symptom
from quorate.simulator.tape import Choices, Tape
from quorate.simulator.trace import Event
from quorate.simulator.tracer import Tracer
from quorate.simulator.world import World

__all__ = [
    "Drawn",
    "Explanation",
    "Jump",
    "Point",
    "Sample",
    "compute_interval",
    "explain",
    "sample",
    "sample_all",
]

MAX_POINTS = 1000
MAX_SAMPLES = 100_000
MAX_BISECTIONS = 64
MAX_NAMED = 12
"""Events and choices at a jump that are told."""
MAX_DRAWN = 1_000_000
Z = 1.96
"""Of a 95 % interval."""
TELLING = (
    ("fault", "cut", "down", "fail", "start", "mended"),
    ("lost", "missed", "withheld", "double"),
    ("timer", "state", "durable", "final", "accuse"),
    ("send", "receive", "submit"),
)
"""Kinds of event, those that say most first."""


class Sample(Struct, frozen=True):
    """One continuation: the run as it was up to a time, then by another seed."""

    recording: Recording
    time_ns: Nanoseconds
    seed: int


class Point(Struct, frozen=True, kw_only=True):
    """The probability that the run fails when all after this time is drawn anew."""

    time_ns: Nanoseconds
    failed: int
    samples: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.failed / self.samples


class Drawn(Struct, frozen=True):
    """One choice that is not zero, and when it was made."""

    time_ns: Nanoseconds
    stream: str
    value: int


class Jump(Struct, frozen=True, kw_only=True):
    """Between two points: what was drawn in [`begin`, `end`) made the difference."""

    begin: Point
    end: Point
    drawn: list[Drawn]
    """What was chosen then, choices of links last."""
    events: list[Event]
    """That happened then, the most telling first."""

    @property
    def size(self) -> float:
        return self.end.share - self.begin.share

    @property
    def is_certain(self) -> bool:
        """Whether the two intervals are apart."""
        return self.end.low > self.begin.high


class Explanation(Struct, frozen=True, kw_only=True):
    """The whole curve, and where it jumps."""

    symptom: str
    found_ns: Nanoseconds
    """When the failure showed."""
    points: list[Point]
    jumps: list[Jump]
    """The largest, the largest first."""
    names: list[str]
    """Of the machines."""
    doomed_ns: Nanoseconds | None
    """From this point on nearly every continuation fails; None: never before it showed."""
    runs: int


def sample(asked: Sample) -> str:
    """Run one continuation; return its symptom."""
    tape = make_tape(asked.recording)

    def arm(world: World) -> None:
        world.after(asked.time_ns, tape.reseed, asked.seed)

    return get_symptom(run(asked.recording.plan, tape, on_world=arm))


def sample_all(asked: list[Sample]) -> list[str]:
    """Run continuations one after another."""
    return [sample(one) for one in asked]


def compute_interval(failed: int, samples: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    share = failed / samples
    scale = 1 + Z * Z / samples
    middle = (share + Z * Z / (2 * samples)) / scale
    width = Z * sqrt(share * (1 - share) / samples + Z * Z / (4 * samples * samples)) / scale
    low = 0.0 if failed == 0 else middle - width
    high = 1.0 if failed == samples else middle + width
    return low, high


class WatchedTape(Tape):
    """The tape of a recording; keeps when each choice that is not zero was made."""

    __slots__ = ("drawn", "watched", "world")

    def __init__(self, recording: Recording) -> None:
        super().__init__(get_first_seed(recording.plan), recording.tape, record=True)
        self.drawn: list[Drawn] = []
        self.watched: dict[str, Choices] = {}
        self.world: World | None = None

    def attach(self, world: World) -> None:
        self.world = world

    def stream(self, name: str) -> Choices:
        watched = self.watched.get(name)
        if watched is None:
            watched = self.watched[name] = WatchedStream(self, name, super().stream(name))
        return watched

    def note(self, name: str, value: int) -> None:
        # What is drawn while the world is made belongs to the beginning.
        time_ns = 0 if self.world is None else self.world.now
        if value and len(self.drawn) < MAX_DRAWN:
            self.drawn.append(Drawn(time_ns, name, value))


class WatchedStream(Choices):
    """A stream that tells its tape what it says."""

    __slots__ = ("inner", "name", "tape")

    def __init__(self, tape: WatchedTape, name: str, inner: Choices) -> None:
        self.tape, self.name, self.inner = tape, name, inner

    def choose(self, n: int) -> int:
        value = self.inner.choose(n)
        self.tape.note(self.name, value)
        return value

    def chance(self, permille: int) -> bool:
        happens = self.inner.chance(permille)
        self.tape.note(self.name, int(happens))
        return happens


class Curve:
    """Points by time, each computed once."""

    def __init__(
        self,
        recording: Recording,
        symptom: str,
        samples: int,
        evaluate: Callable[[list[Sample]], list[str]],
        on_progress: Callable[[Point], None],
    ) -> None:
        self.recording, self.symptom, self.samples = recording, symptom, samples
        self.evaluate, self.on_progress = evaluate, on_progress
        self.points: dict[Nanoseconds, Point] = {}

    def get(self, time_ns: Nanoseconds) -> Point:
        point = self.points.get(time_ns)
        if point is None:
            base = self.recording.plan.seed + 1
            asked = [
                Sample(self.recording, time_ns, seed) for seed in range(base, base + self.samples)
            ]
            failed = self.evaluate(asked).count(self.symptom)
            low, high = compute_interval(failed, self.samples)
            point = Point(time_ns=time_ns, failed=failed, samples=self.samples, low=low, high=high)
            self.points[time_ns] = point
            self.on_progress(point)
        return point

    def list(self) -> list[Point]:
        return [self.points[time] for time in sorted(self.points)]


def explain(
    recording: Recording,
    *,
    points: int = 12,
    samples: int = 40,
    evaluate: Callable[[list[Sample]], list[str]] = sample_all,
    on_progress: Callable[[Point], None] = lambda _: None,
) -> Explanation:
    """Return when a failing run became doomed. Raises Invalid if it does not fail.

    Costs about (`points` + 20) * `samples` runs.
    """
    if not 2 <= points <= MAX_POINTS:
        raise Invalid(f"{points} points, expected 2 to {MAX_POINTS}")
    if not 1 <= samples <= MAX_SAMPLES:
        raise Invalid(f"{samples} samples, expected 1 to {MAX_SAMPLES}")
    tracer = Tracer()
    tape = WatchedTape(recording)
    outcome = run(recording.plan, tape, tracer, on_world=tape.attach)
    symptom = get_symptom(outcome)
    if not symptom:
        raise Invalid(f"verdict {outcome.verdict}, expected a run that fails")
    kept = Recording(plan=recording.plan, tape=tape.get_values())
    found_ns = outcome.findings[0].time_ns
    until_ns = min(found_ns, recording.plan.duration_ms * MS)
    moments = [event.time_ns for event in tracer.events]
    moments += [drawn.time_ns for drawn in tape.drawn]
    times = list_times(moments, until_ns)
    curve = Curve(kept, symptom, samples, evaluate, on_progress)
    last = len(times) - 1
    grid = sorted({last * i // (points - 1) for i in range(points)})
    for index in grid:
        curve.get(times[index])
    first = narrow(curve, times, list(pairwise(grid)))
    places = sorted(bisect_left(times, point.time_ns) for point in curve.list())
    others = [pair for pair in pairwise(places) if pair != first]
    pairs = [first, narrow(curve, times, others)] if others else [first]
    jumps = [make_jump(curve, tracer.events, tape.drawn, times, pair) for pair in pairs]
    jumps.sort(key=lambda jump: (-jump.size, jump.begin.time_ns))
    return Explanation(
        symptom=symptom,
        found_ns=found_ns,
        points=curve.list(),
        jumps=[jump for jump in jumps if jump.size > 0],
        names=[machine.name for machine in tracer.world.machines],
        doomed_ns=find_doom(curve.list()),
        runs=len(curve.points) * samples + 1,
    )


def list_times(moments: Iterable[Nanoseconds], until_ns: Nanoseconds) -> list[Nanoseconds]:
    """Return the moments at which something happened, and one after all of them."""
    times = sorted({0, *(time_ns for time_ns in moments if time_ns <= until_ns)})
    return [*times, times[-1] + 1]


def narrow(curve: Curve, times: list[Nanoseconds], pairs: list[tuple[int, int]]) -> tuple[int, int]:
    """Return two neighbouring moments, within the pair of the largest jump, of the largest jump."""
    low, high = max(pairs, key=lambda pair: (share(curve, times, pair), -pair[0]))
    for _ in range(MAX_BISECTIONS):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        halves = [(low, middle), (middle, high)]
        # The later half of two equal ones: what comes last seals it.
        low, high = max(halves, key=lambda pair: (share(curve, times, pair), pair[0]))
    return low, high


def share(curve: Curve, times: list[Nanoseconds], pair: tuple[int, int]) -> int:
    """Return how many more continuations fail after the second moment than after the first."""
    return curve.get(times[pair[1]]).failed - curve.get(times[pair[0]]).failed


def make_jump(
    curve: Curve,
    events: list[Event],
    drawn: list[Drawn],
    times: list[Nanoseconds],
    pair: tuple[int, int],
) -> Jump:
    begin, end = times[pair[0]], times[pair[1]]
    inside = [event for event in events if begin <= event.time_ns < end]
    inside.sort(key=lambda event: (get_rank(event), event.number))
    chosen = [one for one in drawn if begin <= one.time_ns < end]
    chosen.sort(key=lambda one: one.stream.startswith("link "))
    return Jump(
        begin=curve.get(begin),
        end=curve.get(end),
        drawn=chosen[:MAX_NAMED],
        events=inside[:MAX_NAMED],
    )


def get_rank(event: Event) -> int:
    """Return how little a kind of event says about a failure."""
    return next((i for i, kinds in enumerate(TELLING) if event.kind in kinds), len(TELLING))


def find_doom(points: list[Point]) -> Nanoseconds | None:
    """Return the first time from which on nine of ten continuations fail."""
    doomed: Nanoseconds | None = None
    for point in reversed(points):
        if point.share < 0.9:
            break
        doomed = point.time_ns
    return doomed
