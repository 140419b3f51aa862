"""Whether a network that makes no progress goes round in circles, or is merely slow.

That nothing became final within a bound proves nothing by itself: the bound may be too short. A
lasso does: a way into a circle of states, and the circle. Heights do not change in it, so whoever
comes back to the state that it was in, with nothing but the numbers of rounds grown, can go round
for ever. States that keep changing are neither: then nobody knows (yet).

Source: liveness as absence of accepting cycles, Courcoubetis, Vardi, Wolper, Yannakakis,
"Memory-efficient algorithms for the verification of temporal properties", FMSD 1992; temperature
of liveness monitors as in Deligiannis, Donaldson, Ketema, Lal, Thomson, "Asynchronous programming,
analysis and testing with state machines", PLDI 2015, and its successors.

Model: a snapshot says of every honest node that runs its height, round, step, leader, lock and
valid value, and which kinds of message are under way. It is taken when a round begins: between,
chance decides who is a moment ahead. Two snapshots are alike when they differ in names only: nodes
are told apart by what they hold and by whether they lead, rounds by their order and by gaps up to
`MAX_GAP`, values by first appearance, heights by the distance to the highest. What differs beyond
that (how much longer timeouts are now, which messages exactly are under way) is not looked at, so
the caller first gives the network all the time that its timing model grants (`progress`).
"""

from typing import Literal, TypeAlias

from msgspec import Struct

from quorate.base.types import Height, Nanoseconds

__all__ = ["Lasso", "LassoDetector", "NodeView", "Snapshot", "compute_fingerprint"]

MAX_GAP = 3
"""Rounds further apart than this are as good as any: no rule of an engine looks so far."""
MAX_SNAPSHOTS = 100_000
"""Kept since the last progress."""
MIN_REPEATS = 3
"""How often a circle must have been gone round."""
MIN_STATES = 12
"""And how many states that takes at least."""
MIN_RECURRENT = 24
MIN_VISITS = 8
"""Of so many snapshots so many show one state: then the way from it back to it is a circle too,
though chance changes what comes between.
"""

Fingerprint: TypeAlias = tuple[object, ...]


class NodeView(Struct, frozen=True):
    """Where one node stands. Rounds are -1, values empty, where there is none."""

    machine: int
    height: Height
    round: int
    step: str
    leader: int = -1
    """The machine that leads its round, as it sees it."""
    locked_round: int = -1
    locked_value: bytes = b""
    valid_round: int = -1
    valid_value: bytes = b""


class Snapshot(Struct, frozen=True):
    """The honest nodes that run, in the order of their machines, and what is under way."""

    time_ns: Nanoseconds
    nodes: list[NodeView]
    in_flight: list[str]
    """The kinds of message, sorted, once each."""


class Lasso(Struct, frozen=True):
    """A circle that was found."""

    kind: Literal["circle", "recurrence", "standstill"]
    """A fixed sequence of states; a state that comes back in changing ways; one state for good."""
    states: int
    """Different ones that were seen in it."""
    repeats: int
    """How often it was gone round."""
    since_ns: Nanoseconds
    until_ns: Nanoseconds
    rounds: tuple[int, int]
    """The highest round at its beginning and at its end."""
    text: str
    """One line for people."""


