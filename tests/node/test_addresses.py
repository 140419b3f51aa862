"""The address book: its bounds under floods, who displaces whom, and what survives a restart."""

import pytest

from quorate.base.errors import Corrupt, Invalid
from quorate.base.rng import Rng
from quorate.node.addresses import (
    NEW_BUCKETS,
    NEW_PER_SOURCE,
    SLOTS,
    TRIED_BUCKETS,
    TRIED_PER_RANGE,
    AddressBook,
    Entry,
)
from quorate.node.peer_file import Kept, KeptEntry, decode_kept, encode_kept
from quorate.node.places import (
    LOOPBACK,
    SITE,
    UNUSABLE,
    WORLD,
    Place,
    get_range,
    get_reach,
    may_tell,
    parse_host,
    parse_place,
)
from quorate.node.standing import BAN_POINTS, HALF_LIFE, MAX_BANS, MAX_KNOWN, Ban, Standing

NOW = 1_800_000_000


def make_book(seed: int = 1) -> AddressBook:
    return AddressBook(bytes([seed]) * 32, Rng(seed))


def make_place(i: int, *, first: int = 20) -> Place:
    """Return a place in a range of its own, for i below 65536."""
    return Place(bytes([first + (i >> 8) % 200, i & 255, 7, 1]), 30303)


def crowd(range: int, i: int) -> Place:
    """Return the i-th place of one range."""
    return Place(bytes([90, range, i >> 8 & 255, i & 255]), 30303)


def accept(place: Place) -> bool:
    return True


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("10.1.2.3", b"4\x0a\x01"),
        ("::ffff:10.1.2.3", b"4\x0a\x01"),
        ("64:ff9b::a01:203", b"4\x0a\x01"),
        ("2002:a01:203::5", b"4\x0a\x01"),
        ("2001:0:1:2:3:4:f5fe:fdfc", b"4\x0a\x01"),
        ("2a02:1:2:3::4", b"6\x2a\x02\x00\x01"),
    ],
)
def test_ranges_of_addresses_and_of_those_that_they_carry(text: str, first: bytes) -> None:
    assert get_range(parse_host(text)) == first


def test_what_is_told_reaches_as_far_as_its_teller() -> None:
    hosts = {
        LOOPBACK: parse_host("127.0.0.1"),
        SITE: parse_host("192.168.1.1"),
        WORLD: parse_host("8.8.8.8"),
    }
    assert all(get_reach(host) == reach for reach, host in hosts.items())
    for teller, by in hosts.items():
        for told, host in hosts.items():
            assert may_tell(by, host) == (told >= teller)
    for text in ("0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"):
        assert get_reach(parse_host(text)) == UNUSABLE
        assert not may_tell(hosts[LOOPBACK], parse_host(text))
    assert get_reach(bytes(5)) == UNUSABLE


@pytest.mark.parametrize("text", ["127.0.0.1:30303", "[2a02::1]:1"])
def test_places_are_read_as_they_are_written(text: str) -> None:
    assert str(parse_place(text)) == text


@pytest.mark.parametrize("text", ["127.0.0.1", "localhost:1", "1.2.3.4:0", "1.2.3.4:65536", ":1"])
def test_what_is_no_place_is_told(text: str) -> None:
    with pytest.raises(Invalid, match="not a"):
        parse_place(text)


def test_a_flood_from_one_range_reaches_few_buckets() -> None:
    book = make_book()
    for i in range(8_000):
        book.add(crowd(i % 200, i), b"\x5a\x01\x01\x01", NOW, NOW)
    filled = book.new.filled
    assert len(filled) <= NEW_PER_SOURCE
    assert book.new.size <= NEW_PER_SOURCE * SLOTS
    assert len(book.entries) <= book.new.size
    check(book)


def test_the_book_is_bounded_whatever_is_told() -> None:
    book = make_book()
    rng = Rng(5)
    for _ in range(12_000):
        place = Place(rng.below(1 << 32).to_bytes(4, "big"), 1 + rng.below(65535))
        book.add(place, rng.below(1 << 32).to_bytes(4, "big"), NOW - rng.below(10_000), NOW)
        if rng.below(4) == 0:
            book.on_good(place, NOW)
        elif rng.below(4) == 0:
            book.on_failure(place, NOW, NOW)
    assert book.new.size <= NEW_BUCKETS * SLOTS
    assert book.tried.size <= TRIED_BUCKETS * SLOTS
    assert len(book.contested) <= 10
    check(book)


