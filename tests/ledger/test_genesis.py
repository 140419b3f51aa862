"""Genesis files: what a new chain holds from the start."""

import json
from pathlib import Path

import pytest

from quorate.base.errors import Invalid
from quorate.base.types import Member
from quorate.crypto.hashes import keccak256
from quorate.ledger import genesis

A, B = bytes.fromhex("aa" * 20), bytes.fromhex("bb" * 20)


def make(**changes: object) -> dict[str, object]:
    settings: dict[str, object] = {
        "chain_id": 7,
        "engine": "tendermint",
        "gas": "fees",
        "members": [Member(B, 2), Member(A, 1)],
        "balances": {A: 5},
        "gas_limit": 30_000_000,
        "timestamp": 1,
    }
    made = genesis.make_genesis(**(settings | changes))  # type: ignore[arg-type]
    tree: dict[str, object] = json.loads(made)
    return tree


def test_same_settings_make_the_same_bytes_whatever_the_order() -> None:
    assert make() == make(members=[Member(A, 1), Member(B, 2)])


def test_consensus_settings_are_in_the_config() -> None:
    config = make()["config"]
    assert isinstance(config, dict)
    assert config["chainId"] == 7
    assert config["quorate"] == {
        "engine": "tendermint",
        "gas": "fees",
        "validators": [
            {"address": "0x" + "aa" * 20, "power": 1},
            {"address": "0x" + "bb" * 20, "power": 2},
        ],
    }


def test_validator_storage_packs_power_over_address() -> None:
    storage = genesis.compute_validator_storage([Member(B, 2), Member(A, 1)])
    first = keccak256(bytes(32))
    second = (int.from_bytes(first, "big") + 1).to_bytes(32, "big")
    assert storage == {
        bytes(32): (2).to_bytes(32, "big"),
        first: bytes(11) + b"\x01" + A,
        second: bytes(11) + b"\x02" + B,
    }


def test_validator_contract_and_accounts_are_allocated() -> None:
    alloc = make()["alloc"]
    assert isinstance(alloc, dict)
    assert alloc[A.hex()] == {"balance": "0x5"}
    assert len(alloc[genesis.VALIDATORS.hex()]["code"]) > 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gas": "cheap"}, "gas 'cheap', expected one of fees, free"),
        ({"members": []}, "no validators"),
        ({"members": [Member(A, 1), Member(A, 2)]}, "a validator twice"),
        ({"members": [Member(A, 0)]}, "power 0, expected 1 to"),
        ({"members": [Member(A, 1 << 32)]}, "power 4294967296, expected 1 to"),
        ({"block_reward_gwei": -1}, "block reward -1 gwei, expected 0 to"),
    ],
)
def test_what_no_chain_can_begin_with_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        make(**changes)


def test_history_contracts_are_those_of_other_chains(vectors: Path) -> None:
    published = json.loads((vectors / "execution-apis" / "tests" / "genesis.json").read_bytes())
    for address in (
        "000f3df6d732807ef1319fb7b8bb8522d0beac02",
        "0000f90827f1c53a10cb7a02335b175320002935",
    ):
        assert published["alloc"][address]["code"] == "0x" + genesis.SYSTEM_CONTRACTS[address]


def test_deployment_proxy_has_its_known_code_hash() -> None:
    code = bytes.fromhex(genesis.SYSTEM_CONTRACTS["4e59b44847b379578588920ca78fbf26c0b4956c"])
    assert keccak256(code).hex() == (
        "2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989"
    )


def test_network_id_covers_the_block_and_the_config_and_no_layout() -> None:
    tree = make()
    block = bytes(32)

    def identify(changed: object, block: bytes = block) -> bytes:
        return genesis.compute_network_id(json.dumps(changed).encode(), block)

    config = tree["config"]
    assert isinstance(config, dict)
    known = identify(tree)
    assert known == identify(dict(reversed(tree.items())))
    assert known == identify(tree | {"config": dict(reversed(config.items()))})
    others = [
        identify(tree, b"\1" * 32),
        identify(tree | {"config": config | {"chainId": 8}}),
        identify(tree | {"config": config | {"osakaTime": 99}}),
    ]
    assert len({known, *others}) == 4
