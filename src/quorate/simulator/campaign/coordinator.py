"""Hands out seeds in batches, adds up what comes back, repeats a share of it, and watches over all.

What a seed comes to depends on the seed alone, so the set of verdicts is the same for any number of
workers. Batches are sized by what runs have cost so far, to take a few seconds each.
"""

import time
from collections import deque
from collections.abc import Callable

import msgspec
from msgspec import Struct

from quorate.simulator.audit import Difference, Fingerprint, Note, find_difference, find_rung
from quorate.simulator.campaign.processes import Died, Pool
from quorate.simulator.campaign.summary import Audit, Canary, Point, Summary
from quorate.simulator.campaign.tally import LOST, Row, Tally, make_broken_row, name_fault
from quorate.simulator.campaign.tasks import AnyTask, AuditTask, Job, ListTask, Result, RunTask
from quorate.simulator.digest import RUNG
from quorate.simulator.forks import count_seeds
from quorate.simulator.plan import Plan, get_profile

__all__ = ["CANARIES", "Campaign", "Coordinator", "make_job"]

CANARIES = {"tendermint": "small-quorum", "raft": "raft-early-ack", "pow": "pow-tells-early"}
"""The known bug that a campaign must find, by engine."""
CANARY_SEEDS = 64
BATCH_S = 2.0
FIRST_BATCH = 4
MAX_BATCH = 4096
AUDIT_BATCH_S = 1.0
WAIT_S = 0.25
MAX_DEATHS = 20
"""Workers that may end early before the campaign gives up."""
MAX_DIFFERENCES = 3
"""Differences of which the first event is looked for."""
CURVE_GROWTH = 1.03
"""Points of the curve are so far apart, so that it has some hundreds at most."""
SMOOTHING = 0.3


class Campaign(Struct, frozen=True, kw_only=True):
    """What to run."""

    plan: Plan
    """Its seed does not matter."""
    first: int = 0
    count: int | None = 1000
    """None: until the time is up."""
    seconds: float | None = None
    audit_permille: int = 50
    canary: bool = True
    hook: str = ""
    rows: bool = False


def make_job(campaign: Campaign) -> Job:
    """Return what workers must know. The canary runs under faults even if the campaign does not."""
    plan = campaign.plan
    profile = plan.profile if plan.profile.acts else get_profile("default")
    canary = msgspec.structs.replace(
        plan, bug=CANARIES.get(plan.engine, ""), profile=profile, forks=()
    )
    return Job(
        plan=plan,
        canary=canary,
        first=campaign.first,
        hook=campaign.hook,
        audit_permille=campaign.audit_permille,
        rows=campaign.rows,
    )