def check(book: AddressBook) -> None:
    """Both tables and the index say the same."""
    found: dict[Place, list[int]] = {}
    for table, tried in ((book.new, False), (book.tried, True)):
        assert sorted(table.filled) == [i for i, slots in enumerate(table.buckets) if slots]
        assert table.size == sum(map(len, table.buckets))
        for bucket, slots in enumerate(table.buckets):
            for slot, entry in slots.items():
                assert 0 <= slot < SLOTS
                assert entry.tried == tried
                found.setdefault(entry.place, []).append(bucket)
    assert {p: sorted(e.buckets) for p, e in book.entries.items()} == {
        p: sorted(b) for p, b in found.items()
    }


def test_the_holder_of_a_slot_stays_while_it_may_be_good() -> None:
    book = make_book()
    kept = [p for i in range(3000) if book.add(p := crowd(i % 7, i), b"\x14\x01\x01\x01", NOW, NOW)]
    for i in range(3000, 9000):
        book.add(crowd(i % 7, i), b"\x14\x01\x01\x01", NOW, NOW)
    assert all(place in book.entries for place in kept)
    # Who failed three times and never answered makes room.
    for place in kept:
        for _ in range(3):
            book.on_failure(place, NOW, NOW)
    for i in range(9000, 15_000):
        book.add(crowd(i % 7, i), b"\x14\x01\x01\x01", NOW, NOW)
    assert sum(place in book.entries for place in kept) < len(kept) // 2


def test_a_good_address_moves_to_tried_and_few_ranges_reach_few_of_its_buckets() -> None:
    book = make_book()
    for i in range(3000):
        place = crowd(1, i)
        book.add(place, make_place(i).host, NOW, NOW)
        book.on_good(place, NOW)
        book.contested.clear()
    assert 0 < len(book.tried.filled) <= TRIED_PER_RANGE
    check(book)


def fill_one_slot(book: AddressBook) -> tuple[Place, Place]:
    """Make an address good whose slot another holds; return holder and newcomer."""
    i = 0
    while not book.contested:
        place = crowd(1, i)
        book.add(place, make_place(i).host, NOW, NOW)
        book.on_good(place, NOW)
        i += 1
    newcomer, (holder, _) = next(iter(book.contested.items()))
    return holder, newcomer


def test_the_holder_of_a_tried_slot_is_tested_before_it_is_evicted() -> None:
    book = make_book()
    holder, newcomer = fill_one_slot(book)
    assert book.get_contested(NOW, NOW) == holder
    book.on_good(holder, NOW)
    assert not book.contested
    assert book.entries[holder].tried
    assert not book.entries[newcomer].tried
    book.on_good(newcomer, NOW)
    book.on_failure(holder, NOW, NOW)
    assert book.entries[newcomer].tried
    assert holder not in book.entries or not book.entries[holder].tried
    check(book)


def test_a_contest_that_nobody_decides_goes_to_the_newcomer() -> None:
    book = make_book()
    _, newcomer = fill_one_slot(book)
    assert book.get_contested(NOW + 3000, NOW + 3000) is None
    assert book.entries[newcomer].tried
    check(book)


def test_choices_weigh_buckets_and_not_addresses() -> None:
    """Ten honest tellers of one address each, and one that fills his share with thousands."""
    book = make_book()
    honest = [make_place(i) for i in range(10)]
    for i, place in enumerate(honest):
        book.add(place, make_place(i + 50).host, NOW, NOW)
    for i in range(5000):
        book.add(crowd(i % 3, i), b"\x5a\x01\x01\x01", NOW, NOW)
    chosen = [book.choose(NOW, accept) for _ in range(400)]
    share = sum(place in honest for place in chosen) / len(chosen)
    # Of 26 buckets ten are honest ones, at most.
    assert share > 0.25


def test_pauses_between_attempts_grow_and_end_with_success() -> None:
    book = make_book()
    place = make_place(1)
    book.add(place, place.host, NOW, NOW)
    rests = []
    for _ in range(8):
        book.on_failure(place, NOW, NOW)
        rests.append(book.entries[place].rest_until - NOW)
    assert all((1 << i) <= rest <= (2 << i) for i, rest in enumerate(rests))
    assert book.choose(NOW, accept) is None
    book.on_good(place, NOW)
    assert book.choose(NOW, accept) == place
    for _ in range(20):
        book.on_failure(place, NOW, NOW)
    assert book.entries[place].rest_until <= NOW + 60


