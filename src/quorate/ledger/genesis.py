"""Genesis files: geth's JSON, with what validators must agree on in `config.quorate`.

Besides the accounts that are asked for, a new chain holds these contracts from the start:

* the validator set at 0x…1000 (`contracts/Validators.sol`), filled with the first validators;
* the history contracts that EIP-4788 and EIP-2935 ask for, which every block writes;
* the deterministic deployment proxy at 0x4e59…956C, which tools use for CREATE2.

The kernel reads such a file and refuses what it does not understand (`kernel/src/genesis.rs`).
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from quorate.base.errors import Invalid
from quorate.base.types import Address, Hash, Member
from quorate.crypto.hashes import keccak256

__all__ = [
    "GAS_MODES",
    "POW_RULES",
    "VALIDATORS",
    "compute_network_id",
    "compute_validator_storage",
    "get_block_reward",
    "get_pow_rules",
    "is_dev_genesis",
    "make_genesis",
]

VALIDATORS = bytes.fromhex("0000000000000000000000000000000000001000")
"""Where the ledger keeps its validator set."""
GAS_MODES = ("fees", "free")
POW_RULES = ("initial_difficulty", "interval_ms", "min_difficulty", "window")
"""Settings of the engine `pow` that decide which blocks are valid."""
MAX_POWER = (1 << 32) - 1
GWEI = 10**9
MAX_REWARD_GWEI = 10**15
"""A million ether: a longer chain than anybody can make stays below 2^256 wei."""
SYSTEM_CONTRACTS = {
    # EIP-4788, "Block processing".
    "000f3df6d732807ef1319fb7b8bb8522d0beac02": (
        "3373fffffffffffffffffffffffffffffffffffffffe14604d57602036146024575f5ffd5b5f35801560495762"
        "001fff810690815414603c575f5ffd5b62001fff01545f5260205ff35b5f5ffd5b62001fff42064281555f3590"
        "62001fff015500"
    ),
    # EIP-2935, "Bytecode".
    "0000f90827f1c53a10cb7a02335b175320002935": (
        "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f3560014303811160425761"
        "1fff81430311604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
    ),
    # The proxy of Nick's method: salt and init code in, address out.
    "4e59b44847b379578588920ca78fbf26c0b4956c": (
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe036016000816020823780358282"
        "34f58015156039578182fd5b8082525050506014600cf3"
    ),
}
FORK_TIMES = ("shanghaiTime", "cancunTime", "pragueTime", "osakaTime")
FORK_BLOCKS = (
    "homesteadBlock",
    "eip150Block",
    "eip155Block",
    "eip158Block",
    "byzantiumBlock",
    "constantinopleBlock",
    "petersburgBlock",
    "istanbulBlock",
    "muirGlacierBlock",
    "berlinBlock",
    "londonBlock",
    "arrowGlacierBlock",
    "grayGlacierBlock",
    "mergeNetsplitBlock",
)


def make_genesis(
    *,
    chain_id: int,
    engine: str,
    gas: str,
    members: Sequence[Member],
    balances: Mapping[Address, int],
    gas_limit: int,
    timestamp: int,
    block_reward_gwei: int = 0,
    pow: Mapping[str, int] | None = None,
    dev: bool = False,
) -> bytes:
    """Return a genesis file; `balances` are wei, `timestamp` is Unix seconds. Raises Invalid.

    Every block pays `block_reward_gwei` to its proposer, as a withdrawal of EIP-4895. `pow` are the
    settings of proof of work (`POW_RULES`) that all must have in common. `dev` makes the chain one
    for development, for good: anybody may change any account.
    """
    if gas not in GAS_MODES:
        raise Invalid(f"genesis: gas {gas!r}, expected one of {', '.join(GAS_MODES)}")
    validators = [
        {"address": "0x" + member.address.hex(), "power": member.power}
        for member in sorted(members)
    ]
    if not 0 <= block_reward_gwei <= MAX_REWARD_GWEI:
        raise Invalid(
            f"genesis: block reward {block_reward_gwei} gwei, expected 0 to {MAX_REWARD_GWEI}"
        )
    rules: dict[str, Any] = {"engine": engine, "gas": gas, "validators": validators}
    if block_reward_gwei:
        rules["block_reward_gwei"] = block_reward_gwei
    if pow is not None:
        if sorted(pow) != sorted(POW_RULES):
            raise Invalid(f"genesis: pow {sorted(pow)}, expected {', '.join(POW_RULES)}")
        rules["pow"] = dict(pow)
    if dev:
        rules["dev"] = True
    alloc: dict[str, dict[str, Any]] = {
        address: {"balance": "0x0", "nonce": "0x1", "code": "0x" + code}
        for address, code in SYSTEM_CONTRACTS.items()
    }
    alloc[VALIDATORS.hex()] = {
        "balance": "0x0",
        "nonce": "0x1",
        "code": read_validators_code(),
        "storage": {
            "0x" + slot.hex(): "0x" + value.hex()
            for slot, value in compute_validator_storage(members).items()
        },
    }
    for address, wei in balances.items():
        alloc.setdefault(address.hex(), {})["balance"] = hex(wei)
    genesis: dict[str, Any] = {
        "config": {
            "chainId": chain_id,
            **dict.fromkeys(FORK_BLOCKS, 0),
            "terminalTotalDifficulty": 0,
            **dict.fromkeys(FORK_TIMES, 0),
            "quorate": rules,
        },
        "nonce": "0x0",
        "timestamp": hex(timestamp),
        "extraData": "0x",
        "gasLimit": hex(gas_limit),
        "difficulty": "0x0",
        "mixHash": "0x" + "00" * 32,
        "coinbase": "0x" + "00" * 20,
        "alloc": dict(sorted(alloc.items())),
    }
    return json.dumps(genesis, indent=2).encode() + b"\n"


def compute_network_id(genesis: bytes, block: Hash) -> Hash:
    """Return what tells networks apart: the hash over a genesis block's hash and the file's config.

    The block's header says nothing of the chain id and of the forks, which validators must agree on
    as well. `genesis` is a file from which a ledger was opened, `block` that ledger's genesis hash.
    """
    config = json.loads(genesis)["config"]
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return keccak256(block + keccak256(canonical.encode()))


def get_block_reward(genesis: bytes) -> int:
    """Return the wei that each block of a chain makes for its proposer."""
    rules = json.loads(genesis)["config"].get("quorate", {})
    return int(rules.get("block_reward_gwei", 0)) * GWEI


def is_dev_genesis(genesis: bytes) -> bool:
    """Whether a genesis file begins a chain for development."""
    return json.loads(genesis)["config"].get("quorate", {}).get("dev") is True


def get_pow_rules(genesis: bytes) -> dict[str, int]:
    """Return the settings of proof of work that a genesis file prescribes; empty: none."""
    rules = json.loads(genesis)["config"].get("quorate", {}).get("pow", {})
    return {name: int(rules[name]) for name in POW_RULES if name in rules}


def compute_validator_storage(members: Sequence[Member]) -> dict[bytes, bytes]:
    """Return the storage of the validator contract that holds these members. Raises Invalid.

    Slot 0 is the count; keccak256(slot 0) + i is member i, packed as power << 160 | address.
    """
    if not members:
        raise Invalid("genesis: no validators, expected at least one")
    if len({member.address for member in members}) < len(members):
        raise Invalid("genesis: a validator twice, expected once")
    first = int.from_bytes(keccak256(bytes(32)), "big")
    storage = {bytes(32): len(members).to_bytes(32, "big")}
    for index, member in enumerate(sorted(members)):
        if not 1 <= member.power <= MAX_POWER:
            raise Invalid(
                f"genesis: validator 0x{member.address.hex()} with power {member.power}, "
                f"expected 1 to {MAX_POWER}"
            )
        packed = member.power << 160 | int.from_bytes(member.address, "big")
        slot = (first + index) % (1 << 256)
        storage[slot.to_bytes(32, "big")] = packed.to_bytes(32, "big")
    return storage


@cache
def read_validators_code() -> str:
    """Return the compiled validator contract, 0x and hexadecimal digits."""
    artefact = json.loads((files("quorate.ledger") / "validators_contract.json").read_bytes())
    code: str = artefact["deployedBytecode"]
    return "0x" + code.removeprefix("0x")
