"""Who is told a height, and when."""

from typing import Any

import pytest

from quorate.base.types import MILLISECOND, Address, Height
from quorate.consensus.replica import Timer
from quorate.node.messages import Hello, Tip
from quorate.node.peers import TIP_TIMER, Peer, Peers
from quorate.node.settings import Settings
from quorate.node.wire import VERSION, make_decoder

GENESIS = bytes(32)
MEMBERS = [bytes([i]) * 20 for i in (1, 2)]
OUTSIDER = bytes([9]) * 20
AGAIN = 1000 * MILLISECOND
SOON = 50 * MILLISECOND


class Bench:
    """The peers of one node, connected and greeted, and what was sent to them."""

    def __init__(self, *addresses: Address, height: Height = 10) -> None:
        self.time = 5 * AGAIN
        self.falls: int | None = None
        self.sent: list[tuple[Address, Any]] = []
        self.shown: list[Height] = []
        self.decode = make_decoder(()).decode
        port: Any = self
        self.peers = Peers(
            port,
            Settings(tip_ms=SOON // MILLISECOND, tip_again_ms=AGAIN // MILLISECOND),
            {},
            genesis=GENESIS,
            engine="test",
            software="test",
            height=height,
            open_to=lambda _: True,
            is_member=MEMBERS.__contains__,
            on_greeted=lambda _: None,
            on_height=lambda _: None,
            on_shown=self.shown.append,
        )
        for address in addresses:
            self.peers.connect(address)
            hello = Hello(VERSION, GENESIS, "test", "test", height, True)
            self.peers.on_hello(self.get(address), hello)
        self.sent.clear()

    def get(self, address: Address) -> Peer:
        return self.peers.known[address]

    def now(self) -> int:
        return self.time

    def send(self, peer: Address, frame: bytes) -> None:
        self.sent.append((peer, self.decode(frame)))

    def set_timer(self, timer: Timer, delay_ns: int) -> None:
        if timer == TIP_TIMER:
            self.falls = self.time + delay_ns

    def log(self, level: str, event: str, **fields: Any) -> None:
        pass

    def disconnect(self, address: Address, reason: str) -> None:
        pass

    def pass_time(self, span: int) -> list[tuple[Address, Any]]:
        """Let timers fall; return what was said."""
        self.sent.clear()
        end = self.time + span
        while self.falls is not None and self.falls <= end:
            self.time, self.falls = self.falls, None
            self.peers.on_tip_timer()
        self.time = end
        return list(self.sent)


def test_members_who_show_their_height_are_told_nothing() -> None:
    bench = Bench(*MEMBERS)
    for height in range(11, 60):
        bench.peers.on_final(height)
        for address in MEMBERS:
            bench.peers.show(bench.get(address), height - 1)
        assert bench.pass_time(AGAIN // 4) == []


def test_last_height_is_told_until_it_is_known_and_then_nothing() -> None:
    bench = Bench(*MEMBERS)
    bench.peers.on_final(11)
    for address in MEMBERS:
        bench.peers.show(bench.get(address), 10)
    told = bench.pass_time(3 * AGAIN)
    assert told[:2] == [(address, Tip(11, 10)) for address in MEMBERS]
    for address in MEMBERS:
        bench.peers.on_tip(bench.get(address), Tip(11, 11))
    assert bench.pass_time(AGAIN) == []
    assert bench.falls is None


def test_member_that_shows_nothing_is_told_once_in_a_pause() -> None:
    bench = Bench(*MEMBERS)
    told = []
    for height in range(11, 51):
        bench.peers.on_final(height)
        bench.peers.show(bench.get(MEMBERS[0]), height)
        told += bench.pass_time(AGAIN // 10)
    assert {address for address, _ in told} == {MEMBERS[1]}
    assert 3 <= len(told) <= 4


def test_who_is_no_member_is_told_soon_whatever_members_show() -> None:
    bench = Bench(*MEMBERS, OUTSIDER)
    for height in range(11, 21):
        bench.peers.on_final(height)
        bench.peers.show(bench.get(MEMBERS[0]), height)
        bench.peers.show(bench.get(MEMBERS[1]), height)
        assert bench.pass_time(SOON) == [(OUTSIDER, Tip(height, 10))]
    bench.peers.disconnect(OUTSIDER)
    bench.peers.on_final(21)
    assert bench.falls is not None
    assert bench.falls > bench.time + SOON


def test_pause_of_members_does_not_hold_back_an_outsider() -> None:
    bench = Bench(*MEMBERS)
    bench.peers.on_final(11)
    bench.peers.connect(OUTSIDER)
    bench.peers.on_hello(bench.get(OUTSIDER), Hello(VERSION, GENESIS, "test", "test", 11, True))
    bench.peers.on_final(12)
    assert (OUTSIDER, Tip(12, 11)) in bench.pass_time(SOON)


@pytest.mark.parametrize(
    ("told", "answered"),
    [(Tip(9, 9), True), (Tip(9, 10), False), (Tip(10, 9), True), (Tip(11, 9), True)],
)
def test_tip_is_answered_if_its_sender_does_not_know_our_height(told: Tip, answered: bool) -> None:
    bench = Bench(MEMBERS[0])
    bench.time += AGAIN
    bench.peers.on_tip(bench.get(MEMBERS[0]), told)
    assert bench.sent == ([(MEMBERS[0], Tip(10, told.height))] if answered else [])
    # What is on its way is not said again.
    bench.peers.on_tip(bench.get(MEMBERS[0]), told)
    assert len(bench.sent) == answered


def test_a_height_that_is_shown_above_our_own_is_news() -> None:
    bench = Bench(MEMBERS[0])
    for height in (9, 10, 11, 11, 10, 14):
        bench.peers.show(bench.get(MEMBERS[0]), height)
    assert bench.shown == [11, 14]
    assert bench.get(MEMBERS[0]).height == 14
