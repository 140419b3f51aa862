"""A process that forks keeps to one thread; a child has none of the others of its parent."""

import subprocess
import sys
from pathlib import Path

import quorate

SCRIPT = """
import os, signal, sys
from quorate._kernel import address, fork_process, keep_to_this_thread, recover_many, sign

secret, digest = b"\\x07" * 32, b"\\x08" * 32
items = [(digest, sign(secret, digest))] * 64
expected = [address(secret)] * 64
if sys.argv[1] == "late":
    assert recover_many(items) == expected
assert keep_to_this_thread() == (sys.argv[1] == "first")
if sys.argv[1] == "first":
    assert recover_many(items) == expected
    for fork in (os.fork, fork_process):
        parent = os.getpid()
        child = fork()
        if not child:
            # It would wait for threads that it does not have.
            signal.alarm(20)
            assert os.getppid() == parent
            os._exit(recover_many(items) != expected)
        assert os.waitpid(child, 0)[1] == 0
"""


def run_script(when: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, when],
        env={"PYTHONPATH": str(Path(quorate.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_child_shares_large_work_with_nobody() -> None:
    done = run_script("first")
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_that_there_are_stay_and_are_told() -> None:
    done = run_script("late")
    assert (done.returncode, done.stderr) == (0, "")


FORKS = """
import os, resource, signal, threading
from quorate._kernel import fork_process

os.register_at_fork(after_in_child=lambda: os._exit(9))
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(threading.current_thread().name))
child = fork_process()
if not child:
    # Signals come to the child's thread, its memory is its own, and it may have children.
    os.kill(os.getpid(), signal.SIGUSR1)
    assert told == ["MainThread"]
    grandchild = fork_process()
    if not grandchild:
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 5
    threading.Thread(target=os._exit, args=[7]).start()
    signal.pause()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert told == []
_, hard = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
try:
    child = fork_process()
except OSError as error:
    assert isinstance(error, BlockingIOError), error
else:
    # Root may have as many as it likes.
    if not child:
        os._exit(0)
    assert os.geteuid() == 0 and os.waitpid(child, 0)[1] == 0
"""


def test_a_child_goes_on_where_its_parent_was() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        env={"PYTHONPATH": str(Path(quorate.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
