"""Who gives up his slot when all slots for connections that come in are taken.

As Bitcoin Core does it (`SelectNodeToEvict`): those are safe who excel in something that an
attacker cannot have for all his connections at once, and of the others the youngest of the range
with most connections goes. A newcomer may thus always come in, unless everybody is safe, and who
wants all slots must be better than honest peers at being useful, at having come early, and at being
spread.
"""

from msgspec import Struct

from quorate.base.types import Address, Nanoseconds
from quorate.crypto.hashes import keccak256
from quorate.node.places import Range

__all__ = ["Guest", "choose_victim"]

SAFE_SHARE = 8
"""One of so many slots is safe for each thing to excel in, at least one."""


class Guest(Struct, frozen=True):
    """A connection that came in."""

    peer: Address
    range: Range
    since: Nanoseconds
    block_at: Nanoseconds
    """When it last brought a block that was new and good; 0: never."""
    item_at: Nanoseconds
    """The same of transactions."""


def choose_victim(guests: list[Guest], slots: int, secret: bytes) -> Address | None:
    """Return whose connection ends for a newcomer; None if all are safe."""
    safe = max(1, slots // SAFE_SHARE)
    left = sorted(guests, key=lambda guest: guest.peer)
    # Of ranges that nobody can guess.
    left = protect(left, safe, [keccak256(secret + guest.range) for guest in left])
    left = protect(left, safe, [(guest.item_at, -guest.since) for guest in left])
    left = protect(left, safe, [(guest.block_at, -guest.since) for guest in left])
    # Half of the rest, those who have been here longest: to come early costs an attacker time.
    left = protect(left, len(left) // 2, [-guest.since for guest in left])
    if not left:
        return None
    counts: dict[Range, int] = {}
    for guest in left:
        counts[guest.range] = counts.get(guest.range, 0) + 1
    most = max(counts.values())
    crowded = [guest for guest in left if counts[guest.range] == most]
    return max(crowded, key=lambda guest: (guest.since, guest.peer)).peer


def protect(guests: list[Guest], count: int, merits: list[object]) -> list[Guest]:
    """Return all but the `count` with the greatest merits, in their order."""
    ranked = sorted(range(len(guests)), key=lambda i: merits[i], reverse=True)  # type: ignore[arg-type, return-value]
    saved = set(ranked[:count])
    return [guest for i, guest in enumerate(guests) if i not in saved]
