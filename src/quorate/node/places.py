"""Where nodes listen, and which ranges their addresses lie in.

Who has one address of a range easily has many more of it, so whatever is to be spread over the
network is spread over ranges: the first 16 bits of an IPv4 address, the first 32 of an IPv6 one,
which are about what one provider holds. IPv6 addresses that carry an IPv4 one (mapped, 6to4,
Teredo, NAT64) are of the range of that one, since they cost no more.

An address means something only to those who can reach it: nobody but this machine its loopback,
nobody outside a site the site's own. What is told therefore reaches at least as far as its teller
does (as go-ethereum's `netutil.CheckRelayIP` has it).
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from quorate.base.errors import Invalid

__all__ = [
    "LOOPBACK",
    "SITE",
    "UNUSABLE",
    "WORLD",
    "Place",
    "Range",
    "format_host",
    "get_range",
    "get_reach",
    "get_site",
    "may_tell",
    "parse_host",
    "parse_place",
]

Range: TypeAlias = bytes
"""The kind of an address and its first bits."""

UNUSABLE, LOOPBACK, SITE, WORLD = -1, 0, 1, 2
"""From how far an address can be reached."""

V4_MAPPED = bytes(10) + b"\xff\xff"
NAT64 = bytes.fromhex("0064ff9b") + bytes(8)
SIX_TO_FOUR = bytes.fromhex("2002")
TEREDO = bytes.fromhex("20010000")


class Place(Struct, frozen=True, array_like=True, gc=False, order=True):
    """An address, 4 or 16 bytes, and a port."""

    host: Annotated[bytes, Meta(min_length=4, max_length=16)]
    port: Annotated[int, Meta(ge=1, le=65535)]

    def __str__(self) -> str:
        text = format_host(self.host)
        return f"[{text}]:{self.port}" if ":" in text else f"{text}:{self.port}"


@lru_cache(1 << 16)
def get_range(host: bytes) -> Range:
    """Return the range that limits count an address in."""
    if len(host) == 4:
        return b"4" + host[:2]
    inner = get_carried(host)
    return b"6" + host[:4] if inner is None else b"4" + inner[:2]


def get_site(host: bytes) -> Range:
    """Return what one customer of a provider has: an IPv4 address, 64 bits of an IPv6 one."""
    return host if len(host) == 4 else host[:8]


def get_carried(host: bytes) -> bytes | None:
    """Return the IPv4 address that an IPv6 address carries, if it does."""
    if host.startswith((V4_MAPPED, NAT64)):
        return host[12:]
    if host.startswith(SIX_TO_FOUR):
        return host[2:6]
    if host.startswith(TEREDO):
        return bytes(byte ^ 0xFF for byte in host[12:])
    return None


@lru_cache(4096)
def get_reach(host: bytes) -> int:
    """Return from how far an address can be reached."""
    if len(host) not in (4, 16):
        return UNUSABLE
    address = ip_address(host)
    if address.is_multicast or address.is_unspecified or host == b"\xff" * 4:
        return UNUSABLE
    if address.is_loopback:
        return LOOPBACK
    return WORLD if address.is_global else SITE


def may_tell(teller: bytes, told: bytes) -> bool:
    """Whether an address may come from, or go to, somebody who has the other one."""
    reach = get_reach(told)
    return reach != UNUSABLE and reach >= get_reach(teller)


def parse_host(text: str) -> bytes:
    """Return an address in bytes. Raises Invalid."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        raise Invalid(f"{text}: not an address, expected IPv4 or IPv6") from None
    packed = address.packed
    return packed[12:] if packed.startswith(V4_MAPPED) else packed


def format_host(host: bytes) -> str:
    """Return an address as people write it."""
    return str(ip_address(host))


def parse_place(text: str) -> Place:
    """Return what `str` makes of a place. Raises Invalid."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Invalid(f"{text}: not a place, expected HOST:PORT")
    return Place(parse_host(host), int(port))
