"""What a shrinker does to a plan and its choices: all of it pure.

Choices are kept sparse, stream by stream: the index of a choice and its value, unless it is zero.
Streams whose names differ in their last word only, and of which one ends in `act`, belong together:
their choices of one index are one act (`nemesis act`, `nemesis who`, `nemesis length` ...).
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from msgspec.structs import replace

from quorate.simulator.plan import MS, Plan

__all__ = [
    "QUIET",
    "Choices",
    "count_choices",
    "drop_machine",
    "find_acts",
    "get_groups",
    "is_quiet",
    "join_pauses",
    "list_choices",
    "tidy",
    "without",
    "without_streams",
]

Choices: TypeAlias = dict[str, dict[int, int]]
"""Of each stream: index -> value, nowhere zero."""

ORDER = ("nemesis", "traitor", "disk", "link", "clients", "engine")
"""Families of streams, by the first word of their names: what is tried first."""
LINK_ORDER = ("corrupt", "loss", "tail", "double", "delay")


def list_choices(choices: Choices) -> Iterator[tuple[str, int, int]]:
    """Return (stream, index, value) of every choice that is not zero, in a fixed order."""
    for name in sorted(choices):
        for index in sorted(choices[name]):
            yield name, index, choices[name][index]


def count_choices(choices: Choices) -> int:
    """Return how many choices are not zero."""
    return sum(len(chosen) for chosen in choices.values())


def split_name(name: str) -> tuple[str, str]:
    """Return a stream's name without its last word, and that word."""
    prefix, _, word = name.rpartition(" ")
    return prefix, word


def get_groups(choices: Choices) -> list[list[str]]:
    """Return streams by what they choose, those first that matter most to people."""
    groups: dict[tuple[int, int, str], list[str]] = {}
    for name in sorted(choices):
        if not choices[name]:
            continue
        family = name.split()[0]
        word = split_name(name)[1]
        rank = ORDER.index(family) if family in ORDER else len(ORDER)
        within = LINK_ORDER.index(word) if word in LINK_ORDER else len(LINK_ORDER)
        kind = f"{family} {word}" if family in ("link", "nemesis", "clients") else family
        groups.setdefault((rank, within, kind), []).append(name)
    return [names for _, names in sorted(groups.items())]


def without_streams(choices: Choices, names: Iterable[str]) -> Choices:
    """Return choices with these streams at zero."""
    gone = set(names)
    return {name: chosen for name, chosen in choices.items() if name not in gone}


def without(choices: Choices, atoms: Iterable[tuple[str, int]]) -> Choices:
    """Return choices with these at zero, and with what else an act drew that is no more."""
    gone: dict[str, set[int]] = {}
    for name, index in atoms:
        gone.setdefault(name, set()).add(index)
    for name in list(gone):
        prefix, word = split_name(name)
        if word == "act":
            for other in choices:
                if is_detail(other, prefix):
                    gone.setdefault(other, set()).update(gone[name])
    return {
        name: {i: v for i, v in chosen.items() if i not in gone[name]} if name in gone else chosen
        for name, chosen in choices.items()
    }


def is_detail(name: str, prefix: str) -> bool:
    """Whether a stream holds what acts of this prefix draw besides. A pause is no detail."""
    return name in {f"{prefix} {word}" for word in DETAILS}


DETAILS = ("who", "how", "length", "clock")


def find_acts(choices: Choices) -> list[str]:
    """Return the streams that say which act comes, those of nemeses first."""
    names = [name for name in choices if split_name(name)[1] == "act"]
    return sorted(names, key=lambda name: (not name.startswith("nemesis"), name))


def tidy(choices: Choices) -> Choices:
    """Return choices without the details of acts that do not happen."""
    result = dict(choices)
    for name in choices:
        prefix, word = split_name(name)
        if word not in DETAILS or not (prefix == "nemesis" or prefix.startswith("traitor ")):
            continue
        acts = choices.get(f"{prefix} act", {})
        result[name] = {i: v for i, v in choices[name].items() if i in acts}
    return {name: chosen for name, chosen in result.items() if chosen}