class LassoDetector:
    """Takes snapshots in order of time; `still_ns` is when a network that stands still is stuck."""

    def __init__(self, still_ns: Nanoseconds) -> None:
        self.still_ns = still_ns
        self.height: Height = -1
        self.lowest: Height = -1
        self.snapshots: list[Snapshot] = []
        """The first of each run of equal fingerprints."""
        self.states: list[int] = []
        """The number of each one's fingerprint."""
        self.numbers: dict[Fingerprint, int] = {}
        self.visits: dict[int, int] = {}
        """How often each state came."""
        self.last: Snapshot | None = None

    @property
    def temperature(self) -> int:
        """How often the state changed since the last progress."""
        return max(0, len(self.states) - 1)

    def add(self, snapshot: Snapshot) -> None:
        """Take up a snapshot; progress of the highest or the lowest node forgets what was before.

        A height that goes down (a restart from an older store) is no progress.
        """
        heights = [node.height for node in snapshot.nodes] or [-1]
        if max(heights) > self.height or min(heights) > self.lowest:
            self.height, self.lowest = max(heights), min(heights)
            self.snapshots, self.states, self.numbers, self.visits = [], [], {}, {}
        self.last = snapshot
        fingerprint = compute_fingerprint(snapshot)
        known = self.numbers.get(fingerprint)
        if self.states and known == self.states[-1] and not has_grown(self.snapshots[-1], snapshot):
            return
        if len(self.states) >= MAX_SNAPSHOTS:
            return
        if known is None:
            known = self.numbers[fingerprint] = len(self.numbers)
        self.visits[known] = self.visits.get(known, 0) + 1
        self.states.append(known)
        self.snapshots.append(snapshot)

    def touch(self, snapshot: Snapshot) -> None:
        """Take up that no round began until now."""
        if self.states:
            self.last = snapshot

    def find(self) -> Lasso | None:
        """Return the circle that the network is in now; None: it still changes."""
        if not self.states or self.last is None:
            return None
        if self.last.time_ns - self.snapshots[-1].time_ns >= self.still_ns:
            return self.describe("standstill", 1, 1, len(self.states) - 1)
        period = find_period(self.states)
        if period:
            start = len(self.states) - 1
            while start >= period and self.states[start - period] == self.states[start]:
                start -= 1
            start = max(0, start - period + 1)
            return self.describe("circle", period, (len(self.states) - start) // period, start)
        if len(self.states) < MIN_RECURRENT:
            return None
        state = max(self.visits, key=lambda known: self.visits[known])
        visits = self.visits[state]
        if visits < MIN_VISITS:
            return None
        return self.describe("recurrence", len(self.visits), visits, self.states.index(state))

    def describe(
        self,
        kind: Literal["circle", "recurrence", "standstill"],
        states: int,
        repeats: int,
        at: int,
    ) -> Lasso:
        assert self.last is not None
        first, last = self.snapshots[at], self.last
        rounds = (get_round(first), get_round(last))
        seconds = (last.time_ns - first.time_ns) // 1_000_000_000
        if kind == "standstill":
            text = f"height {self.height}: nothing changed for {seconds} s"
        else:
            what = (
                "the same state comes" if states == 1 else f"the same {states} states come in turn"
            )
            if kind == "recurrence":
                what = f"one of {states} states comes back"
            text = (
                f"height {self.height}: {what}, {repeats} times in {seconds} s, "
                f"rounds {rounds[0]} to {rounds[1]}"
            )
        nodes = "; ".join(describe_node(node) for node in last.nodes)
        under_way = ", ".join(last.in_flight) or "nothing"
        text += f"; now {nodes or 'no node runs'}; under way: {under_way}"
        return Lasso(kind, states, repeats, first.time_ns, last.time_ns, rounds, text)


def has_grown(before: Snapshot, after: Snapshot) -> bool:
    """Whether rounds went on between two snapshots that are otherwise alike."""
    return get_round(after) > get_round(before)


def get_round(snapshot: Snapshot) -> int:
    """Return the highest round at the highest height."""
    height = max((node.height for node in snapshot.nodes), default=-1)
    return max((node.round for node in snapshot.nodes if node.height == height), default=-1)


def compute_fingerprint(snapshot: Snapshot) -> Fingerprint:
    """Return what two snapshots have in common that differ in names only."""
    nodes = snapshot.nodes
    top = max((node.height for node in nodes), default=0)
    numbers = {-1}
    for node in nodes:
        numbers.update((node.round, node.locked_round, node.valid_round))
    places: dict[int, int] = {}
    place, before = -1, -1
    for number in sorted(numbers):
        place += min(number - before, MAX_GAP)
        places[number], before = place, number
    lowest = min((places[node.round] for node in nodes), default=0)
    parts: list[tuple[object, ...]] = []
    held: list[tuple[bytes, bytes]] = []
    present = {node.machine for node in nodes}
    for node in nodes:
        parts.append(
            (
                top - node.height,
                places[node.round] - lowest,
                node.step,
                (node.leader == node.machine) + 2 * (node.leader in present),
                places[node.locked_round] - (lowest if node.locked_round >= 0 else 0),
                places[node.valid_round] - (lowest if node.valid_round >= 0 else 0),
            )
        )
        held.append((node.locked_value, node.valid_value))
    values: dict[bytes, int] = {b"": -1}
    named: list[tuple[object, ...]] = []
    # In an order that does not depend on which node is which.
    for part, pair in sorted(zip(parts, held, strict=True), key=lambda both: repr(both[0])):
        named.append((*part, *(values.setdefault(value, len(values)) for value in pair)))
    return (tuple(snapshot.in_flight), *sorted(named, key=repr))


def find_period(states: list[int]) -> int:
    """Return the length of the shortest sequence that ends `states` `MIN_REPEATS` times; 0: none.

    By the failure function of Knuth, Morris and Pratt over the states from last to first.
    """
    backward = states[::-1]
    failure = [0] * len(backward)
    length = 0
    best = 0
    for i in range(1, len(backward)):
        while length and backward[i] != backward[length]:
            length = failure[length - 1]
        if backward[i] == backward[length]:
            length += 1
        failure[i] = length
        period = i + 1 - length
        if i + 1 >= max(MIN_STATES, MIN_REPEATS * period) and (not best or period < best):
            best = period
    return best


def describe_node(node: NodeView) -> str:
    """Return where a node stands, in words."""
    text = f"machine {node.machine} at height {node.height} round {node.round} {node.step}"
    if node.locked_round >= 0:
        text += f", locked in round {node.locked_round} on 0x{node.locked_value[:4].hex()}"
    if node.valid_round >= 0 and (node.valid_round, node.valid_value) != (
        node.locked_round,
        node.locked_value,
    ):
        text += f", valid in round {node.valid_round} 0x{node.valid_value[:4].hex()}"
    return text
