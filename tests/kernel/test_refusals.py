"""Transactions that nobody can include: each refused with what was found and what was expected.

The first words are those that client libraries match on. Another implementation signs.
"""

from typing import Any

import pytest
from eth_account import Account

from kernel.chain import CHAIN_ID, FUNDS, KEYS, genesis, integer, rlp
from quorate._kernel import Ledger, Pool

STRANGER = "0x" + "77" * 20
FEES = {"maxFeePerGas": 4 * 10**9, "maxPriorityFeePerGas": 10**9}
NO_FEES = dict.fromkeys(FEES)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def pool() -> Pool:
    """A pool that already holds one transaction, which no refusal may disturb."""
    pool = Pool(Ledger.open(None, genesis(gasLimit=hex(8_000_000))), min_tip=10)
    assert refuse(pool, signed(KEYS[3])) is None
    return pool


def sign(key: bytes = KEYS[0], **changes: Any) -> Any:
    """Return a signed transfer; a change to None leaves a field out."""
    fields = {"chainId": CHAIN_ID, "nonce": 0, "to": STRANGER, "value": 1, "gas": 21_000, **FEES}
    fields = {name: value for name, value in (fields | changes).items() if value is not None}
    return Account.from_key(key).sign_transaction(fields)


def signed(key: bytes = KEYS[0], **changes: Any) -> bytes:
    return bytes(sign(key, **changes).raw_transaction)


def with_signature(parity: int, r: int, s: int) -> bytes:
    """Return a transfer whose signature is replaced."""
    fields: list[object] = [*map(integer, (CHAIN_ID, 0, 10, 4 * 10**9, 21_000))]
    fields += [bytes.fromhex(STRANGER[2:]), integer(1), b"", []]
    return b"\x02" + rlp([*fields, *map(integer, (parity, r, s))])


def refuse(pool: Pool, raw: bytes) -> str | None:
    [(_, reason)] = pool.add([raw])
    return reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chainId": 1}, "invalid sender: invalid chain id for signer: have 1 want 31337"),
        (
            {"chainId": None, **NO_FEES, "gasPrice": 4 * 10**9},
            "only replay-protected (EIP-155) transactions allowed over RPC",
        ),
        ({"gas": 8_000_001}, "exceeds block gas limit: gas 8000001, limit 8000000"),
        ({"gas": (1 << 24) + 1}, "transaction gas limit too high (cap: 16777216, tx: 16777217)"),
        ({"gas": 20_999}, "intrinsic gas too low: gas 20999, minimum needed 21000"),
        (
            {"data": "0x" + "11" * 1000, "gas": 60_999},
            "insufficient gas for floor data gas cost: gas 60999, minimum needed 61000",
        ),
        (
            {"to": None, "data": "0x" + "00" * 49_153, "gas": 8_000_000},
            "max initcode size exceeded: code size 49153, limit 49152",
        ),
        (
            {"maxPriorityFeePerGas": 9},
            "transaction underpriced: gas tip cap 9, minimum needed 10",
        ),
        (
            {"maxPriorityFeePerGas": 4 * 10**9 + 1},
            "max priority fee per gas higher than max fee per gas",
        ),
        ({"nonce": (1 << 64) - 1}, "nonce has max value"),
        (
            {"value": FUNDS},
            f"insufficient funds for gas * price + value: balance {FUNDS}, "
            f"tx cost {FUNDS + 84 * 10**12}, overshot {84 * 10**12}",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_refusal_says_found_and_expected_and_disturbs_nothing(
    pool: Pool, changes: dict[str, Any], reason: str
) -> None:
    before = pool.counts()
    assert refuse(pool, signed(**changes)) == reason
    assert pool.counts() == before
    assert refuse(pool, signed()) is None


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        ((0, 0, 1), "invalid sender: signature: "),
        ((0, 1, 0), "invalid sender: signature: "),
        ((0, ORDER, 1), "invalid sender: signature: "),
        ((0, 1, ORDER - 1), "invalid sender: signature: s is above n/2, expected the low form"),
        ((0, 1 << 256, 1), "rlp: "),
        ((2, 1, 1), "rlp: "),
    ],
)
def test_signature_that_is_none_is_refused(
    pool: Pool, signature: tuple[int, int, int], reason: str
) -> None:
    found = refuse(pool, with_signature(*signature))
    assert found is not None
    assert found.startswith(reason)
    assert pool.counts()[:2] == (1, 0)


def test_signature_of_something_else_is_somebody_without_funds(pool: Pool) -> None:
    """Recovery gives an address for nearly every signature: it is the balance that refuses it."""
    other = sign(value=2)
    reason = refuse(pool, with_signature(other.v, other.r, other.s))
    assert reason is not None
    assert reason.startswith("insufficient funds for gas * price + value: balance 0, tx cost ")


def test_every_truncation_and_any_appended_byte_is_malformed(pool: Pool) -> None:
    for raw in (signed(), signed(**NO_FEES, gasPrice=4 * 10**9)):
        for size in range(1, len(raw)):
            reason = refuse(pool, raw[:size])
            assert reason is not None, size
            assert reason.startswith(("rlp: ", "typed transaction too short")), (size, reason)
        reason = refuse(pool, raw + b"\x00")
        assert reason is not None
        assert reason.startswith("rlp: ")
    assert pool.counts()[:2] == (1, 0)
