"""What the kernel does for simulated runs: the queue of events, their digest, and choices."""

import gc
import hashlib
import weakref
from random import Random
from typing import Any

import msgspec
import pytest

from quorate._kernel import Digest, Draws, EventQueue, LinkDraws, LinkRates

Note = tuple[int, int, int, int, bytes]

SEEDS = (0, 1, 12345, 2**31, 2**32 - 1, 2**32, 2**40 + 7, 2**64 - 1)


def nothing(*_: Any) -> None:
    """Is put into queues and never called."""


def make_queue(most: int = 1000) -> EventQueue:
    return EventQueue(Digest(), most)


def test_events_come_by_time_and_then_by_number() -> None:
    queue, random = make_queue(), Random(1)
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
    queue = make_queue()
    queue.push(5, 1, nothing, ())
    assert queue.pop(4) is None
    assert len(queue) == 1
    assert queue.pop(5) == (5, 1, nothing, ())


@pytest.mark.parametrize("at", [2**63, -(2**63) - 1])
def test_times_beyond_64_bits_are_refused(at: int) -> None:
    with pytest.raises(OverflowError):
        make_queue().push(at, 1, nothing, ())


class Holder:
    """Holds a queue that holds it."""

    def __init__(self) -> None:
        self.queue = make_queue()
        self.queue.push(1, 1, self.call, (self,))

    def call(self, *_: Any) -> None:
        """Is never called."""


def test_the_collector_frees_queues_in_circles() -> None:
    holder = weakref.ref(Holder())
    gc.collect()
    assert holder() is None


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_are_those_of_python(seed: int) -> None:
    draws, random = Draws.seeded(seed), Random(seed)
    for _ in range(1300):
        assert draws.random() == random.random()
    for n in (1, 2, 7, 1000, 1 << 24, 1 << 32, (1 << 53) - 1, 1 << 53):
        assert draws.choose(n) == int(random.random() * n)
    for permille in (1, 300, 500, 999, 1000):
        assert draws.chance(permille) == (random.random() * 1000 < permille)


def name_seed(name: str) -> int:
    """Return the seed of a stream."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def test_the_name_of_a_stream_is_its_seed() -> None:
    draws = Draws("5065/link 0>1 loss")
    for name in ("5065/link 0>1 loss", "-1/\N{SNOWMAN}"):
        random = Random(name_seed(name))
        assert [draws.random() for _ in range(5)] == [random.random() for _ in range(5)]
        draws.reseed("-1/\N{SNOWMAN}")


def test_a_link_chooses_as_its_streams_do() -> None:
    names = ["loss", "corrupt", "double", "delay", "tail"]
    link = LinkDraws(*(Draws(name) for name in names))
    lost, corrupted, doubled, delayed, tailed = (Draws(name) for name in names)
    random, rates = Random(7), LinkRates()
    for _ in range(2000):
        rates.loss, rates.corrupt = random.choice((0, 200)), random.choice((0, 50))
        rates.duplicate, rates.tail = random.choice((0, 300)), random.choice((0, 100))
        rates.jitter_ns, rates.tail_factor = random.choice((1, 10**9)), 20
        found = link.carry(rates, 5000)
        if rates.loss and lost.chance(rates.loss):
            assert found == -1
            continue
        if rates.corrupt and corrupted.chance(rates.corrupt):
            assert found == -2
            continue
        delay = 5000 + delayed.choose(rates.jitter_ns)
        if rates.tail and tailed.chance(rates.tail):
            delay *= 20
        assert found == 2 * delay + (rates.duplicate > 0 and doubled.chance(rates.duplicate))


# ---- the digest


def make_notes(count: int) -> list[Note]:
    """Return events with integers and bytes of all sizes."""
    random = Random(count)
    edges = [
        sign * ((1 << bits) + more) for bits in range(63) for sign in (1, -1) for more in (-1, 0)
    ]
    sizes = [*range(40), 255, 256, 300, 65535, 65536]

    def make_int() -> int:
        return random.choice(edges)

    return [
        (make_int(), make_int(), make_int(), make_int(), bytes(random.choice(sizes)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 1023, 1024, 1025, 2500])
def test_a_digest_is_that_of_message_pack(count: int) -> None:
    notes, digest = make_notes(count), Digest()
    for note in notes:
        digest.note(*note)
    whole, ladder = hashlib.blake2b(digest_size=16), []
    for at in range(0, count - 1023, 1024):
        whole.update(msgspec.msgpack.encode(notes[at : at + 1024]))
        ladder.append(whole.hexdigest()[:16])
    whole.update(msgspec.msgpack.encode(notes[len(ladder) * 1024 :]))
    assert digest.events == count
    assert digest.ladder == ladder
    assert digest.finish() == digest.finish() == whole.hexdigest()


def test_a_digest_keeps_the_events_that_it_is_asked_for() -> None:
    notes, digest = make_notes(30), Digest()
    digest.keep(10, 5)
    for note in notes:
        digest.note(*note)
    assert digest.kept == [(number, *notes[number]) for number in range(10, 15)]


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1])
def test_a_digest_takes_integers_of_64_bits(number: int) -> None:
    digest = Digest()
    with pytest.raises(OverflowError):
        digest.note(0, 1, number, 0, b"")
    assert digest.events == 0


def test_a_queue_gives_nothing_once_its_digest_is_full() -> None:
    digest = Digest()
    queue = EventQueue(digest, 2)
    for number in range(5):
        queue.push(number, number, nothing, ())
    for number in range(2):
        assert queue.pop(9) == (number, number, nothing, ())
        digest.note(number, 1, 0, 0, b"")
    assert queue.pop(9) is None
    assert len(queue) == 3
