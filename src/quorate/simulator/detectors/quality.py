"""How good a failure detector was in a run, and who suspected whom when.

Source: Chen, Toueg, Aguilera, "On the quality of service of failure detectors", IEEE Trans.
Computers 51(5), 2002: detection time, mistake rate, mistake duration, time between mistakes, query
accuracy. They are measured for each pair of an observer and a process, over the time in which both
were up, and summed up over all pairs. The paper knows no recovery: here a process that comes back
is measured again from when its observer trusts it.

When observers disagree about a process for long, the failure is gray (Huang and others, "Gray
failure: the Achilles' heel of cloud-scale systems", HotOS 2017): `Disagreement` lists these times.
"""

from collections.abc import Sequence

from msgspec import Struct

from quorate.base.types import Nanoseconds

__all__ = ["Change", "Disagreement", "Monitor", "Quality", "Report", "draw_matrix"]

MAX_CHANGES = 100_000
"""Changes of one run that are kept."""
HOUR_NS = 3_600_000_000_000
MILLION = 1_000_000


class Quality(Struct, frozen=True, kw_only=True):
    """Of one pair, or of all pairs together. Times of what never happened are 0."""

    detections: int
    """Crashes that were noticed while the process was down."""
    missed: int
    """Crashes that were not."""
    detection_ns: Nanoseconds
    """From a crash to its suspicion, on average."""
    detection_max_ns: Nanoseconds
    mistakes: int
    """Suspicions of a process that was up."""
    mistakes_per_hour: int
    mistake_duration_ns: Nanoseconds
    """On average."""
    mistake_recurrence_ns: Nanoseconds
    """Between the beginnings of two mistakes, on average."""
    accuracy_ppm: int
    """The chance that the detector is right about a process that is up."""


class Change(Struct, frozen=True):
    """An observer's opinion of a process changed."""

    time_ns: Nanoseconds
    observer: int
    process: int
    suspected: bool


class Disagreement(Struct, frozen=True):
    """Some observers suspected a process and others did not, without a change of either."""

    process: int
    since_ns: Nanoseconds
    until_ns: Nanoseconds
    suspecting: list[int]
    trusting: list[int]


class Report(Struct, frozen=True, kw_only=True):
    """What is told of the detectors of one run."""

    detector: str
    processes: int
    total: Quality
    pairs: list[list[Quality | None]]
    """By observer and process; None on the diagonal."""
    changes: list[Change]
    disagreements: list[Disagreement]
    """The longest ones, in order of time."""
    fates: list[tuple[Nanoseconds, int, bool]]
    """When which process stopped (False) or started (True)."""
    end_ns: Nanoseconds


MAX_DISAGREEMENTS = 100


class Pair:
    """One observer's opinion of one process, as time goes by."""

    __slots__ = (
        "both_up",
        "crashed_at",
        "detected",
        "durations",
        "intervals",
        "missed",
        "mistaken_since",
        "mistakes",
        "suspected",
        "up_ns",
        "up_since",
        "wrong_ns",
    )

    def __init__(self) -> None:
        self.suspected = False
        self.both_up = False
        self.up_since: int | None = None
        """Since when both are up and opinions are measured."""
        self.up_ns = self.wrong_ns = 0
        self.mistaken_since: int | None = None
        self.mistakes: list[int] = []
        self.durations: list[int] = []
        self.intervals: list[int] = []
        self.crashed_at: int | None = None
        self.detected: list[int] = []
        self.missed = 0

    def begin(self, now: int) -> None:
        """Both are up from now on."""
        self.both_up = True
        if not self.suspected:
            self.up_since = now

    def end(self, now: int) -> None:
        """One of them is down."""
        self.both_up = False
        if self.up_since is not None:
            self.up_ns += now - self.up_since
            self.up_since = None
        self.forgive(now)

    def mistake(self, now: int) -> None:
        self.mistaken_since = now
        if self.mistakes:
            self.intervals.append(now - self.mistakes[-1])
        self.mistakes.append(now)

    def forgive(self, now: int) -> None:
        if self.mistaken_since is not None:
            self.durations.append(now - self.mistaken_since)
            self.wrong_ns += now - self.mistaken_since
            self.mistaken_since = None

    def change(self, now: int, suspected: bool) -> None:
        if suspected == self.suspected:
            return
        self.suspected = suspected
        if self.up_since is not None:
            if suspected:
                self.mistake(now)
            else:
                self.forgive(now)
        elif self.both_up and not suspected:
            self.up_since = now


