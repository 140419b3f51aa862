"""The arithmetic of proof of work: targets, work, how difficulty follows time, how sure one can be.

Difficulty. The target of a block follows from its parent's target and from the time between its
parent and its grandparent, by an exponentially weighted mean of block times:

    next = target * ((window - 1) * interval + elapsed) / (window * interval)

(known as WTEMA or "EMA by target"; the linear form of the absolutely scheduled exponential rule,
ASERT, of Lundeberg, Stone, Toomim and Zhang, 2020). The interval is a fixed point: blocks that come
in time change nothing, so no window can be off by one, as Bitcoin's is, which adjusts over 2,016
blocks by the time of 2,015 intervals. Each block adjusts by itself, so there is no border between
periods at which timestamps could be bent (time warp). Hash power that grows by a factor is followed
after about `window * ln(factor)` blocks.

Unlike ASERT the rule keeps no schedule: a network that slept for a night does not make up for the
blocks that it missed. For that reason elapsed time counts up to `MAX_INTERVALS` only; since times
grow strictly along a chain, the counted times of a chain never exceed the time that has passed, and
nobody can lower the difficulty by more than real time and the bound on clocks allow.

Everything that replicas must agree on is exact integer arithmetic. Probabilities are for people.
"""

import math

from quorate.base.types import Milliseconds

SPACE = 1 << 256
SMALL = 1e-12
"""What is left out of a sum, as a part of it."""
MAX_INTERVALS = 8
"""One block's time counts as so many intervals at most; one in 3,000 takes longer by chance."""


def compute_work(target: int) -> int:
    """Return the expected number of hashes for one block at this target."""
    return SPACE // (target + 1)


def compute_target(difficulty: int) -> int:
    """Return the target that takes this many hashes on average."""
    return SPACE // difficulty - 1


def compute_next_target(
    target: int, elapsed_ms: Milliseconds, *, interval_ms: int, window: int, easiest: int
) -> int:
    """Return the target after a block that came `elapsed_ms` after its parent.

    `easiest` bounds it from above.
    """
    counted = min(max(elapsed_ms, 0), MAX_INTERVALS * interval_ms)
    following = target * ((window - 1) * interval_ms + counted) // (window * interval_ms)
    return min(max(following, 1), easiest)


def compute_reversal_probability(depth: int, share: float) -> float:
    """Return the probability that an attacker with this share of the hash power ever replaces a
    block that `depth` blocks confirm (itself the first), as Nakamoto computes it (2008, section
    11): the attacker's progress is Poisson. Takes a number of steps like the root of `depth`.
    """
    if share <= 0:
        return 0.0
    if share >= 0.5 or not depth:
        return 1.0
    ratio = share / (1 - share)
    expected = depth * ratio
    # As a sum of what leads there, since one minus what does not loses all digits of small numbers:
    # the attacker has found k blocks and catches up, or more than `depth` and is ahead. Both kinds
    # of terms are greatest at k = depth, and fall from there on; the sum begins with that one, as
    # the first ones are too small for a float where depths are great.
    top = math.exp(depth * math.log(expected) - expected - math.lgamma(depth + 1))
    total, term, k = 0.0, top, depth
    while term > total * SMALL:
        total += term
        term *= k / depth
        k -= 1
    term, k = top, depth
    while True:
        k += 1
        term *= expected / k
        if term <= total * SMALL:
            return min(total, 1.0)
        total += term


def format_rate(hashes_per_second: int) -> str:
    """Return a hash rate as people say it: `950 H/s`, `13.4 MH/s`."""
    value, unit = float(hashes_per_second), "H/s"
    for larger in ("kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
