"""The peers of one node: who they are, what they told, and what they may cost.

Handshake. Each side says `Hello` at once; nothing else is listened to before it. A frame may be
lost even so (the simulator's links lose any frame), so `Hello` is said again until the other's was
heard.

Heights. Who votes on a height, or proposes it, shows that it finished the one before
(`Replica.get_shown`), so members that agree tell each other nothing more. Every `tip_again_ms` a
node tells its final height to those who have not shown since the last time that they are as far as
it was then; an idle network is told its last height once, and says nothing from then on. Who is no
member hears little of what members say to each other: it is told at most every `tip_ms`. Each `Tip`
also says what its sender last heard of the receiver, and is answered if that is out of date and the
answer is of use.
"""

from collections.abc import Callable
from typing import Final

from quorate.base.types import MILLISECOND, SECOND, Address, Hash, Height, Nanoseconds
from quorate.consensus.replica import Timer
from quorate.node.guard import GuardedPort
from quorate.node.settings import Settings
from quorate.node.status import PeerStatus
from quorate.node.wire import VERSION, Hello, Tip, encode

HELLO_TIMER: Final = Timer("node.hello")
TIP_TIMER: Final = Timer("node.tip")
HELLO_AGAIN: Final = SECOND
AT_ONCE: Final = 2 * SECOND
"""How much an allowance permits at once: what it earns in this time."""
STRIKE_POINTS: Final = 1
MALFORMED_POINTS: Final = 20
"""Where membership is open: of the points that a ban takes, `standing.BAN_POINTS`."""
STRIKES_FADE: Final = 10 * SECOND
"""After this long without one, strikes are forgotten."""


