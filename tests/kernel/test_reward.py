"""Rewards of blocks: a standard withdrawal, in state, header and JSON."""

import json
from typing import Any

import pytest

from kernel.chain import ACCOUNTS, COINBASE, KEYS, extend, genesis, integer, rlp, tip, transaction
from quorate._kernel import Invalid, Ledger, keccak256
from quorate.ledger.genesis import get_block_reward
from quorate.ledger.payload import compose
from quorate.light.headers import verify_header
from quorate.simulator.invariants.ledger import find_supply_fault

GWEI = 10**9
EMPTY_LIST_ROOT = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")


def make_file(reward: int, **config: Any) -> bytes:
    file = json.loads(genesis())
    file["config"] |= config
    file["config"]["quorate"]["block_reward_gwei"] = reward
    return json.dumps(file).encode()


def compute_root(index: int) -> bytes:
    """Return the root of a list of one withdrawal: the trie of one leaf at the key RLP(0)."""
    withdrawal = rlp([integer(index), b"", COINBASE, integer(2 * GWEI)])
    return keccak256(rlp([b"\x20\x80", withdrawal]))


def read_block(ledger: Ledger, height: int) -> dict[str, Any]:
    ledger.commit()
    text = ledger.view().block_json(height, False)
    assert text is not None
    block: dict[str, Any] = json.loads(text)
    return block


def test_every_block_pays_its_proposer_by_one_withdrawal() -> None:
    ledger = Ledger.open(None, make_file(2 * GWEI))
    extend(ledger)
    extend(ledger, transaction(KEYS[0], 0, ACCOUNTS[1], 5))
    for height in (1, 2):
        block = read_block(ledger, height)
        assert block["withdrawals"] == [
            {
                "index": hex(height - 1),
                "validatorIndex": "0x0",
                "address": "0x" + COINBASE.hex(),
                "amount": hex(2 * GWEI),
            }
        ]
        assert block["withdrawalsRoot"] == "0x" + compute_root(height - 1).hex()
    view = ledger.view()
    tip_fee = 21_000
    assert view.balance(2, COINBASE) == 2 * 2 * 10**18 + tip_fee
    assert find_supply_fault(ledger, [*ACCOUNTS, COINBASE], 2 * 10**18) == ""
    assert "wei and" in find_supply_fault(ledger, [*ACCOUNTS, COINBASE])


def test_genesis_pays_nobody() -> None:
    ledger = Ledger.open(None, make_file(2 * GWEI))
    block = read_block(ledger, 0)
    assert (block["withdrawals"], block["withdrawalsRoot"]) == ([], "0x" + EMPTY_LIST_ROOT.hex())


def test_chain_without_reward_has_the_blocks_of_before() -> None:
    plain, zero = Ledger.open(None, genesis()), Ledger.open(None, make_file(0))
    assert extend(plain).hash == extend(zero).hash
    block = read_block(zero, 1)
    assert (block["withdrawals"], block["withdrawalsRoot"]) == ([], "0x" + EMPTY_LIST_ROOT.hex())


def test_money_that_was_mined_can_be_spent_in_the_next_block() -> None:
    miner = genesis(alloc={})
    file = json.loads(miner)
    file["config"]["quorate"]["block_reward_gwei"] = GWEI
    ledger = Ledger.open(None, json.dumps(file).encode())
    parent = tip(ledger)
    body = compose(parent.hash, parent.timestamp_ms + 1000, ACCOUNTS[0], rlp([]))
    first = ledger.execute(parent.hash, [body], bytes(32))
    ledger.finalize(first.hash, bytes(32), b"", [body])
    block = extend(ledger, transaction(KEYS[0], 0, ACCOUNTS[1], 7))
    assert (block.transactions, block.skipped) == (1, [])


def test_light_client_verifies_the_header_of_a_block_with_reward() -> None:
    ledger = Ledger.open(None, make_file(2 * GWEI))
    block = extend(ledger)
    ledger.commit()
    text = ledger.view().header_json(1)
    assert text is not None
    assert verify_header(json.loads(text), 1, block.hash).state_root == block.state_root


@pytest.mark.parametrize(
    ("reward", "config", "message"),
    [
        (10**15 + 1, {}, "block_reward_gwei 1000000000000001, expected at most"),
        (-1, {}, "block_reward_gwei"),
        (1, {"shanghaiTime": 5}, "expected Shanghai from the start"),
    ],
)
def test_rewards_that_cannot_be_paid_are_refused(
    reward: int, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        Ledger.open(None, make_file(reward, **config))


def test_reward_is_read_from_the_file() -> None:
    assert get_block_reward(make_file(2 * GWEI)) == 2 * 10**18
    assert get_block_reward(genesis()) == 0


def test_cost_of_more_than_256_bits_neither_wraps_nor_makes_money() -> None:
    ledger = Ledger.open(None, make_file(0))
    block = extend(ledger, transaction(KEYS[0], 0, ACCOUNTS[1], (1 << 256) - 1))
    assert block.transactions == 0
    assert "required balance exceeds 256 bits" in block.skipped[0][1]
    ledger.commit()
    assert find_supply_fault(ledger, [*ACCOUNTS, COINBASE]) == ""
