"""Discovery alone, over a port that only remembers: slots, lists, feelers, bans, what is kept."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from node.lone import Lone
from quorate.base.errors import Invalid
from quorate.base.rng import Rng
from quorate.base.types import SECOND, Address
from quorate.consensus.replica import Timer
from quorate.node.contacts import FEELER, INBOUND, OUTBOUND, Bootnode, Meeting, Open, OpenSettings
from quorate.node.discovery import DISCOVERY_TIMER, Discovery
from quorate.node.peer_file import Kept, decode_kept
from quorate.node.peers import MALFORMED_POINTS, Peer, Peers
from quorate.node.places import Place
from quorate.node.settings import Settings
from quorate.node.slots import Guest, choose_victim
from quorate.node.wire import OPEN_MESSAGES, GetPeers, Here, PeerList, Told, encode, make_decoder

GENESIS = b"g" * 32
ME = b"m" * 20
PORT = 30303
START_MS = 1_800_000_000_000


class FakePort:
    """Remembers what it was asked for; time is what the test says."""

    def __init__(self) -> None:
        self.time = SECOND
        self.sent: list[tuple[Address, Any]] = []
        self.dialled: list[tuple[Place, bytes]] = []
        self.ended: list[tuple[Address, str]] = []
        self.timers: dict[Timer, int] = {}
        self.kept: list[bytes] = []
        self.ahead_ms = 0
        """Of the wall clock."""
        self.decode = make_decoder(OPEN_MESSAGES).decode

    def now(self) -> int:
        return self.time

    def wall_ms(self) -> int:
        return START_MS + self.ahead_ms + self.time // 1_000_000

    def send(self, peer: Address, frame: bytes) -> None:
        self.sent.append((peer, self.decode(frame)))

    def set_timer(self, timer: Timer, delay_ns: int) -> None:
        self.timers[timer] = self.time + delay_ns

    def disconnect(self, peer: Address, reason: str) -> None:
        self.ended.append((peer, reason))

    def log(self, level: str, event: str, **fields: Any) -> None:
        pass

    def dial(self, place: Place, key: bytes) -> None:
        self.dialled.append((place, key))

    def keep_peers(self, data: bytes) -> None:
        self.kept.append(data)


class Bench:
    """One discovery and those who come to it."""

    def __init__(
        self, bootnodes: list[Bootnode] | None = None, kept: Kept | None = None, **settings: Any
    ) -> None:
        self.port = port = FakePort()
        counters: dict[str, int] = {}
        anything: Any = port
        self.peers = Peers(
            anything,
            Settings(),
            counters,
            genesis=GENESIS,
            engine="test",
            software="test",
            height=0,
            open_to=lambda address: True,
            is_member=lambda address: True,
            on_greeted=lambda peer: None,
            on_height=lambda height: None,
            on_shown=lambda height: None,
        )
        self.discovery = Discovery(
            anything,
            self.peers,
            counters,
            GENESIS,
            Open(
                port,
                OpenSettings(**settings),
                ME,
                b"s" * 32,
                Rng(7),
                bootnodes or [],
                Here(b"", PORT),
                kept,
            ),
        )
        self.peers.on_blamed = self.discovery.blame
        self.discovery.start()

    def pass_time(self, seconds: float) -> None:
        """Let timers fall in their order."""
        end = self.port.time + int(seconds * SECOND)
        while (at := self.port.timers.get(DISCOVERY_TIMER, end + 1)) <= end:
            del self.port.timers[DISCOVERY_TIMER]
            self.port.time = max(self.port.time, at)
            self.discovery.on_timer()
        self.port.time = end

    def come(self, who: int, place: Place) -> Peer:
        """A peer connects; it is greeted if it may stay."""
        return self.meet(who, Meeting(place.host, 40000, None))

    def answer(self, who: int, place: Place) -> Peer:
        """A peer answers where we dialled."""
        return self.meet(who, Meeting(place.host, place.port, place))

    def meet(self, who: int, meeting: Meeting) -> Peer:
        address = name(who)
        peer = self.peers.get(address)
        if self.discovery.on_connected(address, meeting):
            peer.connected = True
            self.discovery.on_greeted(address)
        return peer

    def get_kinds(self) -> dict[Address, str]:
        return {c.peer: c.kind for c in self.discovery.contacts.values()}

    def learn(self, places: list[Place]) -> None:
        now_s = self.discovery.get_wall_s()
        for place in places:
            self.discovery.book.add(place, place.host, now_s, now_s)
        self.discovery.hurry()


def name(who: int) -> Address:
    return who.to_bytes(20, "big")


def at(where: int, host: int = 1) -> Place:
    """Return a place that the world can reach."""
    return Place(bytes([20 + where // 250, 1 + where % 250, 0, host]), PORT)


def test_bootnodes_are_where_it_begins_and_their_keys_are_asked_for() -> None:
    bench = Bench([Bootnode(at(1), b"k" * 20)])
    bench.pass_time(1)
    assert bench.port.dialled == [(at(1), b"k" * 20)]
    counts = []
    for _ in range(2):
        for _ in range(60):
            for place in list(bench.discovery.dialling):
                bench.discovery.on_undialled(place, "refused")
            bench.pass_time(1)
        counts.append(len(bench.port.dialled))
    # Again and again, each time after a longer pause.
    assert 4 <= counts[0] <= 9
    assert counts[1] <= counts[0] + 3


def test_outgoing_connections_go_to_different_ranges_and_no_further() -> None:
    bench = Bench(outbound=4, max_dials=2)
    bench.learn([at(i, host) for i in range(10) for host in range(1, 4)])
    who = 0
    for _ in range(20):
        bench.pass_time(1)
        assert len(bench.discovery.dialling) <= 2
        for place in list(bench.discovery.dialling):
            who += 1
            bench.answer(who, place)
    outbound = bench.discovery.get_outbound()
    assert len(outbound) == 4
    assert len({c.host[:2] for c in outbound}) == 4
    assert len(bench.port.dialled) == 4


def test_lists_are_taken_once_for_each_question() -> None:
    bench = Bench()
    bench.learn([at(1)])
    bench.pass_time(1)
    peer = bench.answer(1, at(1))
    assert [m for who, m in bench.port.sent if who == peer.address] == [Here(b"", PORT), GetPeers()]
    told = PeerList([Told(at(i), 5) for i in range(2, 50)])
    bench.discovery.on_peer_list(peer, told)
    known = set(bench.discovery.book.entries)
    # Chance may give two of them one slot.
    assert len(known) > 40
    bench.discovery.on_peer_list(peer, PeerList([Told(at(i), 5) for i in range(60, 90)]))
    assert set(bench.discovery.book.entries) == known
    assert bench.discovery.counters["dropped_unasked_peers"] == 1


def test_who_came_in_is_not_asked_and_its_list_is_not_taken() -> None:
    bench = Bench()
    peer = bench.come(1, at(1))
    bench.pass_time(30)
    assert GetPeers() not in [m for _, m in bench.port.sent]
    bench.discovery.on_peer_list(peer, PeerList([Told(at(2), 0)]))
    assert not bench.discovery.book.entries


@pytest.mark.parametrize(
    ("host", "known"),
    [
        (bytes([127, 0, 0, 1]), False),
        (bytes([10, 0, 0, 1]), False),
        (bytes([0, 0, 0, 0]), False),
        (bytes(5), False),
        (bytes([30, 9, 9, 9]), True),
        (b"", True),
    ],
)
def test_a_node_says_once_where_it_listens_and_not_where_nobody_gets(
    host: bytes, known: bool
) -> None:
    bench = Bench()
    peer = bench.come(1, at(1))
    bench.discovery.on_here(peer, Here(host, 7))
    expected = {Place(host or at(1).host, 7)} if known else set()
    assert set(bench.discovery.book.entries) == expected
    bench.discovery.on_here(peer, Here(bytes([40, 1, 1, 1]), 7))
    assert set(bench.discovery.book.entries) == expected


def test_answers_are_bounded_in_size_and_number() -> None:
    bench = Bench()
    bench.learn([at(i % 400, 1 + i // 400) for i in range(3000)])
    peer = bench.come(1, at(900))
    for _ in range(30):
        bench.discovery.on_get_peers(peer, GetPeers())
    lists = [m for _, m in bench.port.sent if isinstance(m, PeerList)]
    assert len(lists) == 5
    assert all(len(m.places) <= 250 for m in lists)
    # The same for all who ask in a while.
    assert all(m == lists[0] for m in lists)
    assert bench.discovery.counters["dropped_requests"] == 25


def test_private_addresses_are_not_told_to_the_world() -> None:
    bench = Bench()
    bench.learn([at(1), Place(bytes([192, 168, 0, 5]), PORT)])
    peer = bench.come(1, at(2))
    bench.discovery.on_get_peers(peer, GetPeers())
    near = bench.come(2, Place(bytes([192, 168, 0, 9]), PORT))
    bench.discovery.on_get_peers(near, GetPeers())
    told = {who: {t.place for t in m.places} for who, m in bench.port.sent if type(m) is PeerList}
    assert told[name(1)] == {at(1)}
    assert told[name(2)] == {at(1), Place(bytes([192, 168, 0, 5]), PORT)}


def test_connections_of_one_range_are_bounded_before_they_cost_anything() -> None:
    bench = Bench(inbound_per_range=3)
    found = [bench.discovery.admit(at(1, host).host) for host in range(1, 10)]
    assert found[:3] == [None, None, None]
    assert all(found[3:])
    assert bench.discovery.admit(at(2).host) is None
    bench.discovery.release(at(1, 1).host)
    assert bench.discovery.admit(at(1, 9).host) is None
    for host in (2, 3, 9):
        bench.discovery.release(at(1, host).host)
    bench.discovery.release(at(2).host)
    assert not bench.discovery.door


def test_slots_for_those_who_come_are_bounded_under_a_flood() -> None:
    bench = Bench(inbound=16)
    rng = Rng(3)
    for who in range(500):
        bench.port.time += rng.below(SECOND)
        bench.come(who, at(rng.below(300), 1 + rng.below(250)))
        if rng.below(3) == 0:
            bench.discovery.on_block(name(rng.below(who + 1)))
        assert len(bench.discovery.contacts) <= 16
        assert set(bench.peers.known) >= set(bench.discovery.contacts)


def test_enough_faults_are_a_ban_of_key_and_site() -> None:
    bench = Bench()
    bench.come(1, at(1))
    for _ in range(5):
        bench.peers.malform(bench.peers.get(name(1)), "nonsense")
    assert bench.port.ended == [(name(1), "banned: nonsense")]
    assert bench.discovery.admit(at(1).host) == "banned"
    assert bench.discovery.admit(at(1, 2).host) is None
    # The key is known at any other place.
    bench.come(1, at(5))
    assert bench.port.ended[-1] == (name(1), "banned")
    assert [ban.who for ban in bench.discovery.get_bans()] == ["0x" + name(1).hex(), "20.2.0.1"]
    bench.port.time += 86_401 * SECOND
    assert bench.discovery.admit(at(1).host) is None
    assert not bench.discovery.get_bans()


def test_where_all_share_a_host_only_the_key_is_banned() -> None:
    bench = Bench(range_limits=False)
    peer = bench.come(1, at(1))
    bench.discovery.blame(peer, 100, "nonsense")
    assert bench.discovery.admit(at(1).host) is None
    bench.come(2, at(1))
    assert bench.get_kinds() == {name(2): INBOUND}


def test_faults_far_apart_are_forgiven() -> None:
    bench = Bench()
    peer = bench.come(1, at(1))
    for _ in range(50):
        bench.discovery.blame(peer, MALFORMED_POINTS, "once in a while")
        bench.port.time += 700 * SECOND
    assert not bench.port.ended


def test_a_wall_clock_that_steps_back_ends_no_dialling() -> None:
    bench = Bench()
    bench.learn([at(1)])
    bench.pass_time(1)
    bench.discovery.on_undialled(at(1), "refused")
    bench.port.ahead_ms = -86_400_000
    bench.pass_time(60)
    assert len(bench.port.dialled) == 2


def test_bans_by_hand() -> None:
    bench = Bench()
    bench.come(1, at(1))
    bench.discovery.ban("20.2.0.1", 60, "by hand")
    assert bench.port.ended == [(name(1), "banned: by hand")]
    assert bench.discovery.unban("20.2.0.1")
    assert not bench.discovery.unban("20.2.0.1")
    bench.discovery.ban("0x" + name(2).hex(), 60, "by hand")
    bench.come(2, at(2))
    assert bench.port.ended[-1] == (name(2), "banned")
    bench.discovery.ban("2a02:1:2:3::4", 60, "by hand")
    assert [ban.who for ban in bench.discovery.get_bans()][-1] == "2a02:1:2:3::"
    for wrong in ("0x12", "somebody", ""):
        with pytest.raises(Invalid, match="not a"):
            bench.discovery.ban(wrong, 60, "by hand")


def test_where_a_banned_key_answers_nobody_is_dialled_until_the_ban_ends() -> None:
    bench = Bench(range_limits=False)
    bench.learn([at(1)])
    bench.discovery.ban("0x" + name(1).hex(), 3600, "by hand")
    bench.pass_time(1)
    assert [place for place, _ in bench.port.dialled] == [at(1)]
    bench.answer(1, at(1))
    assert bench.port.ended[-1] == (name(1), "banned")
    bench.pass_time(600)
    assert len(bench.port.dialled) == 1
    assert bench.discovery.unban("0x" + name(1).hex())
    bench.pass_time(10)
    assert len(bench.port.dialled) == 2


def test_a_dial_that_finds_ourselves_is_never_made_again() -> None:
    bench = Bench()
    bench.learn([at(1)])
    bench.pass_time(1)
    bench.discovery.on_undialled(at(1), "ourselves", ME)
    bench.learn([at(1)])
    bench.discovery.book.add(at(1), at(2).host, START_MS // 1000, START_MS // 1000)
    bench.pass_time(600)
    assert len(bench.port.dialled) == 1


def test_a_dial_that_finds_a_peer_shows_where_it_listens() -> None:
    bench = Bench()
    bench.come(1, at(1))
    bench.learn([at(1)])
    bench.pass_time(1)
    bench.discovery.on_undialled(at(1), "connected already", name(1))
    assert bench.discovery.contacts[name(1)].place == at(1)
    assert bench.discovery.book.entries[at(1)].tried
    bench.pass_time(600)
    assert len(bench.port.dialled) == 1


def fill(bench: Bench, count: int) -> None:
    """Take all outgoing slots."""
    bench.learn([at(i) for i in range(count)])
    who = 100
    while len(bench.discovery.get_outbound()) < count:
        bench.pass_time(1)
        for place in list(bench.discovery.dialling):
            who += 1
            bench.answer(who, place)


def test_who_ends_a_young_connection_is_not_dialled_again_at_once() -> None:
    bench = Bench()
    bench.learn([at(1)])
    bench.pass_time(1)
    bench.answer(1, at(1))
    bench.discovery.on_disconnected(name(1))
    bench.pass_time(9)
    assert len(bench.port.dialled) == 1
    bench.pass_time(30)
    assert len(bench.port.dialled) == 2
    bench.answer(1, at(1))
    bench.pass_time(61)
    bench.discovery.on_disconnected(name(1))
    bench.pass_time(5)
    assert len(bench.port.dialled) == 3


def test_a_feeler_leaves_again_unless_it_brought_a_block() -> None:
    bench = Bench(outbound=2, feeler_ms=10_000, feeler_stay_ms=5000)
    fill(bench, 2)
    bench.learn([at(30), at(31), at(32)])
    bench.pass_time(16)
    (place,) = bench.discovery.dialling
    bench.answer(1, place)
    assert bench.get_kinds()[name(1)] == FEELER
    assert bench.discovery.book.entries[place].tried
    bench.pass_time(6)
    assert (name(1), "it was only looked at") in bench.port.ended
    bench.pass_time(16)
    (place,) = bench.discovery.dialling
    bench.answer(2, place)
    useful = bench.discovery.get_outbound()[0].peer
    bench.discovery.on_block(useful)
    bench.discovery.on_block(name(2))
    bench.pass_time(6)
    assert {peer for peer, kind in bench.get_kinds().items() if kind == OUTBOUND} == {
        useful,
        name(2),
    }


def test_who_does_not_say_hello_is_let_go() -> None:
    bench = Bench(handshake_ms=3000)
    assert bench.discovery.on_connected(name(1), Meeting(at(1).host, 5, None))
    bench.pass_time(2)
    assert not bench.port.ended
    bench.pass_time(2)
    assert bench.port.ended == [(name(1), "it did not say hello")]


def test_book_bans_and_anchors_outlive_a_restart() -> None:
    bench = Bench(outbound=3)
    fill(bench, 3)
    bench.discovery.ban("20.77.0.1", 600, "by hand")
    bench.pass_time(60)
    kept = decode_kept(bench.port.kept[-1], GENESIS)
    again = Bench(kept=kept, outbound=3)
    assert set(again.discovery.book.entries) == set(bench.discovery.book.entries)
    assert [ban.who for ban in again.discovery.get_bans()] == ["20.77.0.1"]
    again.pass_time(1)
    oldest = sorted(bench.discovery.get_outbound(), key=lambda c: (c.since, c.peer))[:2]
    assert [place for place, _ in again.port.dialled[:2]] == [c.place for c in oldest]


def test_other_networks_hold_these_messages_for_malformed() -> None:
    decode = make_decoder(Lone.WIRE).decode
    for message in (Here(b"", 1), GetPeers(), PeerList([])):
        with pytest.raises(msgspec.ValidationError):
            decode(encode(message))


def test_lists_and_places_have_bounds() -> None:
    decode = make_decoder(OPEN_MESSAGES).decode
    long = PeerList([Told(at(1), 0)] * 251)
    for message in (long, Here(bytes(17), 1), Here(b"", 0), PeerList([Told(Place(b"", 1), 0)])):
        with pytest.raises(msgspec.ValidationError):
            decode(encode(message))


# ---- who gives up his slot


def make_guests(count: int, change: Callable[[int], dict[str, Any]]) -> list[Guest]:
    usual = {"range": b"r", "since": 0, "block_at": 0, "item_at": 0}
    return [Guest(**{"peer": name(i), **usual, **change(i)}) for i in range(count)]


def test_the_youngest_of_the_fullest_range_goes() -> None:
    guests = make_guests(32, lambda i: {"range": b"a" if i % 2 else b"%d" % i, "since": 1000 + i})
    victim = choose_victim(guests, 32, b"s" * 32)
    assert victim == name(31) or victim == name(29)


@pytest.mark.parametrize("seed", range(8))
def test_useful_and_old_peers_stay(seed: int) -> None:
    secret, which = bytes([seed]) * 32, 31 - seed % 4
    useful = make_guests(32, lambda i: {"since": 100 + i, "block_at": 900 * (i == which)})
    assert choose_victim(useful, 32, secret) != name(which)
    bringing = make_guests(32, lambda i: {"since": 100 + i, "item_at": 900 * (i == 31)})
    assert choose_victim(bringing, 32, secret) != name(31)
    old = make_guests(32, lambda i: {"since": 100 + i})
    assert choose_victim(old, 32, secret) not in [name(i) for i in range(10)]


def test_one_of_many_guests_can_always_go() -> None:
    rng = Rng(1)
    for _ in range(200):
        guests = make_guests(
            16,
            lambda i: {
                "range": bytes([rng.below(6)]),
                "since": rng.below(100),
                "block_at": rng.below(3),
                "item_at": rng.below(3),
            },
        )
        assert choose_victim(guests, 16, b"s" * 32) in {guest.peer for guest in guests}
