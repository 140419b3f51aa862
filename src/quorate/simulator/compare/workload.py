"""What is agreed on in a comparison: the same items in the same order for every engine.

    transfers  signed Ethereum transactions that move one wei, on the Ethereum ledger
    erc20      calls of `transfer` of a token (`contracts/Token.sol`), on the Ethereum ledger
    keyvalue   operations that put 256 bytes under a key of their account, on the key-value ledger
    opaque     any bytes, 256 of them, which nobody executes: agreement alone
    a file     an item on each line, in hexadecimal digits: signed transactions for the ledger of
               a network's own genesis file

Items belong to accounts in turn, and an account to one client, which sits beside one member. When
they are due follows from the seed: independent arrivals (exponential pauses) at a stated rate,
however slow the answers are.
"""

import json
from collections.abc import Callable
from importlib.resources import files
from math import log
from typing import Any

from msgspec import Struct

from quorate import _kernel
from quorate.base.errors import Invalid
from quorate.base.types import Address, Member, Milliseconds, Nanoseconds
from quorate.crypto.hashes import keccak256
from quorate.ledger import operations
from quorate.ledger.genesis import make_genesis
from quorate.simulator.applications import GAS_LIMIT, GENESIS_TIME
from quorate.simulator.clock import START_MS
from quorate.simulator.plan import SECOND, Plan
from quorate.simulator.tape import Choices
from quorate.simulator.wallets import sign_transaction

__all__ = [
    "KEYVALUE_S",
    "MAX_ITEMS",
    "WORKLOADS",
    "Item",
    "Workload",
    "list_arrivals",
    "make_default_genesis",
    "open_workload",
    "prepare_genesis",
    "read_items",
]

MAX_ITEMS = 2_000_000
MAX_ITEM_BYTES = 128 << 10
MAX_FILE_BYTES = 256 << 20
ACCOUNTS = 1024
FUNDS = 10**24
"""Wei, and units of the token, of each account at genesis."""
TRANSFER_GAS = 21_000
TOKEN_GAS = 60_000
GAS_PRICE = 10**11
"""Where gas is not free; far above the base fee of a chain that is not full for long."""
TOKEN: Address = bytes.fromhex("00000000000000000000000000000000000070ce")
CHAIN_ID = 31337
FORK = "Osaka"
OPAQUE_BYTES = 256
DEADLINE_MS = START_MS + 540_000
"""Of all operations, nine minutes after the clocks begin; the ledger allows ten at most."""
KEYVALUE_S = 400
"""How long a load of them lasts at most, so that what is late is not refused for that."""
QUANTILES = 1 << 12
GAPS_PPM = [round(-log((i + 0.5) / QUANTILES) * 1_000_000) for i in range(QUANTILES)]
"""Quantiles of an exponential pause whose mean is a million; rounded, so that no machine's last
bit of a logarithm shows."""
WORKLOADS = {
    "transfers": "ethereum",
    "erc20": "ethereum",
    "keyvalue": "keyvalue",
    "opaque": "opaque",
}
"""By name: the application."""


class Item(Struct, frozen=True, gc=False):
    """Something to agree on."""

    identity: bytes
    """By which the application names it."""
    raw: bytes
    account: int


class Workload:
    """Makes items by number, each once, and the genesis file in which they apply."""

    def __init__(
        self, name: str, application: str, make: Callable[[int], Item], limit: int = MAX_ITEMS
    ) -> None:
        self.name, self.application, self.make, self.limit = name, application, make, limit
        self.made: list[Item] = []

    def get_items(self, count: int) -> list[Item]:
        """Return the first items. Raises Invalid if there are not so many."""
        if count > self.limit:
            raise Invalid(f"workload {self.name}: {self.limit} items, expected at least {count}")
        for number in range(len(self.made), count):
            self.made.append(self.make(number))
        return self.made[:count]


def open_workload(name: str, genesis: bytes, raws: list[bytes] | None = None) -> Workload:
    """Return a workload by name, or that of a file's items. Raises Invalid.

    `genesis` is the file of the network's ledger, which is the same for all engines but for the
    engine's name.
    """
    if raws is not None:
        return open_file(name, raws, genesis)
    if name not in WORKLOADS:
        raise Invalid(f"workload {name!r}: expected one of {', '.join(WORKLOADS)}, or a file")
    application = WORKLOADS[name]
    if name == "opaque":
        return Workload(name, application, make_opaque)
    if name == "keyvalue":
        return Workload(name, application, make_put)
    signer = Signer(genesis)
    return Workload(name, application, signer.transfer if name == "transfers" else signer.call)


def open_file(name: str, raws: list[bytes], genesis: bytes) -> Workload:
    """Return the workload of signed transactions that were read from a file. Raises Invalid."""
    chain_id = int(json.loads(genesis)["config"]["chainId"])
    senders: dict[Address, int] = {}
    items = []
    for number, raw in enumerate(raws, 1):
        try:
            identity, sender, _ = _kernel.inspect_transaction(raw, FORK, chain_id)
        except (_kernel.Rejected, _kernel.Invalid) as error:
            raise Invalid(f"{name}, transaction {number}: {error}") from None
        # Those of one sender go the same way, so that they stay in order.
        items.append(Item(identity, raw, senders.setdefault(sender, len(senders))))
    return Workload(name, "ethereum", items.__getitem__, len(items))


