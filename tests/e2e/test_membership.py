"""Validators by vote: a power changes, a follower joins, a member leaves, on a running network."""

import json

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from e2e.stage import CHAIN_ID, Stage, account_at, poll
from ports import free_port_blocks
from quorate._kernel import keccak256
from quorate.consensus.certificate import decode_certificate

pytestmark = pytest.mark.network

CONTRACT = "0x0000000000000000000000000000000000001000"


def read_key(stage: Stage, index: int) -> LocalAccount:
    """Return the account that is a validator's key."""
    store = json.loads((stage.validator(index) / "key.json").read_text())
    account = Account.from_key(store["private_key"])
    assert isinstance(account, LocalAccount)
    return account


def vote(stage: Stage, voter: int, candidate: LocalAccount, power: int) -> None:
    """Vote with a validator's key, through the network, until it is final there."""
    key = read_key(stage, voter)
    words = [int(candidate.address, 16), power]
    call = keccak256(b"vote(address,uint256)")[:4] + b"".join(w.to_bytes(32, "big") for w in words)
    signed = key.sign_transaction(
        {
            "chainId": CHAIN_ID,
            "nonce": int(stage.call(voter, "eth_getTransactionCount", key.address, "latest"), 16),
            "to": CONTRACT,
            "value": 0,
            "gas": 500_000,
            "maxFeePerGas": 0,
            "maxPriorityFeePerGas": 0,
            "data": "0x" + call.hex(),
        }
    )
    raw = "0x" + bytes(signed.raw_transaction).hex()
    stage.settle(voter, stage.call(voter, "eth_sendRawTransaction", raw))


def get_powers(stage: Stage, index: int) -> dict[str, int]:
    """Return who agrees on the next block, as a validator shows it."""
    found = stage.call(index, "quorate_getValidators", "pending")
    return {member["address"]: int(member["power"], 16) for member in found}


def expect_powers(stage: Stage, index: int, powers: dict[str, int]) -> None:
    """Wait until a validator shows this set: it may still be writing the block of the last vote."""
    poll(lambda: get_powers(stage, index) == powers, f"{powers} at validator {index}")


def add_follower(stage: Stage) -> None:
    """Make a fifth folder, name it in network.toml, and let every validator read that again."""
    place = f"validator-4=127.0.0.1:{stage.p2p + 4}"
    stage.run("add", place, "--network", str(stage.folder / "network.toml"))
    for index in range(4):
        stage.do("stop", str(index))
        stage.do("start", str(index))
        stage.pay(index, account_at(0))
    stage.do("start", "4")


def test_power_changes_a_follower_joins_and_a_member_leaves(stage: Stage) -> None:
    stage.rpc, stage.p2p, stage.metrics = free_port_blocks(5, 3)
    stage.up("--gas", "free")
    keys = [read_key(stage, index) for index in range(4)]
    names = [key.address.lower() for key in keys]

    for voter in (0, 1, 2):
        assert get_powers(stage, 0)[names[1]] == 1
        vote(stage, voter, keys[1], 2)
    expect_powers(stage, 0, {name: 1 + (name == names[1]) for name in names})

    add_follower(stage)
    stage.agree([0, 1, 2, 3, 4])
    follower = read_key(stage, 4)
    newcomer = follower.address.lower()
    assert newcomer not in get_powers(stage, 4)
    # One of five powers is not more than half, three are.
    vote(stage, 0, follower, 3)
    vote(stage, 1, follower, 3)
    joined = {name: 1 + (name == names[1]) for name in names} | {newcomer: 3}
    expect_powers(stage, 4, joined)

    # Eight powers: without the newcomer nothing is decided any more, without validator 3 much is.
    stage.do("kill", "3")
    for _ in range(3):
        stage.pay(4, account_at(0))
    height = stage.height(4)
    shown = stage.call(4, "quorate_getCertificate", hex(height))["raw"]
    certificate = decode_certificate(bytes.fromhex(shown[2:]))
    assert bytes.fromhex(newcomer[2:]) in {who for who, _ in certificate.signatures}
    stage.expect("why-stalled", "7 of 8 votes")

    vote(stage, 1, keys[3], 0)
    vote(stage, 4, keys[3], 0)
    expect_powers(stage, 0, {n: p for n, p in joined.items() if n != names[3]})

    # Who left follows the chain as before, and its silence costs nothing.
    stage.do("start", "3")
    poll(lambda: stage.height(3) >= stage.height(0), "the former member catches up")
    stage.do("kill", "3")
    stage.pay(0, account_at(0))
    stage.expect("why-stalled", "All validators answer: 7 of 7 votes")
    stage.do("start", "3")
    stage.agree([0, 1, 2, 3, 4])