# ---- pauses


def join_pauses(choices: Choices, limits: dict[str, int]) -> Iterator[Choices]:
    """Return choices in which acts come when they came, after as few pauses as possible."""
    for prefix, acting, details in (
        ("nemesis", "nemesis act", tuple(f"nemesis {word}" for word in DETAILS)),
        ("clients", "", ()),
    ):
        name = f"{prefix} pause"
        if acting and choices.get(name) and name in limits:
            joined = relay(choices, name, acting, details, limits[name])
            if joined is not None:
                yield joined


def relay(
    choices: Choices, name: str, acting: str, details: tuple[str, ...], most: int
) -> Choices | None:
    """Return choices in which all that acts draw has moved to the earliest places.

    A pause that chooses p among `most` lasts 1 ms + most - p. Before each act come as many of the
    longest as fit, and one that is shorter.
    """
    acts = choices.get(acting, {})
    if not acts:
        return None
    pauses = choices.get(name, {})
    longest = MS + most
    result = {n: chosen for n, chosen in choices.items() if n not in (name, acting, *details)}
    moved: Choices = {n: {} for n in (name, acting, *details) if n in choices or n == name}
    time = last = place = 0
    for index in range(max(acts) + 1):
        time += longest - pauses.get(index, 0)
        if index not in acts:
            continue
        whole, rest = divmod(time - last, longest)
        if rest and rest < MS + 1:
            return None
        place += whole
        if rest:
            moved[name][place] = longest - rest
        else:
            place -= 1
        for other in (acting, *details):
            if index in choices.get(other, {}):
                moved[other][place] = choices[other][index]
        last, place = time, place + 1
    return {n: chosen for n, chosen in {**result, **moved}.items() if chosen}


# ---- plans


QUIET: tuple[tuple[str, ...], ...] = (
    ("link", "clients", "disk", "engine", "traitor"),
    ("link", "clients", "engine"),
    ("link",),
    ("link delay", "link tail", "clients"),
    ("link loss", "link double", "link corrupt", "clients"),
    ("link delay", "link tail"),
    ("link loss", "link double", "link corrupt"),
    ("clients",),
)
"""Streams that say nothing but zero on a quieter network, the quietest first: their families, or
the family and the last word of their names."""


def is_quiet(name: str, quiet: tuple[str, ...]) -> bool:
    """Whether a stream is one of these."""
    family = name.split()[0]
    return family in quiet or f"{family} {split_name(name)[1]}" in quiet


def drop_machine(plan: Plan, choices: Choices, index: int) -> tuple[Plan, Choices]:
    """Return a plan without one machine, and choices whose streams name the others as before."""
    machines = plan.machines[:index] + plan.machines[index + 1 :]
    delays = [row[:index] + row[index + 1 :] for row in plan.delays_ns]
    delays = delays[:index] + delays[index + 1 :]
    edited = replace(plan, machines=machines, delays_ns=delays)
    renamed: Choices = {}
    for name, chosen in choices.items():
        words = [rename(word, index) for word in name.split()]
        if all(word is not None for word in words):
            renamed[" ".join(word or "" for word in words)] = chosen
    for name in ("nemesis who", "clients who"):
        if name in renamed:
            moved = {i: v - (v > index) for i, v in renamed[name].items()}
            renamed[name] = {i: v for i, v in moved.items() if v}
    return edited, renamed


def rename(word: str, gone: int) -> str | None:
    """Return a word of a stream's name when a machine is gone; None: it names that machine."""
    numbers = word.split(">")
    if not all(number.isdigit() for number in numbers):
        return word
    indices = [int(number) for number in numbers]
    if gone in indices:
        return None
    return ">".join(str(i - (i > gone)) for i in indices)