class Allowance:
    """A bound of `rate` a second, twice as much at once.

    A token bucket, kept as the time at which it would be full again (GCRA, ITU-T I.371).
    """

    __slots__ = ("full_at", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.full_at: Nanoseconds = 0

    def take(self, amount: int, now: Nanoseconds) -> bool:
        """Use up `amount` if it is there."""
        start = self.full_at
        if start < now:
            start = now
        full_at = start + amount * SECOND // self.rate
        if full_at > now + AT_ONCE:
            return False
        self.full_at = full_at
        return True


class Peer:
    """What is known of one peer. It outlives its connections."""

    __slots__ = (
        "address",
        "bytes",
        "connected",
        "greeted",
        "heard_at",
        "height",
        "items",
        "left_at",
        "malformed",
        "refused",
        "serving",
        "strikes",
        "struck_at",
        "told",
        "told_at",
        "waiting",
        "welcome",
    )

    def __init__(self, address: Address, settings: Settings) -> None:
        self.address = address
        self.connected = False
        self.greeted = False
        """Its `Hello` was heard on this connection."""
        self.height: Height = 0
        """The last it told or showed."""
        self.told: Height = -1
        """The last it was told on this connection."""
        self.told_at: Nanoseconds = 0
        self.heard_at: Nanoseconds | None = None
        self.left_at: Nanoseconds | None = None
        self.bytes = Allowance(settings.peer_bytes_per_second)
        self.items = Allowance(settings.peer_transactions_per_second)
        self.strikes = 0
        self.struck_at: Nanoseconds = 0
        self.malformed = 0
        self.serving = 0
        """Its requests that are being answered."""
        self.waiting: list[tuple[Height, int, bool]] = []
        """Those of its engine that are answered after them: (first, count, bodies)."""
        self.refused = ""
        """Why it was last disconnected by this node."""
        self.welcome = False
        """It is yet to say that it has heard us, or to be told what waits in the pool."""


class Peers:
    """All peers of a node, those without a connection too.

    `open_to(address)` says whether somebody may be a peer, `is_member(address)` whether the engine
    talks to him; `on_greeted` and `on_height` are told of
    a finished handshake and of any news of a peer's height, with it, `on_shown` of a height above
    our own that a peer showed.
    """

    __slots__ = (
        "connected",
        "counters",
        "due",
        "engine",
        "genesis",
        "has_outsiders",
        "height",
        "is_member",
        "is_rare",
        "known",
        "mark",
        "on_blamed",
        "on_foreign",
        "on_greeted",
        "on_height",
        "on_shown",
        "open_to",
        "port",
        "settings",
        "software",
        "tip_set",
        "tip_soon",
        "told_at",
    )

    def __init__(
        self,
        port: GuardedPort,
        settings: Settings,
        counters: dict[str, int],
        *,
        genesis: Hash,
        engine: str,
        software: str,
        height: Height,
        open_to: Callable[[Address], bool],
        is_member: Callable[[Address], bool],
        on_greeted: Callable[[Peer], None],
        on_height: Callable[[Height], None],
        on_shown: Callable[[Height], None],
    ) -> None:
        self.port, self.settings, self.counters = port, settings, counters
        self.genesis, self.engine, self.software = genesis, engine, software
        self.height = height
        """This node's own final height."""
        self.open_to, self.is_member = open_to, is_member
        self.on_greeted, self.on_height, self.on_shown = on_greeted, on_height, on_shown
        self.on_blamed: Callable[[Peer, int, str], None] | None = None
        """In open networks: who keeps the score, told of each fault with its points."""
        self.on_foreign: Callable[[Address], None] | None = None
        """In open networks: told of peers that are of another network."""
        self.known: dict[Address, Peer] = {}
        self.connected: dict[Address, Peer] = {}
        """Greeted peers only, in order of connection."""
        self.tip_set = False
        """Whether the timer runs."""
        self.tip_soon = False
        """Whether it runs for those who are no members."""
        self.told_at: Nanoseconds = 0
        """When the timer last fell."""
        self.mark: Height = height
        """The own height when members were last looked at."""
        self.due: Nanoseconds = 0
        """When that is to be done again."""
        self.has_outsiders = False
        """Whether some of those connected are no members."""
        self.is_rare = False
        """Whether heights are for people alone: an open engine finds what it misses itself, and its
        messages show heights often enough.
        """

    # ---- connections

    def connect(self, address: Address) -> None:
        """A link to a peer, whose identity is proved, is up."""
        peer = self.get(address)
        if not self.open_to(address):
            self.refuse(peer, f"0x{address.hex()} is neither a member nor a configured peer")
            return
        peer.connected, peer.greeted, peer.told, peer.welcome = True, False, -1, True
        peer.strikes = peer.malformed = 0
        self.connected.pop(address, None)
        self.greet(peer)
        self.port.set_timer(HELLO_TIMER, HELLO_AGAIN)

    def disconnect(self, address: Address) -> None:
        """The link is down."""
        peer = self.known.get(address)
        if peer is None or not peer.connected:
            return
        peer.connected = peer.greeted = False
        peer.left_at = self.port.now()
        self.connected.pop(address, None)
        self.look_for_outsiders()
        if self.on_blamed is not None:
            # Strangers without number: what there is to remember, discovery remembers.
            del self.known[address]

    def get(self, address: Address) -> Peer:
        peer = self.known.get(address)
        if peer is None:
            peer = self.known[address] = Peer(address, self.settings)
        return peer

    def refuse(self, peer: Peer, reason: str) -> None:
        """Disconnect a peer and remember why."""
        peer.refused = reason
        self.count("peers_refused")
        self.port.log("warning", "peer refused", peer=f"0x{peer.address.hex()}", reason=reason)
        if self.on_blamed is not None or self.open_to(peer.address):
            self.disconnect(peer.address)
        else:
            self.known.pop(peer.address, None)
        self.port.disconnect(peer.address, reason)

    def strike(self, peer: Peer, what: str) -> None:
        """A frame over the peer's bounds was dropped."""
        now = self.port.now()
        if now - peer.struck_at > STRIKES_FADE:
            peer.strikes = 0
        peer.strikes, peer.struck_at = peer.strikes + 1, now
        self.count(f"dropped_{what}")
        if self.on_blamed is not None:
            self.on_blamed(peer, STRIKE_POINTS, what)
        elif peer.strikes >= self.settings.peer_strikes:
            self.refuse(peer, f"{peer.strikes} frames over its bounds, the last one: {what}")

    def malform(self, peer: Peer, problem: str) -> None:
        """A frame was not what the protocol allows."""
        peer.malformed += 1
        self.count("dropped_malformed")
        if self.on_blamed is not None:
            self.on_blamed(peer, MALFORMED_POINTS, problem)
        elif peer.malformed >= self.settings.peer_malformed:
            self.refuse(peer, f"{peer.malformed} malformed frames, the last one: {problem}")

    def blame(self, peer: Peer, reason: str) -> None:
        """The engine says that a peer sent what no honest one sends."""
        self.count("peers_blamed")
        self.malform(peer, reason)

    # ---- handshake

    def greet(self, peer: Peer) -> None:
        hello = Hello(VERSION, self.genesis, self.engine, self.software, self.height, peer.greeted)
        self.port.send(peer.address, encode(hello))

    def on_hello(self, peer: Peer, m: Hello) -> None:
        problem = self.judge_hello(m)
        if problem:
            if self.on_foreign is not None:
                self.on_foreign(peer.address)
            self.refuse(peer, problem)
            return
        peer.refused = ""
        peer.height = m.height
        if not peer.greeted:
            peer.greeted = True
            peer.told, peer.told_at = self.height, self.port.now()
            self.connected[peer.address] = peer
            self.look_for_outsiders()
            level = "info" if self.on_blamed is None else "debug"
            self.port.log(level, "peer connected", peer=f"0x{peer.address.hex()}", height=m.height)
        if m.heard:
            self.finish(peer)
        else:
            self.greet(peer)
        self.on_height(m.height)
        self.watch()

    def finish(self, peer: Peer) -> None:
        """Both sides have heard each other (or it has been long enough): the link is in use."""
        if peer.welcome:
            peer.welcome = False
            self.on_greeted(peer)

    def judge_hello(self, m: Hello) -> str | None:
        """Why a peer cannot be talked to; None if it can."""
        if m.version != VERSION:
            return f"speaks version {m.version} of the peer protocol, expected {VERSION}"
        if m.genesis != self.genesis:
            return (
                f"its genesis block is 0x{m.genesis.hex()}, ours is 0x{self.genesis.hex()}: "
                "the genesis files differ"
            )
        if m.engine != self.engine:
            return f"agrees by {m.engine!r}, expected {self.engine!r}"
        return None

    def on_hello_timer(self) -> None:
        """Say it again to peers that were not heard yet; wait no longer for those that were."""
        missing = [p for p in self.known.values() if p.connected and not p.greeted]
        for peer in missing:
            self.greet(peer)
        for peer in list(self.connected.values()):
            self.finish(peer)
        if missing:
            self.port.set_timer(HELLO_TIMER, HELLO_AGAIN)

    # ---- heights

    def look_for_outsiders(self) -> None:
        """See who is a member: connections or members have changed."""
        self.has_outsiders = not self.is_rare and not all(map(self.is_member, self.connected))

    def on_final(self, height: Height) -> None:
        """This node's own height has grown."""
        self.height = height
        if self.is_rare:
            return
        if self.has_outsiders and not self.tip_soon:
            # Looking at members later must not hold back what is new to others.
            self.tip_set = self.tip_soon = True
            since = self.port.now() - self.told_at
            self.port.set_timer(TIP_TIMER, max(self.settings.tip_ms * MILLISECOND - since, 0))
        elif not self.tip_set:
            self.set_timer()

    def set_timer(self) -> None:
        """Look at all again after the longer pause."""
        now = self.port.now()
        if self.due <= now:
            self.due = now + self.settings.tip_again_ms * MILLISECOND
        self.tip_set = True
        self.port.set_timer(TIP_TIMER, self.due - now)

    def show(self, peer: Peer, height: Height) -> None:
        """A message of the engine shows that its sender has finished a height, or -1."""
        if height > peer.height:
            peer.height = height
            if height > self.height:
                self.on_shown(height)

    def on_tip(self, peer: Peer, m: Tip) -> None:
        peer.height = m.height
        if m.known != self.height and not self.is_rare and self.is_answer_due(peer):
            self.tell(peer)
        self.on_height(m.height)

    def is_answer_due(self, peer: Peer) -> bool:
        """Whether a peer that does not know our height shall hear it at once: it lacks something,
        or would go on telling its own; what was told just now is under way.
        """
        since = self.port.now() - peer.told_at
        if peer.told == self.height and since < self.settings.tip_again_ms * MILLISECOND // 2:
            return False
        return peer.height < self.height or not self.tip_set

    def tell(self, peer: Peer) -> None:
        peer.told, peer.told_at = self.height, self.port.now()
        self.port.send(peer.address, encode(Tip(self.height, peer.height)))

    def watch(self) -> None:
        """Look again later while somebody seems to be behind."""
        if self.tip_set or self.is_rare:
            return
        for peer in self.connected.values():
            if peer.height < self.height:
                self.set_timer()
                return

    def on_tip_timer(self) -> None:
        """Tell those who seem not to know, and go on while there are any."""
        now = self.told_at = self.port.now()
        self.tip_set = self.tip_soon = False
        is_due, mark = now >= self.due, self.mark
        if is_due:
            self.mark = self.height
        for peer in self.connected.values():
            if peer.height >= self.height:
                continue
            elif is_due and peer.height < mark:
                is_missing = True
            else:
                is_missing = peer.told != self.height and not self.is_member(peer.address)
            if is_missing:
                self.tell(peer)
        self.watch()

    def get_best_height(self) -> Height:
        """The greatest height that a connected peer told."""
        best = 0
        for peer in self.connected.values():
            if peer.height > best:
                best = peer.height
        return best

    def get_status(self) -> list[PeerStatus]:
        now = self.port.now()
        return [
            PeerStatus(
                peer.address,
                peer.greeted,
                peer.height,
                None if peer.heard_at is None else (now - peer.heard_at) // 1_000_000,
            )
            for peer in sorted(self.known.values(), key=lambda p: p.address)
        ]

    def count(self, name: str, n: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + n
