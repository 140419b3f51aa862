"""The kernel's search for nonces, against the definition."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate._kernel import Invalid, keccak256, seal
from quorate.crypto.hashes import compute_seal


def find_slowly(header: bytes, target: int, start: int, count: int) -> int | None:
    for step in range(count):
        nonce = (start + step) % (1 << 64)
        if compute_seal(header, nonce) <= target:
            return nonce
    return None


@settings(max_examples=100)
@given(
    st.binary(max_size=300),
    st.integers(0, 12),
    st.integers(0, (1 << 64) - 1) | st.integers((1 << 64) - 20, (1 << 64) - 1),
    st.integers(0, 300),
)
def test_the_first_nonce_is_found(header: bytes, bits: int, start: int, count: int) -> None:
    target = (1 << (256 - bits)) - 1
    found = seal(header, target.to_bytes(32, "big"), start, count)
    assert found == find_slowly(header, target, start, count)


def test_the_target_itself_is_met_and_one_below_is_not() -> None:
    exact = compute_seal(b"header", 77)
    assert seal(b"header", exact.to_bytes(32, "big"), 77, 1) == 77
    assert seal(b"header", (exact - 1).to_bytes(32, "big"), 77, 1) is None


def test_a_seal_is_the_hash_of_hash_and_nonce() -> None:
    digest = keccak256(keccak256(b"header") + (5).to_bytes(8, "big"))
    assert compute_seal(b"header", 5) == int.from_bytes(digest, "big")


def test_a_target_has_32_bytes() -> None:
    with pytest.raises(Invalid, match="target: 31 bytes, expected 32"):
        seal(b"header", bytes(31), 0, 1)
