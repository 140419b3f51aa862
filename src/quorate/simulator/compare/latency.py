"""How far machines are from each other: presets with their sources, and a user's own matrix.

A matrix holds round trips in milliseconds between places; a message takes half of one. Members are
put into the places in turn, unless the matrix says which member is where.

Sources of the presets:

    lan         0.5 ms: "round trip within same datacenter", Dean, "Numbers everyone should know",
                in "Designs, lessons and advice from building large distributed systems", LADIS 2009
    continents  average round trips between regions of a public cloud, as measured in 2017 and
                collected in "Latency between AWS global regions"; within a place as in `lan`
"""

import csv
import tomllib
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Nanoseconds

__all__ = ["PRESETS", "Latency", "parse_latency"]

MICROSECOND: Nanoseconds = 1_000
MAX_PLACES = 128
MAX_RTT_MS = 60_000
MAX_FILE_BYTES = 1 << 20
HERE_MS = 0.5
"""Of a round trip within one place, where a matrix has none."""


class Latency(Struct, frozen=True, kw_only=True):
    """Round trips between places, in milliseconds."""

    name: str
    places: tuple[str, ...]
    rtt_ms: tuple[tuple[float, ...], ...]
    jitter_ms: float = 0.0
    """What is added to each message at most, uniformly."""
    members: tuple[str, ...] = ()
    """The place of each member; empty: in turn."""
    source: str = ""

    def get_place(self, member: int) -> int:
        """Return the place of a member."""
        if self.members:
            return self.places.index(self.members[member % len(self.members)])
        return member % len(self.places)

    def compute_delays(self, count: int) -> list[list[Nanoseconds]]:
        """Return how long a message takes at least from each of so many members to each."""
        at = [self.get_place(member) for member in range(count)]
        return [
            [round(self.rtt_ms[a][b] * 500) * MICROSECOND or MICROSECOND for b in at] for a in at
        ]

    def compute_jitter(self) -> Nanoseconds:
        return max(round(self.jitter_ms * 1000) * MICROSECOND, 1)


def mirror(name: str, places: Sequence[str], upper: Sequence[Sequence[float]], **more: Any) -> Any:
    """Return the matrix of which the part right of the diagonal is given, row by row."""
    count = len(places)
    rows = [[HERE_MS] * count for _ in range(count)]
    for i, row in enumerate(upper):
        for j, rtt in enumerate(row, i + 1):
            rows[i][j] = rows[j][i] = rtt
    return Latency(name=name, places=tuple(places), rtt_ms=tuple(map(tuple, rows)), **more)


PRESETS: dict[str, Latency] = {
    "lan": Latency(
        name="lan",
        places=("lan",),
        rtt_ms=((HERE_MS,),),
        jitter_ms=0.1,
        source="Dean, LADIS 2009: 0.5 ms within a data centre",
    ),
    "continents": mirror(
        "continents",
        ("virginia", "frankfurt", "tokyo", "sao-paulo", "singapore"),
        ((88.6, 145.3, 119.5, 216.7), (236.5, 194.9, 325.9), (256.8, 73.8), (328.1,)),
        jitter_ms=2.0,
        source="average round trips between AWS regions, 2017",
    ),
}
"""By name."""


def parse_latency(text: str, name: str) -> Latency:
    """Return the matrix of a file: CSV if its name ends so, TOML otherwise. Raises Invalid.

    TOML has `places` (names), `rtt_ms` (a row for each place), and perhaps `members` (the place of
    each member), `jitter_ms` and `source`. CSV has the places in its first line and a row of
    numbers for each after it, which may begin with the place's name.
    """
    if len(text) > MAX_FILE_BYTES:
        raise Invalid(f"{name}: {len(text)} characters, expected at most {MAX_FILE_BYTES}")
    tree = parse_csv(text, name) if name.lower().endswith(".csv") else parse_toml(text, name)
    unknown = set(tree) - {"places", "rtt_ms", "members", "jitter_ms", "source"}
    if unknown:
        raise Invalid(
            f"{name}: {min(unknown)}: unknown key, expected places, rtt_ms, members, jitter_ms "
            "or source"
        )
    places = read_names(tree, "places", name)
    if not 1 <= len(places) <= MAX_PLACES or len(set(places)) < len(places):
        raise Invalid(f"{name}: places: {len(places)}, expected 1 to {MAX_PLACES} different names")
    rows = tree.get("rtt_ms")
    if not isinstance(rows, list) or len(rows) != len(places):
        found = len(rows) if isinstance(rows, list) else "none"
        raise Invalid(
            f"{name}: rtt_ms: {found} rows, expected one for each of {len(places)} places"
        )
    members = read_names(tree, "members", name)
    for member in members:
        if member not in places:
            raise Invalid(f"{name}: members: {member!r}, expected one of {', '.join(places)}")
    return Latency(
        name=name,
        places=places,
        rtt_ms=tuple(read_row(row, places, i, name) for i, row in enumerate(rows)),
        jitter_ms=read_number(tree.get("jitter_ms", 0.0), "jitter_ms", name),
        members=members,
        source=str(tree.get("source", "")),
    )


def parse_toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{name}: {error}") from None


def parse_csv(text: str, name: str) -> dict[str, Any]:
    """Return the tree that a CSV file stands for."""
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(text.splitlines())
        if any(cell.strip() for cell in row)
    ]
    if not rows:
        raise Invalid(f"{name}: empty, expected places in the first line")
    head = rows[0][1:] if not rows[0][0] else rows[0]
    body = []
    for row in rows[1:]:
        cells = row[1:] if len(row) == len(head) + 1 else row
        try:
            body.append([float(cell) for cell in cells])
        except ValueError as error:
            raise Invalid(f"{name}: row {len(body) + 1}: {error}") from None
    return {"places": head, "rtt_ms": body}


def read_names(tree: dict[str, Any], key: str, name: str) -> tuple[str, ...]:
    found = tree.get(key, [])
    if not isinstance(found, list) or not all(isinstance(n, str) and n for n in found):
        raise Invalid(f"{name}: {key}: {found!r}, expected a list of names")
    return tuple(found)


def read_row(row: Any, places: tuple[str, ...], number: int, name: str) -> tuple[float, ...]:
    what = f"rtt_ms, row {number + 1} ({places[number]})"
    if not isinstance(row, list) or len(row) != len(places):
        found = len(row) if isinstance(row, list) else "none"
        raise Invalid(f"{name}: {what}: {found} numbers, expected {len(places)}")
    return tuple(read_number(cell, what, name) for cell in row)


def read_number(value: Any, what: str, name: str) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= MAX_RTT_MS
    ):
        raise Invalid(f"{name}: {what}: {value!r}, expected 0 to {MAX_RTT_MS} ms")
    return float(value)
