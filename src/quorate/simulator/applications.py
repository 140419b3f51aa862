"""What the machines of a run agree on: opaque items, or Ethereum transactions.

The store of a machine outlives its node. What was not committed when a machine crashed is gone.
"""

from typing import TYPE_CHECKING, Any, Protocol

from quorate._kernel import Ledger, Pool
from quorate.base.types import Address, Hash, Height, Member
from quorate.ledger.application import Application
from quorate.ledger.ethereum import EthereumLedger
from quorate.ledger.genesis import make_genesis
from quorate.ledger.opaque import OpaqueLedger, OpaqueStore
from quorate.ledger.opaque import make_genesis as make_opaque_genesis

if TYPE_CHECKING:
    from quorate.simulator.plan import Plan

__all__ = ["EthereumStores", "OpaqueStores", "Stores", "make_stores"]

GAS_LIMIT = 30_000_000
GENESIS_TIME = 1_600_000_000


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

    def get_final(self, store: Any, height: Height) -> tuple[Hash, list[bytes]] | None:
        """Return (block hash, payloads) of a durable height, None if it is not there."""
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
        return len(store.final) - 1

    def get_final(self, store: OpaqueStore, height: Height) -> tuple[Hash, list[bytes]] | None:
        if not 0 <= height < len(store.final):
            return None
        final = store.final[height]
        return final.executed.block, final.payloads


class EthereumStores:
    """The whole ledger, in memory."""

    def __init__(self, plan: "Plan") -> None:
        members = [Member(m.address, m.power) for m in plan.machines if m.power]
        self.genesis = plan.genesis or make_genesis(
            chain_id=31337,
            engine=plan.engine,
            gas="free",
            members=members,
            balances={},
            gas_limit=GAS_LIMIT,
            timestamp=GENESIS_TIME,
        )
        self.chain: Hash = self.make().genesis_hash

    def make(self) -> Ledger:
        return Ledger.open(None, self.genesis)

    def open(self, store: Ledger, proposer: Address) -> EthereumLedger:
        store.rollback(store.durable())
        return EthereumLedger(store, Pool(store), proposer)

    def get_height(self, store: Ledger) -> Height:
        return store.durable()

    def get_final(self, store: Ledger, height: Height) -> tuple[Hash, list[bytes]] | None:
        block = store.block(height)
        if block is None:
            return None
        decision = store.decision(height) if height else None
        return block.hash, decision[2] if decision else []


def make_stores(plan: "Plan") -> Stores:
    """Return what the plan's application keeps its stores in."""
    return EthereumStores(plan) if plan.application == "ethereum" else OpaqueStores(plan)
