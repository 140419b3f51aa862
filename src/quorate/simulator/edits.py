"""What a shrinker does to a plan and its choices: all of it pure.

Choices are kept sparse, stream by stream: the index of a choice and its value, unless it is zero.
Streams whose names differ in their last word only, and of which one ends in `act`, belong together:
their choices of one index are one act (`nemesis act`, `nemesis who`, `nemesis length` ...).
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from msgspec.structs import replace

from quorate.simulator.nemesis import ACTS
from quorate.simulator.plan import MS, Plan

__all__ = [
    "PAUSE",
    "QUIET",
    "SETTINGS",
    "Choices",
    "count_choices",
    "describe_choice",
    "drop_machine",
    "find_acts",
    "get_groups",
    "hasten",
    "is_quiet",
    "list_choices",
    "order_by_time",
    "retime",
    "tidy",
    "without",
    "without_streams",
]

Choices: TypeAlias = dict[str, dict[int, int]]
"""Of each stream: index -> value, nowhere zero."""

ORDER = ("nemesis", "cast", "twins", "traitor", "disk", "knob", "link", "clients", "engine")
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


DETAILS = ("who", "role", "how", "length")
SETTINGS = tuple(f"nemesis {word}" for word in ("style", "siege", "swarm", "scale", "rates"))
"""What a seed chooses once; some of it says how long pauses are."""
PAIRED = "rounds"
"""Which pattern, and then whether it happens."""


def find_acts(choices: Choices) -> list[list[str]]:
    """Return the streams that say which act comes: those of nemeses, then those of traitors."""
    names = sorted(name for name in choices if choices[name] and split_name(name)[1] == "act")
    nemeses = [name for name in names if name.startswith("nemesis ")]
    others = [name for name in names if name not in nemeses]
    return [group for group in (nemeses, others) if group]


def order_by_time(choices: Choices, names: Iterable[str]) -> list[tuple[str, int]]:
    """Return the choices of streams about in the order in which they were drawn, so that the
    neighbours in it belong to one phase of the run.
    """
    placed = []
    for name in names:
        last = max(choices.get(name, {}), default=0)
        placed += [((index << 16) // (last + 1), name, index) for index in choices.get(name, {})]
    return [(name, index) for _, name, index in sorted(placed)]


def tidy(choices: Choices) -> Choices:
    """Return choices without the details of acts that do not happen."""
    result = dict(choices)
    for name in choices:
        prefix, word = split_name(name)
        if word not in DETAILS or not (prefix == "nemesis" or prefix.startswith("traitor ")):
            continue
        acts = choices.get(f"{prefix} act", {})
        result[name] = {i: v for i, v in choices[name].items() if i in acts}
    if PAIRED in choices:
        drawn = choices[PAIRED]
        result[PAIRED] = {i: v for i, v in drawn.items() if i % 2 or i + 1 in drawn}
    return {name: chosen for name, chosen in result.items() if chosen}


def describe_choice(plan: Plan, name: str, value: int) -> str:
    """Return in a word what a choice means, where a number does not say it; else nothing."""
    if name == ACT:
        acts = [act for act in ACTS for _ in range(getattr(plan.profile, act, 0))]
        return acts[value - 1].replace("_", " ") if 0 < value <= len(acts) else ""
    if name in ("nemesis who", "clients who") and value < len(plan.machines):
        return plan.machines[value].name
    return ""


# ---- when acts come

ACT, PAUSE = "nemesis act", "nemesis pause"
COLUMNS = (ACT, *(f"nemesis {word}" for word in DETAILS))
"""What is drawn for each act, besides the pause before it."""


def retime(choices: Choices, most: int, new_most: int | None = None) -> Choices | None:
    """Return choices in which acts come when they came, after as few pauses as possible.

    A pause that chooses p among `most` lasts 1 ms + most - p. Before each act come as many of the
    longest as fit, and one that is shorter. With `new_most` pauses are chosen among so many from
    now on. None: nothing acts.
    """
    acts, pauses = choices.get(ACT, {}), choices.get(PAUSE, {})
    if not acts:
        return None
    longest = MS + (most if new_most is None else new_most)
    moved: Choices = {name: {} for name in (PAUSE, *COLUMNS)}
    time = last = place = 0
    for index in range(max(acts) + 1):
        time += MS + most - pauses.get(index, 0)
        if index not in acts:
            continue
        whole, rest = divmod(time - last, longest)
        place += whole
        if rest:
            # The shortest pause is a little more than 1 ms.
            moved[PAUSE][place] = longest - max(rest, MS + 1)
        else:
            place -= 1
        for name in COLUMNS:
            if index in choices.get(name, {}):
                moved[name][place] = choices[name][index]
        last, place = time, place + 1
    kept = {name: chosen for name, chosen in choices.items() if name not in moved}
    return {name: chosen for name, chosen in {**kept, **moved}.items() if chosen}


def hasten(choices: Choices) -> Iterator[Choices]:
    """Return choices in which one act and all after it come earlier, without some of the longest
    pauses before it.
    """
    acts, pauses = choices.get(ACT, {}), choices.get(PAUSE, {})
    before = -1
    for index in sorted(acts):
        idle = [i for i in range(before + 1, index) if i not in pauses]
        for count in sorted({len(idle), len(idle) // 2, 1}, reverse=True):
            if 0 < count <= len(idle):
                yield drop_columns(choices, set(idle[:count]))
        before = index


def drop_columns(choices: Choices, gone: set[int]) -> Choices:
    """Return choices without the acts of these numbers: the later ones move to the front."""
    result = dict(choices)
    for name in (PAUSE, *COLUMNS):
        if name in choices:
            result[name] = {
                index - sum(i < index for i in gone): value
                for index, value in choices[name].items()
                if index not in gone
            }
    return result


# ---- plans


QUIET: tuple[tuple[str, ...], ...] = (
    ("link", "clients", "disk", "engine", "knob", "cast"),
    ("link", "clients", "engine", "knob"),
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
