"""Round-scripted partitions: who hears whom, chosen anew for each kind of message of each round.

Agreement breaks at borders of rounds: one replica locks and the others do not, one decides and the
rest go on. Random loss rarely does that, since everything is sent again. Here a thing that somebody
does not hear (a vote of one member, a proposal) stays unheard for a time, whoever relays it, and
the pattern is the same for all messages of one kind in one round of one height.

Sources: Bano and others, "Twins: BFT systems made robust", OPODIS 2021 (a partition for each
round); Winter and others, "Randomized testing of Byzantine fault tolerant algorithms" (ByzzFuzz),
OOPSLA 2023 (network faults as partitions of communication rounds).
"""

from typing import TYPE_CHECKING, Any

from quorate.base.rng import Rng
from quorate.base.types import Address, Nanoseconds
from quorate.node.wire import get_tag
from quorate.simulator.tape import Choices

if TYPE_CHECKING:
    from quorate.simulator.network import Link
    from quorate.simulator.world import World

__all__ = ["RoundScript"]

MAX_PATTERNS = 4096
"""Kinds of message, rounds and heights whose pattern is remembered."""
SCRIPTED = ("Proposal", "Vote", "Decision")
"""Kinds of message that somebody may not hear."""
PATTERNS = 7
DRAW = 1 << 32


class Pattern:
    """Who hears whom, of one kind of message in one round of one height."""

    __slots__ = ("kind", "rng_seed", "since", "size")

    def __init__(self, choice: int, size: int, since: Nanoseconds) -> None:
        self.kind, self.rng_seed = choice % PATTERNS, choice // PATTERNS
        self.size, self.since = size, since

    def hears(self, hearer: int, author: int) -> bool:
        """Whether a machine hears of what another one said."""
        if hearer == author or not self.kind:
            return True
        seed, size = self.rng_seed, self.size
        one, two = seed % size, seed // size % size
        if self.kind == 1:
            # Each pair on its own: about a third is unheard.
            return Rng(seed * 65536 + hearer * 256 + author).below(3) != 0
        if self.kind == 2:
            # Two groups.
            return not (seed >> hearer ^ seed >> author) & 1
        if self.kind == 3:
            return hearer != one  # One is deaf.
        if self.kind == 4:
            return author != one  # One is mute.
        if self.kind == 5:
            # One alone hears everybody; the others miss the one, and perhaps one more.
            return hearer == one or author not in (one, two)
        # One alone misses one: what the others know is hidden from it.
        return hearer != one or author != two


class RoundScript:
    """Give it to the network as `unheard`; says which frames somebody does not hear."""

    def __init__(
        self, world: "World", choices: Choices, permille: int, patience_ns: Nanoseconds
    ) -> None:
        self.world, self.choices = world, choices
        self.permille = permille
        """How many of the patterns are other than that everybody hears everybody."""
        self.patience_ns = patience_ns
        """How long a thing is unheard, since the first one of its kind and round; 0: always."""
        self.patterns: dict[tuple[Any, ...], Pattern] = {}
        self.places = {m.address: m.index for m in reversed(world.machines)}
        self.frame = b""
        self.key: tuple[Any, ...] | None = None
        self.author: Address = b""

    def is_unheard(self, link: "Link", frame: bytes) -> bool:
        """Whether the target of a link does not hear this frame."""
        if frame is not self.frame:
            self.frame = frame
            self.look(frame)
        key = self.key
        if key is None:
            return False
        pattern = self.patterns.get(key)
        if pattern is None:
            pattern = self.patterns[key] = self.make_pattern()
        if self.patience_ns and self.world.now > pattern.since + self.patience_ns:
            return False
        author = self.places.get(self.author, link.source.index)
        return not pattern.hears(link.target.index, author)

    def look(self, frame: bytes) -> None:
        """Find out what a frame is about: nothing that has a round is always heard."""
        kind = self.world.message_kinds.get(get_tag(frame))
        if kind is None or kind.__name__ not in SCRIPTED:
            self.key = None
            return
        try:
            message = self.world.decode(frame)
        except ValueError:
            # Garbage of a flooder.
            self.key = None
            return
        if kind.__name__ == "Decision":
            self.key, self.author = ("Decision", message.height), b""
            return
        self.author = getattr(message, "voter", b"") or self.find_proposer(message)
        self.key = (kind.__name__, getattr(message, "kind", 0), message.height, message.round)

    def find_proposer(self, message: Any) -> Address:
        """Return who proposes in the round of a message, empty if no running node knows."""
        for machine in self.world.machines:
            if machine.node is not None:
                sets = getattr(machine.node.replica, "sets", {})
                if message.height in sets:
                    found: Address = sets[message.height].get_proposer(
                        message.height, message.round
                    )
                    return found
        return b""

    def make_pattern(self) -> Pattern:
        while len(self.patterns) >= MAX_PATTERNS:
            del self.patterns[next(iter(self.patterns))]
        # Zero is the pattern in which everybody hears everybody.
        choice = self.choices.choose(DRAW)
        happens = self.choices.chance(self.permille)
        return Pattern(choice if happens else 0, len(self.world.machines), self.world.now)
