"""Timing models: what a network promises about messages, and what may be claimed because of it.

A run has one model. It overrules the faults of links: a message that a fault would lose or delay
longer than the model allows comes at the last moment that it does. So a verdict on liveness rests
on a promise that was kept, and is never given where none was made.

Sources:
* Fischer, Lynch, Paterson, "Impossibility of distributed consensus with one faulty process",
  JACM 32(2), 1985: no deterministic engine terminates in every asynchronous run.
* Dwork, Lynch, Stockmeyer, "Consensus in the presence of partial synchrony", JACM 35(2), 1988:
  bounds that hold from an unknown time on (GST), or always but unknown; table 1 has the numbers of
  members that are needed.
* Bracha, Toueg, "Asynchronous consensus and broadcast protocols", JACM 32(4), 1985; Ben-Or,
  "Another advantage of free choice", PODC 1983: what randomisation gives without synchrony.
* Dolev, Strong, "Authenticated algorithms for Byzantine agreement", SIAM J. Comput. 12(4), 1983:
  what signatures and synchrony give.
* Basu, Charron-Bost, Toueg, "Simulating reliable links with unreliable links in the presence of
  process crashes", WDAG 1996: fair loss costs retransmission and no possibility.

Model: time is the world's, in nanoseconds; a bound covers everything between a send and the
receipt. Processes' own clocks and speeds are the machines' (`clock`).
"""

from collections.abc import Callable
from typing import Literal, Self, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from quorate.base.errors import Invalid
from quorate.base.types import Nanoseconds
from quorate.simulator.tape import Choices

__all__ = [
    "ENGINES",
    "AnyTiming",
    "Asynchronous",
    "Lossy",
    "Needs",
    "PartiallySynchronous",
    "Synchronous",
    "Synchrony",
    "Timing",
    "compute_members_needed",
    "compute_tolerated",
    "describe_timing",
    "judge_claims",
    "parse_timing",
]

MS = 1_000_000

Synchrony: TypeAlias = Literal["asynchronous", "partial", "synchronous"]
"""From the weakest promise to the strongest; an engine made for one works in all after it."""
STRENGTH: dict[Synchrony, int] = {"asynchronous": 0, "partial": 1, "synchronous": 2}


class Timing(Struct, frozen=True, tag_field="model"):
    """What all models answer."""

    @property
    def synchrony(self) -> Synchrony:
        """Which class of the literature this model belongs to."""
        raise NotImplementedError

    def draw(self, choices: Choices) -> Self:
        """Return the model of one run, with what each seed draws for itself."""
        return self

    def may_lose(self, sent_ns: Nanoseconds, lost_in_a_row: int = 0) -> bool:
        """Whether a message may be lost; so many before it on its link were."""
        return False

    def compute_deadline(self, sent_ns: Nanoseconds) -> Nanoseconds:
        """Return the last moment at which a message that is not lost arrives."""
        raise NotImplementedError

    def admit(
        self, sent_ns: Nanoseconds, arrival_ns: Nanoseconds | None, lost_in_a_row: int = 0
    ) -> Nanoseconds | None:
        """Return when a message arrives that faults would deliver at `arrival_ns` (None: never)."""
        if arrival_ns is None and self.may_lose(sent_ns, lost_in_a_row):
            return None
        deadline = self.compute_deadline(sent_ns)
        return deadline if arrival_ns is None else min(arrival_ns, deadline)

    def judge_from(self, *, randomised: bool = False) -> Nanoseconds | None:
        """Return from when liveness may be judged, None if never.

        Without synchrony only a randomised engine terminates, with probability one.
        """
        return 0

    def compute_delay_bound(self) -> Nanoseconds:
        """Return how long one step of a protocol that retransmits takes, once liveness is judged.

        A protocol that needs k message delays after that time has k times this.
        """
        raise NotImplementedError


class Synchronous(Timing, frozen=True, tag="synchronous"):
    """Every message arrives within `delta_ns`, which everybody knows; none is lost."""

    delta_ns: Nanoseconds

    @property
    def synchrony(self) -> Synchrony:
        return "synchronous"

    def compute_deadline(self, sent_ns: Nanoseconds) -> Nanoseconds:
        return sent_ns + self.delta_ns

    def compute_delay_bound(self) -> Nanoseconds:
        return self.delta_ns


