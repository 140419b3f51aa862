"""What a worker does with a task; and, as a program, a worker that is told tasks by pipe.

Frames on standard input and output are msgpack after a length of four bytes: first the job, then
tasks, answered in order. Before each run its seed is told, as a frame of eight bytes, so that a run
that takes the process with it is known by name.
"""

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

import msgspec

from quorate._kernel import keep_to_this_thread
from quorate.simulator.audit import Fingerprint, get_fingerprint, list_notes
from quorate.simulator.campaign.families import (
    Branch,
    BranchLost,
    Part,
    get_cpu_ns,
    run_family,
)
from quorate.simulator.campaign.tally import BROKEN, Tally, make_broken_row
from quorate.simulator.campaign.tasks import (
    AnyTask,
    AuditTask,
    Job,
    ListTask,
    Result,
    RunTask,
)
from quorate.simulator.coverage import StateCoverage
from quorate.simulator.forks import split
from quorate.simulator.plan import Plan
from quorate.simulator.run import run
from quorate.simulator.world import World

__all__ = ["SEED_BYTES", "carry_out", "is_audited", "load_hook"]

Hook = Callable[[World], None]
OnSeed = Callable[[int], None]

SEED_BYTES = 8
COLLECT_EVENTS = 20_000
"""Events after which garbage is collected: worlds are full of cycles."""
PROBE = "quorate"
"""Its hash tells which hash seed a process has."""


def load_hook(name: str) -> Hook | None:
    """Return the function `module:function`. Raises ValueError, ImportError, AttributeError."""
    if not name:
        return None
    module, _, function = name.partition(":")
    found: Hook = getattr(importlib.import_module(module), function)
    return found


def is_audited(seed: int, first: int, permille: int) -> bool:
    """Whether a run belongs to the share that is repeated; the first of a campaign always does."""
    number = seed - first
    return permille > 0 and number * permille // 1000 != (number - 1) * permille // 1000


def carry_out(job: Job, task: AnyTask, hook: Hook | None, on_seed: OnSeed) -> Result:
    """Carry out a task; `on_seed` is called before each run."""
    began = get_cpu_ns()
    result = Result(number=task.number, hash_order=hash(PROBE))
    if isinstance(task, RunTask):
        run_seeds(job, task, hook, on_seed, result)
    elif isinstance(task, AuditTask):
        for seed in task.seeds:
            on_seed(seed)
            try:
                outcome = run(with_seed(job.plan, seed), on_world=hook)
            except Exception as error:
                # The first run of this seed did not: that is a difference too.
                result.fingerprints[seed] = Fingerprint(f"{type(error).__name__}: {error}", 0, [])
                continue
            result.fingerprints[seed] = get_fingerprint(outcome)
    elif isinstance(task, ListTask):
        on_seed(task.seed)
        result.notes = list_notes(with_seed(job.plan, task.seed), task.first, task.count, hook)
    result.cpu_ns = get_cpu_ns() - began
    return result


def with_seed(plan: Plan, seed: int) -> Plan:
    return msgspec.structs.replace(plan, seed=seed)


def run_seeds(job: Job, task: RunTask, hook: Hook | None, on_seed: OnSeed, result: Result) -> None:
    """Run the seeds of a task into its result, without the garbage collector's interference."""
    tally = result.tally = Tally()
    plan = job.canary if task.canary else job.plan
    audited = 0 if task.canary else job.audit_permille
    uncollected = 0
    gc.disable()
    try:
        for first, last in split(plan.forks, -1, task.first, task.first + task.count - 1):
            began, counted = get_cpu_ns(), tally.cpu_ns
            run_way = partial(run_branch, job, hook, audited)
            for part in run_family(with_seed(plan, first), first, last, run_way, on_seed):
                add_part(part, result, rows=job.rows and not task.canary)
                uncollected += part.rows[0].executed
            # Forking and collecting children belongs to no run, and is paid for all the same.
            tally.cpu_ns += max(0, get_cpu_ns() - began - (tally.cpu_ns - counted))
            if uncollected >= COLLECT_EVENTS:
                gc.collect()
                uncollected = 0
            if task.canary and tally.verdicts["false"]:
                return
    finally:
        gc.enable()


def add_part(part: Part, result: Result, *, rows: bool) -> None:
    """Count what a process found."""
    assert result.tally is not None
    for row in part.rows:
        result.tally.add_row(row)
    result.tally.add_states(set(part.states))
    result.fingerprints.update(part.fingerprints)
    if rows:
        result.rows += part.rows


def run_branch(job: Job, hook: Hook | None, audited: int, branch: Branch) -> Part:
    """Run the way of a branch; an error of the simulator is a verdict too, and the next seed may
    have none.
    """
    coverage: list[StateCoverage] = []

    def install(world: World) -> None:
        coverage.append(StateCoverage(world))
        if hook is not None:
            hook(world)

    try:
        outcome = run(branch.plan, on_world=install, on_fork=branch.choose)
    except BranchLost:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}:{last.lineno}"
        message = f"{type(error).__name__}: {error} ({where})"
        return Part(rows=[make_broken_row(seed, BROKEN, message) for seed in branch.list_seeds()])
    rows = branch.make_rows(outcome)
    seeds = [s for s in branch.list_seeds() if is_audited(s, job.first, audited)]
    fingerprint = get_fingerprint(outcome)
    return Part(
        rows=rows,
        fingerprints=dict.fromkeys(seeds, fingerprint),
        states=sorted(coverage[0].states),
    )


# ---- the program


def read_frame(stream: BinaryIO) -> bytes:
    """Return the next frame, nothing at the end."""
    header = stream.read(4)
    return stream.read(int.from_bytes(header, "little")) if len(header) == 4 else b""


def write_frame(stream: BinaryIO, data: bytes) -> None:
    stream.write(len(data).to_bytes(4, "little") + data)
    stream.flush()


def main() -> None:
    """Serve tasks until the pipe ends."""
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever prints must not speak in between.
    os.dup2(2, 1)
    questions = sys.stdin.buffer
    # A process with threads must not fork, and there is a worker for each processor anyway.
    keep_to_this_thread()
    job = msgspec.msgpack.decode(read_frame(questions), type=Job)
    hook = load_hook(job.hook)
    decode = msgspec.msgpack.Decoder(AnyTask).decode
    encode = msgspec.msgpack.Encoder().encode
    # What is loaded now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()

    def on_seed(seed: int) -> None:
        write_frame(answers, seed.to_bytes(SEED_BYTES, "little"))

    while frame := read_frame(questions):
        try:
            result = carry_out(job, decode(frame), hook, on_seed)
        except BranchLost as error:
            sys.exit(str(error))
        write_frame(answers, encode(result))


if __name__ == "__main__":
    main()
