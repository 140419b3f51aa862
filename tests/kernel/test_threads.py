"""A process that forks keeps to one thread; a child has none of the others of its parent."""

import subprocess
import sys
from pathlib import Path

import quorate

SCRIPT = """
import os, signal, sys
from quorate._kernel import address, keep_to_this_thread, recover_many, sign

secret, digest = b"\\x07" * 32, b"\\x08" * 32
items = [(digest, sign(secret, digest))] * 64
expected = [address(secret)] * 64
if sys.argv[1] == "late":
    assert recover_many(items) == expected
assert keep_to_this_thread() == (sys.argv[1] == "first")
if sys.argv[1] == "first":
    assert recover_many(items) == expected
    child = os.fork()
    if not child:
        # It would wait for threads that it does not have.
        signal.alarm(20)
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