class PartiallySynchronous(Timing, frozen=True, tag="partially synchronous"):
    """From the global stabilisation time on, every message arrives within `delta_ns`.

    A message that was sent before `gst_ns` arrives by `gst_ns + delta_ns`, or, with `lossy`, may be
    lost. `known` says whether engines may be configured with `delta_ns`: with `gst_ns` 0 and a
    bound that nobody knows this is the other model of the paper. With `latest_gst_ns` each seed
    draws its GST between the two.
    """

    delta_ns: Nanoseconds
    gst_ns: Nanoseconds
    lossy: bool = True
    known: bool = True
    latest_gst_ns: Nanoseconds = 0

    @property
    def synchrony(self) -> Synchrony:
        return "partial"

    def draw(self, choices: Choices) -> Self:
        span_ms = (self.latest_gst_ns - self.gst_ns) // MS
        if span_ms <= 0:
            return self
        gst_ns = self.gst_ns + choices.choose(span_ms + 1) * MS
        return replace(self, gst_ns=gst_ns, latest_gst_ns=0)

    def may_lose(self, sent_ns: Nanoseconds, lost_in_a_row: int = 0) -> bool:
        return self.lossy and sent_ns < self.gst_ns

    def compute_deadline(self, sent_ns: Nanoseconds) -> Nanoseconds:
        return max(sent_ns, self.gst_ns) + self.delta_ns

    def judge_from(self, *, randomised: bool = False) -> Nanoseconds | None:
        return self.gst_ns

    def compute_delay_bound(self) -> Nanoseconds:
        return self.delta_ns


class Asynchronous(Timing, frozen=True, tag="asynchronous"):
    """Every message arrives eventually; nothing else is promised.

    A finite run has to end, so `fairness_ns` is how late the adversary may be in this one. No
    engine may be configured with it.
    """

    fairness_ns: Nanoseconds

    @property
    def synchrony(self) -> Synchrony:
        return "asynchronous"

    def compute_deadline(self, sent_ns: Nanoseconds) -> Nanoseconds:
        return sent_ns + self.fairness_ns

    def judge_from(self, *, randomised: bool = False) -> Nanoseconds | None:
        return 0 if randomised else None

    def compute_delay_bound(self) -> Nanoseconds:
        return self.fairness_ns


class Lossy(Timing, frozen=True, tag="lossy"):
    """Fair loss: links lose `loss_permille` for ever, but nothing that is repeated for ever.

    In a finite run that means at most `most_in_a_row` on one link. What is not lost arrives within
    `delta_ns`; a message that is sent again every `again_ns` therefore arrives in bounded time,
    which nobody knows: partial synchrony for those who retransmit, nothing for others.
    """

    loss_permille: int
    delta_ns: Nanoseconds
    most_in_a_row: int = 20
    again_ns: Nanoseconds = 1_000_000_000

    @property
    def synchrony(self) -> Synchrony:
        return "partial"

    def may_lose(self, sent_ns: Nanoseconds, lost_in_a_row: int = 0) -> bool:
        return self.loss_permille > 0 and lost_in_a_row < self.most_in_a_row

    def compute_deadline(self, sent_ns: Nanoseconds) -> Nanoseconds:
        return sent_ns + self.delta_ns

    def compute_delay_bound(self) -> Nanoseconds:
        return self.most_in_a_row * self.again_ns + self.delta_ns


AnyTiming: TypeAlias = Synchronous | PartiallySynchronous | Asynchronous | Lossy
"""For decoding a model that was recorded."""


MAX_MS = 86_400_000
WORDS: dict[str, tuple[str, Callable[..., AnyTiming]]] = {
    "synchronous": ("DELTA", lambda delta: Synchronous(delta * MS)),
    "partial": (
        "DELTA,GST[,LATEST-GST]",
        lambda delta, gst, latest=0: PartiallySynchronous(
            delta * MS, gst * MS, latest_gst_ns=latest * MS
        ),
    ),
    "asynchronous": ("LATEST", lambda latest: Asynchronous(latest * MS)),
    "lossy": ("PERMILLE,DELTA", lambda loss, delta: Lossy(min(loss, 1000), delta * MS)),
}
"""Models as people write them, with times in milliseconds."""
FORMS = ", ".join(f"{name}:{form}" for name, (form, _) in WORDS.items())


