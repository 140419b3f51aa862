"""How much may go wrong so that a verdict is sound."""

from quorate.simulator.budget import Budget
from quorate.simulator.plan import get_profile
from quorate.simulator.tape import Tape
from quorate.simulator.world import World
from simulator.networks import make_plan


def make_budget(count: int = 4, profile: str = "default") -> tuple[Budget, list[bytes]]:
    plan = make_plan(1, profile, count)
    return Budget(World(plan, Tape(1))), [m.address for m in plan.machines]


def test_liars_stay_below_a_third() -> None:
    budget, (a, b, *_) = make_budget()
    assert budget.lie(a, "traitor")
    assert budget.lie(a, "again")
    assert not budget.lie(b, "lost sync")
    assert not make_budget(3)[0].lie(make_budget(3)[1][0], "traitor")


def test_machines_that_never_start_again_are_paid_from_the_same_purse() -> None:
    budget, (a, b, *_) = make_budget(7)
    assert budget.stop(a, "bit rot")
    assert budget.lie(b, "traitor")
    assert not budget.lie(make_budget(7)[1][2], "traitor")


def test_unbounded_faults_stop_anybody_and_liars_are_bounded_even_so() -> None:
    budget, addresses = make_budget(4, "unbounded")
    assert get_profile("unbounded").unbounded
    assert all(budget.stop(address, "bit rot") for address in addresses)
    assert budget.lie(addresses[0], "traitor")
    assert not budget.lie(addresses[1], "traitor")


def test_sets_that_liars_would_hold_do_not_come_into_force() -> None:
    budget, (a, b, c, d) = make_budget()
    assert budget.lie(a, "traitor")
    assert not budget.change({a: 1, b: 1, c: 1})
    assert not budget.change({})
    assert budget.change({a: 2, b: 2, c: 2, d: 2})
    assert budget.change({b: 1})
    # Whoever was honest in one of the sets may still vote there.
    assert not budget.lie(b, "traitor")


def test_a_third_of_the_power_keeps_the_right_time() -> None:
    budget, (a, b, c, d) = make_budget()
    assert budget.lie(a, "traitor")
    assert budget.mistime(b, "clock")
    assert not budget.mistime(c, "clock")
    assert not budget.change({a: 1, b: 4, c: 1, d: 1})


def test_core_is_alive_while_more_than_two_thirds_can_run() -> None:
    budget, _ = make_budget()
    machines = budget.world.machines
    machines[0].refused = "its journal is damaged"
    assert budget.has_live_core()
    machines[1].tainted = True
    assert not budget.has_live_core()
