"""The companies' side: deploying the contract, enrolling, and recording events with web3.py."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from epcis import Event
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import ContractLogicError

ARTEFACT = Path(__file__).with_name("Provenance.json")
IN_FLIGHT = 32
"""Transactions that are sent before their receipts are waited for."""


class Role(IntEnum):
    """As in Provenance.sol."""

    MANUFACTURER = 1
    CARRIER = 2
    DISTRIBUTOR = 3
    RETAILER = 4
    INSPECTOR = 5


ROLES_OF_STEPS = {
    Role.MANUFACTURER: "commissioning packing unpacking repairing assembling",
    Role.CARRIER: "departing transporting shipping arriving loading unloading",
    Role.DISTRIBUTOR: "receiving storing holding picking accepting",
    Role.RETAILER: "stocking retail_selling dispensing",
    Role.INSPECTOR: "inspecting sensor_reporting",
}
ROLES = {step: role for role, steps in ROLES_OF_STEPS.items() for step in steps.split()}
COMPANIES = {
    "Alpine Dairy": [Role.MANUFACTURER],
    "Bergland Logistics": [Role.CARRIER],
    "Central Wholesale": [Role.DISTRIBUTOR],
    "Dorfladen": [Role.RETAILER, Role.DISTRIBUTOR],
    "Eidgenössische Prüfstelle": [Role.INSPECTOR],
}


@dataclass(frozen=True)
class Company:
    name: str
    account: LocalAccount
    roles: list[Role]


def role_of(event: Event) -> Role:
    """Return the role that an event's business step belongs to; other steps are inspected."""
    return ROLES.get(event.step, Role.INSPECTOR)


def derive_account(mnemonic: str, index: int) -> LocalAccount:
    Account.enable_unaudited_hdwallet_features()
    account = Account.from_mnemonic(mnemonic, account_path=f"m/44'/60'/0'/0/{index}")
    assert isinstance(account, LocalAccount)
    return account


class Sender:
    """Signs and sends transactions, and waits for many receipts at once."""

    def __init__(self, web3: Web3) -> None:
        self.web3 = web3
        self.chain_id = web3.eth.chain_id
        self.nonces: dict[str, int] = {}
        self.waiting: list[bytes] = []
        self.height = 0
        """Of the newest block that holds one of the transactions."""

    def send(self, account: LocalAccount, body: dict[str, Any]) -> bytes:
        """Send a transaction; its receipt is checked by `flush`, at the latest."""
        if len(self.waiting) >= IN_FLIGHT:
            self.flush()
        if account.address not in self.nonces:
            self.nonces[account.address] = self.web3.eth.get_transaction_count(account.address)
        base_fee = self.web3.eth.get_block("latest")["baseFeePerGas"]
        fees = {"maxFeePerGas": 4 * base_fee + 10**9, "maxPriorityFeePerGas": 10**9}
        body = {"chainId": self.chain_id, "nonce": self.nonces[account.address]} | fees | body
        raw = account.sign_transaction(body).raw_transaction
        identity = bytes(self.web3.eth.send_raw_transaction(raw))
        self.nonces[account.address] += 1
        self.waiting.append(identity)
        return identity

    def flush(self) -> list[Any]:
        """Wait for every transaction that was sent and return the receipts."""
        receipts = []
        for identity in self.waiting:
            receipt = self.web3.eth.wait_for_transaction_receipt(
                identity, timeout=60, poll_latency=0.05
            )
            if receipt["status"] != 1:
                raise RuntimeError(f"transaction 0x{identity.hex()} reverted")
            receipts.append(receipt)
            self.height = max(self.height, receipt["blockNumber"])
        self.waiting.clear()
        return receipts


class Registry:
    """One deployed Provenance contract."""

    def __init__(self, sender: Sender, contract: Contract) -> None:
        self.sender = sender
        self.contract = contract

    @classmethod
    def deploy(cls, sender: Sender, admin: LocalAccount) -> "Registry":
        artefact = json.loads(ARTEFACT.read_text())
        sender.send(admin, {"data": artefact["bytecode"], "gas": 2_000_000, "value": 0})
        address = sender.flush()[-1]["contractAddress"]
        contract = sender.web3.eth.contract(address=address, abi=artefact["abi"])
        return cls(sender, contract)

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.contract.address[2:])

    def enrol(self, admin: LocalAccount, companies: Iterable[Company]) -> None:
        """Give each company its roles, and something to pay fees with."""
        for company in companies:
            roles = sum(1 << role for role in company.roles)
            data = self.contract.encode_abi("enrol", [company.account.address, roles, company.name])
            self.sender.send(admin, {"to": self.contract.address, "data": data, "gas": 200_000})
            self.sender.send(admin, {"to": company.account.address, "value": 10**18, "gas": 21_000})
        self.sender.flush()

    def record(self, company: Company, event: Event, content_hash: bytes) -> None:
        """Send the record of an event from a company's account."""
        data = self.contract.encode_abi("record", [event.event_hash, content_hash, role_of(event)])
        self.sender.send(
            company.account, {"to": self.contract.address, "data": data, "gas": 150_000}
        )

    def refuses(self, company: Company, event: Event, content_hash: bytes) -> bool:
        """Whether the contract would refuse this record."""
        function = self.contract.functions.record(event.event_hash, content_hash, role_of(event))
        try:
            function.call({"from": company.account.address})
        except ContractLogicError:
            return True
        return False
