"""What the kernel does for simulated runs: the queue of events, their digest, and choices."""

import gc
import hashlib
import weakref
from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest

from quorate._kernel import Digest, Draws, EventQueue, Line, LinkRates, Seat, TapeSeed
from quorate.simulator.digest import FRAME

Note = tuple[int, int, int, int, bytes]

SEEDS = (0, 1, 12345, 2**31, 2**32 - 1, 2**32, 2**40 + 7, 2**64 - 1)


class Clocked:
    """Something whose `now` the queue sets."""

    now = 0


def make_queue(most: int = 1000) -> EventQueue:
    return EventQueue(Digest(), most)


def test_events_come_by_time_and_then_by_number() -> None:
    queue, random, world = make_queue(), Random(1), Clocked()
    found: list[tuple[int, int]] = []
    numbers: list[int] = []

    def call(at: int, number: int) -> None:
        assert world.now == queue.now == at
        assert numbers[-1] == number + 1
        found.append((at, number))

    expected = [(random.randrange(50), number) for number in range(500)]
    for at, number in expected:
        assert queue.after(at, call, (at, number)) == queue.number == number + 1
    expected.sort()
    assert queue.next_at() == expected[0][0]
    for until in range(0, 60, 7):
        assert not queue.run(world, until, [], numbers.append)
        assert found == [entry for entry in expected if entry[0] <= until]
    assert len(queue) == 0
    assert queue.next_at() is None


def test_what_happens_puts_more_into_the_queue() -> None:
    queue, found, world = make_queue(), [], Clocked()

    def call(depth: int) -> None:
        found.append((world.now, depth))
        if depth:
            queue.after(3, call, (depth - 1,))
            queue.after(0, call, (0,))

    queue.after(5, call, (2,))
    queue.run(world, 100, [])
    assert found == [(5, 2), (5, 0), (8, 1), (8, 0), (11, 0)]


def test_a_run_ends_where_it_is_told() -> None:
    queue, findings, found = make_queue(), [], []
    for number in range(6):
        queue.after(number, found.append, (number,))
    queue.after(3, findings.append, ("a finding",))
    assert queue.run(Clocked(), 100, findings, None, lambda: len(found) == 2)
    assert found == [0, 1]
    assert not queue.run(Clocked(), 100, findings)
    assert found == [0, 1, 2, 3]
    assert len(queue) == 2


def test_an_error_ends_a_run_and_nothing_is_lost() -> None:
    queue, found = make_queue(), []
    queue.after(1, int, ("nothing",))
    queue.after(2, found.append, (2,))
    with pytest.raises(ValueError, match="nothing"):
        queue.run(Clocked(), 9, [])
    queue.run(Clocked(), 9, [])
    assert found == [2]


@pytest.mark.parametrize("delay", [2**63, -(2**63) - 1, 2**63 - 1])
def test_times_beyond_64_bits_are_refused(delay: int) -> None:
    queue = make_queue()
    queue.now = 1
    with pytest.raises(OverflowError):
        queue.after(delay, print, ())
    assert len(queue) == 0


class Holder:
    """Holds a queue, a seat and a line that hold it."""

    def __init__(self) -> None:
        self.queue = make_queue()
        self.seat = Seat(self.queue, 0, self.call, self.call)
        self.seat.receive = self.call
        ends = (self.call, self, b"", 1, self.seat)
        self.line = Line(self.queue, LinkRates(), None, *ends, True, 0)
        self.queue.after(1, self.call, (self,))
        self.seat.later(1, self.call, (self,))
        self.seat.set_timer(1, self)
        self.line.push(b"frame", 1)

    def call(self, *_: Any) -> None:
        """Is never called."""


def test_the_collector_frees_queues_in_circles() -> None:
    holder = weakref.ref(Holder())
    gc.collect()
    assert holder() is None


