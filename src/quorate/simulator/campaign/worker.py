"""What a worker does with a task; and, as a program, a worker that is told tasks by pipe.

Frames on standard input and output are msgpack after a length of four bytes: first the job, then
tasks, answered in order. Before each run its seed is told, as a frame of eight bytes, so that a run
that takes the process with it is known by name.
"""

import gc
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import BinaryIO

import msgspec

from quorate.simulator.audit import Fingerprint, get_fingerprint, list_notes
from quorate.simulator.campaign.tally import BROKEN, Row, Tally, make_row
from quorate.simulator.campaign.tasks import (
    AnyTask,
    AuditTask,
    Job,
    ListTask,
    Result,
    RunTask,
)
from quorate.simulator.coverage import StateCoverage
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
    began = time.process_time_ns()
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
    result.cpu_ns = time.process_time_ns() - began
    return result


def with_seed(plan: Plan, seed: int) -> Plan:
    return msgspec.structs.replace(plan, seed=seed)


def run_seeds(job: Job, task: RunTask, hook: Hook | None, on_seed: OnSeed, result: Result) -> None:
    """Run the seeds of a task into its result, without the garbage collector's interference."""
    tally = result.tally = Tally()
    plan = job.canary if task.canary else job.plan
    uncollected = 0
    gc.disable()
    try:
        for seed in range(task.first, task.first + task.count):
            on_seed(seed)
            row = run_one(job, with_seed(plan, seed), hook, task.canary, result)
            tally.add_row(row)
            if job.rows and not task.canary:
                result.rows.append(row)
            uncollected += row.events
            if uncollected >= COLLECT_EVENTS:
                gc.collect()
                uncollected = 0
            if task.canary and row.verdict == "false":
                return
    finally:
        gc.enable()


def run_one(job: Job, plan: Plan, hook: Hook | None, canary: bool, result: Result) -> Row:
    """Run one seed; an error of the simulator is a verdict too, and the next seed may have none."""
    coverage: list[StateCoverage] = []

    def install(world: World) -> None:
        coverage.append(StateCoverage(world))
        if hook is not None:
            hook(world)

    began = time.process_time_ns()
    try:
        outcome = run(plan, on_world=install)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}:{last.lineno}"
        message = f"{type(error).__name__}: {error} ({where})"
        return Row(plan.seed, "unknown", BROKEN, message, "", 0, 0, 0, 0, {}, {})
    assert result.tally is not None
    result.tally.add_states(coverage[0].states)
    if not canary and is_audited(plan.seed, job.first, job.audit_permille):
        result.fingerprints[plan.seed] = get_fingerprint(outcome)
    return make_row(outcome, time.process_time_ns() - began)


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
        write_frame(answers, encode(carry_out(job, decode(frame), hook, on_seed)))


if __name__ == "__main__":
    main()
