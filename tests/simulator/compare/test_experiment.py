"""Engines under a load and faults, in virtual time."""

from typing import Any

import pytest

from quorate.simulator.compare.director import Director
from quorate.simulator.compare.experiment import find_saturation, run_load
from quorate.simulator.compare.metered import Model
from quorate.simulator.compare.script import Fault, Script
from quorate.simulator.compare.trials import is_claimed, list_runs, list_trials
from quorate.simulator.compare.workload import open_workload
from quorate.simulator.faults import Faults
from quorate.simulator.nemesis import find_role
from quorate.simulator.plan import MS, get_profile
from quorate.simulator.tape import Tape
from quorate.simulator.world import World
from simulator.compare.comparisons import CRASH, make_base, make_comparison, make_conditions
from simulator.networks import make_plan

ENGINES = ["tendermint", "raft"]
OPAQUE = open_workload("opaque", b"")


@pytest.mark.parametrize("engine", ENGINES)
def test_everything_is_answered_and_answers_take_a_few_messages(engine: str) -> None:
    run = run_load(make_base(engine), make_conditions(), OPAQUE)
    assert run.outcome.verdict == "true"
    latencies = [o.final_ns for o in run.operations]
    assert len(latencies) > 60
    # A message takes a quarter of a millisecond, a write half of one.
    assert all(latency is not None and MS < latency < 100 * MS for latency in latencies)
    assert run.frames > 2 * len(latencies)
    assert run.lost == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_distance_shows(engine: str) -> None:
    from quorate.simulator.compare.latency import PRESETS

    conditions = make_conditions(latency=PRESETS["continents"])
    run = run_load(make_base(engine), conditions, OPAQUE)
    latencies = [o.final_ns or 0 for o in run.operations]
    # Nobody can agree faster than a round trip to the next continent.
    assert min(latencies) > 80 * MS


def test_what_a_ledger_costs_shows() -> None:
    costly = Model(admit_us=20_000)
    cheap = run_load(make_base("raft"), make_conditions(), OPAQUE)
    slow = run_load(make_base("raft"), make_conditions(model=costly), OPAQUE)

    def sum_up(run: Any) -> int:
        return sum(o.final_ns for o in run.operations)

    assert sum_up(slow) > sum_up(cheap) + len(slow.operations) * 15 * MS


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("workload", ["transfers", "erc20", "keyvalue"])
def test_ledger_carries_the_workloads(engine: str, workload: str) -> None:
    base = make_base(engine)
    run = run_load(base, make_conditions(length_ms=1000), open_workload(workload, base.genesis))
    assert run.outcome.verdict == "true"
    assert run.operations
    assert all(o.final_ns is not None for o in run.operations)


def test_same_seed_gives_the_same_document() -> None:
    documents = []
    for _ in range(2):
        comparison = make_comparison(*ENGINES, script=CRASH, length_ms=4000)
        steps = list(comparison.run())
        assert len(steps) == comparison.count_steps()
        documents.append(comparison.make_document("quorate compare"))
    assert documents[0] == documents[1]
    other = make_comparison("raft", script=CRASH, length_ms=4000, seed=2)
    list(other.run())
    found = [d["engines"][-1]["quiet"]["digest"] for d in (documents[0], other.make_document(""))]
    assert found[0] != found[1]


def test_leader_that_crashes_is_replaced_and_told() -> None:
    comparison = make_comparison("raft", script=CRASH, length_ms=6000)
    list(comparison.run())
    faulty = comparison.make_document("")["engines"][0]["faulty"]
    (recovery,) = faulty["recoveries"]
    assert recovery["text"] == "the leader crashes (power lost)"
    assert len(recovery["members"]) == 1
    assert not recovery["masked"]
    # An election takes one to two seconds and a bit.
    assert 1000 < recovery["back_ms"] < 4000
    assert faulty["latency"]["max_us"] > 500_000
    assert faulty["answered"] == faulty["offered"]
    assert faulty["verdict"] == "true"


def test_liar_in_a_script_is_borne_or_told() -> None:
    script = Script(name="test", faults=(Fault(kind="lie", at_ms=500, for_ms=2000),))
    comparison = make_comparison(*ENGINES, script=script, length_ms=3000)
    list(comparison.run())
    tendermint, raft = comparison.make_document("")["engines"]
    assert tendermint["faulty"]["verdict"] == "true"
    assert not tendermint["faulty"]["excused"]
    assert raft["faulty"]["verdict"] == "false"
    assert raft["faulty"]["excused"]
    advice = " ".join(comparison.make_document("")["advice"])
    assert "raft with faults: verdict false (more liars than it claims to tolerate)" in advice


def test_profiles_of_the_simulator_serve_too() -> None:
    profile = get_profile("gentle")
    run = run_load(make_base("tendermint"), make_conditions(profile=profile), OPAQUE)
    assert run.outcome.verdict == "true"
    assert not run.struck


def test_highest_rate_is_found_between_two_that_were_tried() -> None:
    # Two milliseconds for each item, one after another: no more than five hundred a second.
    conditions = make_conditions(model=Model(admit_us=2000))
    found = find_saturation(make_base("raft"), conditions, OPAQUE, 5 * MS, 2000)
    assert 350 <= found["sustained"] <= 510
    assert found["sustained"] < found["failed"] <= 800


