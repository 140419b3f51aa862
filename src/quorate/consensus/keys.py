"""secp256k1 keys over the kernel: an address is the last 20 bytes of keccak256(public key)."""

from quorate._kernel import address, recover, sign
from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash
from quorate.consensus.replica import Keys


def verify_signature(who: Address, digest: Hash, signature: bytes) -> bool:
    """Whether the key of `who` made this signature (r, low s, parity); never raises."""
    try:
        return recover(digest, signature) == who
    except Invalid:
        return False


class SecpKeys(Keys):
    """The key of one validator. Signing is deterministic (RFC 6979)."""

    __slots__ = ("_secret", "address")

    def __init__(self, secret: bytes) -> None:
        """`secret` is 32 bytes. Raises Invalid when it is not a key."""
        self._secret = secret
        self.address = address(secret)

    def __repr__(self) -> str:
        return f"SecpKeys(0x{self.address.hex()})"

    def sign(self, digest: Hash) -> bytes:
        return sign(self._secret, digest)

    def verify(self, address: Address, digest: Hash, signature: bytes) -> bool:
        return verify_signature(address, digest, signature)
