"""Blocks made in this process by the kernel, for tests of contracts that need no network."""

import json
from collections.abc import Sequence
from typing import Any

from eth_abi.abi import decode, encode
from eth_account import Account
from eth_utils.crypto import keccak

from quorate._kernel import Ledger, Reverted
from quorate.base.types import Address, Member
from quorate.ledger.genesis import make_genesis
from quorate.ledger.payload import compose
from quorate.light.rlp import encode_list

CHAIN_ID = 31337
MNEMONIC = "test test test test test test test test test test test junk"
Account.enable_unaudited_hdwallet_features()
ACCOUNTS = [Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{i}") for i in range(10)]


def address_of(index: int) -> Address:
    return bytes.fromhex(ACCOUNTS[index].address[2:])


class Contract:
    """Calls and transactions of one contract by its ABI."""

    def __init__(self, chain: "Chain", address: bytes, abi: list[dict[str, Any]]) -> None:
        self.chain, self.address = chain, address
        self.functions = {e["name"]: e for e in abi if e["type"] == "function"}
        self.errors = {_selector(e): e for e in abi if e["type"] == "error"}

    def encode(self, name: str, *arguments: Any) -> bytes:
        entry = self.functions[name]
        return _selector(entry) + encode([i["type"] for i in entry["inputs"]], arguments)

    def call(self, name: str, *arguments: Any, sender: int = 0) -> tuple[Any, ...]:
        request = {
            "from": ACCOUNTS[sender].address,
            "to": "0x" + self.address.hex(),
            "data": "0x" + self.encode(name, *arguments).hex(),
        }
        view = self.chain.ledger.view()
        try:
            output = view.call(view.head(), json.dumps(request).encode(), None, 30_000_000)
        except Reverted as error:
            raise ContractError(self.describe(error.args[1])) from None
        return decode([o["type"] for o in self.functions[name]["outputs"]], output)

    def describe(self, output: bytes) -> str:
        entry = self.errors[output[:4]]
        values = decode([i["type"] for i in entry["inputs"]], output[4:])
        return f"{entry['name']}({', '.join(str(value) for value in values)})"

    def send(self, name: str, *arguments: Any, sender: int = 0) -> dict[str, Any]:
        """Execute in a block of its own and return the receipt; raises what a call would raise."""
        self.call(name, *arguments, sender=sender)
        return self.chain.send(self.address, self.encode(name, *arguments), sender)


class ContractError(Exception):
    """A contract reverted with one of its own errors."""


def _selector(entry: dict[str, Any]) -> bytes:
    return keccak(text=f"{entry['name']}({','.join(i['type'] for i in entry['inputs'])})")[:4]


class Chain:
    """Blocks of one transaction each, final and durable at once, on an in-memory ledger."""

    def __init__(self, members: Sequence[Member] = ()) -> None:
        self.genesis = make_genesis(
            chain_id=CHAIN_ID,
            engine="tendermint",
            gas="fees",
            members=members or [Member(address_of(0), 1)],
            balances={address_of(i): 10**22 for i in range(len(ACCOUNTS))},
            gas_limit=30_000_000,
            timestamp=1_600_000_000,
        )
        self.ledger = Ledger.open(None, self.genesis)
        self.head = self.ledger.genesis_hash
        self.time_ms = 1_700_000_000_000
        self.nonces = [0] * len(ACCOUNTS)

    def send(
        self, to: bytes | None, data: bytes, sender: int = 0, value: int = 0
    ) -> dict[str, Any]:
        transaction = {
            "chainId": CHAIN_ID,
            "nonce": self.nonces[sender],
            "gas": 5_000_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 0,
            "value": value,
            "data": data,
            "to": to or b"",
        }
        raw = bytes(ACCOUNTS[sender].sign_transaction(transaction).raw_transaction)
        self.nonces[sender] += 1
        self.mine([raw])
        receipt = json.loads(self.ledger.view().receipt_json(keccak(raw)) or b"null")
        assert receipt is not None
        return dict(receipt)

    def mine(self, raws: list[bytes]) -> None:
        """Make a block of these transactions; none may be skipped."""
        self.time_ms += 1000
        payload = compose(self.head, self.time_ms, bytes(20), encode_list(raws))
        self.ledger.check(self.head, payload, self.time_ms)
        block = self.ledger.execute(self.head, [payload], bytes(32))
        assert block.skipped == []
        self.ledger.finalize(block.hash, bytes(32), b"", [payload])
        self.ledger.commit()
        self.head = block.hash

    def deploy(self, artefact: dict[str, Any], sender: int = 0) -> Contract:
        receipt = self.send(None, bytes.fromhex(artefact["bytecode"][2:]), sender)
        return Contract(self, bytes.fromhex(receipt["contractAddress"][2:]), artefact["abi"])
