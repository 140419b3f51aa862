"""The real port: lanes, timers, the journal, and what happens when one of them fails."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from quorate.base.errors import Unavailable
from quorate.base.types import Address, Hash, Height
from quorate.consensus.replica import Timer
from quorate.node.node import Node
from quorate.runtime.disk import FileDisk
from quorate.runtime.host import FAST_SYNC_NS, Host
from quorate.runtime.lanes import SHORT_NS, Soon
from quorate.storage.journal import open_journal
from runtime.worlds import drive, until


class Events:
    def __init__(self) -> None:
        self.failures: list[str] = []
        self.lines: list[tuple[str, str, dict[str, Any]]] = []
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1

    def committed(self, height: Height) -> None: ...
    def adopted(self, height: Height) -> None: ...
    def admitted(self, hashes: list[Hash]) -> None: ...
    def disconnect(self, peer: Address, reason: str) -> None: ...
    def fail(self, reason: str) -> None:
        self.failures.append(reason)

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.lines.append((level, event, fields))


class FakeJournal:
    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.threads: list[str] = []
        self.delay_ns = 0
        self.error: OSError | None = None

    def append(self, records: list[bytes]) -> None:
        if self.error is not None:
            raise self.error
        self.threads.append(threading.current_thread().name)
        end = time.monotonic_ns() + self.delay_ns
        while time.monotonic_ns() < end:
            pass
        self.kept += records

    def write(self, records: list[bytes]) -> None:
        if self.error is not None:
            raise self.error
        self.kept += records

    def sync(self) -> None:
        self.append([])

    def get_unsynced(self) -> str:
        return ""

    def end_sync(self, error: OSError | None) -> None: ...
    def replace(self, records: list[bytes]) -> None:
        self.threads.append(threading.current_thread().name)
        self.kept = list(records)


class FakeNode:
    def __init__(self) -> None:
        self.fallen: list[Timer] = []

    def timeout(self, timer: Timer) -> None:
        self.fallen.append(timer)


def send_nothing(peer: Address, frame: bytes) -> None: ...


def in_world(main: Callable[[Host, FakeJournal, Events, FakeNode], Any]) -> None:
    async def run() -> None:
        journal, events, node = FakeJournal(), Events(), FakeNode()
        host = Host(journal, events)
        host.attach(cast(Node, node), send_nothing, events.flush)
        await main(host, journal, events, node)
        assert await host.close(60)

    drive(run())


def test_lane_keeps_order_and_lanes_run_beside_each_other() -> None:
    async def main(host: Host, journal: FakeJournal, events: Events, node: FakeNode) -> None:
        done: list[int] = []
        gate = threading.Event()
        host.work("commit", gate.wait, lambda _: done.append(-1))
        for i in range(100):
            host.work("execute", lambda i=i: i, done.append)
        assert done == []
        await until(lambda: len(done) == 100, "the execute lane, though commit is busy")
        assert done == list(range(100))
        assert host.get_backlog()["commit"] == 1
        gate.set()
        await until(lambda: done[-1] == -1, "the commit lane")

    in_world(main)


def test_short_calls_are_made_on_the_loop_and_long_ones_beside_it() -> None:
    async def main(host: Host, journal: FakeJournal, events: Events, node: FakeNode) -> None:
        threads: list[int] = []

        async def call_once(work: Callable[[], object]) -> int:
            def call() -> int:
                work()
                return threading.get_ident()

            count = len(threads)
            host.work("execute", call, threads.append)
            await until(lambda: len(threads) > count, "the call")
            return threads[-1]

        def compute() -> None:
            # Work of the processor, many times what counts as short.
            end = time.thread_time_ns() + 20 * SHORT_NS
            while time.thread_time_ns() < end:
                pass

        # Waiting is not work: a machine that is busy elsewhere sends nothing to the thread.
        for _ in range(100):
            await call_once(lambda: time.sleep(0.0001))
        assert threads[-1] == threading.get_ident()
        for _ in range(20):
            await call_once(compute)
        assert threads[-1] != threading.get_ident()

    in_world(main)


def test_call_that_raises_stops_the_node_once_with_one_line() -> None:
    async def main(host: Host, journal: FakeJournal, events: Events, node: FakeNode) -> None:
        def fail() -> None:
            raise ValueError("height 7: impossible")

        called: list[Any] = []
        host.work("execute", fail, called.append)
        host.work("execute", fail, called.append)
        await until(lambda: events.failures, "the failure")
        await until(lambda: host.get_backlog()["execute"] == 0, "both calls")
        assert events.failures == ["execute: ValueError: height 7: impossible"]
        assert called == []

    in_world(main)


def test_what_an_input_led_to_may_leave_when_it_is_handled() -> None:
    async def main(host: Host, journal: FakeJournal, events: Events, node: FakeNode) -> None:
        said: list[str] = []

        async def expect(flushes: int, what: str) -> None:
            await until(lambda: events.flushes == flushes, what)

        host.set_timer(Timer("a", 1), 0)
        await expect(1, "a timer")
        host.work("commit", lambda: None, lambda _: said.append(f"done {events.flushes}"))
        await expect(2, "a call on a lane")
        host.append([b"x"], lambda: said.append(f"kept {events.flushes}"))
        await expect(3, "a sync")
        host.cut([b"y"], lambda: said.append(f"cut {events.flushes}"))
        await expect(4, "a cut")
        assert said == ["done 1", "kept 2", "cut 3"]

    in_world(main)


def test_timer_falls_once_and_a_cancelled_or_replaced_one_never() -> None:
    async def main(host: Host, journal: FakeJournal, events: Events, node: FakeNode) -> None:
        kept, cancelled, replaced = Timer("a", 1), Timer("b", 1), Timer("c", 1)
        host.set_timer(kept, 1_000_000)
        host.set_timer(cancelled, 0)
        host.set_timer(replaced, 0)
        host.cancel_timer(cancelled)
        host.set_timer(Timer("c", 1), 20_000_000)
        await until(lambda: len(node.fallen) == 2, "two timers")
        assert node.fallen == [kept, replaced]
        host.set_timer(kept, 0)
        host.cancel_timer(kept)
        host.set_timer(cancelled, 0)
        await until(lambda: len(node.fallen) == 3, "the next")
        assert node.fallen[-1] == cancelled

    in_world(main)


def test_timer_that_is_put_off_falls_when_it_was_last_asked_to() -> None:
    async def main(host: Host, journal: FakeJournal, events: Events, node: FakeNode) -> None:
        timer = Timer("a")
        begin = time.monotonic()
        for _ in range(50):
            host.set_timer(timer, 20_000_000)
            await asyncio.sleep(0.001)
            assert node.fallen == []
        last = time.monotonic()
        await until(lambda: node.fallen, "the timer")
        assert time.monotonic() - last > 0.018 - 0.001
        assert last - begin > 0.03  # long after it was first due
        # Cancelled, it may be asked for again, earlier and later.
        for delay_ms in (0, 1, 30):
            count = len(node.fallen)
            host.set_timer(timer, 10_000_000)
            host.cancel_timer(timer)
            await asyncio.sleep(0.02)
            assert len(node.fallen) == count
            host.set_timer(timer, 10_000_000)
            host.cancel_timer(timer)
            host.set_timer(timer, delay_ms * 1_000_000)
            await until(lambda count=count: len(node.fallen) > count, "the timer again")
            await asyncio.sleep(0.02)
            assert len(node.fallen) == count + 1

    in_world(main)


def test_no_timer_falls_after_the_end() -> None:
    async def main(host: Host, journal: FakeJournal, events: Events, node: FakeNode) -> None:
        host.set_timer(Timer("a"), 0)
        assert await host.close(60)
        assert node.fallen == []

    async def run() -> None:
        host, node = Host(FakeJournal(), Events()), FakeNode()
        host.attach(cast(Node, node), send_nothing, Events().flush)
        await main(host, FakeJournal(), Events(), node)

    drive(run())


def test_fast_syncs_are_made_on_the_loop_and_slow_ones_beside_it() -> None:
    async def main(host: Host, journal: FakeJournal, events: Events, node: FakeNode) -> None:
        done: list[int] = []
        host.append([b"a"], lambda: done.append(1))
        assert done == []  # never from inside the call
        await until(lambda: done == [1], "the first")
        journal.delay_ns = 10 * FAST_SYNC_NS
        for i in range(2, 40):
            host.append([b"b"], lambda i=i: done.append(i))
            await until(lambda i=i: done[-1] == i, "the next")
        here = threading.current_thread().name
        assert journal.threads[0] == here
        assert journal.threads[-1] == "quorate-journal"
        journal.delay_ns = 0
        count = 40
        # A busy machine leaves some of them out for a while, which makes those slow.
        while journal.threads[-1] != here:
            host.append([b"b"], lambda i=count: done.append(i))
            await until(lambda i=count: done[-1] == i, "the next")
            count += 1
            assert count < 5000, "fast syncs stay beside the loop"
        host.cut([b"c"], lambda: done.append(count))
        await until(lambda: done[-1] == count, "the cut")
        assert journal.kept == [b"c"]
        assert host.syncs == count - 1

    in_world(main)


def test_disk_that_fails_stops_the_node_and_done_is_never_called() -> None:
    async def main(host: Host, journal: FakeJournal, events: Events, node: FakeNode) -> None:
        done: list[int] = []
        journal.error = OSError(28, "No space left on device")
        host.append([b"a"], lambda: done.append(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert events.failures == ["journal: [Errno 28] No space left on device"]
        assert done == []

    in_world(main)


def test_close_lets_the_calls_that_wait_complete() -> None:
    async def run() -> None:
        host = Host(FakeJournal(), Events())
        done: list[int] = []
        for i in range(50):
            host.work("commit", lambda i=i: done.append(i), lambda _: None)
        assert await host.close(60)
        assert done == list(range(50))

    drive(run())


def test_real_journal_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    async def run() -> None:
        journal, _ = open_journal(FileDisk(tmp_path / "journal"), b"me")
        host = Host(journal, Events())
        done: list[int] = []
        host.append([b"one", b"two"], lambda: done.append(1))
        await until(lambda: done == [1], "durable")
        host.cut([b"three"], lambda: done.append(2))
        await until(lambda: done == [1, 2], "cut")
        host.append([b"four"], lambda: done.append(3))
        await until(lambda: done[-1] == 3, "durable")
        _, recovered = open_journal(FileDisk(tmp_path / "journal"), b"me")
        assert recovered.records == [b"three", b"four"]
        assert await host.close(60)

    drive(run())


def test_sync_is_made_beside_calls_that_wait_and_never_without_end(tmp_path: Path) -> None:
    async def run() -> None:
        disk = FileDisk(tmp_path / "journal")
        journal, _ = open_journal(disk, b"me")
        host = Host(journal, Events(), disk=disk)
        said: list[str] = []
        host.append([b"new"], lambda: said.append("new"))
        await until(lambda: said == ["new"], "a first record, whose file is new")
        for i in range(50):
            # As a leader does: it writes what it proposed, and executes it meanwhile.
            count = len(said)
            host.append([b"%d" % i], lambda i=i: said.append(f"kept {i}"))
            host.work("execute", lambda: None, lambda _, i=i: said.append(f"done {i}"))
            await until(lambda count=count: len(said) == count + 2, "both")
        assert host._syncing is not None
        assert host.syncs == 51
        _, recovered = open_journal(FileDisk(tmp_path / "journal"), b"me")
        assert recovered.records == [b"new", *(b"%d" % i for i in range(50))]
        host.append([b"last"], lambda: said.append("last"))
        host.work("execute", lambda: None, lambda _: None)
        assert await host.close(60)
        assert said[-1] == "last"

    drive(run())


def test_last_append_to_a_slow_disk_is_not_lost_at_the_end() -> None:
    async def run() -> None:
        journal = FakeJournal()
        host = Host(journal, Events())
        done: list[int] = []
        journal.delay_ns = 10 * FAST_SYNC_NS
        count = 0
        while not journal.threads or journal.threads[-1] != "quorate-journal":
            host.append([b"a"], lambda i=count: done.append(i))
            await until(lambda i=count: done and done[-1] == i, "the next")
            count += 1
        host.append([b"last"], lambda: done.append(-1))
        assert await host.close(60)
        await until(lambda: done[-1] == -1, "the last")
        assert journal.kept[-1] == b"last"

    drive(run())


def test_disk_that_fails_beside_the_loop_stops_the_node(tmp_path: Path) -> None:
    async def run() -> None:
        disk = FileDisk(tmp_path / "journal")
        journal, _ = open_journal(disk, b"me")
        events = Events()
        host = Host(journal, events, disk=disk)
        said: list[str] = []
        host.append([b"new"], lambda: said.append("new"))
        await until(lambda: said == ["new"], "a first record")
        name = journal.get_unsynced()
        good = disk.find_descriptor(name)
        assert good is not None
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, good)  # takes what is written to it, and cannot be synced
        host.append([b"lost"], lambda: said.append("lost"))
        host.work("execute", lambda: None, lambda _: None)
        await until(lambda: events.failures, "the failure")
        assert events.failures[0].startswith("journal: ")
        with pytest.raises(Unavailable, match="not usable"):
            journal.sync()
        assert disk.find_descriptor(name) is None
        assert said == ["new"]
        assert await host.close(60)
        os.close(null)

    drive(run())


def test_calls_that_follow_from_each_other_leave_turns_to_the_loop() -> None:
    async def run() -> None:
        soon = Soon(asyncio.get_running_loop())
        order: list[int] = []

        def call(number: int, follow: int) -> None:
            order.append(number)
            if number < follow:
                soon.put(call, number + 1, follow)
            if number == 3:
                raise ValueError(3)

        loop = asyncio.get_running_loop()
        raised: list[Any] = []
        loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
        soon.put(call, 0, 20)
        loop.call_soon(order.append, -1)
        assert order == []  # never from inside the call
        await until(lambda: 20 in order, "all, though one of them failed")
        assert [n for n in order if n >= 0] == list(range(21))
        assert order.index(-1) < 10
        assert [type(error) for error in raised] == [ValueError]

    drive(run())
