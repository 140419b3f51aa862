"""What peers did wrong, for as long as it matters: points that fade, and bans that end.

Keys are free where anybody may join, so points and bans are of a key and of the site that it speaks
from (an IPv4 address, 64 bits of an IPv6 one); where all share one host, of the key alone. A ban is
what `BAN_POINTS` come to. It lasts across restarts; points do not.
"""

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Nanoseconds
from quorate.node.places import format_host, get_site, parse_host

__all__ = ["BAN_POINTS", "MAX_BANS", "Ban", "Standing", "format_who", "parse_who"]

BAN_POINTS = 100
HALF_LIFE: Nanoseconds = 600 * 1_000_000_000
"""In this time half of the points are forgotten."""
FINE = 1000
"""Points are kept in thousandths, so that fading is smooth."""
MAX_KNOWN = 4096
"""Keys and sites with points; who was heard of longest ago makes room."""
MAX_BANS = 4096
"""The oldest makes room."""


class Ban(Struct, frozen=True, array_like=True):
    """Who is not talked to, until when (Unix seconds), and why."""

    who: bytes
    """A peer's key, or a site."""
    until_s: int
    reason: str


class Standing:
    """Points and bans of all peers."""

    __slots__ = ("bans", "points")

    def __init__(self) -> None:
        self.points: dict[bytes, tuple[int, Nanoseconds]] = {}
        """In thousandths, as of a time."""
        self.bans: dict[bytes, Ban] = {}

    def get_points(self, who: bytes, now: Nanoseconds) -> int:
        """Return what is left of somebody's points."""
        return self.compute_fine(who, now) // FINE

    def compute_fine(self, who: bytes, now: Nanoseconds) -> int:
        found = self.points.get(who)
        if found is None:
            return 0
        fine, since = found
        halvings, rest = divmod(now - since, HALF_LIFE)
        if halvings > 40:
            return 0
        fine >>= halvings
        # Between two halvings along a straight line.
        return fine - fine * rest // (2 * HALF_LIFE)

    def blame(self, who: bytes, points: int, now: Nanoseconds) -> bool:
        """Add points; whether that is enough for a ban."""
        fine = self.compute_fine(who, now) + points * FINE
        self.points.pop(who, None)
        self.points[who] = (fine, now)
        if len(self.points) > MAX_KNOWN:
            del self.points[next(iter(self.points))]
        return fine >= BAN_POINTS * FINE

    def ban(self, who: bytes, until_s: int, reason: str) -> None:
        """Ban somebody, for no shorter than before."""
        old = self.bans.pop(who, None)
        if old is not None and old.until_s > until_s:
            until_s = old.until_s
        self.bans[who] = Ban(who, until_s, reason)
        self.points.pop(who, None)
        if len(self.bans) > MAX_BANS:
            del self.bans[next(iter(self.bans))]

    def lift(self, who: bytes) -> bool:
        """End a ban, and forget the points; whether there was one."""
        self.points.pop(who, None)
        return self.bans.pop(who, None) is not None

    def is_banned(self, who: bytes, now_s: int) -> bool:
        ban = self.bans.get(who)
        if ban is None:
            return False
        if ban.until_s <= now_s:
            del self.bans[who]
            return False
        return True


def parse_who(text: str) -> bytes:
    """Return an identity (0x and 40 digits) or the site of an address. Raises Invalid."""
    if text.startswith("0x"):
        try:
            name = bytes.fromhex(text[2:])
        except ValueError:
            name = b""
        if len(name) != 20:
            raise Invalid(f"{text}: not an identity, expected 0x and 40 hexadecimal digits")
        return name
    return get_site(parse_host(text))


def format_who(who: bytes) -> str:
    """Return what `parse_who` reads."""
    if len(who) == 20:
        return "0x" + who.hex()
    return format_host(who if len(who) == 4 else who + bytes(8))
