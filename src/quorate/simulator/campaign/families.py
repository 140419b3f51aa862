"""Runs that share their beginning, each part of the way run once: this process forks where they do.

A process forks at each fork of the plan that seeds it was asked for leave on different ways, waits
for each child in turn, and takes the last way itself. So one processor is busy at a time, there are
at most as many processes as forks and one, and the kernel shares their memory until somebody
writes. A child never collects garbage, says what its runs came to through a pipe, and ends without
looking back; what it cannot survive, its parent tells.

Whoever calls must have no other threads, since a child would have their locks and not them: the
worker program sees to that, by `keep_to_this_thread`.
"""

import contextlib
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

import msgspec
from msgspec import Struct

from quorate._kernel import fork_process
from quorate.base.errors import Unavailable
from quorate.base.types import Nanoseconds
from quorate.simulator.audit import Fingerprint
from quorate.simulator.campaign.tally import Row, make_row
from quorate.simulator.campaign.tasks import STUCK_S
from quorate.simulator.forks import count_seeds, split
from quorate.simulator.plan import Plan
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World

__all__ = ["Branch", "BranchLost", "Part", "get_cpu_ns", "run_family"]

READ_BYTES = 1 << 16
MAX_BYTES = 1 << 28
"""That a child may say."""
EXIT_LOST = 3
"""Of a process that lost a child, and says why instead of what its runs came to."""


class BranchLost(Unavailable):
    """The process of a branch ended before its run did."""


class Part(Struct, kw_only=True):
    """What one process found: the runs that ended in it, all with the same events."""

    rows: list[Row]
    fingerprints: dict[int, Fingerprint] = {}
    states: list[int] = []


def get_cpu_ns() -> Nanoseconds:
    """Return the processor time of this process and of all children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + round((used.ru_utime + used.ru_stime) * 1e9)


class Branch:
    """One process on its way through the forks."""

    def __init__(self, plan: Plan, first: int, last: int, on_seed: Callable[[int], None]) -> None:
        self.plan, self.on_seed = plan, on_seed
        self.first, self.last = first, last
        """The seeds whose way it is on."""
        self.began = 0
        """How many events had happened when this process began."""
        self.began_ns = time.process_time_ns()
        self.pipe: int | None = None
        """Where a child says what it found."""
        self.said = bytearray()
        """What children of this process found, as they said it."""

    def list_seeds(self) -> range:
        """Return the seeds whose run this process is in."""
        return range(self.first, self.last + 1)

    def make_rows(self, outcome: Outcome) -> list[Row]:
        """Return the runs that ended in this process, which is at their end: what ends before seeds
        part is the run of each of them.
        """
        first, *others = self.list_seeds()
        executed, spent_ns = outcome.events - self.began, time.process_time_ns() - self.began_ns
        rows = [make_row(outcome, first, executed, spent_ns)]
        return rows + [make_row(outcome, seed, 0, 0) for seed in others]

    def choose(self, world: World, number: int) -> int:
        """Part where the seeds do; return the first seed of the way that this process takes."""
        forks = self.plan.forks
        *others, own = split(forks, number, self.first, self.last)
        for first, last in others:
            if self.send_child(first, last):
                self.began, self.began_ns = world.digest.events, time.process_time_ns()
                own = (first, last)
                break
        self.first, self.last = own
        if others:
            self.on_seed(self.first)
        return self.first - self.first % count_seeds(forks, number + 1)

    def send_child(self, first: int, last: int) -> bool:
        """Run seeds in a child and keep what it says; return whether this is the child."""
        read, write = os.pipe()
        try:
            # A worker of a cluster has threads, and only Python's own fork makes their locks anew.
            child = fork_process() if threading.active_count() == 1 else os.fork()
        except OSError as error:
            os.close(read)
            os.close(write)
            raise BranchLost(f"no process for seed {first}: {error.strerror}") from None
        if not child:
            os.close(read)
            if self.pipe is not None:
                os.close(self.pipe)
            self.pipe = write
            self.said = bytearray()
            # Whoever waits may be gone; then nobody else would end a run that does not end.
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            limit = STUCK_S if hard == resource.RLIM_INFINITY else min(STUCK_S, hard)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
            return True
        os.close(write)
        try:
            said = read_all(read)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.close(read)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == EXIT_LOST:
            raise BranchLost(said.decode(errors="replace"))
        if code:
            seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
            how = f"killed by {name_signal(-code)}" if code < 0 else f"exit code {code}"
            raise BranchLost(f"the process of {seeds} ended: {how}")
        self.said += said
        return False

    def leave(self, part: Part) -> NoReturn:
        """End a child, with what it and its own children found."""
        own = msgspec.msgpack.encode(part)
        self.end(len(own).to_bytes(4, "little") + own + self.said, 0)

    def end(self, data: bytes, code: int) -> NoReturn:
        """End a child at once: no buffer is flushed twice, nothing is freed piece by piece."""
        assert self.pipe is not None
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.pipe, view) :]
        finally:
            os._exit(code)


def name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def read_all(pipe: int) -> bytes:
    """Return what a child says until it ends. Raises BranchLost for more than it may."""
    said = bytearray()
    while data := os.read(pipe, READ_BYTES):
        said += data
        if len(said) > MAX_BYTES:
            raise BranchLost(f"a branch said more than {MAX_BYTES} bytes")
    return bytes(said)


def read_parts(said: bytes | bytearray) -> list[Part]:
    """Return what children said, piece by piece."""
    decode = msgspec.msgpack.Decoder(Part).decode
    parts, at = [], 0
    view = memoryview(said)
    while at < len(said):
        end = at + 4 + int.from_bytes(view[at : at + 4], "little")
        parts.append(decode(view[at + 4 : end]))
        at = end
    return parts


def run_family(
    plan: Plan,
    first: int,
    last: int,
    runner: Callable[[Branch], Part],
    on_seed: Callable[[int], None],
) -> list[Part]:
    """Run seeds of one family, each part of their ways once; return what was found, in the order of
    seeds. Raises BranchLost if a child of this process, or of its children, did not survive.

    `runner` runs the way of a branch until its end. It goes on in several processes, and what
    it returns in a child goes through the pipe.
    """
    branch = Branch(plan, first, last, on_seed)
    on_seed(first)
    try:
        part = runner(branch)
        if branch.pipe is None:
            parts = [part, *read_parts(branch.said)]
            return sorted(parts, key=lambda found: found.rows[0].seed)
        branch.leave(part)
    except BranchLost as error:
        if branch.pipe is None:
            raise
        branch.end(str(error).encode(), EXIT_LOST)
    except BaseException as error:
        if branch.pipe is None:
            raise
        # A child must not go on as its parent, whatever happens.
        with contextlib.suppress(BaseException):
            if not isinstance(error, KeyboardInterrupt):
                traceback.print_exc(file=sys.stderr)
                sys.stderr.flush()
        os._exit(1)