def test_forgotten_addresses_leave_no_trace() -> None:
    book = make_book()
    places = [make_place(i) for i in range(300)]
    for i, place in enumerate(places):
        for teller in range(20):
            book.add(place, make_place(i + teller * 7 + 1000).host, NOW, NOW)
        if i % 3 == 0:
            book.on_good(place, NOW)
    assert any(len(entry.buckets) > 1 for entry in book.entries.values())
    for place in places:
        book.forget(place)
    assert not book.entries
    assert not book.new.size
    assert not book.tried.size
    check(book)


def test_samples_are_bounded_and_hold_no_address_twice() -> None:
    book = make_book()
    for i in range(2000):
        book.add(make_place(i), make_place(i + 3000).host, NOW, NOW)
    sample = [entry.place for entry in book.sample(250, NOW)]
    assert len(sample) == len(set(sample)) == 250
    assert book.sample(250, NOW + 40 * 86_400) == []


# ---- the file


def make_kept(book: AddressBook) -> Kept:
    entries = [
        KeptEntry(e.place, e.source, e.seen_at, e.good_at, e.failures, e.tried, e.buckets)
        for e in book.entries.values()
    ]
    ban = Ban(b"\x01" * 20, NOW + 60, "malformed frames")
    return Kept(b"g" * 32, book.secret, entries, [make_place(1)], [ban])


def test_a_book_is_the_same_after_a_restart() -> None:
    book = make_book()
    for i in range(3000):
        place = make_place(i)
        book.add(place, make_place(i // 10 + 4000).host, NOW, NOW)
        if i % 5 == 0:
            book.on_good(place, NOW)
    kept = decode_kept(encode_kept(make_kept(book)), b"g" * 32)
    again = AddressBook(kept.secret, Rng(9))
    for found in kept.entries:
        entry = Entry(found.place, found.source, found.seen_at)
        entry.good_at, entry.failures, entry.tried = found.good_at, found.failures, found.tried
        again.restore(entry, found.buckets, NOW)
    check(again)
    assert {p: (e.tried, sorted(e.buckets)) for p, e in again.entries.items()} == {
        p: (e.tried, sorted(e.buckets)) for p, e in book.entries.items()
    }


def test_damage_to_the_file_is_told() -> None:
    data = encode_kept(make_kept(make_book()))
    for at in range(0, len(data), 3):
        broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(Corrupt):
            decode_kept(broken, b"g" * 32)
    for end in range(0, len(data), 11):
        with pytest.raises(Corrupt):
            decode_kept(data[:end], b"g" * 32)
    with pytest.raises(Corrupt, match="of the network"):
        decode_kept(data, b"h" * 32)


# ---- standing


def test_points_fade_and_enough_of_them_at_a_time_are_a_ban() -> None:
    standing = Standing()
    assert not any(standing.blame(b"a", 20, i) for i in range(4))
    assert standing.blame(b"a", 20, 5)
    standing = Standing()
    standing.blame(b"a", 80, 0)
    points = [standing.get_points(b"a", i * HALF_LIFE // 4) for i in range(13)]
    assert points == sorted(points, reverse=True)
    assert points[0] == 80
    assert points[4] == 40
    assert points[8] == 20
    # One fault in each half-life is never enough.
    assert not any(standing.blame(b"b", 20, i * HALF_LIFE) for i in range(1000))


def test_standing_is_bounded() -> None:
    standing = Standing()
    for i in range(3 * MAX_KNOWN):
        standing.blame(b"%d" % i, BAN_POINTS // 2, i)
        standing.ban(b"%d" % i, NOW + i, "flood")
        standing.blame(b"again %d" % i, 1, i)
    assert len(standing.points) <= MAX_KNOWN
    assert len(standing.bans) == MAX_BANS
    assert standing.is_banned(b"%d" % (3 * MAX_KNOWN - 1), NOW)


def test_bans_end_and_can_be_lifted() -> None:
    standing = Standing()
    standing.ban(b"a", NOW + 10, "flood")
    standing.ban(b"a", NOW + 5, "again")
    assert standing.is_banned(b"a", NOW + 9)
    assert not standing.is_banned(b"a", NOW + 10)
    standing.ban(b"b", NOW + 10, "flood")
    assert standing.lift(b"b")
    assert not standing.lift(b"b")
    assert not standing.is_banned(b"b", NOW)
