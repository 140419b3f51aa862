"""How often a double spend succeeds against so many confirmations: measured, beside the formulas.

An attacker with a share of all hash power pays a merchant, and mines in secret on a branch without
that payment. Once the payment has so many confirmations the merchant delivers; the attacker goes on
until its branch is the heavier one, publishes it, or gives up when it is hopelessly behind.

Sources: Nakamoto, "Bitcoin", 2008, section 11 (the attacker's progress as a Poisson variable, and
one block found in advance, which evens out that a branch must be heavier and not as heavy);
Rosenfeld, "Analysis of hashrate-based double spending", 2014, section 4 (the exact negative
binomial law).

`measure_races` plays races on blocks alone: who finds the next one is a draw by share, since a
search for a nonce has no memory, and all blocks weigh the same. That is what the engine's fork
choice comes to when every block reaches everybody before the next one is found; whole nodes on real
links are raced by the scenario `double-spend`, a few at a time.
"""

from collections.abc import Sequence

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.base.rng import Rng
from quorate.consensus.pow_difficulty import compute_reversal_probability
from quorate.crypto.hashes import keccak256

__all__ = [
    "Point",
    "compute_exact",
    "compute_interval",
    "compute_nakamoto",
    "measure_curve",
    "measure_races",
    "race",
]

HOPELESS = 60
"""An attacker that is so many blocks behind gives up: with 45 % of the power it would still come
back in one of 170,000 races.
"""
MAX_BLOCKS = 100_000
"""Of one race; with half of the power it might never end."""
MAX_CONFIRMATIONS = 1000
Z_95 = 1.959963984540054


class Point(Struct, frozen=True, kw_only=True):
    """One point of the curve."""

    confirmations: int
    races: int
    successes: int
    rate: float
    low: float
    high: float
    """A 95 % interval (Wilson's) of the rate."""
    exact: float
    """Rosenfeld's law, for what the races do: so many blocks in advance, and heavier to win."""
    nakamoto: float


def compute_nakamoto(share: float, confirmations: int) -> float:
    """Return Nakamoto's probability that a payment with so many confirmations is taken back."""
    return compute_reversal_probability(check_confirmations(confirmations), check_share(share))


def compute_exact(share: float, confirmations: int, ahead: int = 0) -> float:
    """Return the exact probability, for an attacker that has `ahead` blocks when the race begins.

    It wins with one block more than the others. With `ahead=1` this is Rosenfeld's table.
    """
    q, z = check_share(share), check_confirmations(confirmations)
    p = 1.0 - q
    if q >= p:
        return 1.0
    if not z:
        return (q / p) ** max(1 - ahead, 0)
    total, chance = 0.0, p**z
    for found in range(z - ahead + 1):
        total += chance * (1.0 - (q / p) ** (z - ahead - found + 1))
        chance *= q * (found + z) / (found + 1)
    return min(max(1.0 - total, 0.0), 1.0)


def race(rng: Rng, share_permille: int, confirmations: int, ahead: int = 0) -> bool:
    """Play one race; return whether the attacker wins."""
    honest, secret = 0, ahead
    for _ in range(MAX_BLOCKS):
        if honest >= confirmations:
            if secret > honest:
                return True
            if honest - secret >= HOPELESS:
                return False
        if rng.below(1000) < share_permille:
            secret += 1
        else:
            honest += 1
    return False


def measure_races(
    share_permille: int, confirmations: int, races: int, seed: int = 0, ahead: int = 0
) -> int:
    """Return how many of so many races the attacker wins; the same for the same arguments."""
    check_share(share_permille / 1000)
    check_confirmations(confirmations)
    name = b"double spend %d/%d/%d/%d" % (seed, share_permille, confirmations, ahead)
    rng = Rng(int.from_bytes(keccak256(name)[:8], "big"))
    return sum(race(rng, share_permille, confirmations, ahead) for _ in range(races))


def measure_curve(
    share_permille: int,
    confirmations: Sequence[int],
    races: int = 2000,
    seed: int = 0,
    ahead: int = 0,
) -> list[Point]:
    """Return the measured curve of a share of the power, with the formulas beside it.

    With `ahead=1` the races grant the attacker what Nakamoto's formula does.
    """
    share = share_permille / 1000
    points = []
    for z in confirmations:
        successes = measure_races(share_permille, z, races, seed, ahead)
        low, high = compute_interval(successes, races)
        points.append(
            Point(
                confirmations=z,
                races=races,
                successes=successes,
                rate=successes / races if races else 0.0,
                low=low,
                high=high,
                exact=compute_exact(share, z, ahead),
                nakamoto=compute_nakamoto(share, z),
            )
        )
    return points


def compute_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate."""
    if not trials:
        return 0.0, 1.0
    rate, z2 = successes / trials, Z_95 * Z_95
    middle = rate + z2 / (2 * trials)
    spread = Z_95 * (rate * (1 - rate) / trials + z2 / (4 * trials * trials)) ** 0.5
    scale = 1 + z2 / trials
    # Rounding must not leave the rate itself outside.
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return min(max(low, 0.0), rate), max(min(high, 1.0), rate)


def check_share(share: float) -> float:
    if not 0.0 <= share <= 1.0:
        raise Invalid(f"share {share}, expected 0 to 1 of all hash power")
    return share


def check_confirmations(confirmations: int) -> int:
    if not 0 <= confirmations <= MAX_CONFIRMATIONS:
        raise Invalid(f"{confirmations} confirmations, expected 0 to {MAX_CONFIRMATIONS}")
    return confirmations
