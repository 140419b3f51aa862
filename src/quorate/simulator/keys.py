"""Simulated signatures: a token that names its signer and what was signed.

Only the holder of a key makes its tokens, in this world by construction: whoever forges is an actor
of ours, and none does. Real secp256k1 keys (`quorate.consensus.keys`) fit in the same place.
"""

from typing import Final

from quorate.base.native import mypyc_attr
from quorate.base.types import Address, Hash
from quorate.consensus.replica import Keys
from quorate.simulator.sealing import make_token

__all__ = ["SimulatedKeys"]

FILLER: Final = bytes(13)


@mypyc_attr(allow_interpreted_subclasses=True)
class SimulatedKeys(Keys):
    """The keys of one identity, which may be any address."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.are_cheap = True

    def sign(self, digest: Hash) -> bytes:
        return self.address + digest + FILLER

    def verify(self, address: Address, digest: Hash, signature: bytes) -> bool:
        return signature == address + digest + FILLER

    def verify_seal(self, header: bytes, nonce: int, target: int) -> bool:
        return nonce == make_token(header, target)
