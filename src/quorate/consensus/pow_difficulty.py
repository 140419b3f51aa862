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
    11): the attacker's progress is Poisson.
    """
    if share <= 0:
        return 0.0
    if share >= 0.5:
        return 1.0
    ratio = share / (1 - share)
    expected = depth * ratio
    # As a sum of what leads there, since one minus what does not loses all digits of small numbers:
    # the attacker is behind and catches up, or is ahead when the last confirmation comes.
    total, poisson, k = 0.0, math.exp(-expected), 0
    while k <= depth or poisson > total * SMALL:
        total += poisson * (ratio ** (depth - k) if k <= depth else 1.0)
        k += 1
        poisson *= expected / k
    return min(total, 1.0)


def compute_exact_reversal_probability(depth: int, share: float) -> float:
    """Return the same by Rosenfeld's exact model ("Analysis of hashrate-based double spending",
    2012, section 4): the attacker's progress is negative binomial.
    """
    if share <= 0:
        return 0.0
    if share >= 0.5:
        return 1.0
    if not depth:
        return 1.0
    p, q = 1 - share, share
    total, behind, ahead, m = 0.0, q**depth, p**depth, 0
    # `behind` and `ahead` are C(m + depth - 1, m) times p^m q^depth and p^depth q^m.
    while m <= depth or ahead > total * SMALL:
        total += behind if m <= depth else ahead
        m += 1
        behind *= p * (m + depth - 1) / m
        ahead *= q * (m + depth - 1) / m
    return min(total, 1.0)


def compute_depth(share: float, probability: float, most: int = 10_000) -> int | None:
    """Return how many confirmations make a reversal at most this probable; None: no number up to
    `most` does.
    """
    if share >= 0.5:
        return None
    for depth in range(most + 1):
        if compute_reversal_probability(depth, share) <= probability:
            return depth
    return None


def format_rate(hashes_per_second: int) -> str:
    """Return a hash rate as people say it: `950 H/s`, `13.4 MH/s`."""
    value, unit = float(hashes_per_second), "H/s"
    for larger in ("kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
