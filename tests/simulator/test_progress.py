"""Liveness is judged in two steps: a budget, and a circle before anybody calls it a violation."""

from typing import Any

import pytest

from quorate.consensus.tendermint import Tendermint
from quorate.consensus.tendermint_types import Proposal, Settings
from quorate.simulator import progress
from quorate.simulator.plan import MS, SECOND
from quorate.simulator.progress import compute_budget, take_snapshot
from quorate.simulator.run import run
from quorate.simulator.tape import Tape
from quorate.simulator.timing import PartiallySynchronous
from quorate.simulator.verdict import Outcome
from quorate.simulator.world import World
from simulator.networks import make_plan

DEAF_FROM = SECOND


def run_deaf(until_ns: int) -> Outcome:
    """Run a network whose nodes hear no proposal of others for some time after a second."""

    class Deaf(Tendermint):
        def receive(self, now: int, sender: bytes, message: Any) -> None:
            if type(message) is Proposal and DEAF_FROM < now < until_ns and sender != self.me:
                return
            super().receive(now, sender, message)

    def install(world: World) -> None:
        world.make_replica = Deaf

    return run(make_plan(duration_ms=2000, patience_ms=1000), on_world=install)


def test_rounds_without_end_are_a_circle_and_a_violation() -> None:
    outcome = run_deaf(1 << 62)
    assert (outcome.verdict, outcome.get_class()) == ("false", "progress")
    message = outcome.findings[0].message
    assert "states comes back, " in message or "the same state comes, " in message
    assert "validator-0: height" in message


def test_network_that_comes_too_late_is_not_judged() -> None:
    outcome = run_deaf(200 * SECOND)
    assert (outcome.verdict, [f.property for f in outcome.findings]) == ("unknown", ["progress"])
    assert outcome.findings[0].message.startswith("final after ")
    assert " s, expected within " in outcome.findings[0].message


def test_network_that_is_in_time_is_live() -> None:
    outcome = run_deaf(20 * SECOND)
    assert (outcome.verdict, outcome.findings) == ("true", [])


def test_network_that_still_changes_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WATCH_NS", 20 * SECOND)
    outcome = run_deaf(1 << 62)
    assert (outcome.verdict, [f.property for f in outcome.findings]) == ("unknown", ["progress"])
    assert outcome.findings[0].message.endswith("times without a circle")


def test_what_waits_while_others_become_final_is_starved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "STARVED_NS", 5 * SECOND)

    def install(world: World) -> None:
        make = world.make_application

        def make_deaf(machine: Any) -> Any:
            application = make(machine)
            if machine.index == 0:
                # It keeps one item to itself, and nobody else has it.
                application.pool[b"own"] = b"own"
            build = application.build
            application_type = type(application)

            class Keeper(application_type):  # type: ignore[misc, valid-type]
                def build(self, *arguments: Any) -> Any:
                    kept = self.pool.pop(b"own", None)
                    try:
                        return super().build(*arguments)
                    finally:
                        if kept:
                            self.pool[b"own"] = kept

            keeper = Keeper(machine.store, machine.address)
            keeper.pool.update(application.pool)
            assert build
            return keeper

        world.make_application = make_deaf  # type: ignore[method-assign]

    plan = make_plan(duration_ms=500, node_settings={"heartbeat_ms": 1})
    outcome = run(plan, on_world=install)
    assert (outcome.verdict, outcome.get_class()) == ("false", "progress")
    assert "0 requests without an answer, pools validator-0: (1, 0, " in outcome.findings[0].message


def make_world(**more: Any) -> World:
    world = World(make_plan(**more), Tape(1))
    for machine in world.machines:
        machine.start()
    return world


def test_budget_grows_with_rounds_delays_and_members() -> None:
    budget = compute_budget(make_world())
    assert budget is not None
    slow = compute_budget(make_world(base_delay_ns=400 * MS))
    assert slow is not None
    many = compute_budget(make_world(count=7))
    assert many is not None
    late = make_world()
    node = late.machines[2].node
    assert node is not None
    assert isinstance(node.replica, Tendermint)
    node.replica.round = 20
    later = compute_budget(late)
    assert later is not None
    assert budget < min(slow, many, later)


def test_budget_covers_the_bound_of_the_timing_model() -> None:
    bound = 5 * SECOND
    timing = PartiallySynchronous(delta_ns=bound, gst_ns=0)
    budget = compute_budget(make_world(timing=timing))
    settings = Settings()
    # Not before round 38 do a proposal and its check fit into the first timeout.
    rounds = range((4 * bound // MS - settings.propose_ms) // settings.propose_step_ms)
    least = sum(settings.propose_ms + r * settings.propose_step_ms for r in rounds) * MS
    assert budget is not None
    assert budget > 2 * least


def test_timeouts_that_never_cover_the_delays_give_no_budget() -> None:
    settings = {"max_timeout_ms": 1000}
    assert compute_budget(make_world(base_delay_ns=SECOND, engine_settings=settings)) is None


def test_snapshot_shows_where_nodes_stand_and_what_is_under_way() -> None:
    world = make_world()
    world.machines[1].submit([b"item"], lambda _: None)
    world.run(10 * SECOND, lambda: any(m.node.replica.round for m in world.machines if m.node))
    world.run(world.now + 20 * MS, lambda: (world.queue.next_at() or 0) > world.now + 3 * MS)
    snapshot = take_snapshot(world, world.machines[1:])
    assert [node.machine for node in snapshot.nodes] == [1, 2, 3]
    assert all(node.height >= 1 and node.step for node in snapshot.nodes)
    assert set(snapshot.in_flight) <= {type_.__name__ for type_ in (*Tendermint.WIRE,)} | {
        "Hello",
        "Tip",
        "Transactions",
        "GetDecisions",
        "Decisions",
    }
