"""Scripts of faults in words that mean the same for every engine: what, when, and whom by role.

A role is looked up when its fault begins: the leader of a network of Raft is its leader, that of
Tendermint the proposer of the round, and where nobody leads (proof of work) the first member stands
for it. A draw (`random`) is made once and for all engines.
"""

import tomllib
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.types import Milliseconds

__all__ = [
    "SCRIPTS",
    "Fault",
    "Kind",
    "Script",
    "choose_members",
    "count_group",
    "describe_fault",
    "parse_script",
]

MAX_FAULTS = 64
MAX_MEMBERS = 128
MAX_MS: Milliseconds = 3_600_000
MAX_FILE_BYTES = 1 << 20

Kind = Literal[
    "crash",
    "pause",
    "isolate",
    "partition",
    "mute",
    "slow-machine",
    "slow-links",
    "lose",
    "lie",
]
Group = Literal["half", "third", "minority", "majority", "all"]
Role = Literal["leader", "next", "follower", "random"]
GROUPS: tuple[str, ...] = get_args(Group)
ROLES: tuple[str, ...] = get_args(Role)
KINDS: tuple[str, ...] = get_args(Kind)

WORDS: dict[str, str] = {
    "crash": "{who} crash{s} (power lost)",
    "pause": "{who} stop{s} as under SIGSTOP",
    "isolate": "{who} cut off from everybody",
    "partition": "{who} cut off from the rest",
    "mute": "nobody hears {who}",
    "slow-machine": "{who}: disk and calls {amount} times as slow",
    "slow-links": "{who}: {amount} ms more on every message",
    "lose": "{amount} of 1000 messages lost everywhere",
    "lie": "{who} lie{s}",
}
AMOUNTS: dict[str, tuple[int, int, int]] = {
    "slow-machine": (20, 2, 10_000),
    "slow-links": (100, 1, 60_000),
    "lose": (100, 1, 1000),
}
"""What `amount` is by default, at least, and at most."""


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, `at_ms` after the load begins, for `for_ms`."""

    kind: Kind
    at_ms: Milliseconds
    for_ms: Milliseconds
    who: Role | Group | int | list[int] = "leader"
    """A role, a member by index (as many as there are, over again from the first), some of them, or
    a group: `half` (rounded down), `third` (as many as liars that a network tolerates), `minority`
    (as many as crashes that it may tolerate), `majority`, `all`. The leader is in every group.
    """
    count: int = 1
    """How many, for a role: those who come after it too."""
    amount: int = 0
    """Of `slow-machine` (times), `slow-links` (ms), `lose` (of a thousand); 0: the usual."""

    def get_amount(self) -> int:
        return self.amount or AMOUNTS.get(self.kind, (0, 0, 0))[0]


class Script(Struct, frozen=True, kw_only=True):
    """Faults in the order in which they begin."""

    name: str
    faults: tuple[Fault, ...]

    def get_end(self) -> Milliseconds:
        """Return when the last fault ends, after the load began."""
        return max((fault.at_ms + fault.for_ms for fault in self.faults), default=0)


SCRIPTS: dict[str, Script] = {
    "none": Script(name="none", faults=()),
    "standard": Script(
        name="standard",
        faults=(
            Fault(kind="crash", who="leader", at_ms=3_000, for_ms=3_000),
            Fault(kind="pause", who="follower", at_ms=9_000, for_ms=3_000),
            Fault(kind="isolate", who="leader", at_ms=15_000, for_ms=3_000),
            Fault(kind="partition", who="half", at_ms=21_000, for_ms=3_000),
            Fault(kind="slow-links", who="leader", at_ms=27_000, for_ms=3_000),
            Fault(kind="lose", who="all", at_ms=33_000, for_ms=3_000),
        ),
    ),
    "crashes": Script(
        name="crashes",
        faults=(
            Fault(kind="crash", who="leader", at_ms=3_000, for_ms=3_000),
            Fault(kind="crash", who="next", at_ms=9_000, for_ms=3_000),
            Fault(kind="crash", who="minority", at_ms=15_000, for_ms=3_000),
            Fault(kind="crash", who="all", at_ms=21_000, for_ms=3_000),
        ),
    ),
    "partitions": Script(
        name="partitions",
        faults=(
            Fault(kind="isolate", who="leader", at_ms=3_000, for_ms=3_000),
            Fault(kind="partition", who="half", at_ms=10_000, for_ms=3_000),
            Fault(kind="mute", who="leader", at_ms=17_000, for_ms=3_000),
            Fault(kind="partition", who="minority", at_ms=24_000, for_ms=3_000),
        ),
    ),
}
"""By name."""


def count_group(group: str, members: int) -> int:
    """Return how many of so many equal members a group holds."""
    return {
        "half": members // 2,
        "third": max((members - 1) // 3, 1),
        "minority": max((members - 1) // 2, 1),
        "majority": members // 2 + 1,
        "all": members,
    }[group]


def choose_members(
    fault: Fault, members: list[int], leader: int, following: int, drawn: int
) -> list[int]:
    """Return whom a fault strikes, of members (by index) one of whom leads and one leads next."""
    who = fault.who
    if isinstance(who, int):
        return [members[who % len(members)]]
    if isinstance(who, list):
        return list(dict.fromkeys(members[index % len(members)] for index in who))
    first, count = leader, fault.count
    if who in GROUPS:
        count = count_group(who, len(members))
    elif who == "random":
        first = members[drawn % len(members)]
    elif who == "follower":
        first = members[(members.index(leader) + 1) % len(members)]
    elif who == "next":
        first = following
    place = members.index(first)
    return (members[place:] + members[:place])[:count]


def describe_fault(fault: Fault, members: int) -> str:
    """Return a fault in words, without its time."""
    one = True
    if isinstance(fault.who, int):
        who = f"member {fault.who % members}"
    elif isinstance(fault.who, list):
        who, one = f"members {', '.join(str(i % members) for i in fault.who)}", False
    elif fault.who in GROUPS:
        count = count_group(fault.who, members)
        who, one = f"{count} of {members}", count == 1
    else:
        who = {"next": "the next proposer", "random": "a member", "follower": "a follower"}.get(
            fault.who, "the leader"
        )
        if fault.count > 1:
            who, one = f"{who} and {fault.count - 1} more", False
    ending = ("es" if fault.kind == "crash" else "s") if one else ""
    return WORDS[fault.kind].format(who=who, s=ending, amount=fault.get_amount())


def parse_script(text: str, name: str) -> Script:
    """Return the script of a TOML file: `[[fault]]` with the fields of `Fault`.

    Raises Invalid.
    """
    if len(text) > MAX_FILE_BYTES:
        raise Invalid(f"{name}: {len(text)} characters, expected at most {MAX_FILE_BYTES}")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{name}: {error}") from None
    rows = tree.pop("fault", None)
    if tree or not isinstance(rows, list) or not 1 <= len(rows) <= MAX_FAULTS:
        found = f"the key {min(tree)!r}" if tree else "something else"
        raise Invalid(f"{name}: found {found}, expected 1 to {MAX_FAULTS} of [[fault]]")
    faults = [parse_fault(row, f"{name}: fault {number}") for number, row in enumerate(rows, 1)]
    return Script(name=name, faults=tuple(sorted(faults, key=lambda fault: fault.at_ms)))


def parse_fault(row: Any, where: str) -> Fault:
    kind = row.get("kind") if isinstance(row, dict) else None
    if kind not in KINDS:
        raise Invalid(f"{where}: kind {kind!r}, expected one of {', '.join(KINDS)}")
    who = row.get("who", "leader")
    if isinstance(who, str) and who not in (*ROLES, *GROUPS):
        expected = ", ".join((*ROLES, *GROUPS))
        raise Invalid(f"{where}: who {who!r}, expected {expected}, an index or a list of them")
    try:
        fault = msgspec.convert(row, Fault)
    except msgspec.ValidationError as error:
        raise Invalid(f"{where}: {error}") from None
    for key, least in (("at_ms", 0), ("for_ms", 1)):
        value = getattr(fault, key)
        if not least <= value <= MAX_MS:
            raise Invalid(f"{where}: {key} {value}, expected {least} to {MAX_MS}")
    if not 1 <= fault.count <= MAX_MEMBERS or (fault.count > 1 and who not in ROLES):
        raise Invalid(f"{where}: count {fault.count}, expected 1 to {MAX_MEMBERS} of a role")
    indexes = who if isinstance(who, list) else [who] if isinstance(who, int) else []
    if any(index < 0 for index in indexes) or who == []:
        raise Invalid(f"{where}: who {who!r}, expected indexes from 0 on")
    if fault.kind in AMOUNTS:
        _, low, high = AMOUNTS[fault.kind]
        if not low <= fault.get_amount() <= high:
            raise Invalid(f"{where}: amount {fault.amount}, expected {low} to {high}")
    elif fault.amount:
        raise Invalid(f"{where}: amount {fault.amount}, expected none for {fault.kind}")
    return fault
