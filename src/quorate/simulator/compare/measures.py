"""The arithmetic of a comparison: percentiles, rates over time, and when a service is back.

Times are nanoseconds. An operation is known by when it was due and how long it took from then on
until it was answered; None: not before the end. So who waits because the service stands still is
counted with the whole wait (no coordinated omission), and what was never answered counts as slower
than everything else. Where blocks may be taken back, an answer is that an item is in a block, but
for latencies until it is safe or final.

    throughput   final answers, over the time from the first one to the last
    percentile   nearest rank: the least latency that is at least as long as that share of all
    in band      an operation that took no longer than the band: twice the 95th percentile of the
                 run without faults, and at least `LEAST_BAND_NS` more than it
    good         a window of due times in which at least 95 of 100 operations are in band
    recovered    when the first operation is answered that was due in the first good window after
                 which all windows are good for `HOLD_NS`, or until the fault's span ends
                 (`compute_spans`)
    masked       all windows of the span are good
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from msgspec import Struct

from quorate.base.types import Nanoseconds

__all__ = [
    "Operation",
    "Recovery",
    "compute_band",
    "compute_percentile",
    "compute_recovery",
    "compute_series",
    "compute_spans",
    "compute_throughput",
    "compute_window",
    "find_longest_gap",
    "to_us",
]

MS: Nanoseconds = 1_000_000
SECOND: Nanoseconds = 1000 * MS
LEAST_BAND_NS: Nanoseconds = 50 * MS
HOLD_NS: Nanoseconds = 1000 * MS
LEAST_WINDOW_NS: Nanoseconds = 100 * MS
WINDOW_OPERATIONS = 20
"""A window is at least so long that about so many fall into it."""
GOOD_PERCENT = 95


class Operation(Struct, frozen=True, gc=False):
    """What a client asked for."""

    due_ns: Nanoseconds
    """When it was to be submitted, after the load began."""
    final_ns: Nanoseconds | None
    """From then on, until its client knew that it is final; None: not before the end."""
    first_ns: Nanoseconds | None = None
    """Until it was first in a block that its node took for the best."""
    safe_ns: Nanoseconds | None = None
    """Until that block was so deep that the engine calls it safe."""
    sent: int = 1
    """How often it was submitted."""

    def get_shown(self) -> Nanoseconds | None:
        """Return how long it took until its client saw it: in a block, where that comes before it
        is final.
        """
        return self.final_ns if self.first_ns is None else self.first_ns


class Recovery(Struct, frozen=True):
    """What one fault did to the service."""

    masked: bool
    back_ns: Nanoseconds | None
    """From the fault's begin until the service was back; 0 if masked, None if not in its span."""
    bad_ns: Nanoseconds
    """How long windows were not good, in all."""
    worst_ns: Nanoseconds | None
    """The longest latency of what was due in the span; None: some was never answered."""


