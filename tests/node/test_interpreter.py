"""The interpreter, effect by effect: order, group commit, own messages, cuts."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import pytest

from node.world import CheapKeys, make_address
from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height, Member, Nanoseconds
from quorate.consensus.replica import (
    NOTHING,
    Base,
    Broadcast,
    CancelTimer,
    Check,
    Checkpoint,
    Decision,
    Effect,
    Message,
    Persist,
    Record,
    Replica,
    Send,
    SetTimer,
    Situation,
    Timer,
    Want,
)
from quorate.node.interpreter import (
    MAX_CHECKPOINTS,
    MAX_UNWRITTEN,
    MAX_UNWRITTEN_BYTES,
    Interpreter,
)
from quorate.node.wire import encode

ME, OTHER = make_address(0), make_address(1)


class Word(Record, frozen=True, array_like=True, gc=False, tag=1):
    text: str


class Say(Message, frozen=True, array_like=True, gc=False, tag=7):
    text: str


class Scripted(Replica):
    """Emits what the test tells it to, and notes what it is given."""

    WIRE: ClassVar[tuple[type[Message], ...]] = (Decision, Say)
    RECORDS: ClassVar[tuple[type[Record], ...]] = (Word,)

    def __init__(self) -> None:
        super().__init__(CheapKeys(ME), bytes(32), Rng(0))
        self.heard: list[tuple[Address, str]] = []
        self.answers: dict[str, list[Effect]] = {}

    def on_say(self, now: Nanoseconds, sender: Address, m: Say) -> None:
        self.heard.append((sender, m.text))
        self.out += self.answers.get(m.text, [])

    def start(self, now: Nanoseconds, base: Base, journal: Iterable[Record]) -> None: ...
    def timeout(self, now: Nanoseconds, timer: Timer) -> None: ...
    def submit(self, now: Nanoseconds, height: Height, payload: bytes) -> None: ...
    def checked(
        self, now: Nanoseconds, height: Height, payload: bytes, valid: bool, envelope: Hash = b""
    ) -> None: ...
    def applied(self, now: Nanoseconds, height: Height, members: list[Member]) -> None: ...
    def get_situation(self, now: Nanoseconds) -> Situation:
        return Situation(1, 0, "", None, "", "", [], None)

    HANDLERS: ClassVar[dict[type[Message], Any]] = {Say: on_say}


class Bench:
    """An interpreter whose port notes every call, and whose disk is as slow as the test wants."""

    def __init__(self) -> None:
        self.replica = Scripted()
        self.calls: list[tuple[Any, ...]] = []
        self.done: list[Callable[[], None]] = []
        note = self.note
        self.interpreter = Interpreter(
            self.replica,
            self,  # type: ignore[arg-type]
            send=lambda to, frame: note("send", to, frame),
            broadcast=lambda frame: note("broadcast", frame),
            want=lambda e: note("want", e.height),
            check=lambda e: note("check", e.height),
            deliver=lambda e: note("deliver", e.height),
            head=lambda e: note("head", e.height),
            accuse=lambda e: note("accuse", e.who),
            recall=lambda e: note("recall", e.first),
            blame=lambda e: note("blame", e.who),
            readable=lambda e: note("readable", e.number, e.height),
        )

    def note(self, *call: Any) -> None:
        self.calls.append(call)

    def now(self) -> Nanoseconds:
        return 0

    def set_timer(self, timer: Timer, delay_ns: Nanoseconds) -> None:
        self.note("set", timer.kind, delay_ns)

    def cancel_timer(self, timer: Timer) -> None:
        self.note("cancel", timer.kind)

    def append(self, records: list[bytes], done: Callable[[], None]) -> None:
        self.note("append", *records)
        self.done.append(done)

    def cut(self, records: list[bytes], done: Callable[[], None]) -> None:
        self.note("cut", *records)
        self.done.append(done)

    def do(self, *effects: Effect) -> list[tuple[Any, ...]]:
        """Let the replica emit effects; return what was carried out at once."""
        self.replica.out += effects
        return self.take(self.interpreter.flush)

    def finish(self) -> list[tuple[Any, ...]]:
        """The write that is under way is durable; return what was carried out because of it."""
        assert len(self.done) == 1
        return self.take(self.done.pop())

    def take(self, call: Callable[[], None]) -> list[tuple[Any, ...]]:
        call()
        calls, self.calls = self.calls, []
        return calls


def word(text: str) -> Persist:
    return Persist(Word(text))


def later(text: str) -> Persist:
    return Persist(Word(text), urgent=False)


def raw(text: str) -> bytes:
    return encode(Word(text))


def say(text: str) -> Send:
    return Send(OTHER, Say(text))


def said(text: str) -> tuple[str, Address, bytes]:
    return ("send", OTHER, encode(Say(text)))


def test_effects_are_carried_out_in_list_order() -> None:
    timer = Timer("t")
    assert Bench().do(
        say("a"), SetTimer(timer, 5), Want(1, bytes(32)), Check(2, b"p"), CancelTimer(timer)
    ) == [said("a"), ("set", "t", 5), ("want", 1), ("check", 2), ("cancel", "t")]


def test_nothing_behind_a_persist_shows_before_it_is_durable() -> None:
    bench = Bench()
    assert bench.do(say("before"), word("x"), say("after"), SetTimer(Timer("t"), 1)) == [
        said("before"),
        ("append", raw("x")),
    ]
    assert bench.do(say("later")) == []
    assert bench.finish() == [said("after"), ("set", "t", 1), said("later")]


def test_all_waiting_records_go_into_one_append() -> None:
    bench = Bench()
    assert bench.do(word("a"), say("1"), word("b"), say("2"), word("c")) == [
        ("append", raw("a"), raw("b"), raw("c"))
    ]
    assert bench.finish() == [said("1"), said("2")]


def test_records_that_come_during_an_append_wait_for_the_next_one() -> None:
    bench = Bench()
    bench.do(word("a"), say("1"))
    assert bench.do(word("b"), say("2")) == []
    assert bench.do(word("c"), say("3")) == []
    assert bench.finish() == [said("1"), ("append", raw("b"), raw("c"))]
    assert bench.finish() == [said("2"), said("3")]


def test_nothing_waits_for_what_is_not_urgent_and_it_is_written_before_what_follows() -> None:
    bench = Bench()
    assert bench.do(later("a"), say("1"), later("b"), say("2")) == [said("1"), said("2")]
    assert bench.do(word("c"), say("3"), later("d"), word("e"), say("4")) == [
        ("append", *map(raw, "abcde"))
    ]
    assert bench.finish() == [said("3"), said("4")]
    # All of them are written: the next ones begin anew.
    assert bench.do(later("f"), word("g")) == [("append", raw("f"), raw("g"))]


def test_what_is_not_urgent_comes_after_what_is_being_written() -> None:
    bench = Bench()
    bench.do(word("a"), say("1"))
    assert bench.do(later("b"), say("2")) == []
    assert bench.finish() == [said("1"), said("2")]
    assert bench.do(word("c")) == [("append", raw("b"), raw("c"))]


def test_few_records_are_ever_unwritten() -> None:
    bench = Bench()
    for number in range(MAX_UNWRITTEN):
        assert bench.do(later(str(number)), say("on")) == [said("on")]
    last = str(MAX_UNWRITTEN)
    assert bench.do(later(last), say("on")) == [
        ("append", *(raw(str(number)) for number in range(MAX_UNWRITTEN + 1)))
    ]
    assert bench.finish() == [said("on")]
    large = "x" * MAX_UNWRITTEN_BYTES
    assert bench.do(later("y")) == []
    assert bench.do(later(large)) == [("append", raw("y"), raw(large))]


def test_what_is_not_urgent_is_written_before_a_stop() -> None:
    bench = Bench()
    bench.interpreter.write_rest()
    assert bench.calls == []
    bench.do(later("a"), later("b"))
    bench.interpreter.write_rest()
    assert bench.calls == [("append", raw("a"), raw("b"))]
    bench.calls.clear()
    bench.interpreter.stop()
    assert bench.finish() == []


def test_a_cut_takes_what_was_not_urgent_along() -> None:
    bench = Bench()
    effects = (later("old"), Checkpoint(5, [Word("base")]), later("new"), say("1"))
    assert bench.do(*effects) == [said("1")]
    bench.interpreter.on_durable(5)
    assert bench.calls == [("cut", raw("base"), raw("new"))]
    bench.calls.clear()
    assert bench.do(later("while"), word("x")) == []
    assert bench.finish() == [("append", raw("while"), raw("x"))]


def test_message_to_oneself_comes_back_as_a_later_input_once_the_record_is_durable() -> None:
    bench = Bench()
    bench.replica.answers = {"ack": [say("counted")]}
    bench.do(word("vote"), Send(ME, Say("ack")), say("told"))
    assert bench.replica.heard == []
    assert bench.finish() == [said("told"), said("counted")]
    assert bench.replica.heard == [(ME, "ack")]


def test_broadcast_is_encoded_once_and_includes_oneself() -> None:
    bench = Bench()
    assert bench.do(Broadcast(Say("all"))) == [("broadcast", encode(Say("all")))]
    assert bench.replica.heard == [(ME, "all")]


def test_messages_are_received_while_the_disk_is_at_work() -> None:
    bench = Bench()
    bench.replica.answers = {"hello": [say("answer")]}
    bench.do(word("slow"))
    bench.interpreter.receive(0, OTHER, Say("hello"))
    assert bench.replica.heard == [(OTHER, "hello")]
    assert bench.calls == []
    assert bench.finish() == [said("answer")]


def test_cut_waits_for_the_store_and_keeps_what_followed_the_checkpoint() -> None:
    bench = Bench()
    bench.do(word("old"))
    bench.finish()
    assert bench.do(Checkpoint(5, [Word("base")]), word("new"), say("1")) == [
        ("append", raw("new"))
    ]
    assert bench.finish() == [said("1")]
    bench.interpreter.on_durable(4)
    assert bench.calls == []
    bench.interpreter.on_durable(5)
    assert bench.calls == [("cut", raw("base"), raw("new"))]
    bench.calls.clear()
    assert bench.do(word("later"), say("2")) == []
    assert bench.finish() == [("append", raw("later"))]
    assert bench.finish() == [said("2")]
    bench.interpreter.on_durable(9)
    assert bench.calls == []


def test_cut_takes_the_place_of_an_append_when_records_wait() -> None:
    bench = Bench()
    bench.do(Checkpoint(5, [Word("base")]))
    bench.do(word("a"), say("1"))
    bench.interpreter.on_durable(5)
    assert bench.do(word("b"), say("2")) == []
    # The append was under way: the cut follows, with everything since the checkpoint.
    assert bench.finish() == [said("1"), ("cut", raw("base"), raw("a"), raw("b"))]
    assert bench.finish() == [said("2")]


def test_newest_checkpoint_that_the_store_has_reached_is_taken() -> None:
    bench = Bench()
    bench.do(Checkpoint(5, [Word("five")]), word("a"))
    bench.finish()
    bench.do(Checkpoint(8, [Word("eight")]), word("b"))
    bench.finish()
    bench.do(Checkpoint(12, [Word("twelve")]), word("c"))
    bench.finish()
    bench.interpreter.on_durable(9)
    assert bench.calls == [("cut", raw("eight"), raw("b"), raw("c"))]
    bench.calls.clear()
    assert bench.finish() == []
    bench.interpreter.on_durable(12)
    assert bench.calls == [("cut", raw("twelve"), raw("c"))]


def test_waiting_checkpoints_are_bounded() -> None:
    bench = Bench()
    for height in range(10, 30):
        bench.do(Checkpoint(height, [Word(str(height))]))
    assert len(bench.interpreter.pending) == MAX_CHECKPOINTS
    bench.interpreter.on_durable(29)
    assert bench.calls == [("cut", raw("29"))]


def test_exception_of_a_handler_leaves_no_half_carried_list() -> None:
    bench = Bench()
    bench.replica.out.append(NOTHING)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        bench.interpreter.flush()
    assert not bench.interpreter.flushing


def test_stopped_interpreter_says_nothing_more() -> None:
    bench = Bench()
    bench.do(word("a"), say("1"))
    bench.interpreter.stop()
    assert bench.finish() == []
    assert bench.do(say("2")) == []
