"""What the Ethereum ledger must keep, whatever happens: money, and one state for all."""

from typing import TYPE_CHECKING

from quorate._kernel import Ledger
from quorate.base.types import Address

if TYPE_CHECKING:
    from quorate.simulator.world import World

__all__ = ["find_supply_fault", "watch_ledger"]


def count_funds(ledger: Ledger, accounts: list[Address]) -> int:
    """Return what these accounts hold in the genesis state, which a ledger may forget later."""
    view = ledger.view()
    return sum(view.balance(0, account) for account in accounts)


def find_supply_fault(
    ledger: Ledger, accounts: list[Address], reward: int = 0, funds: int | None = None
) -> str:
    """Return how the sum of balances changed since genesis, or nothing.

    `accounts` are all that may hold money, `funds` what they held in genesis, where the ledger may
    have forgotten it. Every block makes `reward` wei, and fees that are burnt leave; nothing else
    may.
    """
    view = ledger.view()
    head = view.head()
    before = reward * head + (count_funds(ledger, accounts) if funds is None else funds)
    burnt = 0
    for height in range(1, head + 1):
        block = ledger.block(height)
        if block is not None:
            burnt += block.base_fee * block.gas_used
    after = sum(view.balance(head, account) for account in accounts)
    if after + burnt != before:
        return f"{after} wei and {burnt} burnt at height {head}, expected {before} in all"
    return ""


def watch_ledger(world: "World", accounts: list[Address], reward: int = 0) -> None:
    """Judge the money and the state of every honest machine at the end of a run."""
    funds = count_funds(world.stores.make(), accounts)

    def judge() -> None:
        # Machines that the plan does not name may have proposed as well.
        owners = list(dict.fromkeys([*accounts, *(m.address for m in world.machines)]))
        roots: dict[int, bytes] = {}
        for machine in world.machines:
            if not machine.is_honest:
                continue
            ledger = machine.store
            fault = find_supply_fault(ledger, owners, reward, funds)
            if fault:
                world.find("supply", fault, machine)
            for height in range(ledger.durable() + 1):
                block = ledger.block(height)
                if block is None:
                    continue
                root = roots.setdefault(height, block.state_root)
                if root != block.state_root:
                    world.find(
                        "state root",
                        f"height {height}: 0x{block.state_root.hex()}, "
                        f"and another has 0x{root.hex()}",
                        machine,
                    )

    world.on_end.append(judge)
