"""Proof of work through whole networks: faults, cheating miners, known bugs, both applications."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.consensus.keys import SecpKeys
from quorate.simulator.campaign.gate import RANGES, hunt, make_plan
from quorate.simulator.faults import Faults
from quorate.simulator.miners import MINERS
from quorate.simulator.plan import SECOND, Plan
from quorate.simulator.run import run
from quorate.simulator.tape import Tape
from quorate.simulator.world import World
from simulator.test_share import get_first_seed

QUICK: dict[str, Any] = {"interval_ms": 250, "final_depth": 20, "announce_ms": 800}


def plan(seed: int = 1, profile: str = "none", **more: Any) -> Plan:
    more.setdefault("engine_settings", QUICK)
    return replace(make_plan(seed, profile=profile, engine="pow"), **more)


def test_empty_tape_is_a_chain_without_forks() -> None:
    outcome = run(plan(duration_ms=4000), Tape(0, {}))
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert min(outcome.heights) > 0
    assert "reorganisations" not in outcome.counters


def test_halves_of_a_network_heal_into_one_chain_and_lose_no_item() -> None:
    def cut(world: World) -> None:
        world.after(SECOND, Faults(world).partition, 0, 1)

    outcome = run(plan(3, engine_settings={**QUICK, "final_depth": 60}), on_world=cut)
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert outcome.counters["blocks abandoned"] > 10
    assert outcome.counters["requests ok"] > 20


@pytest.mark.parametrize("profile", ["default", "harsh", "byzantine", "membership"])
def test_seeds_of_this_commit_break_nothing(profile: str) -> None:
    first = get_first_seed()
    for seed in range(first, first + 6):
        outcome = run(make_plan(seed, profile=profile, engine="pow"))
        assert outcome.verdict == "true", (seed, outcome.findings)


@pytest.mark.parametrize("seed", [726, 5065, 5166, 3_200_075])
def test_seed_that_found_something_breaks_nothing_any_more(seed: int) -> None:
    """A block was refused for a wrong clock for good; one waited for an hour for that clock."""
    outcome = run(make_plan(seed, profile="default", engine="pow"))
    assert outcome.verdict == "true", outcome.findings


@pytest.mark.parametrize("miner", MINERS, ids=lambda miner: miner.__name__)
def test_one_cheating_miner_of_four_breaks_nothing(miner: type[Any]) -> None:
    def turn(world: World) -> None:
        machine = world.machines[3]
        machine.actor = miner(machine)

    for seed in range(2):
        outcome = run(plan(seed, duration_ms=5000), on_world=turn)
        assert outcome.verdict == "true", outcome.findings


def test_ledger_pays_miners_and_follows_every_reorganisation() -> None:
    more = {"application": "ethereum", "duration_ms": 4000}
    outcome = run(plan(2, "network", **more))
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert outcome.counters["requests ok"] > 3


def test_real_work_is_searched_and_verified() -> None:
    secrets = [bytes([i + 1]) * 32 for i in range(2)]
    machines = [
        replace(member, address=SecpKeys(secret).address, secret=secret)
        for member, secret in zip(plan().machines, secrets, strict=False)
    ]
    machines.sort(key=lambda member: member.address)
    outcome = run(plan(1, machines=machines, signatures="real", duration_ms=3000))
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert min(outcome.heights) > 0


def test_machines_may_mine_faster_slower_or_not_at_all() -> None:
    witnessed = 0
    for seed in range(4):
        outcome = run(plan(seed, "membership"))
        assert outcome.verdict == "true", outcome.findings
        witnessed += outcome.sometimes.get("hash power changed", 0)
    assert witnessed


def test_same_seed_gives_the_same_digest() -> None:
    first, second = (run(make_plan(5, engine="pow")) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("bug", "properties"),
    [
        ("n1-longest-chain", {"certificate", "heaviest chain"}),
        ("n1-last-seen", {"heaviest chain"}),
        ("n2-window", {"header"}),
        ("n6-header-mining", {"mined on"}),
        ("pow-tells-early", {"write first"}),
        ("pow-hasty", {"final depth"}),
    ],
)
def test_known_bug_is_found(bug: str, properties: set[str]) -> None:
    found = hunt(bug, RANGES[0], max_seeds=20, shrink=False, engine="pow")
    assert found.property in properties


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_disagreement_beyond_the_final_depth_is_not_held_against_the_engine(seed: int) -> None:
    def cut(world: World) -> None:
        world.after(SECOND // 2, Faults(world).partition, 0, 1)

    shallow = {**QUICK, "final_depth": 3, "safe_depth": 1}
    outcome = run(plan(seed, duration_ms=20_000, engine_settings=shallow), on_world=cut)
    assert outcome.verdict == "true"
    assert "safety" in outcome.unjudged
    assert outcome.counters["runs beyond what the engine promises"] == 1