class Monitor:
    """Told of every change of opinion and of every crash and start, in order of time."""

    def __init__(self, name: str, processes: int) -> None:
        self.name, self.processes = name, processes
        self.up = [False] * processes
        self.known = [False] * processes
        """Whether a process was ever up."""
        self.pairs = [[Pair() for _ in range(processes)] for _ in range(processes)]
        self.changes: list[Change] = []
        self.fates: list[tuple[int, int, bool]] = []
        self.since = [0] * processes
        """When the opinions of each process last changed."""
        self.disagreements: list[Disagreement] = []

    # ---- what happens

    def start(self, now: Nanoseconds, process: int) -> None:
        """A process is up, with a new detector that trusts everybody."""
        self.fates.append((now, process, True))
        self.note_disagreements(now, range(self.processes))
        self.up[process] = self.known[process] = True
        for other in range(self.processes):
            if other == process:
                continue
            of_other, of_us = self.pairs[process][other], self.pairs[other][process]
            of_other.suspected = False
            if of_us.crashed_at is not None:
                # It was down and is back before this observer noticed.
                of_us.missed += self.up[other] and not of_us.suspected
                of_us.crashed_at = None
            if self.up[other]:
                of_other.begin(now)
                of_us.begin(now)
            elif self.known[other]:
                # Whoever starts beside a dead process detects it from now.
                of_other.crashed_at = now

    def stop(self, now: Nanoseconds, process: int) -> None:
        """A process crashed."""
        if not self.up[process]:
            return
        self.fates.append((now, process, False))
        self.note_disagreements(now, range(self.processes))
        self.up[process] = False
        for other in range(self.processes):
            if other == process:
                continue
            of_other, of_us = self.pairs[process][other], self.pairs[other][process]
            of_other.end(now)
            of_other.suspected, of_other.crashed_at = False, None
            of_us.end(now)
            if not self.up[other]:
                continue
            if of_us.suspected:
                of_us.detected.append(0)
            else:
                of_us.crashed_at = now

    def change(self, now: Nanoseconds, observer: int, process: int, suspected: bool) -> None:
        """An observer's opinion of a process changes."""
        self.note_disagreements(now, (process,))
        if len(self.changes) < MAX_CHANGES:
            self.changes.append(Change(now, observer, process, suspected))
        pair = self.pairs[observer][process]
        pair.change(now, suspected)
        if suspected and pair.crashed_at is not None:
            pair.detected.append(now - pair.crashed_at)
            pair.crashed_at = None

    def note_disagreements(self, now: Nanoseconds, processes: Sequence[int]) -> None:
        """Close the time in which opinions of these processes did not change."""
        for process in processes:
            since, self.since[process] = self.since[process], now
            if now == since:
                continue
            suspecting, trusting = self.ask(process)
            if suspecting and trusting:
                self.disagreements.append(Disagreement(process, since, now, suspecting, trusting))

    def ask(self, process: int) -> tuple[list[int], list[int]]:
        """Return which observers suspect a process now, and which do not."""
        observers = [o for o in range(self.processes) if o != process and self.up[o]]
        suspecting = [o for o in observers if self.pairs[o][process].suspected]
        return suspecting, [o for o in observers if o not in suspecting]

    # ---- what it comes to

    def get_matrix(self) -> list[list[bool]]:
        """Return who suspects whom now, by observer and process."""
        return [[pair.suspected for pair in row] for row in self.pairs]

    def report(self, now: Nanoseconds) -> Report:
        """Return what a run came to that ends now; changes nothing."""
        everyone = range(self.processes)
        self.note_disagreements(now, everyone)
        longest = sorted(
            self.disagreements, key=lambda d: (d.since_ns - d.until_ns, d.since_ns, d.process)
        )[:MAX_DISAGREEMENTS]
        return Report(
            detector=self.name,
            processes=self.processes,
            total=measure([self.pairs[o][p] for o in everyone for p in everyone if o != p], now),
            pairs=[
                [None if o == p else measure([self.pairs[o][p]], now) for p in everyone]
                for o in everyone
            ],
            changes=list(self.changes),
            disagreements=sorted(longest, key=lambda d: (d.since_ns, d.process)),
            fates=list(self.fates),
            end_ns=now,
        )


def measure(pairs: list[Pair], now: Nanoseconds) -> Quality:
    """Return the quality over some pairs, with what still goes on cut off now."""
    detected = [time for pair in pairs for time in pair.detected]
    durations = [time for pair in pairs for time in pair.durations]
    intervals = [time for pair in pairs for time in pair.intervals]
    mistakes = sum(len(pair.mistakes) for pair in pairs)
    up = wrong = 0
    for pair in pairs:
        up += pair.up_ns + (now - pair.up_since if pair.up_since is not None else 0)
        wrong += pair.wrong_ns
        if pair.mistaken_since is not None:
            durations.append(now - pair.mistaken_since)
            wrong += now - pair.mistaken_since
    return Quality(
        detections=len(detected),
        missed=sum(pair.missed + (pair.crashed_at is not None) for pair in pairs),
        detection_ns=compute_mean(detected),
        detection_max_ns=max(detected, default=0),
        mistakes=mistakes,
        mistakes_per_hour=mistakes * HOUR_NS // up if up else 0,
        mistake_duration_ns=compute_mean(durations),
        mistake_recurrence_ns=compute_mean(intervals),
        accuracy_ppm=(up - wrong) * MILLION // up if up else MILLION,
    )


def compute_mean(times: list[int]) -> int:
    return sum(times) // len(times) if times else 0


def draw_matrix(report: Report, at_ns: Nanoseconds) -> list[str]:
    """Return who suspected whom at a time, a line for each observer that was up.

    `#` suspects, `.` trusts, a blank is oneself, `-` an observer that is down.
    """
    n = report.processes
    up, suspected = [False] * n, [[False] * n for _ in range(n)]
    marks = [(c.time_ns, 1, c) for c in report.changes]
    events: list[tuple[int, int, object]] = [*marks, *((f[0], 0, f) for f in report.fates)]
    for time, _, event in sorted(events, key=lambda e: (e[0], e[1])):
        if time > at_ns:
            break
        if isinstance(event, Change):
            suspected[event.observer][event.process] = event.suspected
        elif isinstance(event, tuple):
            _, process, alive = event
            up[process] = alive
            suspected[process] = [False] * n
    return [
        "-" * n
        if not up[o]
        else "".join(" " if o == p else "#" if suspected[o][p] else "." for p in range(n))
        for o in range(n)
    ]
