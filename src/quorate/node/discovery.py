"""Whom a node of an open network is connected to, and how it finds out whom it could be.

Anybody may join such a network with a key that he made up, so names protect nothing. What is scarce
are address ranges, time and useful work, and the rules here lean on those alone:

* Outgoing connections (`outbound`) are chosen from the address book at random, each in another
  range; who comes in is never counted among them. Whoever holds fewer ranges than there are slots
  therefore cannot hold all of them.
* Anchors: two of the last outgoing connections are tried first after a restart.
* A feeler every now and then dials an address that was only told, or one whose place in the book
  another claims, finishes the handshake and leaves again. It stays if it brought a block that was
  news: it then replaces the outgoing connection that has been useless for longest, so two halves of
  a network that were apart find each other although the slots of both are full.
* Connections that come in are bounded, also for each range, before anything is computed for them.
  When all are taken, `slots` says who gives up his.
* Lists of addresses are taken only when asked for, and one at a time.
* Misbehaviour makes points that fade; enough of them are a ban (`standing`).

Bitcoin Core's `net` and `net_processing` are the model. Not here: connections that carry blocks
alone, and addresses that are passed on unasked.
"""

from quorate.base.native import mypyc_attr
from quorate.base.types import MILLISECOND, SECOND, Address, Hash, Nanoseconds
from quorate.consensus.replica import Timer
from quorate.node.addresses import Entry
from quorate.node.contacts import (
    FEELER,
    INBOUND,
    OUTBOUND,
    Bootnode,
    Contact,
    Meeting,
    Open,
)
from quorate.node.dialling import BOOT_PAUSE, Dialling
from quorate.node.peer_file import MAX_ANCHORS, Kept, KeptEntry, encode_kept
from quorate.node.peers import Peer, Peers
from quorate.node.places import (
    UNUSABLE,
    Place,
    Range,
    get_range,
    get_reach,
    get_site,
    may_tell,
)
from quorate.node.port import Port
from quorate.node.slots import Guest, choose_victim
from quorate.node.standing import format_who, parse_who
from quorate.node.status import BanStatus, PeerStatus
from quorate.node.wire import MAX_PLACES, GetPeers, Here, PeerList, Told, encode

__all__ = ["DISCOVERY_TIMER", "Discovery"]

