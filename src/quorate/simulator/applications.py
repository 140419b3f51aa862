"""What the machines of a run agree on: opaque items, Ethereum transactions, keys and values.

The store of a machine outlives its node. What was not committed when a machine crashed is gone.
"""

import json
from typing import TYPE_CHECKING, Any, Protocol

from quorate._kernel import Ledger, Pool
from quorate.base.types import Address, Hash, Height, Member
from quorate.crypto.hashes import keccak256
from quorate.ledger.application import Application
from quorate.ledger.ethereum import EthereumLedger
from quorate.ledger.genesis import get_block_reward, make_genesis
from quorate.ledger.keyvalue import ETHEREUM
from quorate.ledger.opaque import OpaqueLedger, OpaqueStore, get_items
from quorate.ledger.opaque import make_genesis as make_opaque_genesis
from quorate.simulator.keyvalue import KeyValueStores
from quorate.simulator.wallets import Wallet, fund

if TYPE_CHECKING:
    from quorate.simulator.plan import Plan

__all__ = ["EthereumStores", "OpaqueStores", "Stores", "find_disagreement", "make_stores"]

GAS_LIMIT = 30_000_000
GENESIS_TIME = 1_600_000_000
OPEN_ENGINES = frozenset({"pow"})
"""Engines whose miners are paid."""
REWARD_GWEI = 2 * 10**9


class Stores(Protocol):
    """Makes stores, and opens them as applications."""

    chain: Hash
    """The genesis block's hash."""

    def make(self) -> Any:
        """Return the empty store of a machine."""
        ...

    def open(self, store: Any, proposer: Address) -> Application:
        """Return the application over what survived in a store."""
        ...

    def get_height(self, store: Any) -> Height:
        """Return the height that the store holds for good."""
        ...

    def forget(self, store: Any, height: Height) -> bool:
        """Let the store end at this height, as its disk lost the rest; whether that can be done."""
        ...

    def get_final(self, store: Any, height: Height) -> tuple[Hash, list[bytes]] | None:
        """Return (block hash, payloads) of a durable height, None if it is not there."""
        ...

    def list_items(self, store: Any, height: Height) -> tuple[list[bytes], int]:
        """Return the identities of a durable height's items, and how many the ledger counts.

        Items that the ledger skipped because it holds them already may be among them.
        """
        ...

    def make_item(self, number: int, account: int, nonce: int) -> tuple[bytes, bytes]:
        """Return (identity, item) of a client's item; it is the account's `nonce`-th one."""
        ...

    def identify(self, item: bytes) -> bytes:
        """Return the identity of an item."""
        ...


class OpaqueStores:
    """The light application."""

    def __init__(self, plan: "Plan") -> None:
        members = [Member(m.address, m.power) for m in plan.machines if m.power]
        self.genesis = make_opaque_genesis(plan.name.encode(), members)
        self.chain: Hash = self.genesis.block

    def make(self) -> OpaqueStore:
        return OpaqueStore(self.genesis)

    def open(self, store: OpaqueStore, proposer: Address) -> OpaqueLedger:
        return OpaqueLedger(store, proposer)

    def get_height(self, store: OpaqueStore) -> Height:
        return store.height

    def forget(self, store: OpaqueStore, height: Height) -> bool:
        store.forget(height)
        return True

    def get_final(self, store: OpaqueStore, height: Height) -> tuple[Hash, list[bytes]] | None:
        final = store.find(height)
        return None if final is None else (final.executed.block, final.payloads)

    def list_items(self, store: OpaqueStore, height: Height) -> tuple[list[bytes], int]:
        final = store.find(height)
        assert final is not None
        return get_items(final.payloads), final.executed.items

    def make_item(self, number: int, account: int, nonce: int) -> tuple[bytes, bytes]:
        item = b"request %d" % number
        return item, item

    def identify(self, item: bytes) -> bytes:
        return item


class EthereumStores:
    """The whole ledger, in memory."""

    def __init__(self, plan: "Plan") -> None:
        members = [Member(m.address, m.power) for m in plan.machines if m.power]
        genesis = plan.genesis or make_genesis(
            chain_id=31337,
            engine=plan.engine,
            gas="free",
            members=members,
            balances={},
            gas_limit=GAS_LIMIT,
            timestamp=GENESIS_TIME,
            block_reward_gwei=REWARD_GWEI if plan.engine in OPEN_ENGINES else 0,
        )
        self.genesis = fund(genesis)
        self.reward = get_block_reward(self.genesis)
        self.wallet = Wallet(self.genesis)
        self.machines = [m.address for m in plan.machines]
        self.chain: Hash = self.make().genesis_hash

    def make(self) -> Ledger:
        return Ledger.open(None, self.genesis)

    def open(self, store: Ledger, proposer: Address) -> EthereumLedger:
        store.rollback(store.durable())
        return EthereumLedger(store, Pool(store), proposer)

    def get_height(self, store: Ledger) -> Height:
        return store.durable()

    def forget(self, store: Ledger, height: Height) -> bool:
        # A store of this kind commits whole heights to LMDB, which the simulator does not model.
        return False

    def get_final(self, store: Ledger, height: Height) -> tuple[Hash, list[bytes]] | None:
        block, decision = store.block(height), store.decision(height)
        if block is None or (height and decision is None):
            # Of what lies below a state that was taken over, there may be headers.
            return None
        if height > 1 and store.decision(height - 1) is None:
            # It may be the height of that state itself, whose block is not whole.
            return None
        return block.hash, decision[2] if decision else []

    def list_items(self, store: Ledger, height: Height) -> tuple[list[bytes], int]:
        block, text = store.block(height), store.view().block_json(height, False)
        assert block is not None
        assert text is not None
        hashes = json.loads(text)["transactions"]
        return [bytes.fromhex(found[2:]) for found in hashes], block.transactions

    def make_item(self, number: int, account: int, nonce: int) -> tuple[bytes, bytes]:
        return self.wallet.transfer(account, nonce, number)

    def list_accounts(self) -> list[Address]:
        """Return all that may hold money: by genesis, or as proposers by fees."""
        alloc = [bytes.fromhex(a.removeprefix("0x")) for a in json.loads(self.genesis)["alloc"]]
        return list(dict.fromkeys([*alloc, *self.machines]))

    def identify(self, item: bytes) -> bytes:
        return keccak256(item)


def make_stores(plan: "Plan") -> Stores:
    """Return what the plan's application keeps its stores in."""
    if plan.application == "opaque":
        return OpaqueStores(plan)
    return EthereumStores(plan) if plan.application == ETHEREUM else KeyValueStores(plan)


def find_disagreement(stores: Stores, held: list[Any]) -> Height | None:
    """Return the lowest height of which two stores hold something else, byte for byte."""
    highest = max([stores.get_height(store) for store in held], default=-1)
    for height in range(highest + 1):
        first: tuple[Hash, list[bytes]] | None = None
        for store in held:
            final = stores.get_final(store, height)
            if first is None:
                first = final
            elif final is not None and final != first:
                return height
    return None