class Machine:
    """The end of a line, and what happened to it."""

    def __init__(self, queue: EventQueue, log: list[Any], index: int) -> None:
        self.log, self.index = log, index
        self.seat = Seat(queue, index, self.fall, self.hold)

    def fall(self, timer: Any, number: int) -> None:
        self.log.append(("fall", self.index, timer, number))

    def hold(self, call: Any, arguments: tuple[Any, ...]) -> None:
        assert call == self.call
        self.log.append(("hold", self.index, arguments))

    def call(self, *arguments: Any) -> None:
        self.log.append(("call", self.index, arguments))

    def receive(self, source: bytes, frame: bytes) -> None:
        self.log.append(("receive", self.index, source, frame))


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_machines_and_lines_do_as_a_plain_queue_does(seed: int, direct: bool) -> None:
    """Everything that may happen between an event's beginning and its end, against lists."""
    random, digest = Random(seed), Digest()
    queue, world, log = EventQueue(digest, 10_000), Clocked(), list[Any]()
    machines = [Machine(queue, log, index) for index in range(3)]
    lines, plain, generations = [], list[tuple[int, int, Any]](), [0, 0, 0]

    def arrive(*what: Any) -> None:
        log.append(("arrive", *what))

    for machine in machines:
        ends = (machine.index, b"%d" % machine.index, 7, machine.seat)
        lines.append(Line(queue, LinkRates(), None, arrive, *ends, direct, 0))
    expected: list[Any] = []
    notes: list[Any] = []
    for step in range(300):
        i, at = random.randrange(3), queue.now + random.randrange(1, 20)
        machine, line, seat = machines[i], lines[i], machines[i].seat
        kind = random.randrange(8)
        number = queue.number + 1
        if kind == 0:
            assert seat.later(at - queue.now, machine.call, (step,)) == number
            plain.append((at, number, ("call", i, seat.life, step)))
        elif kind == 1:
            assert seat.set_timer(at - queue.now, step) == number
            plain.append((at, number, ("fall", i, seat.life, step)))
        elif kind in (2, 3):
            assert line.push(b"%d" % step, at) == number
            plain.append((at, number, ("frame", i, generations[i], step)))
        elif kind == 4:
            seat.life += 1
        elif kind == 5:
            seat.paused = not seat.paused
        elif kind == 6:
            seat.receive = None if random.randrange(3) == 0 else machine.receive
        else:
            generations[i] += random.randrange(2)
            line.turn(True, generations[i])
        under_way = [entry[2][3] for entry in sorted(plain) if entry[2][0] == "frame"]
        assert queue.frames() == [b"%d" % step for step in under_way]
        until = queue.now + random.randrange(6)
        for entry in sorted(plain):
            if entry[0] > until:
                break
            plain.remove(entry)
            at, number, (what, i, then, step) = entry
            seat = machines[i].seat
            if what == "frame":
                known = (i, then, b"%d" % step, number)
                if not direct:
                    expected.append(("arrive", *known))
                elif then == generations[i] and seat.receive is not None:
                    if seat.paused:
                        expected.append(("arrive", *known))
                    else:
                        expected.append(("receive", i, b"%d" % i, b"%d" % step))
                        notes.append((at, FRAME, 7, i, b"%d" % step))
            elif then == seat.life and what == "fall":
                expected.append(("fall", i, step, number))
            elif then == seat.life:
                expected.append(("hold" if seat.paused else "call", i, (step,)))
        assert not queue.run(world, until, [])
        queue.now = until
        assert log == expected
    plain_digest = Digest()
    for note in notes:
        plain_digest.note(*note)
    assert digest.finish() == plain_digest.finish()
    assert {entry[0] for entry in expected} >= {"call", "fall", "hold", "arrive"}


def test_a_timer_does_not_fall_at_once() -> None:
    queue, log, world = make_queue(), list[Any](), Clocked()
    seat = Machine(queue, log, 0).seat
    seat.set_timer(-5, "timer")
    assert queue.next_at() == 1
    queue.run(world, 0, [])
    assert log == []


def test_a_queue_notes_events_of_its_moment() -> None:
    digest, plain = Digest(), Digest()
    queue = EventQueue(digest, 10)
    queue.now = 77
    queue.note(3, 1, 2, b"what")
    plain.note(77, 3, 1, 2, b"what")
    assert digest.finish() == plain.finish()


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
    for name in ("5065/link 0>1 loss", "-1/\N{SNOWMAN}"):
        draws, random = Draws(name), Random(name_seed(name))
        assert [draws.random() for _ in range(5)] == [random.random() for _ in range(5)]