DISCOVERY_TIMER = Timer("node.discovery")
FIRST_TICK: Nanoseconds = 250 * MILLISECOND
LONGEST_TICK: Nanoseconds = 30 * SECOND
"""Between two looks while there is nobody to dial although slots are free."""
FIRST_KEEP: Nanoseconds = 5 * SECOND
"""What a young node has found is written soon, lest a crash makes it a stranger again."""
ASK_FIRST: Nanoseconds = 2 * SECOND
"""A connection is asked for addresses again after this long while slots are free, and after twice
as long each time, up to the setting.
"""
ANSWER_COST: Nanoseconds = 8 * SECOND
ANSWER_BURST: Nanoseconds = 40 * SECOND
"""One answer in so long, some at once at the beginning (GCRA): what an honest peer asks for."""
BRIEF: Nanoseconds = 60 * SECOND
REST_S, BRIEF_REST_S = 1, 10
"""Who ended a connection is left alone for as long, longer if it did so soon."""
MAX_BANNED_PLACES = 1024
"""Places that turned out to be those of banned peers."""
MAX_OWN = 16
"""Places that turned out to be ourselves."""
PENALTY_S = 7200
"""What is told counts as older than its teller says (as in Bitcoin Core)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Discovery(Dialling):
    """The address book, the slots, and the standing of peers of one node."""

    def __init__(
        self, port: Port, peers: Peers, counters: dict[str, int], genesis: Hash, plan: Open
    ) -> None:
        super().__init__(port, counters, plan, plan.make_book(plan.secret, plan.rng))
        self.peers, self.genesis = peers, genesis
        self.me, self.secret, self.here = plan.me, plan.secret, plan.here
        self.door: dict[Range, int] = {}
        """Connections that came in from each range, those that are not greeted yet too."""
        self.sample: tuple[Nanoseconds, list[Entry]] | None = None
        self.pause = FIRST_TICK
        self.feeler_at: Nanoseconds = 0
        self.keep_at: Nanoseconds = 0
        self.dirty = False
        self.tick_at: Nanoseconds = 0
        self.make_book = plan.make_book
        if plan.kept is not None:
            self.load(plan.kept)

    # ---- life

    def start(self) -> None:
        """Begin to look for peers."""
        now = self.port.now()
        self.feeler_at = now + self.draw_pause(self.settings.feeler_ms)
        self.keep_at = now + FIRST_KEEP
        self.wake(0)

    def add_bootnodes(self, bootnodes: list[Bootnode]) -> None:
        """Name places where to begin."""
        self.bootnodes = [*self.bootnodes, *bootnodes]
        self.keys.update((boot.place, boot.key) for boot in bootnodes)
        self.hurry()

    def load(self, kept: Kept) -> None:
        """Take over what a file held."""
        now_s = self.get_wall_s()
        self.secret = kept.secret
        self.book = self.make_book(kept.secret, self.rng)
        for found in kept.entries:
            if get_reach(found.place.host) == UNUSABLE:
                continue
            entry = Entry(found.place, found.source, found.seen_at)
            entry.good_at, entry.failures, entry.tried = found.good_at, found.failures, found.tried
            self.book.restore(entry, found.buckets, now_s)
        self.anchors = list(kept.anchors)
        for ban in kept.bans:
            if ban.until_s > now_s:
                self.standing.ban(ban.who, ban.until_s, ban.reason)

    def encode(self) -> bytes:
        """Return what is to be kept."""
        entries = [
            KeptEntry(e.place, e.source, e.seen_at, e.good_at, e.failures, e.tried, e.buckets)
            for e in self.book.entries.values()
        ]
        outbound = [c for c in self.contacts.values() if c.kind == OUTBOUND and c.greeted]
        outbound.sort(key=lambda c: (c.since, c.peer))
        anchors = [c.place for c in outbound if c.place is not None][:MAX_ANCHORS]
        bans = list(self.standing.bans.values())
        return encode_kept(
            Kept(self.genesis, self.secret, entries, anchors or self.anchors[:MAX_ANCHORS], bans)
        )

    def keep(self) -> None:
        self.dirty = False
        self.keep_at = self.port.now() + self.settings.keep_ms * MILLISECOND
        self.doors.keep_peers(self.encode())

    # ---- connections that come in

    def admit(self, host: bytes) -> str | None:
        """Why a connection from a host is not to be answered; None if it is.

        Asked before anything is computed for it. Each that is admitted is to be released when it
        has ended.
        """
        if self.is_banned(host=host):
            return "banned"
        where = get_range(host)
        count = self.door.get(where, 0)
        if self.settings.range_limits and count >= self.settings.inbound_per_range:
            self.count("refused_range")
            return "its range has all connections that one may have"
        self.door[where] = count + 1
        return None

    def release(self, host: bytes) -> None:
        """A connection that was admitted has ended."""
        where = get_range(host)
        count = self.door.get(where, 0) - 1
        if count > 0:
            self.door[where] = count
        else:
            self.door.pop(where, None)

    # ---- what the world tells

    def on_connected(self, peer: Address, meeting: Meeting) -> bool:
        """A link is up; whether it may stay."""
        now = self.port.now()
        dial = None if meeting.dialled is None else self.dialling.pop(meeting.dialled, None)
        kind = INBOUND if meeting.dialled is None else OUTBOUND if dial is None else dial.kind
        problem = self.judge(peer, meeting, kind)
        if problem:
            self.count("peers_unwanted")
            self.port.disconnect(peer, problem)
            if meeting.dialled is not None and self.is_banned(peer, meeting.host):
                # A place does not show whose it is before somebody answers there.
                self.banned_places[meeting.dialled] = peer
                if len(self.banned_places) > MAX_BANNED_PLACES:
                    del self.banned_places[next(iter(self.banned_places))]
            return False
        self.contacts[peer] = Contact(peer, meeting, kind, now)
        self.wake(self.settings.handshake_ms * MILLISECOND)
        return True

    def judge(self, peer: Address, meeting: Meeting, kind: str) -> str | None:
        """Why a connection may not stay; None if it may."""
        if peer == self.me:
            return "a connection to ourselves"
        if self.is_banned(peer, meeting.host):
            return "banned"
        if kind == OUTBOUND and len(self.get_outbound()) >= self.settings.outbound:
            return "all outgoing connections are there already"
        if kind == INBOUND:
            return self.make_room()
        return None

    def make_room(self) -> str | None:
        """See that one more connection may come in; why not, if it may not."""
        guests = [
            Guest(c.peer, get_range(c.host), c.since, c.block_at, c.item_at)
            for c in self.contacts.values()
            if c.kind == INBOUND
        ]
        if len(guests) < self.settings.inbound:
            return None
        victim = choose_victim(guests, self.settings.inbound, self.secret)
        if victim is None:
            self.count("refused_full")
            return "all connections are taken"
        self.count("evicted")
        self.end(victim, "its place is needed for another")
        return None

    def on_disconnected(self, peer: Address, *, ours: bool = False) -> None:
        """A link is down; `ours`: this node ended it."""
        contact = self.contacts.pop(peer, None)
        if contact is None:
            return
        if contact.place is not None and contact.kind != INBOUND:
            steady_s = self.get_steady_s()
            if not contact.greeted:
                self.book.on_failure(contact.place, self.get_wall_s(), steady_s)
            elif not ours:
                # Who ended it soon has no place for us; another attempt at once would cost both.
                brief = self.port.now() - contact.since < BRIEF
                self.book.rest(contact.place, BRIEF_REST_S if brief else REST_S, steady_s)
        if contact.kind == OUTBOUND:
            self.hurry()

    def on_undialled(self, place: Place, reason: str, found: Address | None = None) -> None:
        """An attempt came to nothing; `found` is who answered, if somebody did."""
        self.dialling.pop(place, None)
        now_s = self.get_wall_s()
        contact = None if found is None else self.contacts.get(found)
        if found == self.me:
            self.own[place] = None
            if len(self.own) > MAX_OWN:
                del self.own[next(iter(self.own))]
            self.book.forget(place)
        elif contact is not None:
            # Connected already, the other way round: now it is known where it listens.
            contact.place = place
            if contact.greeted:
                self.book.on_good(place, now_s)
        else:
            self.count("dials_failed")
            self.book.on_failure(place, now_s, self.get_steady_s())
        self.wake(FIRST_TICK)

    def on_greeted(self, peer: Address) -> None:
        """Both sides have said `Hello`, and belong to the same network."""
        contact = self.contacts.get(peer)
        if contact is None or contact.greeted:
            return
        now, now_s = self.port.now(), self.get_wall_s()
        contact.greeted = True
        if contact.kind != INBOUND and contact.place is not None:
            if contact.place not in self.book.entries:
                self.book.add(contact.place, contact.host, now_s, now_s)
            self.book.on_good(contact.place, now_s)
            self.dirty = True
        if contact.kind == FEELER:
            self.wake(self.settings.feeler_stay_ms * MILLISECOND)
        if self.here is not None:
            self.port.send(peer, encode(self.here))
        if contact.kind != INBOUND:
            self.ask(contact, now)
        self.boot_pause = BOOT_PAUSE
        self.hurry()

    def on_foreign(self, peer: Address) -> None:
        """It belongs to another network, or speaks another protocol."""
        contact = self.contacts.get(peer)
        if contact is not None and contact.kind != INBOUND and contact.place is not None:
            self.book.forget(contact.place)

    # ---- messages

    def on_here(self, peer: Peer, m: Here) -> None:
        contact = self.contacts.get(peer.address)
        if contact is None or contact.told_here:
            self.count("dropped_here")
            return
        contact.told_here = True
        host = m.host or contact.host
        if not may_tell(contact.host, host) or (contact.kind != INBOUND and not m.host):
            return
        now_s = self.get_wall_s()
        place = Place(host, m.port)
        if contact.place is None:
            contact.place = place
        if place not in self.own and self.book.add(place, contact.host, now_s, now_s):
            self.learned()

    def on_get_peers(self, peer: Peer, m: GetPeers) -> None:
        contact = self.contacts.get(peer.address)
        now = self.port.now()
        if contact is None:
            return
        full_at = max(contact.answers_full_at, now) + ANSWER_COST
        if full_at > now + ANSWER_BURST:
            self.peers.strike(peer, "requests")
            return
        contact.answers_full_at = full_at
        now_s = self.get_wall_s()
        told = [
            Told(entry.place, max(now_s - entry.seen_at, 0) // 60)
            for entry in self.get_sample(now, now_s)
            if may_tell(contact.host, entry.place.host) and entry.place != contact.place
        ]
        self.count("peers_told", len(told))
        self.port.send(peer.address, encode(PeerList(told)))

    def get_sample(self, now: Nanoseconds, now_s: int) -> list[Entry]:
        """Return the addresses that all who ask in a while are told, lest many connections read
        the whole book; a book that one list can hold is told as it is.
        """
        if len(self.book.entries) <= MAX_PLACES:
            return self.book.sample(MAX_PLACES, now_s)
        if self.sample is None or now - self.sample[0] > self.settings.told_again_ms * MILLISECOND:
            self.sample = (now, self.book.sample(MAX_PLACES, now_s))
        return self.sample[1]

    def on_peer_list(self, peer: Peer, m: PeerList) -> None:
        contact = self.contacts.get(peer.address)
        if contact is None or not contact.asked:
            self.peers.strike(peer, "unasked_peers")
            return
        contact.asked = False
        now_s = self.get_wall_s()
        fresh = 0
        for told in m.places:
            place = told.place
            if place in self.own or not may_tell(contact.host, place.host):
                continue
            seen_s = now_s - told.age_minutes * 60 - PENALTY_S
            fresh += self.book.add(place, contact.host, seen_s, now_s)
        self.count("peers_learned", fresh)
        if fresh:
            self.learned()

    def learned(self) -> None:
        self.dirty = True
        self.hurry()

    def ask(self, contact: Contact, now: Nanoseconds) -> None:
        pause_ms = self.settings.ask_ms
        if len(self.get_outbound()) < self.settings.outbound:
            pause_ms = min(pause_ms, (ASK_FIRST << min(contact.asks, 16)) // MILLISECOND)
        contact.asks += 1
        contact.ask_at = now + self.draw_pause(pause_ms) + pause_ms * MILLISECOND // 2
        contact.asked = True
        self.port.send(contact.peer, encode(GetPeers()))

    # ---- use

    def on_block(self, peer: Address) -> None:
        """A peer brought a block that was new here and whose work is there."""
        contact = self.contacts.get(peer)
        if contact is not None:
            contact.block_at = self.port.now()
            if contact.kind == FEELER and contact.greeted:
                self.promote(contact)

    def on_items(self, peer: Address) -> None:
        """A peer brought transactions that were new here."""
        contact = self.contacts.get(peer)
        if contact is not None:
            contact.item_at = self.port.now()

    def promote(self, feeler: Contact) -> None:
        """Keep a feeler that proved useful, in place of the most useless outgoing connection."""
        outbound = self.get_outbound()
        where = get_range(feeler.host)
        same = [c for c in outbound if get_range(c.host) == where]
        if len(outbound) >= self.settings.outbound or (self.settings.range_limits and same):
            pool = same if self.settings.range_limits and same else outbound
            worst = min(pool, key=lambda c: (c.block_at, -c.since, c.peer))
            self.end(worst.peer, "another is more useful")
        feeler.kind = OUTBOUND
        self.count("feelers_kept")

    # ---- what peers do wrong

    def blame(self, peer: Peer, points: int, what: str) -> None:
        """A peer broke a rule; enough of it is a ban."""
        contact = self.contacts.get(peer.address)
        if contact is None:
            return
        now = self.port.now()
        whom = [peer.address]
        if self.settings.range_limits:
            whom.append(get_site(contact.host))
        enough = [self.standing.blame(who, points, now) for who in whom]
        if any(enough):
            self.count("bans")
            until_s = self.get_wall_s() + self.settings.ban_s
            for who in whom:
                self.standing.ban(who, until_s, what)
            self.port.log("warning", "peer banned", peer=f"0x{peer.address.hex()}", reason=what)
            self.end(peer.address, f"banned: {what}")
            self.keep()

    def ban(self, who: str, seconds: int, reason: str) -> None:
        """Ban an address or an identity by hand. Raises Invalid."""
        name = parse_who(who)
        self.standing.ban(name, self.get_wall_s() + seconds, reason)
        for contact in list(self.contacts.values()):
            if self.is_banned(contact.peer) or get_site(contact.host) == name:
                self.end(contact.peer, f"banned: {reason}")
        self.keep()

    def unban(self, who: str) -> bool:
        """End a ban; whether there was one. Raises Invalid."""
        lifted = self.standing.lift(parse_who(who))
        self.keep()
        self.hurry()
        return lifted

    def end(self, peer: Address, reason: str) -> None:
        """End a connection and forget it at once."""
        self.on_disconnected(peer, ours=True)
        self.peers.disconnect(peer)
        self.port.disconnect(peer, reason)

    # ---- time

    def wake(self, delay: Nanoseconds) -> None:
        """Look around after a delay, or sooner if that was due already."""
        at = self.port.now() + delay
        if not self.tick_at or at < self.tick_at:
            self.tick_at = at
            self.port.set_timer(DISCOVERY_TIMER, max(delay, MILLISECOND))

    def hurry(self) -> None:
        """There is something new to try."""
        self.pause = FIRST_TICK
        self.wake(FIRST_TICK)

    def on_timer(self) -> None:
        now = self.port.now()
        self.tick_at = 0
        self.expire(now)
        dialled = self.dial_outbound(now)
        if not dialled and now >= self.feeler_at:
            self.feeler_at = now + self.draw_pause(self.settings.feeler_ms)
            self.dial_feeler(now)
        for contact in self.contacts.values():
            if contact.kind == OUTBOUND and contact.greeted and now >= contact.ask_at:
                self.ask(contact, now)
        if self.dirty and now >= self.keep_at:
            self.keep()
        self.pause = FIRST_TICK if dialled else min(2 * self.pause, LONGEST_TICK)
        self.wake(self.compute_delay(now))

    def compute_delay(self, now: Nanoseconds) -> Nanoseconds:
        """Return how long there is nothing to do."""
        due = [self.feeler_at]
        if self.dirty:
            due.append(self.keep_at)
        if len(self.get_outbound()) < self.settings.outbound:
            due.append(now + self.pause)
        handshake = self.settings.handshake_ms * MILLISECOND
        for contact in self.contacts.values():
            if not contact.greeted:
                due.append(contact.since + handshake)
            elif contact.kind == FEELER:
                due.append(contact.since + self.settings.feeler_stay_ms * MILLISECOND)
            elif contact.kind == OUTBOUND:
                due.append(contact.ask_at)
        return max(min(due) - now, FIRST_TICK)

    def expire(self, now: Nanoseconds) -> None:
        """End what has taken too long."""
        handshake = self.settings.handshake_ms * MILLISECOND
        stay = self.settings.feeler_stay_ms * MILLISECOND
        for contact in list(self.contacts.values()):
            if not contact.greeted and now - contact.since >= handshake:
                self.end(contact.peer, "it did not say hello")
            elif contact.kind == FEELER and now - contact.since >= stay:
                self.end(contact.peer, "it was only looked at")

    # ---- for people

    def describe(self, status: PeerStatus) -> PeerStatus:
        """Return a peer's status with what is known here."""
        contact = self.contacts.get(status.address)
        if contact is None:
            return status
        points = self.standing.get_points(contact.peer, self.port.now())
        return PeerStatus(
            status.address,
            status.connected,
            status.height,
            status.last_heard_ms,
            at=str(contact.place or Place(contact.host, max(contact.port, 1))),
            direction=contact.kind,
            points=points,
            up_ms=(self.port.now() - contact.since) // MILLISECOND,
        )

    def get_bans(self) -> list[BanStatus]:
        """Return the bans that hold, the one that ends first at the head."""
        now_s = self.get_wall_s()
        bans = [ban for ban in self.standing.bans.values() if ban.until_s > now_s]
        bans.sort(key=lambda ban: (ban.until_s, ban.who))
        return [BanStatus(format_who(b.who), b.until_s - now_s, b.reason) for b in bans]
