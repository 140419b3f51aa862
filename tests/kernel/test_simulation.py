"""What the kernel does for simulated runs: the queue of events, and choices."""

import gc
import weakref
from random import Random
from typing import Any

import pytest

from quorate._kernel import Draws, EventQueue

SEEDS = (0, 1, 12345, 2**31, 2**32 - 1, 2**32, 2**40 + 7, 2**64 - 1)


def nothing(*_: Any) -> None:
    """Is put into queues and never called."""


def test_events_come_by_time_and_then_by_number() -> None:
    queue, random = EventQueue(), Random(1)
    expected = [(random.randrange(50), number) for number in range(500)]
    for at, number in expected:
        queue.push(at, number, nothing, (number,))
    expected.sort()
    assert [entry[:2] for entry in queue.entries()] == expected
    assert queue.next_at() == expected[0][0]
    found = []
    for until in range(0, 60, 7):
        while (event := queue.pop(until)) is not None:
            assert event[0] <= until
            assert event[2] is nothing
            assert event[3] == (event[1],)
            found.append(event[:2])
    assert found == expected
    assert len(queue) == 0
    assert queue.next_at() is None


def test_an_event_that_is_later_stays() -> None:
    queue = EventQueue()
    queue.push(5, 1, nothing, ())
    assert queue.pop(4) is None
    assert len(queue) == 1
    assert queue.pop(5) == (5, 1, nothing, ())


@pytest.mark.parametrize("at", [2**63, -(2**63) - 1])
def test_times_beyond_64_bits_are_refused(at: int) -> None:
    with pytest.raises(OverflowError):
        EventQueue().push(at, 1, nothing, ())


class Holder:
    """Holds a queue that holds it."""

    def __init__(self) -> None:
        self.queue = EventQueue()
        self.queue.push(1, 1, self.call, (self,))

    def call(self, *_: Any) -> None:
        """Is never called."""


def test_the_collector_frees_queues_in_circles() -> None:
    holder = weakref.ref(Holder())
    gc.collect()
    assert holder() is None


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_are_those_of_python(seed: int) -> None:
    draws, random = Draws(seed), Random(seed)
    for _ in range(1300):
        assert draws.random() == random.random()
    for n in (1, 2, 7, 1000, 1 << 24, 1 << 32, (1 << 53) - 1, 1 << 53):
        assert draws.choose(n) == int(random.random() * n)
    for permille in (1, 300, 500, 999, 1000):
        assert draws.chance(permille) == (random.random() * 1000 < permille)
