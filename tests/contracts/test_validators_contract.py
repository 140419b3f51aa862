"""The validator set contract: its storage layout, its votes, and its limits."""

import json
from importlib.resources import files
from typing import Any

import pytest

from contracts.chain import ACCOUNTS, Chain, Contract, ContractError, address_of
from quorate.base.types import Member
from quorate.crypto.hashes import keccak256
from quorate.ledger.genesis import VALIDATORS

ARTEFACT = json.loads(files("quorate.ledger").joinpath("validators_contract.json").read_text())


def start(*powers: int) -> tuple[Chain, Contract]:
    """Return a chain on which account i has the i-th power."""
    chain = Chain([Member(address_of(i), power) for i, power in enumerate(powers)])
    return chain, Contract(chain, VALIDATORS, ARTEFACT["abi"])


def read_set(contract: Contract) -> dict[int, int]:
    """Return account index -> power, as the contract's function tells it."""
    members, powers = contract.call("validators")
    indices = {account.address.lower(): i for i, account in enumerate(ACCOUNTS)}
    return {indices[member]: power for member, power in zip(members, powers, strict=True)}


def read_storage(chain: Chain) -> dict[int, int]:
    """Return account index -> power, as nodes and light clients read it."""
    (count,) = chain.ledger.storage(chain.head, VALIDATORS, [bytes(32)])
    first = int.from_bytes(keccak256(bytes(32)))
    keys = [(first + i).to_bytes(32, "big") for i in range(int.from_bytes(count))]
    words = chain.ledger.storage(chain.head, VALIDATORS, keys)
    indices = {address_of(i): i for i in range(len(ACCOUNTS))}
    return {indices[word[12:]]: int.from_bytes(word[:12], "big") for word in words}


def vote(contract: Contract, sender: int, candidate: int, power: int) -> dict[str, Any]:
    return contract.send("vote", ACCOUNTS[candidate].address, power, sender=sender)


def test_layout_is_the_one_that_nodes_read() -> None:
    layout = {entry["label"]: entry for entry in ARTEFACT["storageLayout"]}
    assert (layout["_packed"]["slot"], layout["_packed"]["offset"]) == ("0", 0)
    assert layout["_packed"]["type"] == "t_array(t_uint256)dyn_storage"
    assert (layout["_reserved"]["slot"], layout["_reserved"]["type"]) == ("1", "t_uint256")
    # Votes come after what genesis writes.
    assert all(int(layout[name]["slot"]) > 1 for name in ("_round", "_term", "_votes"))


def test_genesis_storage_is_what_the_contract_says() -> None:
    chain, contract = start(5, 6, 7)
    assert read_set(contract) == read_storage(chain) == {0: 5, 1: 6, 2: 7}
    assert contract.call("count") == (3,)
    assert contract.call("power", ACCOUNTS[1].address) == (6,)
    assert contract.call("power", ACCOUNTS[9].address) == (0,)
    assert contract.call("tally", ACCOUNTS[9].address, 1) == (0, 18)


def test_more_than_half_of_the_power_adds_a_validator() -> None:
    chain, contract = start(1, 1, 1, 1)
    for sender in (0, 1):
        receipt = vote(contract, sender, 5, 3)
        assert len(receipt["logs"]) == 1
        assert 5 not in read_set(contract)
    # Two of four are half, not more.
    receipt = vote(contract, 2, 5, 3)
    assert len(receipt["logs"]) == 2
    assert read_set(contract) == read_storage(chain) == {0: 1, 1: 1, 2: 1, 3: 1, 5: 3}


def test_power_counts_and_not_heads() -> None:
    _, contract = start(1, 1, 1, 4)
    vote(contract, 0, 5, 1)
    vote(contract, 1, 5, 1)
    vote(contract, 2, 5, 1)
    assert 5 not in read_set(contract)
    vote(contract, 3, 6, 1)
    assert read_set(contract)[6] == 1