def make_opaque(number: int) -> Item:
    head = b"item %d " % number
    raw = head + keccak256(head) * (OPAQUE_BYTES // 32)
    return Item(raw[:OPAQUE_BYTES], raw[:OPAQUE_BYTES], number % ACCOUNTS)


def make_put(number: int, deadline_ms: Milliseconds = DEADLINE_MS) -> Item:
    """Return an operation of a client of its own, so that none waits for another one."""
    client, account = b"compare %08d" % number, number % ACCOUNTS
    value = (keccak256(client) * (OPAQUE_BYTES // 32))[:OPAQUE_BYTES]
    action = operations.make_put(b"account %d" % account, value)
    raw = operations.encode(action, client, 1, 0, deadline_ms)
    return Item(operations.get_identity(raw), raw, account)


class Signer:
    """The accounts of a comparison on one network's ledger."""

    def __init__(self, genesis: bytes) -> None:
        config = json.loads(genesis)["config"]
        self.chain_id = int(config["chainId"])
        is_free = config.get("quorate", {}).get("gas") == "free"
        self.gas_price = 0 if is_free else GAS_PRICE
        self.keys = [keccak256(b"quorate compare account %d" % i) for i in range(ACCOUNTS)]
        self.addresses: list[Address] = [_kernel.address(key) for key in self.keys]

    def transfer(self, number: int) -> Item:
        """Return a transfer of one wei to the next account."""
        target = self.addresses[(number + 1) % ACCOUNTS]
        return self.sign(number, TRANSFER_GAS, target, wei=1)

    def call(self, number: int) -> Item:
        """Return a transfer of one unit of the token to the next account."""
        target = self.addresses[(number + 1) % ACCOUNTS]
        return self.sign(number, TOKEN_GAS, TOKEN, data=encode_call(target, 1))

    def sign(self, number: int, gas: int, to: Address, **more: Any) -> Item:
        nonce, account = divmod(number, ACCOUNTS)
        raw = sign_transaction(
            self.keys[account],
            self.chain_id,
            nonce=nonce,
            gas_price=self.gas_price,
            gas=gas,
            to=to,
            **more,
        )
        return Item(keccak256(raw), raw, account)


def encode_call(to: Address, amount: int) -> bytes:
    """Return the data of a call of `transfer(address,uint256)`."""
    selector = keccak256(b"transfer(address,uint256)")[:4]
    return selector + bytes(12) + to + amount.to_bytes(32, "big")


def make_default_genesis(plan: Plan) -> bytes:
    """Return the genesis file of a network that has none: gas is free, as blocks are filled by what
    is compared and not by fees.
    """
    return make_genesis(
        chain_id=CHAIN_ID,
        engine=plan.engine,
        gas="free",
        members=[Member(m.address, m.power) for m in plan.machines if m.power],
        balances={},
        gas_limit=GAS_LIMIT,
        timestamp=GENESIS_TIME,
    )


def prepare_genesis(genesis: bytes, engine: str, workload: str) -> bytes:
    """Return a genesis file for an engine, in which the workload's accounts have what they need."""
    tree = json.loads(genesis)
    tree["config"]["quorate"]["engine"] = engine
    if workload not in ("transfers", "erc20"):
        return json.dumps(tree).encode()
    alloc = tree["alloc"]
    addresses = Signer(genesis).addresses
    for address in addresses:
        alloc.setdefault(address.hex(), {})["balance"] = hex(FUNDS)
    if workload == "erc20":
        artefact = json.loads((files(__package__) / "token_contract.json").read_bytes())
        slots = {label["label"]: label["slot"] for label in artefact["storageLayout"]}
        storage = {
            "0x" + compute_slot(address, int(slots["balanceOf"])).hex(): encode_word(FUNDS)
            for address in addresses
        }
        storage[encode_word(int(slots["totalSupply"]))] = encode_word(FUNDS * ACCOUNTS)
        alloc[TOKEN.hex()] = {
            "balance": "0x0",
            "nonce": "0x1",
            "code": artefact["deployedBytecode"],
            "storage": storage,
        }
    return json.dumps(tree).encode()


def compute_slot(key: Address, mapping: int) -> bytes:
    """Return where a mapping of Solidity keeps the value of an address."""
    return keccak256(bytes(12) + key + mapping.to_bytes(32, "big"))


def encode_word(value: int) -> str:
    return "0x" + value.to_bytes(32, "big").hex()


def list_arrivals(choices: Choices, rate: float, length_ns: Nanoseconds) -> list[Nanoseconds]:
    """Return when items are due within a time, by independent arrivals at a rate a second."""
    mean_ns = round(SECOND / rate)
    if length_ns // mean_ns > MAX_ITEMS:
        raise Invalid(f"rate {rate:g}: {length_ns // mean_ns} items, expected at most {MAX_ITEMS}")
    arrivals: list[Nanoseconds] = []
    now = 0
    while True:
        now += mean_ns * GAPS_PPM[choices.choose(QUANTILES)] // 1_000_000
        if now >= length_ns:
            return arrivals
        arrivals.append(now)


def read_items(text: str, name: str) -> list[bytes]:
    """Return the items of a file, one on each line as hexadecimal digits. Raises Invalid."""
    if len(text) > MAX_FILE_BYTES:
        raise Invalid(f"{name}: {len(text)} characters, expected at most {MAX_FILE_BYTES}")
    items = []
    for number, line in enumerate(text.splitlines(), 1):
        digits = line.strip().removeprefix("0x")
        if not digits or digits.startswith("#"):
            continue
        try:
            item = bytes.fromhex(digits)
        except ValueError:
            raise Invalid(
                f"{name}, line {number}: {line.strip()[:40]!r}, expected hexadecimal digits"
            ) from None
        if len(item) > MAX_ITEM_BYTES:
            raise Invalid(
                f"{name}, line {number}: {len(item)} bytes, expected at most {MAX_ITEM_BYTES}"
            )
        items.append(item)
    if not items:
        raise Invalid(f"{name}: no items, expected one on each line")
    if len(items) > MAX_ITEMS:
        raise Invalid(f"{name}: {len(items)} items, expected at most {MAX_ITEMS}")
    return items
