"""`quorate.cli.workers`: processes for many runs of one."""

import multiprocessing
import threading
import time

from quorate.cli.workers import Workers


def test_results_come_in_order_and_nothing_is_left_behind() -> None:
    threads = set(threading.enumerate())
    with Workers(2) as workers:
        assert workers.map(abs, [-3, -1, 2, -5]) == [3, 1, 2, 5]
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []
    # Threads of tests before this one may have ended meanwhile.
    assert set(threading.enumerate()) <= threads


def test_nobody_waits_for_what_is_not_wanted_any_more() -> None:
    began = time.monotonic()
    with Workers(2) as workers:
        assert workers.pool is not None
        workers.pool.submit(time.sleep, 600)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - began < 300
