"""The addresses that a node knows, kept so that nobody can fill the table with his own.

Source: Heilman, Kendler, Zohar, Goldberg, "Eclipse Attacks on Bitcoin's Peer-to-Peer Network",
USENIX Security 2015, and Bitcoin Core's `addrman`, which grew from its countermeasures.

Two tables. `new` holds what was told and never tried, `tried` those whose handshake we finished.
Both are buckets of `SLOTS` slots. Which buckets an address may lie in follows from a secret and
from ranges: for `new`, the range of who told it chooses `NEW_PER_SOURCE` buckets of all; for
`tried`, its own range chooses `TRIED_PER_RANGE`. Who speaks from few ranges reaches few buckets,
whatever he tells.

What of the paper's section 7 is here, by its numbers:

1. Deterministic random eviction: an address has one slot in a bucket, so telling it again and again
   wins nothing, and a newcomer displaces only who holds that slot.
2. Random selection: nothing favours what was told last.
3. Test before evict: who holds a slot of `tried` is dialled first and stays if it answers.
4. Feeler connections, 5. anchors, 7. more outgoing connections of which each goes to another range,
   8. no unasked lists, 9. limits by range for connections that come in: `discovery`.
6. More buckets: of `new` 256 and of `tried` 64, as before the paper, since networks are smaller
   here; but a range of tellers reaches 16 of 256 rather than 32, a range of addresses 4 of 64.

Not here: 10, alarms for anomalies of incoming lists.

Deviation: `choose` takes a bucket that holds anything first, and an address of it then, so that a
bucket crammed by one range weighs as much as a bucket with one address.
"""

from collections.abc import Callable, Iterator

from quorate.base.native import mypyc_attr
from quorate.base.rng import Rng
from quorate.crypto.hashes import keccak256
from quorate.node.places import Place, Range, get_range

__all__ = ["NEW_BUCKETS", "SLOTS", "TRIED_BUCKETS", "AddressBook", "Entry"]

NEW_BUCKETS, TRIED_BUCKETS, SLOTS = 256, 64, 64
NEW_PER_SOURCE = 16
TRIED_PER_RANGE = 4
MAX_COPIES = 4
"""Buckets of `new` that one address lies in, if tellers of several ranges know it."""
DAY_S = 86_400
FORGOTTEN_S = 30 * DAY_S
"""Nobody has heard of it for so long: it makes room."""
FUTURE_S = 600
"""A clock may be ahead by so much."""
MAX_FAILURES = 3
"""Of an address that never answered, before it makes room."""
MAX_FAILURES_SINCE = 10
"""Of one that answered once, if the last answer is a week ago."""
FIRST_PAUSE_S = 1
LONGEST_PAUSE_S = 30
"""Between attempts at an address that answered once; twice as long after each failure."""
LONGEST_PAUSE_NEW_S = 3600
MAX_LOOKED = 64
"""Buckets that one choice looks into."""
MAX_CONTESTED = 10
CONTEST_S = 2400
"""Who was not tested against the holder of its slot for so long takes the slot."""


class Entry:
    """One address and what is known of it; times are Unix seconds, but for the pauses'."""

    __slots__ = (
        "buckets",
        "failures",
        "good_at",
        "place",
        "rest_until",
        "seen_at",
        "source",
        "tried",
        "tried_at",
    )

    def __init__(self, place: Place, source: Range, seen_at: int) -> None:
        self.place = place
        self.source = source
        """The range of who told it first."""
        self.seen_at = seen_at
        """When it was there, as far as anybody said."""
        self.good_at = self.tried_at = 0
        self.rest_until = 0
        """No attempt before, in seconds of a clock that never steps."""
        self.failures = 0
        """Attempts since it answered last."""
        self.tried = False
        self.buckets: list[int] = []
        """Of its table."""

    def is_terrible(self, now_s: int) -> bool:
        """Whether it may make room for any other."""
        if self.seen_at > now_s + FUTURE_S or self.seen_at < now_s - FORGOTTEN_S:
            return True
        if not self.good_at:
            return self.failures >= MAX_FAILURES
        return self.good_at < now_s - 7 * DAY_S and self.failures >= MAX_FAILURES_SINCE


class Table:
    """Buckets of slots; those that hold something are listed, for a fair choice."""

    __slots__ = ("buckets", "filled", "size")

    def __init__(self, count: int) -> None:
        self.buckets: list[dict[int, Entry]] = [{} for _ in range(count)]
        self.filled: list[int] = []
        self.size = 0
        """Entries, those in several buckets as often."""

    def put(self, bucket: int, slot: int, entry: Entry) -> None:
        slots = self.buckets[bucket]
        if not slots:
            self.filled.append(bucket)
        self.size += slot not in slots
        slots[slot] = entry

    def drop(self, bucket: int, slot: int) -> None:
        slots = self.buckets[bucket]
        del slots[slot]
        self.size -= 1
        if not slots:
            self.filled.remove(bucket)