class Coordinator:
    """One campaign. Make it, `run` it; what it has so far may be read at any time."""

    def __init__(
        self,
        campaign: Campaign,
        pool: Pool,
        *,
        on_progress: Callable[["Coordinator"], None] | None = None,
        on_rows: Callable[[list[Row]], None] | None = None,
    ) -> None:
        self.campaign, self.pool = campaign, pool
        self.on_progress, self.on_rows = on_progress, on_rows
        self.tally = Tally()
        self.audit = Audit()
        bug = CANARIES.get(campaign.plan.engine, "")
        self.canary = Canary(bug) if campaign.canary and bug != "" else None
        self.deaths: list[str] = []
        self.curve: list[Point] = []
        self.stopped = ""
        self.interrupted = False
        self.began = time.monotonic()
        self.ended = 0.0
        # Work that waits, is under way, and is to come.
        self.again: deque[AnyTask] = deque()
        self.under_way: dict[int, tuple[AnyTask, int]] = {}
        """By number: the task and how often it has been tried before."""
        self.tried: dict[int, int] = {}
        self.next_seed = campaign.first
        self.numbers = 0
        self.seed_s = 0.0
        """What a seed costs a worker, smoothed; 0: not known yet."""
        self.fingerprints: dict[int, Fingerprint] = {}
        """Of runs that are to be repeated."""
        self.to_repeat: list[int] = []
        self.hash_orders: tuple[set[int], set[int]] = (set(), set())
        self.listings: dict[int, dict[bool, list[Note]]] = {}
        if self.canary is not None:
            self.again.append(
                RunTask(number=self.number(), first=0, count=CANARY_SEEDS, canary=True)
            )

    # ---- the loop

    def run(self) -> Summary:
        """Run the campaign to its end; Ctrl-C ends it with what there is."""
        try:
            while self.hand_out() or self.under_way:
                for ended in self.pool.wait(WAIT_S):
                    if isinstance(ended, Died):
                        self.on_died(ended)
                    else:
                        self.on_result(ended)
                self.note_curve()
                if self.on_progress is not None:
                    self.on_progress(self)
        except KeyboardInterrupt:
            self.interrupted = True
        self.ended = time.monotonic()
        return self.make_summary()

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.began

    def get_remaining(self) -> int | None:
        """Return how many seeds have not begun; None: no number was asked for."""
        campaign = self.campaign
        if campaign.count is None:
            return None
        return campaign.first + campaign.count - self.next_seed

    def get_seconds_left(self) -> float | None:
        limit = self.campaign.seconds
        return None if limit is None else max(0.0, limit - self.seconds)

    def hand_out(self) -> bool:
        """Give tasks to all who have none; return whether there was one."""
        given = False
        while not self.stopped and self.pool.get_free():
            task = self.make_task()
            if task is None:
                break
            self.under_way[task.number] = (task, self.tried.pop(task.number, 0))
            self.pool.give(task)
            given = True
        return given

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def make_task(self) -> AnyTask | None:
        """Return what to do next."""
        if self.again:
            return self.again.popleft()
        if len(self.to_repeat) * self.seed_s >= AUDIT_BATCH_S:
            return self.make_audit()
        return self.make_run() or (self.make_audit() if self.to_repeat else None)

    def make_run(self) -> RunTask | None:
        """Return the next batch of seeds, None when there are no more."""
        remaining, left = self.get_remaining(), self.get_seconds_left()
        # Whatever the time, one batch is run: the canary alone would show nothing.
        if remaining == 0 or (left == 0 and self.next_seed > self.campaign.first):
            return None
        count = FIRST_BATCH
        if self.seed_s:
            most = BATCH_S if left is None else min(BATCH_S, left)
            count = max(1, min(int(most / self.seed_s), MAX_BATCH))
        if remaining is not None:
            # Towards the end batches become small, so that no worker is left with much.
            count = min(count, -(-remaining // (2 * self.pool.slots)))
        # Families stay together, whose runs share their beginning.
        size = count_seeds(self.campaign.plan.forks)
        count += -(self.next_seed + count) % size
        if remaining is not None:
            count = min(count, remaining)
        task = RunTask(number=self.number(), first=self.next_seed, count=count)
        self.next_seed += count
        return task

    def make_audit(self) -> AuditTask:
        count = max(1, int(AUDIT_BATCH_S / self.seed_s)) if self.seed_s else 1
        seeds, self.to_repeat = self.to_repeat[:count], self.to_repeat[count:]
        return AuditTask(number=self.number(), seeds=seeds)

    # ---- what comes back

    def on_result(self, result: Result) -> None:
        task, _ = self.under_way.pop(result.number)
        if isinstance(task, ListTask):
            self.on_notes(task, result.notes)
            return
        self.hash_orders[isinstance(task, AuditTask)].add(result.hash_order)
        if isinstance(task, AuditTask):
            self.on_repeated(result.fingerprints)
            return
        assert result.tally is not None
        if task.canary:
            self.on_canary(result.tally)
            return
        self.tally.add(result.tally)
        cost = result.cpu_ns / 1e9 / task.count
        self.seed_s = cost if not self.seed_s else self.seed_s + SMOOTHING * (cost - self.seed_s)
        self.fingerprints.update(result.fingerprints)
        self.to_repeat += sorted(result.fingerprints)
        if self.on_rows is not None:
            self.on_rows(result.rows)

    def on_canary(self, tally: Tally) -> None:
        assert self.canary is not None
        self.canary.runs = tally.runs
        failed = [failure for failure in tally.failures if failure.verdict == "false"]
        self.canary.found = failed[0] if failed else None

    def on_repeated(self, repeated: dict[int, Fingerprint]) -> None:
        """Compare runs with their repetitions."""
        for seed, there in sorted(repeated.items()):
            here = self.fingerprints.pop(seed)
            self.audit.repeated += 1
            if here == there:
                continue
            self.audit.differing.append(seed)
            if len(self.listings) < MAX_DIFFERENCES:
                self.listings[seed] = {}
                first = find_rung(here, there)
                for elsewhere in (False, True):
                    self.again.append(
                        ListTask(
                            number=self.number(),
                            seed=seed,
                            first=first,
                            count=RUNG,
                            elsewhere=elsewhere,
                        )
                    )

    def on_notes(self, task: ListTask, notes: list[Note]) -> None:
        listing = self.listings[task.seed]
        listing[task.elsewhere] = notes
        if len(listing) == 2:
            found = find_difference(task.seed, listing[False], listing[True])
            self.audit.differences.append(found)

    # ---- workers that die

    def on_died(self, died: Died) -> None:
        """Try what a worker did not end once more; then leave out the run that it was in."""
        task, tried = self.under_way.pop(died.task.number)
        self.deaths.append(f"{name_task(task, died.seed)}: {died.reason}")
        if len(self.deaths) > MAX_DEATHS:
            self.stopped = f"{len(self.deaths)} workers ended early, the last: {self.deaths[-1]}"
            self.again.clear()
        elif not tried:
            self.retry(task, 1)
        elif isinstance(task, AuditTask):
            self.audit.lost += task.seeds
        elif isinstance(task, ListTask):
            self.audit.differences.append(Difference(task.seed, -1, None, None))
        elif not task.canary:
            self.leave_out(task, died)

    def retry(self, task: AnyTask, tried: int) -> None:
        again = msgspec.structs.replace(task, number=self.number())
        self.tried[again.number] = tried
        self.again.append(again)

    def leave_out(self, task: RunTask, died: Died) -> None:
        """Give up one run, and run the others of its batch."""
        end = task.first + task.count
        seed = died.seed
        if seed is None:
            if task.count > 1:
                # Halves lead to the one that it is.
                middle = task.first + task.count // 2
                for first, last in ((task.first, middle), (middle, end)):
                    self.retry(RunTask(number=0, first=first, count=last - first), 1)
                return
            seed = task.first
        self.tally.add_row(make_broken_row(seed, LOST, died.reason))
        for first, last in ((task.first, seed), (seed + 1, end)):
            if first < last:
                self.retry(RunTask(number=0, first=first, count=last - first), 0)

    # ---- what is told

    def count_faults(self) -> int:
        """Return how many kinds of fault have happened."""
        return sum(name_fault(name) != "" for name in self.tally.counters)

    def note_curve(self) -> None:
        last = self.curve[-1].runs if self.curve else 0
        if self.tally.runs > last * CURVE_GROWTH:
            self.curve.append(self.make_point())

    def make_point(self) -> Point:
        tally = self.tally
        return Point(
            round(self.seconds, 3),
            tally.runs,
            len(tally.states),
            self.count_faults(),
            tally.verdicts["false"],
        )

    def make_summary(self) -> Summary:
        audit = self.audit
        audit.same_order = bool(self.hash_orders[0] & self.hash_orders[1])
        audit.differing.sort()
        self.tally.failures.sort(key=lambda failure: failure.seed)
        if self.tally.runs and self.curve[-1:] != [self.make_point()]:
            self.curve.append(self.make_point())
        return Summary(
            first=self.campaign.first,
            asked=self.campaign.count,
            slots=self.pool.slots,
            seconds=round(self.seconds, 3),
            tally=self.tally,
            canary=self.canary,
            audit=audit,
            deaths=self.deaths,
            interrupted=self.interrupted,
            stopped=self.stopped,
            curve=self.curve,
        )


def name_task(task: AnyTask, seed: int | None) -> str:
    """Return which seeds a task is about, and where it was."""
    where = "" if seed is None else f" in seed {seed}"
    if isinstance(task, RunTask):
        kind = "the canary" if task.canary else "seeds"
        return f"a worker for {kind} {task.first} to {task.first + task.count - 1} ended{where}"
    if isinstance(task, AuditTask):
        return f"a worker that repeated {len(task.seeds)} seeds ended{where}"
    return f"a worker that listed the events of seed {task.seed} ended"