def test_streams_of_a_tape_begin_anew_with_its_seed() -> None:
    seed = TapeSeed("5065")
    early, idle = Draws("link 0>1 loss", seed), Draws("link 1>0 loss", seed)
    for text in ("5065", "-1", "-1", "5065"):
        seed.change(text)
        late = Draws("disk \N{SNOWMAN}", seed)
        for name, draws in (("link 0>1 loss", early), ("disk \N{SNOWMAN}", late)):
            random = Random(name_seed(f"{text}/{name}"))
            # More numbers than the state has words, so that nothing of the seed before is left.
            assert [draws.random() for _ in range(700)] == [random.random() for _ in range(700)]
    random = Random(name_seed("5065/link 1>0 loss"))
    assert [idle.choose(1000), idle.chance(500)] == [
        int(random.random() * 1000),
        random.random() < 0.5,
    ]


def test_a_line_chooses_as_its_streams_do() -> None:
    names = ["loss", "corrupt", "double", "delay", "tail"]
    queue, rates, random, log = make_queue(10_000), LinkRates(), Random(7), list[Any]()
    machine = Machine(queue, log, 0)
    machine.seat.receive = machine.receive
    lost, corrupted, doubled, delayed, tailed = (Draws(name) for name in names)
    streams = (Draws("loss"), Draws("corrupt"), Draws("double"), Draws("delay"), Draws("tail"))
    line = Line(queue, rates, streams, print, None, b"", 1, machine.seat, True, 5000)
    assert line.carry(b"nobody is connected") == len(queue) == 0
    line.turn(True, 1)
    free_at = last_at = 0
    outcomes = Counter[int]()

    def arrive(size: int) -> int:
        """Return when a frame arrives that takes as long as is drawn."""
        nonlocal free_at, last_at
        delay = line.base_ns + delayed.choose(rates.jitter_ns)
        if rates.tail and tailed.chance(rates.tail):
            delay *= rates.tail_factor
        delay = delay * line.factor + line.penalty_ns
        at = queue.now + delay
        if rates.bandwidth:
            free_at = max(free_at, queue.now) + size * 1_000_000 // rates.bandwidth
            at = free_at + delay
        if not rates.reorder:
            at = last_at = max(at, last_at)
        return at

    for step in range(2000):
        rates.loss, rates.corrupt = random.choice((0, 200)), random.choice((0, 50))
        rates.duplicate, rates.tail = random.choice((0, 300)), random.choice((0, 100))
        rates.jitter_ns, rates.tail_factor = random.choice((1, 10**9)), 20
        rates.bandwidth, rates.reorder = random.choice((0, 50)), random.random() < 0.8
        rates.picky = random.random() < 0.05
        line.blocked = int(random.random() < 0.05)
        line.base_ns, line.penalty_ns = random.choice((0, 5000)), random.choice((0, 0, 10**6))
        line.factor = random.choice((1, 1, 3))
        frame = b"%d" % step
        found = line.carry(frame)
        outcomes[found] += 1
        expected: list[int] = []
        if rates.picky or line.blocked:
            assert found == 2
        elif rates.loss and lost.chance(rates.loss):
            assert found == -1
        elif rates.corrupt and corrupted.chance(rates.corrupt):
            assert found == -2
        else:
            # The delay is drawn before the copy is chosen, and the copy has one of its own.
            expected = [arrive(len(frame))]
            assert found == int(rates.duplicate > 0 and doubled.chance(rates.duplicate))
            expected.extend(arrive(len(frame)) for _ in range(found))
        assert len(queue) == len(expected)
        for at in sorted(set(expected)):
            assert queue.next_at() == at
            queue.run(Clocked(), at, [])
        assert log == [("receive", 0, b"", frame)] * len(expected)
        log.clear()
    assert set(outcomes) == {-2, -1, 0, 1, 2}


def test_a_line_without_streams_leaves_its_choices_to_others() -> None:
    queue, rates = make_queue(), LinkRates()
    seat = Machine(queue, [], 0).seat
    line = Line(queue, rates, None, print, None, b"", 1, seat, True, 10)
    line.turn(True, 1)
    assert line.carry(b"frame") == 2
    rates.bandwidth, rates.reorder, line.factor, line.penalty_ns = 1000, False, 2, 3
    assert line.arrival(500, 10) == 500_000 + 23
    assert line.arrival(0, 0) == 500_003 + 20
    assert len(queue) == 0


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
    queue = make_queue(2)
    for number in range(5):
        queue.after(number, queue.note, (1, number, 0, b""))
    queue.run(Clocked(), 9, [])
    assert len(queue) == 3