def test_search_that_never_fails_says_so() -> None:
    found = find_saturation(make_base("raft"), make_conditions(), OPAQUE, 5 * MS, 100)
    assert found["sustained"] == 100
    assert found["failed"] is None


# ---- whom faults strike


def test_roles_are_looked_up_when_a_fault_begins() -> None:
    world = World(make_plan(1, engine="raft"), Tape(1))
    for machine in world.machines:
        machine.start()
    world.run(5_000 * MS)
    leader = find_role(world, 1)
    assert leader is not None
    script = Script(name="test", faults=())
    director = Director(world, Faults(world), script, world.now, Tape(1).stream("who"))

    def choose(who: Any, count: int = 1) -> list[int]:
        fault = Fault(kind="pause", at_ms=0, for_ms=1, who=who, count=count)
        return director.choose_members(fault, 6)

    assert choose("leader") == [leader]
    assert choose("leader", 2) == [leader, (leader + 1) % 4]
    assert choose("follower") == [(leader + 1) % 4]
    assert choose("next") == [(leader + 1) % 4]
    assert choose("random") == [2]
    assert choose(5) == [1]
    assert choose([0, 4, 3]) == [0, 3]
    assert choose("half") == [leader, (leader + 1) % 4]
    assert sorted(choose("all")) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "kind",
    ["crash", "pause", "isolate", "partition", "mute", "slow-machine", "slow-links", "lose"],
)
def test_every_kind_of_fault_begins_and_ends(kind: Any) -> None:
    script = Script(name="test", faults=(Fault(kind=kind, at_ms=300, for_ms=700),))
    conditions = make_conditions(script=script, length_ms=2500, rate=20.0)
    run = run_load(make_base("raft"), conditions, OPAQUE)
    assert run.outcome.verdict == "true", run.outcome.findings
    assert [struck.fault.kind for struck in run.struck] == [kind]
    assert any(name.startswith("fault ") for name in run.outcome.counters)
    assert all(o.final_ns is not None for o in run.operations)


# ---- trials


def test_trials_go_up_to_what_nobody_tolerates() -> None:
    assert [text for text, _, _ in list_trials(4)] == [
        "1 of 4 crashes",
        "2 of 4 crash",
        "2 of 4 are cut off",
        "1 of 4 lies",
        "2 of 4 lie",
    ]
    assert [count for _, kind, count in list_trials(7) if kind == "crash"] == [2, 3, 4]
    assert list_trials(1) == []


def test_claims_are_the_engines_own() -> None:
    assert is_claimed("tendermint", "lie", 1, 4)
    assert not is_claimed("tendermint", "lie", 2, 4)
    assert not is_claimed("tendermint", "crash", 2, 5)
    assert is_claimed("raft", "crash", 2, 5)
    assert not is_claimed("raft", "lie", 1, 5)


@pytest.mark.parametrize(
    ("engine", "text", "seen", "property"),
    [
        ("raft", "1 of 4 crashes", "went on", ""),
        ("raft", "2 of 4 crash", "stopped", ""),
        ("raft", "1 of 4 lies", "broke", "log matching"),
        ("tendermint", "2 of 4 lie", "broke", "agreement"),
    ],
)
def test_trials_show_what_is_tolerated(engine: str, text: str, seen: str, property: str) -> None:
    runs = dict(list_runs(make_base(engine), make_conditions()))
    trial = runs[text]()
    assert trial.seen == seen
    assert trial.finding.startswith(property)
    assert trial.is_as_claimed()


# ---- where blocks may be taken back

FAST = {"pow": {"interval_ms": 500, "final_depth": 6, "safe_depth": 2}}


@pytest.mark.parametrize("workload", ["opaque", "transfers", "keyvalue"])
def test_proof_of_work_shows_before_it_is_safe_and_final(workload: str) -> None:
    base = make_base("pow")
    conditions = make_conditions(settings=FAST, rate=20.0, length_ms=5000)
    run = run_load(base, conditions, open_workload(workload, base.genesis))
    assert run.outcome.verdict == "true", run.outcome.findings
    assert len(run.operations) > 60
    for operation in run.operations:
        assert operation.final_ns is not None
        assert operation.first_ns is not None
        assert operation.safe_ns is not None
        assert operation.first_ns <= operation.safe_ns <= operation.final_ns + MS
    # Four machines with a million hashes a second each, give or take their last search.
    assert 0.9 < run.hashes / (4 * 5 * 2**20) < 1.1
    assert run.blocks > 3


def test_blocks_of_the_losing_side_are_lost() -> None:
    script = Script(
        name="test", faults=(Fault(kind="partition", who="half", at_ms=500, for_ms=6000),)
    )
    deep = {"pow": {**FAST["pow"], "final_depth": 40}}
    conditions = make_conditions(settings=deep, rate=10.0, length_ms=9000, script=script)
    run = run_load(make_base("pow"), conditions, OPAQUE)
    assert run.outcome.verdict == "true", run.outcome.findings
    # A dozen blocks in six seconds, half of them on the side that loses.
    assert run.blocks_lost > 2
    assert run.lost == 0