def parse_timing(text: str) -> AnyTiming:
    """Return the model of words such as `partial:50,8000`. Raises Invalid."""
    name, _, rest = text.partition(":")
    form, make = WORDS.get(name, ("", None))
    numbers = rest.split(",") if rest else []
    needed = len(form.partition("[")[0].split(","))
    if make is None or not needed <= len(numbers) <= len(form.split(",")):
        raise Invalid(f"timing {text!r}: expected one of {FORMS} (milliseconds)")
    for number in numbers:
        if not (number.isascii() and number.isdigit() and int(number) <= MAX_MS):
            raise Invalid(f"timing {text!r}: {number!r}, expected a number up to {MAX_MS}")
    return make(*map(int, numbers))


def describe_timing(timing: AnyTiming) -> str:
    """Return a model in words for people."""
    if isinstance(timing, Synchronous):
        return f"synchronous within {timing.delta_ns // MS} ms"
    if isinstance(timing, PartiallySynchronous):
        drawn = f" to {timing.latest_gst_ns // MS}" if timing.latest_gst_ns else ""
        return f"within {timing.delta_ns // MS} ms from {timing.gst_ns // MS}{drawn} ms on"
    if isinstance(timing, Asynchronous):
        return "asynchronous (termination is not judged of deterministic engines)"
    return (
        f"{timing.loss_permille / 10:g} % lost for ever, the rest within {timing.delta_ns // MS} ms"
    )


# ---- what may be claimed


class Needs(Struct, frozen=True, kw_only=True):
    """What an engine says of itself: the weakest synchrony under which each half of it works."""

    safety: Synchrony
    termination: Synchrony
    """A randomised engine that needs none terminates with probability one."""
    faults: Literal["crash", "byzantine"]
    signatures: bool = True
    randomised: bool = False


ENGINES: dict[str, Needs] = {
    # Buchman, Kwon, Milosevic 2018: safe always, live after GST.
    "tendermint": Needs(safety="asynchronous", termination="partial", faults="byzantine"),
    # Ongaro, Ousterhout 2014: the same, without liars.
    "raft": Needs(safety="asynchronous", termination="partial", faults="crash", signatures=False),
    # Garay, Kiayias, Leonardos 2015: half of the power, messages faster than blocks. Work takes
    # the place of signatures: nobody can forge what others have spent.
    "pow": Needs(safety="synchronous", termination="synchronous", faults="byzantine"),
}


def compute_members_needed(needs: Needs, f: int) -> int:
    """Return how many members of equal power tolerate f faulty ones, by the engine's own claims.

    Dwork, Lynch, Stockmeyer, table 1, for engines that stay safe without synchrony; Dolev, Strong
    and Lamport, Shostak, Pease (1982) for those that rely on it, where a majority must be correct
    so that a client can believe what most say.
    """
    if needs.faults == "byzantine" and not (needs.safety == "synchronous" and needs.signatures):
        return 3 * f + 1
    return 2 * f + 1


def compute_tolerated(needs: Needs, n: int) -> int:
    """Return how many faulty ones of so many members of equal power an engine tolerates."""
    return (n - 1) // (compute_members_needed(needs, 1) - 1)


def judge_claims(needs: Needs, timing: Timing, *, n: int, f: int) -> dict[str, str]:
    """Return the claims that a run must not judge, each with the reason, in words.

    Keys are `safety` and `termination`; an engine in its own model has neither.
    """
    refused: dict[str, str] = {}
    have, members = timing.synchrony, compute_members_needed(needs, f)
    if n < members:
        reason = f"{n} members with {f} faulty ({needs.faults}), expected at least {members}"
        return {"safety": reason, "termination": reason}
    if STRENGTH[have] < STRENGTH[needs.safety]:
        refused["safety"] = f"the engine relies on {needs.safety} links, these are {have}"
    if timing.judge_from(randomised=needs.randomised) is None:
        refused["termination"] = "no deterministic engine terminates in every asynchronous run"
    elif STRENGTH[have] < STRENGTH[needs.termination]:
        refused["termination"] = f"the engine relies on {needs.termination} links, these are {have}"
    return refused
