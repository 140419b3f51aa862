"""Workers on this machine: processes that are told tasks by pipe.

Each slot has up to two processes, of which one works at a time: one for runs, and one with another
hash seed for what is repeated. They are in sessions of their own, so that Ctrl-C reaches the
coordinator alone, and end when its end of their pipe is closed, however it ended.
"""

import contextlib
import os
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

import quorate
from quorate.base.errors import Unavailable
from quorate.compiled import VARIABLE
from quorate.simulator.campaign.tasks import STUCK_S, AnyTask, AuditTask, Job, ListTask, Result
from quorate.simulator.campaign.worker import SEED_BYTES

__all__ = ["Died", "Pool", "Processes", "is_elsewhere"]

HASH_SEEDS = ("1", "2")
"""Of processes that run and that repeat."""
FORMS: tuple[dict[str, str], ...] = ({}, {VARIABLE: "0"})
"""What those are told of compiled modules: what repeats does without, so that every campaign shows
that they do what their sources say.
"""
READ_BYTES = 1 << 20
MAX_STDERR = 2000


class Died(Struct, frozen=True):
    """A worker ended in the middle of a task."""

    task: AnyTask
    seed: int | None
    """The run that it was in; None: not known."""
    reason: str


class Pool(Protocol):
    """Where tasks are carried out."""

    slots: int

    def get_free(self) -> int:
        """Return how many tasks may be given now."""
        ...

    def give(self, task: AnyTask) -> None:
        """Let a task begin."""
        ...

    def wait(self, seconds: float) -> list[Result | Died]:
        """Return what has ended, after this time at most."""
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...


def is_elsewhere(task: AnyTask) -> bool:
    """Whether a task belongs into a process of the audit's kind."""
    return isinstance(task, AuditTask) or (isinstance(task, ListTask) and task.elsewhere)


class Worker:
    """One process, of those that run or of those that repeat (`kind`)."""

    def __init__(self, job: bytes, kind: bool) -> None:
        paths = [str(Path(quorate.__file__).resolve().parent.parent), *filter(None, sys.path)]
        environment = os.environ | {
            "PYTHONHASHSEED": HASH_SEEDS[kind],
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
            **FORMS[kind],
        }
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "quorate.simulator.campaign.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=environment,
            start_new_session=True,
        )
        self.task: AnyTask | None = None
        self.seed: int | None = None
        self.heard = time.monotonic()
        self.buffer = bytearray()
        self.tell(job)

    def tell(self, data: bytes) -> None:
        assert self.process.stdin is not None
        # One that died already is found out by the end of its answers.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(len(data).to_bytes(4, "little") + data)
            self.process.stdin.flush()

    def is_heard(self, seconds: float) -> bool:
        """Wait until it says something, or is gone; return False after this time."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def read(self) -> bool:
        """Take up what it said; return False at the end."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), READ_BYTES)
        self.buffer += data
        self.heard = time.monotonic()
        return bool(data)

    def get_frames(self) -> Iterator[bytes]:
        """Take out the frames that are complete."""
        while len(self.buffer) >= 4:
            end = 4 + int.from_bytes(self.buffer[:4], "little")
            if len(self.buffer) < end:
                return
            frame = bytes(self.buffer[4:end])
            del self.buffer[:end]
            yield frame

    def kill(self) -> None:
        """End the process and what it forked, which is in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def end(self) -> str:
        """End the process; return how it ended, and what it said last."""
        ended = self.process.poll()
        if ended is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # After the end of its answers it only has to be collected.
                ended = self.process.wait(0.2)
        self.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, self.stderr.tell() - MAX_STDERR))
        said = self.stderr.read().decode(errors="replace").strip().splitlines()
        self.stderr.close()
        return explain_end(ended) + (f": {said[-1]}" if said else "")


def explain_end(code: int | None) -> str:
    if code is None:
        return "it did not end by itself"
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"


class Processes:
    """Implements `Pool` with processes of this machine."""

    def __init__(self, job: Job, slots: int) -> None:
        self.slots = slots
        self.job = msgspec.msgpack.encode(job)
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(Result).decode
        self.selector = selectors.DefaultSelector()
        self.workers: list[dict[bool, Worker]] = [{} for _ in range(slots)]

    def get_free(self) -> int:
        return sum(not is_busy(pair) for pair in self.workers)

    def give(self, task: AnyTask) -> None:
        kind = is_elsewhere(task)
        free = [pair for pair in self.workers if not is_busy(pair)]
        pair = next((pair for pair in free if kind in pair), free[0])
        worker = pair.get(kind)
        if worker is None:
            worker = pair[kind] = self.start(kind)
        worker.task, worker.seed, worker.heard = task, None, time.monotonic()
        worker.tell(self.encode(task))

    def start(self, kind: bool) -> Worker:
        try:
            worker = Worker(self.job, kind)
        except OSError as error:
            raise Unavailable(f"a worker cannot be started: {error}") from None
        self.selector.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        return worker

    def wait(self, seconds: float) -> list[Result | Died]:
        found: list[Result | Died] = []
        for key, _ in self.selector.select(seconds):
            worker: Worker = key.data
            alive = worker.read()
            for frame in worker.get_frames():
                if len(frame) == SEED_BYTES:
                    worker.seed = int.from_bytes(frame, "little")
                    continue
                found.append(self.decode(frame))
                worker.task = None
            if not alive:
                found += self.bury(worker)
        now = time.monotonic()
        for worker in self.list_workers():
            if worker.task is not None and now - worker.heard > STUCK_S:
                found += self.bury(worker, f"no run ended in {STUCK_S} s")
        return found

    def bury(self, worker: Worker, reason: str = "") -> list[Result | Died]:
        """Take away a worker that is gone, or should be."""
        assert worker.process.stdout is not None
        self.selector.unregister(worker.process.stdout)
        for pair in self.workers:
            for kind in [kind for kind, other in pair.items() if other is worker]:
                del pair[kind]
        ended = worker.end()
        return [Died(worker.task, worker.seed, reason or ended)] if worker.task else []

    def list_workers(self) -> list[Worker]:
        return [worker for pair in self.workers for worker in pair.values()]

    def close(self) -> None:
        for worker in self.list_workers():
            worker.kill()
        for worker in self.list_workers():
            self.bury(worker)
        self.selector.close()


def is_busy(pair: dict[bool, Worker]) -> bool:
    return any(worker.task is not None for worker in pair.values())