def compute_percentile(latencies: Iterable[Nanoseconds | None], percent: float) -> int | None:
    """Return the nearest-rank percentile; None if it falls on what was never answered, or there is
    nothing.
    """
    found = list(latencies)
    answered = sorted(latency for latency in found if latency is not None)
    if not found:
        return None
    # Exact for tenths of a percent.
    rank = max(-(-len(found) * round(percent * 10) // 1000), 1)
    return answered[rank - 1] if rank <= len(answered) else None


def compute_band(quiet: Sequence[Nanoseconds | None]) -> Nanoseconds | None:
    """Return the longest latency that counts as usual; None if there is no usual."""
    usual = compute_percentile(quiet, 95)
    return None if usual is None else max(2 * usual, usual + LEAST_BAND_NS)


def compute_window(rate: float) -> Nanoseconds:
    """Return how long a window of due times is at so many operations a second."""
    return max(LEAST_WINDOW_NS, -(-round(WINDOW_OPERATIONS / rate * 1000) // 50) * 50 * MS)


def judge_windows(
    operations: Sequence[Operation],
    start_ns: Nanoseconds,
    end_ns: Nanoseconds,
    window_ns: Nanoseconds,
    band_ns: Nanoseconds,
) -> list[bool]:
    """Return which windows of a span are good; one without operations is as the one before it."""
    count = max(-(-(end_ns - start_ns) // window_ns), 0)
    total, inside = [0] * count, [0] * count
    for operation in operations:
        at = (operation.due_ns - start_ns) // window_ns
        if start_ns <= operation.due_ns < end_ns:
            total[at] += 1
            inside[at] += (shown := operation.get_shown()) is not None and shown <= band_ns
    good: list[bool] = []
    for n, hit in zip(total, inside, strict=True):
        good.append(100 * hit >= GOOD_PERCENT * n if n else not good or good[-1])
    return good


def compute_recovery(
    operations: Sequence[Operation],
    start_ns: Nanoseconds,
    end_ns: Nanoseconds,
    *,
    window_ns: Nanoseconds,
    band_ns: Nanoseconds,
    begin_ns: Nanoseconds | None = None,
) -> Recovery:
    """Return what a fault did to the operations that were due in its span.

    `begin_ns` is when the fault began, `start_ns` unless it is given.
    """
    begun = start_ns if begin_ns is None else begin_ns
    good = judge_windows(operations, start_ns, end_ns, window_ns, band_ns)
    latencies = [o.get_shown() for o in operations if start_ns <= o.due_ns < end_ns]
    answered = [latency for latency in latencies if latency is not None]
    worst = max(answered) if answered and len(answered) == len(latencies) else None
    bad = min(good.count(False) * window_ns, end_ns - start_ns)
    if all(good):
        return Recovery(True, 0, 0, worst)
    hold = -(-HOLD_NS // window_ns)
    first = good.index(False)
    for at in range(first + 1, len(good)):
        if all(good[at : at + hold]):
            begin = start_ns + at * window_ns
            answers = [
                o.due_ns + shown
                for o in operations
                if begin <= o.due_ns < begin + window_ns and (shown := o.get_shown()) is not None
            ]
            back = max(min(answers, default=begin) - begun, 0)
            return Recovery(False, back, bad, worst)
    return Recovery(False, None, bad, worst)


def compute_spans(
    faults: Sequence[tuple[Nanoseconds, Nanoseconds]], length_ns: Nanoseconds, band_ns: Nanoseconds
) -> list[tuple[Nanoseconds, Nanoseconds]]:
    """Return the span of each fault, which is known by its begin and end.

    What was due less than a band before a fault may still be under way when it begins, so a span
    begins by so much earlier (but not before the end of another fault), and ends by so much before
    the next fault begins.
    """
    spans = []
    for begin, _ in faults:
        ended = [end for other, end in faults if other < begin]
        following = [other - band_ns for other, _ in faults if other > begin]
        start = min(max([begin - band_ns, 0, *ended]), begin)
        spans.append((start, max(min([length_ns, *following]), begin)))
    return spans


def compute_series(
    operations: Sequence[Operation], end_ns: Nanoseconds, step_ns: Nanoseconds
) -> dict[str, list[int | None]]:
    """Return what plots show, one number for each step until `end_ns`.

    `answers` counts what was answered in the step; `p50_us` and `p99_us` are latencies of what was
    due in it (None: nothing was, or the percentile falls on what was never answered).
    """
    count = -(-end_ns // step_ns)
    answers = [0] * count
    due: list[list[Nanoseconds | None]] = [[] for _ in range(count)]
    for operation in operations:
        at, shown = operation.due_ns // step_ns, operation.get_shown()
        if at < count:
            due[at].append(shown)
        if shown is not None:
            done = (operation.due_ns + shown) // step_ns
            if done < count:
                answers[done] += 1
    return {
        "answers": list(answers),
        "p50_us": [to_us(compute_percentile(found, 50)) for found in due],
        "p99_us": [to_us(compute_percentile(found, 99)) for found in due],
    }


def compute_throughput(operations: Sequence[Operation]) -> float:
    """Return how many operations became final in a second, while any did."""
    times = [o.due_ns + o.final_ns for o in operations if o.final_ns is not None]
    length = max(times) - min(times) if times else 0
    return (len(times) - 1) * SECOND / length if length else 0.0


def to_us(time_ns: Nanoseconds | None) -> int | None:
    return None if time_ns is None else time_ns // 1000


def find_longest_gap(
    operations: Sequence[Operation], start_ns: Nanoseconds, end_ns: Nanoseconds
) -> Nanoseconds:
    """Return the longest time within a span in which nothing was answered."""
    known = [(o.due_ns, shown) for o in operations if (shown := o.get_shown()) is not None]
    times = sorted(due + took for due, took in known if start_ns <= due + took < end_ns)
    edges = [start_ns, *times, end_ns]
    return max(later - earlier for earlier, later in pairwise(edges))
