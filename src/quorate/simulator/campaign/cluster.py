"""Workers on a Ray cluster: the same tasks as on this machine, wherever Ray places them.

The job is put into Ray's store once. Runs and their repetitions are tasks of two kinds, with hash
seeds of their own. Ray's own retries are off: a worker that dies is reported and tried again by the
coordinator, as on one machine. Where runs share their beginning, a task starts a worker as on one
machine and keeps it for the next, since a process of Ray has threads and must not fork. The
machines need the same version of Quorate; on a cluster that was started here they have it.
"""

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

import quorate
from quorate.base.errors import Invalid, Unavailable
from quorate.simulator.campaign.processes import FORMS, HASH_SEEDS, Died, Worker, is_elsewhere
from quorate.simulator.campaign.tasks import STUCK_S, AnyTask, Job, Result
from quorate.simulator.campaign.worker import SEED_BYTES, carry_out, load_hook

__all__ = ["Cluster", "open_cluster"]

ADDRESS = "RAY_ADDRESS"
QUIET = {
    # Ray would otherwise say how its metrics and dashboard fare, into a line that moves.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def work(job: bytes, task: bytes) -> bytes:
    """Carry out a task in a worker of Ray's."""
    found = msgspec.msgpack.decode(job, type=Job)
    if found.version != quorate.__version__:
        raise Invalid(f"quorate {quorate.__version__} is installed, expected {found.version}")
    asked = msgspec.msgpack.decode(task, type=AnyTask)
    if found.plan.forks and not is_elsewhere(asked):
        return ask_worker(job, task)
    result = carry_out(found, asked, load_hook(found.hook), ignore)
    return msgspec.msgpack.encode(result)


WORKERS: dict[bytes, Worker] = {}
"""The worker that a process of Ray has, by its job; one at most."""


def ask_worker(job: bytes, task: bytes) -> bytes:
    """Let a process that may fork carry out a task. Raises Unavailable if it ends early."""
    worker = WORKERS.pop(job, None) or Worker(job, kind=False)
    for other in [WORKERS.pop(name) for name in list(WORKERS)]:
        other.end()
    worker.tell(task)
    while worker.is_heard(STUCK_S) and worker.read():
        for frame in worker.get_frames():
            if len(frame) != SEED_BYTES:
                WORKERS[job] = worker
                return frame
    raise Unavailable(f"a worker ended: {worker.end()}")


def ignore(seed: int) -> None:
    """Ray has no channel for the seed that a task is in."""


class Cluster:
    """Implements `Pool` with Ray's tasks."""

    def __init__(self, ray: Any, job: Job, slots: int, environment: dict[str, str]) -> None:
        self.ray, self.slots = ray, slots
        self.put_job(job)
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode = msgspec.msgpack.Decoder(Result).decode
        self.remote = [
            ray.remote(work).options(
                num_cpus=1,
                max_retries=0,
                runtime_env={"env_vars": environment | {"PYTHONHASHSEED": hash_seed} | form},
            )
            for hash_seed, form in zip(HASH_SEEDS, FORMS, strict=True)
        ]
        self.tasks: dict[Any, AnyTask] = {}

    def put_job(self, job: Job) -> None:
        """Let the tasks that follow belong to this job."""
        self.job = self.ray.put(msgspec.msgpack.encode(job))

    def get_free(self) -> int:
        return self.slots - len(self.tasks)

    def give(self, task: AnyTask) -> None:
        reference = self.remote[is_elsewhere(task)].remote(self.job, self.encode(task))
        self.tasks[reference] = task

    def wait(self, seconds: float) -> list[Result | Died]:
        if not self.tasks:
            return []
        ready, _ = self.ray.wait(
            list(self.tasks), num_returns=len(self.tasks), timeout=seconds, fetch_local=True
        )
        found: list[Result | Died] = []
        for reference in ready:
            task = self.tasks.pop(reference)
            try:
                found.append(self.decode(self.ray.get(reference)))
            except self.ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines()
                # The last line of a remote traceback says what it was.
                found.append(Died(task, None, f"{type(error).__name__}: {lines[-1][:300]}"))
        return found

    def close(self) -> None:
        for reference in self.tasks:
            self.ray.cancel(reference, force=True)
        self.ray.shutdown()


def open_cluster(job: Job, slots: int | None) -> Cluster:
    """Return the cluster at RAY_ADDRESS, or one that is started here, with at most `slots` tasks at
    a time.

    Raises Invalid without Ray, Unavailable when the cluster does not answer.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    try:
        import ray
    except ImportError:
        raise Invalid(
            f"--cluster: Ray is not installed: `{sys.executable} -m pip install ray`, or leave it "
            "out to use the processors of this machine"
        ) from None
    elsewhere = os.environ.get(ADDRESS)
    settings: dict[str, Any] = {"address": elsewhere} if elsewhere else {"num_cpus": slots}
    environment: dict[str, str] = {}
    if not elsewhere:
        settings["include_dashboard"] = False
        paths = [str(Path(quorate.__file__).resolve().parent.parent), *filter(None, sys.path)]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    try:
        ray.init(
            **settings,
            namespace="quorate",
            configure_logging=True,
            logging_level=logging.ERROR,
            log_to_driver=False,
            ignore_reinit_error=False,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        with contextlib.suppress(Exception):
            ray.shutdown()
        raise Unavailable(f"Ray: {error}") from None
    found = int(ray.cluster_resources().get("CPU", 0))
    if found < 1:
        ray.shutdown()
        raise Unavailable("Ray: the cluster has no processors, expected at least one")
    return Cluster(ray, job, min(slots or found, found), environment)
