"""SplitMix64: the only source of randomness, the same on every Python and every machine.

Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
figure 17.
"""

MASK = (1 << 64) - 1


class Rng:
    """A stream of 64-bit numbers from a seed. Not for secrets."""

    __slots__ = ("state",)

    def __init__(self, seed: int) -> None:
        self.state = seed & MASK

    def next(self) -> int:
        """Return the next number in [0, 2**64)."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        """Return a number in [0, n), n from 1 to 2**32; the bias is below n / 2**64."""
        return (self.next() * n) >> 64
