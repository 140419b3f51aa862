"""The small world with the real ledger: transfers become final, and crashes lose only time."""

import json
from collections.abc import Callable

import pytest

from kernel.chain import ACCOUNTS, CHAIN_ID, KEYS, transaction
from node.lone import make_lone
from node.world import Machine, World, make_address
from quorate._kernel import Ledger, Pool, address
from quorate.base.rng import Rng
from quorate.base.types import Address, Hash, Height, Member
from quorate.consensus.replica import Keys, Replica
from quorate.consensus.tendermint import Tendermint
from quorate.ledger.ethereum import EthereumLedger
from quorate.ledger.genesis import make_genesis
from quorate.node.settings import Settings

STRANGER = b"\x77" * 20


def make_tendermint(keys: Keys, chain: Hash) -> Replica:
    return Tendermint(keys, chain, Rng(int.from_bytes(keys.address[:8], "big")))


class EthereumWorld(World):
    """Each machine keeps its ledger; a crash takes from it what was not committed."""

    def __init__(
        self,
        make_replica: Callable[[Keys, Hash], Replica] = make_tendermint,
        places: int = 1000,
        **settings: object,
    ) -> None:
        self.places = places
        """In the pool of the first machine."""
        self.genesis = make_genesis(
            chain_id=CHAIN_ID,
            engine="tendermint",
            gas="fees",
            members=[Member(make_address(i), 1) for i in range(4)],
            balances=dict.fromkeys(ACCOUNTS, 10**24),
            gas_limit=30_000_000,
            timestamp=1_600_000_000,
        )
        self.ledgers: dict[Address, Ledger] = {}
        super().__init__(make_replica, **settings)  # type: ignore[arg-type]

    def make_application(self, machine: Machine) -> EthereumLedger:  # type: ignore[override]
        ledger = self.ledgers.get(machine.address)
        if ledger is None:
            ledger = self.ledgers[machine.address] = Ledger.open(None, self.genesis)
        ledger.rollback(ledger.durable())
        places = self.places if machine.address == make_address(0) else 1000
        pool = Pool(ledger, max_transactions=places)
        return EthereumLedger(ledger, pool, machine.address)

    def get_balances(self) -> list[int]:
        views = [ledger.view() for ledger in self.ledgers.values()]
        return [view.balance(view.head(), STRANGER) for view in views]

    def check_same_chain(self) -> Height:
        """All ledgers hold the same blocks as far as they go; the least height."""
        views = [ledger.view() for ledger in self.ledgers.values()]
        assert [m.failed for m in self.machines.values()] == [""] * 4
        least = min(view.head() for view in views)
        for height in range(least + 1):
            assert len({view.block_hash(height) for view in views}) == 1
        return least


def test_transfers_become_final_on_all_and_are_certified() -> None:
    world = EthereumWorld()
    world.start()
    world.run(200)
    for nonce in range(10):
        for i, key in enumerate(KEYS):
            verdict = world.submit(i, transaction(key, nonce, STRANGER, 1))
            world.run(7)
            assert [error for _, error in verdict] == [None]
    assert world.run(30_000, lambda: world.get_balances() == [40] * 4)
    world.run(30_000)
    least = world.check_same_chain()
    blocks = [
        json.loads(world.ledgers[make_address(0)].view().block_json(h, False) or b"")
        for h in range(1, least + 1)
    ]
    assert blocks[-1]["transactions"] == []
    assert sum(len(block["transactions"]) for block in blocks) == 40
    assert not world.queue
    status = world.get_node(2).get_status()
    assert status.why_stalled == "idle: nothing to agree on"
    assert (status.height, status.durable) == (least, least)


@pytest.mark.parametrize("seed", range(4))
def test_crashes_and_losses_lose_no_transfer_of_a_node_that_lives(seed: int) -> None:
    world = EthereumWorld(seed=seed, loss_permille=30, settings=Settings(max_uncommitted=4))
    world.start()
    for nonce in range(12):
        world.submit(0, transaction(KEYS[0], nonce, STRANGER, 1))
        world.run(100)
        victim = 1 + nonce % 3
        machine = world.get_machine(victim)
        if machine.node is None:
            world.start(victim)
        else:
            machine.crash_at_sync = machine.syncs + 2
        world.run(300)
    for victim in (1, 2, 3):
        world.get_machine(victim).crash_at_sync = 0
        if world.get_machine(victim).node is None:
            world.start(victim)
    assert world.run(120_000, lambda: world.get_balances() == [12] * 4)
    world.run(5000)
    assert world.check_same_chain() > 3


def test_transfer_refused_at_the_leader_is_taken_from_another_node_when_it_is_covered() -> None:
    """One member alone makes blocks, as with Raft."""
    poor = b"\x55" * 32
    world = EthereumWorld(make_lone)
    world.start()
    world.run(100)
    transfer = transaction(poor, 0, STRANGER, 7)
    refused = world.submit(0, transfer)
    world.run(100)
    assert (refused[0][1] or "").startswith("insufficient funds")
    world.submit(0, transaction(KEYS[0], 0, address(poor), 10**18))
    world.run(2000)
    assert world.submit(1, transfer) == []
    assert world.run(2000, lambda: world.get_balances() == [7] * 4)


def test_transfer_that_made_room_at_the_leader_is_executed_when_it_has_room_again() -> None:
    """Better paying ones push it out of the leader's pool; those of the others keep it."""
    world = EthereumWorld(make_lone, places=2, settings=Settings(block_time_ms=4000))
    world.start()
    world.run(100)
    cheap = transaction(KEYS[0], 0, STRANGER, 7)
    world.submit(1, cheap)
    world.run(100)
    assert [world.get_node(i).application.counts()[0] for i in range(4)] == [1] * 4
    world.loss_permille = 1000
    world.submit(0, *[transaction(key, 0, STRANGER, 1, tip=1000) for key in KEYS[1:3]])
    world.run(50)
    world.loss_permille = 0
    assert cheap not in world.get_node(0).application.waiting(9)
    assert world.run(60_000, lambda: world.get_balances() == [9] * 4)