def test_power_is_changed_and_a_validator_removed() -> None:
    chain, contract = start(1, 1, 1, 1)
    for sender in (0, 1, 2):
        vote(contract, sender, 3, 9)
    assert read_set(contract) == read_storage(chain) == {0: 1, 1: 1, 2: 1, 3: 9}
    vote(contract, 3, 0, 0)
    assert read_set(contract) == read_storage(chain) == {1: 1, 2: 1, 3: 9}


def test_votes_for_different_powers_do_not_add_up() -> None:
    _, contract = start(1, 1, 1)
    vote(contract, 0, 5, 1)
    vote(contract, 1, 5, 2)
    assert 5 not in read_set(contract)
    vote(contract, 0, 5, 2)
    assert read_set(contract)[5] == 2


def test_vote_is_withdrawn() -> None:
    _, contract = start(1, 1, 1)
    vote(contract, 0, 5, 1)
    assert contract.call("getVote", ACCOUNTS[5].address, ACCOUNTS[0].address) == (True, 1)
    contract.send("withdraw", ACCOUNTS[5].address, sender=0)
    assert contract.call("getVote", ACCOUNTS[5].address, ACCOUNTS[0].address) == (False, 0)
    vote(contract, 1, 5, 1)
    assert 5 not in read_set(contract)
    with pytest.raises(ContractError, match="NoVote"):
        contract.send("withdraw", ACCOUNTS[5].address, sender=0)


def test_votes_of_a_removed_validator_do_not_count_even_when_it_is_back() -> None:
    _, contract = start(1, 1, 1, 1)
    vote(contract, 3, 5, 1)
    for sender in (0, 1, 2):
        vote(contract, sender, 3, 0)
    assert contract.call("tally", ACCOUNTS[5].address, 1) == (0, 3)
    for sender in (0, 1):
        vote(contract, sender, 3, 1)
    assert read_set(contract)[3] == 1
    assert contract.call("tally", ACCOUNTS[5].address, 1) == (0, 4)


def test_votes_of_a_decided_change_are_used_up() -> None:
    _, contract = start(1, 1, 1)
    for sender in (0, 1):
        vote(contract, sender, 5, 4)
    for sender in (0, 5):
        vote(contract, sender, 5, 0)
        if sender == 5:
            break
    assert 5 not in read_set(contract)
    # The two votes that added it once do not add it again.
    assert contract.call("tally", ACCOUNTS[5].address, 4) == (0, 3)


def test_strangers_and_pointless_votes_are_refused() -> None:
    _, contract = start(1, 1, 1)
    with pytest.raises(ContractError, match="NotValidator"):
        vote(contract, 7, 5, 1)
    with pytest.raises(ContractError, match="NothingToChange"):
        vote(contract, 0, 1, 1)
    with pytest.raises(ContractError, match="NothingToChange"):
        vote(contract, 0, 5, 0)
    with pytest.raises(ContractError, match="ZeroAddress"):
        contract.send("vote", "0x" + "00" * 20, 1)
    with pytest.raises(ContractError, match=rf"PowerTooGreat\({2**32}, {2**32 - 1}\)"):
        vote(contract, 0, 5, 2**32)


def test_last_validator_cannot_be_removed() -> None:
    _, contract = start(1, 1)
    vote(contract, 0, 1, 0)
    vote(contract, 1, 1, 0)
    with pytest.raises(ContractError, match="LastValidator"):
        vote(contract, 0, 0, 0)


def test_set_is_bounded_and_a_vote_in_a_full_set_fits_in_a_block() -> None:
    members = [Member(address_of(0), 1000)]
    members += [Member(i.to_bytes(20, "big"), 1) for i in range(1, 128)]
    chain = Chain(members)
    contract = Contract(chain, VALIDATORS, ARTEFACT["abi"])
    with pytest.raises(ContractError, match=r"TooManyValidators\(128\)"):
        vote(contract, 0, 5, 1)
    receipt = contract.send("vote", "0x" + (127).to_bytes(20, "big").hex(), 0)
    assert int(receipt["gasUsed"], 16) < 1_500_000
    assert contract.call("count") == (127,)
    vote(contract, 0, 5, 1)
    assert contract.call("count") == (128,)
