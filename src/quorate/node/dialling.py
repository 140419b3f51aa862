"""Whom a node of an open network dials: anchors, bootnodes, addresses of its book, and feelers."""

from collections.abc import Callable

from quorate.base.native import mypyc_attr
from quorate.base.types import MILLISECOND, SECOND, Address, Milliseconds, Nanoseconds
from quorate.node.addresses import AddressBook
from quorate.node.contacts import FEELER, OUTBOUND, Contact, Dial, Open
from quorate.node.places import Place, Range, get_range, get_site
from quorate.node.port import Port
from quorate.node.standing import Standing

__all__ = ["BOOT_PAUSE", "Dialling"]

BOOT_PAUSE: Nanoseconds = SECOND
LONGEST_BOOT_PAUSE: Nanoseconds = 300 * SECOND
LOOK: Nanoseconds = MILLISECOND
LONGEST_LOOK: Nanoseconds = 2 * SECOND
"""A look through the book that found nobody is not repeated for so long for each address in it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Dialling:
    """Connections that there are, and those that are to be made; `Discovery` says when."""

    def __init__(self, port: Port, counters: dict[str, int], plan: Open, book: AddressBook) -> None:
        self.port, self.counters, self.book = port, counters, book
        self.doors, self.settings, self.rng = plan.doors, plan.settings, plan.rng
        self.bootnodes = plan.bootnodes
        self.keys = {boot.place: boot.key for boot in plan.bootnodes}
        self.own: dict[Place, None] = {}
        """Places that turned out to be ourselves."""
        self.banned_places: dict[Place, Address] = {}
        """Places where somebody answered who was banned, and who that was."""
        self.standing = Standing()
        self.contacts: dict[Address, Contact] = {}
        self.dialling: dict[Place, Dial] = {}
        self.anchors: list[Place] = []
        self.boot_at: Nanoseconds = 0
        self.boot_pause = BOOT_PAUSE
        self.fruitless_until: Nanoseconds = 0
        """No address of the book is fit for a slot; before this, not again."""

    def dial_outbound(self, now: Nanoseconds) -> bool:
        """Fill free slots; whether anything was dialled."""
        dialled = False
        if now < self.fruitless_until:
            return False
        while True:
            pending = [d for d in self.dialling.values() if d.kind == OUTBOUND]
            wanted = self.settings.outbound - len(self.get_outbound()) - len(pending)
            if wanted <= 0 or len(self.dialling) >= self.settings.max_dials:
                return dialled
            place = self.choose(now)
            if place is None:
                size = self.book.new.size + self.book.tried.size
                self.fruitless_until = now + min(size * LOOK, LONGEST_LOOK)
                return dialled
            self.dial(place, OUTBOUND, now)
            dialled = True

    def choose(self, now: Nanoseconds) -> Place | None:
        """Return whom to dial next for a slot."""
        while self.anchors:
            anchor = self.anchors.pop(0)
            if self.make_test(spread=True)(anchor):
                return anchor
        if not self.boot_at and self.bootnodes:
            # One at every start: a book that lies would otherwise be all that is ever asked.
            boot = self.choose_bootnode(now)
            if boot is not None:
                return boot
        place = self.book.choose(self.get_steady_s(), self.make_test(spread=True))
        if place is None and now >= self.boot_at:
            return self.choose_bootnode(now)
        return place

    def choose_bootnode(self, now: Nanoseconds) -> Place | None:
        """Return a bootnode that is no peer yet; each time after a longer pause."""
        is_free = self.make_test(spread=False)
        places = [b.place for b in self.bootnodes if is_free(b.place)]
        self.boot_at = now + self.boot_pause + self.draw_pause(1000)
        self.boot_pause = min(2 * self.boot_pause, LONGEST_BOOT_PAUSE)
        return places[self.rng.below(len(places))] if places else None

    def dial_feeler(self, now: Nanoseconds) -> None:
        """Look whether somebody is there, for the book's sake."""
        if any(dial.kind == FEELER for dial in self.dialling.values()):
            return
        now_s, is_free = self.get_wall_s(), self.make_test(spread=False)
        place = self.book.get_contested(now_s, self.get_steady_s())
        if place is not None and not is_free(place):
            # It is a peer just now, so it is there.
            self.book.on_good(place, now_s)
            place = None
        if place is None:
            place = self.book.choose(self.get_steady_s(), is_free, untried=True)
        if place is None:
            # Everything was tried once; what others are connected to may still be another half.
            place = self.book.choose(self.get_steady_s(), is_free)
        if place is not None:
            self.count("feelers")
            self.dial(place, FEELER, now)

    def dial(self, place: Place, kind: str, now: Nanoseconds) -> None:
        self.count("dials")
        self.dialling[place] = Dial(kind, now)
        self.book.on_attempt(place, self.get_wall_s())
        self.doors.dial(place, self.keys.get(place, b""))

    def make_test(self, *, spread: bool) -> Callable[[Place], bool]:
        """Return a test of places that may be dialled: neither ourselves, nor a peer, nor under
        way, nor banned, and with `spread` of no range that an outgoing connection has.
        """
        busy = {*self.own, *self.dialling}
        busy.update(c.place for c in self.contacts.values() if c.place is not None)
        ranges: set[Range] = set()
        if spread and self.settings.range_limits:
            ranges.update(get_range(c.host) for c in self.get_outbound())
            dials = self.dialling.items()
            ranges.update(get_range(p.host) for p, dial in dials if dial.kind == OUTBOUND)
        any_bans = bool(self.standing.bans)

        def test(place: Place) -> bool:
            if place in busy or (ranges and get_range(place.host) in ranges):
                return False
            return not (any_bans and self.is_banned(self.banned_places.get(place), place.host))

        return test

    # ---- small things

    def get_outbound(self) -> list[Contact]:
        return [c for c in self.contacts.values() if c.kind == OUTBOUND]

    def is_banned(self, peer: Address | None = None, host: bytes | None = None) -> bool:
        now_s = self.get_wall_s()
        if peer is not None and self.standing.is_banned(peer, now_s):
            return True
        return host is not None and self.standing.is_banned(get_site(host), now_s)

    def get_wall_s(self) -> int:
        """Return Unix time: for what is told and kept. It may step."""
        return self.port.wall_ms() // 1000

    def get_steady_s(self) -> int:
        """Return seconds that never go back: for pauses."""
        return self.port.now() // SECOND

    def draw_pause(self, milliseconds: Milliseconds) -> Nanoseconds:
        """Return a half to three halves of a time, so that nodes do not act in step."""
        return (milliseconds // 2 + self.rng.below(milliseconds + 1)) * MILLISECOND

    def count(self, name: str, n: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + n