@mypyc_attr(allow_interpreted_subclasses=True)
class AddressBook:
    """Both tables. `secret` (32 bytes) decides who shares a bucket and must stay one's own."""

    __slots__ = ("contested", "entries", "new", "rng", "secret", "tried")

    def __init__(self, secret: bytes, rng: Rng) -> None:
        self.secret, self.rng = secret, rng
        self.entries: dict[Place, Entry] = {}
        self.new, self.tried = Table(NEW_BUCKETS), Table(TRIED_BUCKETS)
        self.contested: dict[Place, tuple[Place, int]] = {}
        """Who is good but finds its slot taken: the holder, and since when."""

    # ---- places in the tables

    def draw(self, *parts: bytes) -> int:
        return int.from_bytes(keccak256(self.secret + b"".join(parts))[:8], "big")

    def get_new_bucket(self, place: Place, source: Range) -> int:
        choice = self.draw(b"n", get_range(place.host), b"|", source) % NEW_PER_SOURCE
        return self.draw(b"N", source, bytes([choice])) % NEW_BUCKETS

    def get_tried_bucket(self, place: Place) -> int:
        choice = self.draw(b"t", encode_place(place)) % TRIED_PER_RANGE
        return self.draw(b"T", get_range(place.host), bytes([choice])) % TRIED_BUCKETS

    def get_slot(self, kind: bytes, bucket: int, place: Place) -> int:
        return self.draw(b"s", kind, bucket.to_bytes(2, "big"), encode_place(place)) % SLOTS

    # ---- what is heard

    def add(self, place: Place, source: bytes, seen_at: int, now_s: int) -> bool:
        """Note an address that somebody at `source` told; whether it is new to us."""
        teller = get_range(source)
        entry = self.entries.get(place)
        if entry is not None:
            entry.seen_at = max(entry.seen_at, min(seen_at, now_s))
            if entry.tried or len(entry.buckets) >= MAX_COPIES:
                return False
            # Each further bucket is half as likely: who repeats it gains little.
            if self.rng.below(1 << len(entry.buckets)):
                return False
            self.place_new(entry, self.get_new_bucket(place, teller), now_s)
            return False
        entry = Entry(place, teller, min(seen_at, now_s))
        return self.place_new(entry, self.get_new_bucket(place, teller), now_s)

    def place_new(self, entry: Entry, bucket: int, now_s: int) -> bool:
        """Put an address into a bucket of `new` unless a better one holds its slot."""
        if bucket in entry.buckets:
            return False
        slot = self.get_slot(b"n", bucket, entry.place)
        holder = self.new.buckets[bucket].get(slot)
        if holder is not None:
            spare = len(holder.buckets) > 1 and not entry.buckets
            if not spare and not holder.is_terrible(now_s):
                return False
            self.unplace_new(holder, bucket)
        self.new.put(bucket, slot, entry)
        entry.buckets.append(bucket)
        self.entries[entry.place] = entry
        return True

    def unplace_new(self, entry: Entry, bucket: int) -> None:
        self.new.drop(bucket, self.get_slot(b"n", bucket, entry.place))
        entry.buckets.remove(bucket)
        if not entry.buckets:
            self.forget_entry(entry)

    def forget_entry(self, entry: Entry) -> None:
        del self.entries[entry.place]
        self.contested.pop(entry.place, None)

    def forget(self, place: Place) -> None:
        """Take an address out for good: it is our own, or of another network."""
        entry = self.entries.get(place)
        if entry is None:
            return
        if entry.tried:
            self.tried.drop(entry.buckets[0], self.get_slot(b"t", entry.buckets[0], place))
            self.forget_entry(entry)
        else:
            for bucket in list(entry.buckets):
                self.unplace_new(entry, bucket)

    # ---- what attempts show

    def on_attempt(self, place: Place, now_s: int) -> None:
        entry = self.entries.get(place)
        if entry is not None:
            entry.tried_at = now_s

    def on_failure(self, place: Place, now_s: int, steady_s: int) -> None:
        """Nobody answered there, or not as a peer does.

        `steady_s` is of a clock that never steps, here and in what asks for it below.
        """
        entry = self.entries.get(place)
        if entry is None:
            return
        longest = LONGEST_PAUSE_S if entry.good_at else LONGEST_PAUSE_NEW_S
        pause = min(FIRST_PAUSE_S << min(entry.failures, 16), longest)
        entry.failures += 1
        # Between the pause and twice of it: those who lost the same peer must not come as one.
        entry.rest_until = steady_s + pause + self.rng.below(pause + 1)
        for newcomer, (holder, _) in list(self.contested.items()):
            if holder == place:
                self.settle(newcomer, now_s)

    def rest(self, place: Place, pause_s: int, steady_s: int) -> None:
        """Leave an address alone for a while, up to twice as long: it ended a connection."""
        entry = self.entries.get(place)
        if entry is not None:
            entry.rest_until = steady_s + pause_s + self.rng.below(pause_s + 1)

    def on_good(self, place: Place, now_s: int) -> None:
        """A peer of this network answered there, and finished its handshake."""
        entry = self.entries.get(place)
        if entry is None:
            return
        entry.seen_at = entry.good_at = entry.tried_at = now_s
        entry.failures = entry.rest_until = 0
        for newcomer, (holder, _) in list(self.contested.items()):
            if holder == place:
                del self.contested[newcomer]
        if not entry.tried:
            self.promote(entry, now_s, contest=True)

    def promote(self, entry: Entry, now_s: int, *, contest: bool) -> None:
        """Move an address to `tried`, unless who holds its slot is to be tested first."""
        place = entry.place
        bucket = self.get_tried_bucket(place)
        slot = self.get_slot(b"t", bucket, place)
        holder = self.tried.buckets[bucket].get(slot)
        if holder is not None and contest:
            if len(self.contested) < MAX_CONTESTED:
                self.contested[place] = (holder.place, now_s)
            return
        self.contested.pop(place, None)
        for other in entry.buckets:
            self.new.drop(other, self.get_slot(b"n", other, place))
        entry.buckets = []
        if holder is not None:
            self.demote(holder, bucket, slot, now_s)
        self.tried.put(bucket, slot, entry)
        entry.tried, entry.buckets = True, [bucket]

    def demote(self, entry: Entry, bucket: int, slot: int, now_s: int) -> None:
        """Move an address from `tried` back to `new`, or forget it where that is full."""
        self.tried.drop(bucket, slot)
        entry.tried, entry.buckets = False, []
        if not self.place_new(entry, self.get_new_bucket(entry.place, entry.source), now_s):
            self.forget_entry(entry)

    def settle(self, place: Place, now_s: int) -> None:
        """The holder of a contested slot did not answer."""
        self.contested.pop(place, None)
        entry = self.entries.get(place)
        if entry is not None and not entry.tried:
            self.promote(entry, now_s, contest=False)

    def get_contested(self, now_s: int, steady_s: int) -> Place | None:
        """Return a holder that should be dialled to see whether it is still there."""
        for place, (holder, since) in list(self.contested.items()):
            if holder not in self.entries or now_s - since > CONTEST_S:
                self.settle(place, now_s)
            elif self.entries[holder].rest_until <= steady_s:
                return holder
        return None

    # ---- choices

    def choose(
        self, steady_s: int, accepts: Callable[[Place], bool], *, untried: bool = False
    ) -> Place | None:
        """Return an address to dial, of either table alike; None if there is none now."""
        tables = [self.new] if untried else [self.new, self.tried]
        tables = [table for table in tables if table.size]
        if not tables:
            return None
        if len(tables) == 2 and self.rng.below(2):
            tables.reverse()
        for table in tables:
            found = self.choose_of(table, steady_s, accepts)
            if found is not None:
                return found
        return None

    def choose_of(
        self, table: Table, steady_s: int, accepts: Callable[[Place], bool]
    ) -> Place | None:
        """Look through the buckets in a random order for an address that may be dialled."""
        for bucket in self.draw_some(table.filled, MAX_LOOKED):
            entries = [
                entry
                for entry in table.buckets[bucket].values()
                if entry.rest_until <= steady_s and accepts(entry.place)
            ]
            if entries:
                return entries[self.rng.below(len(entries))].place
        return None

    def draw_some(self, items: list[int], count: int) -> Iterator[int]:
        """Return some of the items in a random order, one by one (Fisher and Yates)."""
        left = list(items)
        for i in range(min(count, len(left))):
            j = i + self.rng.below(len(left) - i)
            left[i], left[j] = left[j], left[i]
            yield left[i]

    def sample(self, count: int, now_s: int) -> list[Entry]:
        """Return some addresses that are worth telling."""
        places = list(self.entries)
        chosen: list[Entry] = []
        for i in range(len(places)):
            if len(chosen) == count:
                break
            j = i + self.rng.below(len(places) - i)
            places[i], places[j] = places[j], places[i]
            entry = self.entries[places[i]]
            if not entry.is_terrible(now_s):
                chosen.append(entry)
        return chosen

    def restore(self, entry: Entry, buckets: list[int], now_s: int) -> None:
        """Put back what a file held of an address; what does not fit is left out."""
        if entry.place in self.entries:
            return
        if entry.tried:
            entry.tried = False
            bucket = self.get_tried_bucket(entry.place)
            slot = self.get_slot(b"t", bucket, entry.place)
            if slot not in self.tried.buckets[bucket]:
                self.entries[entry.place] = entry
                self.tried.put(bucket, slot, entry)
                entry.tried, entry.buckets = True, [bucket]
            return
        for bucket in buckets[:MAX_COPIES]:
            if 0 <= bucket < NEW_BUCKETS:
                self.place_new(entry, bucket, now_s)


def encode_place(place: Place) -> bytes:
    return place.host + place.port.to_bytes(2, "big")
