"""Simulated work: a nonce comes after a time that the tape draws, and is a token of that.

The search for a nonce has no memory, so the time until one is found is exponential: the mean is the
expected number of tries over the rate of the machine. The token is a hash of the header that only
a machine's port hands out, in this world by construction, as with simulated signatures.
"""

from quorate.base.types import Nanoseconds
from quorate.crypto.hashes import keccak256

__all__ = ["DRAWS", "compute_delay", "make_nonce"]

SECOND: Nanoseconds = 1_000_000_000
DRAWS = 1 << 32
"""The tape draws one of so many."""
FRACTION = 24
"""Bits behind the point."""
LN_2 = 11629080
"""ln 2 with those bits."""


def compute_delay(draw: int, target: int, hashes_per_second: int) -> Nanoseconds:
    """Return how long a search takes for a draw from [0, DRAWS): -ln(u) of the mean, in integers,
    since floating point logarithms need not agree between machines.
    """
    tries = (1 << 256) // (target + 1)
    whole, fraction = compute_log2(draw + 1, 32)
    scaled = (((32 - whole) << FRACTION) - fraction) * LN_2 >> FRACTION
    return max(tries * SECOND * scaled // hashes_per_second >> FRACTION, 1)


def compute_log2(value: int, most_bits: int) -> tuple[int, int]:
    """Return the whole part of log2 and its fraction with `FRACTION` bits."""
    whole = value.bit_length() - 1
    mantissa = value << (most_bits - whole)
    one, fraction = 1 << most_bits, 0
    for _ in range(FRACTION):
        # Squaring doubles the logarithm: what passes two is the next bit.
        mantissa = mantissa * mantissa >> most_bits
        fraction <<= 1
        if mantissa >= 2 * one:
            mantissa >>= 1
            fraction |= 1
    return whole, fraction


def make_nonce(header: bytes) -> int:
    """Return the token of a finished search."""
    return int.from_bytes(keccak256(b"sealed" + header)[:8], "big")
