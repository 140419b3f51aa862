"""The choice tape: every decision of a run that is not the nodes' own, in named streams.

A stream is named after a component and what is chosen there (`link 0>1 loss`), so that one more
choice in one place shifts nothing anywhere else. A seed generates the tape, a file replays it, the
shrinker edits it, a fuzzer feeds it: a run is a function of its plan and its tape alone.

Zero always means the least: no fault, the shortest delay, the first candidate. A replayed stream
that has run out says zero, so the empty tape is a run without faults, first come first served.

A seeded stream is the Mersenne Twister as `random.Random(seed).random()` runs it, the one sequence
that Python promises never to change for a seed; everything else is integers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from quorate._kernel import Draws, TapeSeed
from quorate.base.errors import Invalid
from quorate.base.native import mypyc_attr

__all__ = ["MAX_CHOICES", "Choices", "Stream", "Tape", "strip_zeros"]

LinkDraws = tuple[Draws, Draws, Draws, Draws, Draws]
"""What a line of the kernel chooses by."""

MAX_CHOICES = 20_000_000
"""On one tape that is read from outside."""


def strip_zeros(values: list[int]) -> list[int]:
    """Return choices without the zeros at their end, which a replay says anyway."""
    end = len(values)
    while end and not values[end - 1]:
        end -= 1
    return values[:end]


@mypyc_attr(allow_interpreted_subclasses=True)
class Choices(ABC):
    """What components choose by."""

    __slots__ = ()

    @abstractmethod
    def choose(self, n: int) -> int:
        """Return a number in [0, n); `n` is at least 1."""

    @abstractmethod
    def chance(self, permille: int) -> bool:
        """Return whether something that happens in so many of a thousand cases does."""


class Stream(Choices):
    """A seeded stream that keeps nothing. Of a tape, it begins anew when that has another seed."""

    __slots__ = ("draws",)

    def __init__(self, seed: int | TapeSeed, name: str) -> None:
        self.draws = Draws(name, seed if isinstance(seed, TapeSeed) else TapeSeed(str(seed)))

    def choose(self, n: int) -> int:
        return self.draws.choose(n)

    def chance(self, permille: int) -> bool:
        return permille > 0 and self.draws.chance(permille)


class Recorded(Stream):
    """A seeded stream that keeps what it said."""

    __slots__ = ("values",)

    def __init__(self, seed: int | TapeSeed, name: str) -> None:
        super().__init__(seed, name)
        self.values: list[int] = []

    def choose(self, n: int) -> int:
        value = super().choose(n)
        self.values.append(value)
        return value

    def chance(self, permille: int) -> bool:
        if permille <= 0:
            return False
        happens = super().chance(permille)
        self.values.append(int(happens))
        return happens


class Replayed(Choices):
    """A stream that says what it is told, and zero afterwards, until it is given a seed."""

    __slots__ = ("at", "fresh", "most", "said", "values")

    def __init__(self, values: list[int]) -> None:
        self.values = values
        self.at = 0
        self.fresh: Stream | None = None
        self.said: list[int] = []
        """What was said in fact, fitted to what was asked."""
        self.most = 1
        """The largest `n` of any choice so far."""

    def reseed(self, seed: TapeSeed, name: str) -> None:
        """Go on with the choices of a seed."""
        self.fresh = Stream(seed, name)

    def choose(self, n: int) -> int:
        if self.fresh is not None:
            value = self.fresh.choose(n)
        elif self.at < len(self.values):
            # An edited or foreign tape may hold anything.
            value = self.values[self.at] % n
        else:
            value = 0
        self.at += 1
        self.most = max(self.most, n)
        self.said.append(value)
        return value

    def chance(self, permille: int) -> bool:
        if permille <= 0:
            return False
        if self.fresh is not None:
            value = int(self.fresh.chance(permille))
        else:
            value = int(self.at < len(self.values) and self.values[self.at] != 0)
        self.at += 1
        self.said.append(value)
        return value != 0


def get_draws(stream: Choices) -> Draws | None:
    """Return the numbers of a stream that only a seed decides and that nobody keeps."""
    return stream.draws if type(stream) is Stream else None


@mypyc_attr(allow_interpreted_subclasses=True)
class Tape:
    """All streams of one run. `Tape(seed)` draws them, `Tape(0, values)` replays values.

    With `record` a drawn tape can be read afterwards by `get_values`; a replayed one always can.
    Streams that are `muted` say zero instead of what the seed draws.
    """

    __slots__ = ("is_muted", "record", "reseeded", "seed", "streams", "values")

    def __init__(
        self,
        seed: int,
        values: Mapping[str, list[int]] | None = None,
        *,
        record: bool = False,
        is_muted: Callable[[str], bool] | None = None,
    ) -> None:
        self.seed = TapeSeed(str(seed))
        self.record, self.is_muted = record, is_muted
        self.values = values
        self.reseeded = False
        self.streams: dict[str, Stream | Replayed] = {}

    def stream(self, name: str) -> Choices:
        """Return the stream of this name, the same at every call."""
        found = self.streams.get(name)
        if found is None:
            if self.values is not None:
                found = Replayed(self.values.get(name, []))
                if self.reseeded:
                    found.reseed(self.seed, name)
            elif self.is_muted is not None and self.is_muted(name):
                found = Replayed([])
            elif self.record:
                found = Recorded(self.seed, name)
            else:
                found = Stream(self.seed, name)
            self.streams[name] = found
        return found

    def join(self, streams: list[Choices]) -> LinkDraws | None:
        """Return the numbers of a link's five streams, so that its choices are made in one call;
        None where one of them is replayed or kept.
        """
        lost, corrupted, doubled, delayed, tailed = (get_draws(stream) for stream in streams)
        if not (lost and corrupted and doubled and delayed and tailed):
            return None
        return lost, corrupted, doubled, delayed, tailed

    def reseed(self, seed: int) -> None:
        """Let every stream go on as that of another seed: what would have happened otherwise."""
        self.seed.change(str(seed))
        if self.values is not None or self.is_muted is not None:
            for name, stream in self.streams.items():
                if isinstance(stream, Replayed):
                    stream.reseed(self.seed, name)
        self.reseeded = True

    def get_values(self) -> dict[str, list[int]]:
        """Return what the streams said, without the zeros at their ends, sorted by name."""
        values: dict[str, list[int]] = {}
        for name, stream in sorted(self.streams.items()):
            if isinstance(stream, Replayed):
                said = stream.said
            elif isinstance(stream, Recorded):
                said = stream.values
            else:
                raise Invalid("tape: it was not recorded")
            kept = strip_zeros(said)
            if kept:
                values[name] = kept
        return values

    def get_limits(self) -> dict[str, int]:
        """Return how many candidates the streams of a replayed tape chose among at most."""
        return {
            name: stream.most
            for name, stream in sorted(self.streams.items())
            if isinstance(stream, Replayed)
        }
