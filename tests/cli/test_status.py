"""What `status` and `why-stalled` make of what they see."""

from pathlib import Path
from typing import Any

import pytest

from quorate.base.types import Member
from quorate.cli import status
from quorate.cli.local import Local, Observation, read_failure
from quorate.cli.output import warn_of_engine
from quorate.consensus.replica import Situation
from quorate.node.status import NodeStatus, PeerStatus
from quorate.runtime.config import Network, ValidatorConfig


def make_validator(index: int) -> ValidatorConfig:
    return ValidatorConfig(
        name=f"validator-{index}",
        address="0x" + bytes((0xA0 + index,)).hex() * 20,
        host="127.0.0.1",
        port=30303 + index,
        tls_sha256=bytes((index,)).hex() * 32,
        rpc_port=8545 + index,
        metrics_port=9545 + index,
    )


VALIDATORS = [make_validator(i) for i in range(4)]
MEMBERS = [Member(v.identity, 1) for v in VALIDATORS]


def make_local(folder: str = ".quorate", engine: str = "tendermint") -> Local:
    network = Network(name="t", chain_id=1, dev=True, validators=VALIDATORS, engine=engine)
    return Local(Path(folder), network)


def make_status(index: int, why: str = "idle: nothing to agree on", **changes: Any) -> NodeStatus:
    fields: dict[str, Any] = {
        "address": VALIDATORS[index].identity,
        "engine": "tendermint",
        "genesis": bytes(32),
        "version": "t",
        "height": 7,
        "durable": 7,
        "block": bytes(32),
        "block_time_ms": 0,
        "syncing_to": None,
        "situation": Situation(8, 0, "propose", None, "", "", [], None),
        "why_stalled": why,
        "next_timeout_ms": None,
        "peers": [PeerStatus(VALIDATORS[0].identity, True, 7, 1)],
        "validators": MEMBERS,
        "pool_ready": 1,
        "pool_queued": 2,
        "pool_bytes": 3,
        "counters": {},
    }
    fields |= changes
    return NodeStatus(**({"latest": fields["height"]} | fields))


def see(*alive: int, why: str = "idle: nothing to agree on", **changes: Any) -> list[Observation]:
    return [
        Observation(i, v, 100 + i, make_status(i, why, **changes), "")
        if i in alive
        else Observation(i, v, None, None, "")
        for i, v in enumerate(VALIDATORS)
    ]


def test_all_dead_is_said_with_how_to_start() -> None:
    found = status.explain(make_local(), see())
    assert not found["quorum"]
    assert "No validator runs: 0 of 4 votes, a decision needs 3." in found["lines"][0]
    assert found["absent"] == [f"validator-{i}" for i in range(4)]
    assert found["lines"][-1] == "Start them all: quorate up --detach"


def test_a_validator_that_failed_says_why(tmp_path: Path) -> None:
    log = tmp_path / "validator.log"
    assert read_failure(log, "validator-2") == ""
    log.write_text("x" * 10_000 + "\nquorate: validator-2 failed: diverged at block 7\n")
    assert read_failure(log, "validator-2") == "failed: diverged at block 7"
    with log.open("a") as file:
        file.write("node starts\n")
    assert read_failure(log, "validator-2") == ""
    seen = see(0, 1, 3)
    seen[2] = Observation(2, VALIDATORS[2], None, None, "failed: diverged at block 7")
    lines = status.explain(make_local(), seen)["lines"]
    assert "  validator-2: it failed: diverged at block 7." in lines
    dead = see()
    dead[2] = seen[2]
    assert (
        "  validator-2: it failed: diverged at block 7."
        in status.explain(make_local(), dead)["lines"]
    )


def test_missing_quorum_names_the_silent_and_the_way_out() -> None:
    found = status.explain(make_local("/n"), see(0, 1))
    assert not found["quorum"]
    assert "2 of 4 votes are here, a decision needs 3" in found["lines"][0]
    assert "validator-2 and validator-3" in found["lines"][0]
    assert found["lines"][-1] == "Start one: quorate start 2 --dir /n"


def test_one_of_four_may_be_away() -> None:
    found = status.explain(make_local(), see(0, 1, 3))
    assert found["quorum"]
    assert found["absent"] == ["validator-2"]
    assert not any("Start" in line for line in found["lines"])


def test_voting_power_counts_and_not_heads() -> None:
    members = [Member(v.identity, 7 if i == 0 else 1) for i, v in enumerate(VALIDATORS)]
    assert status.explain(make_local(), see(0, 1, validators=members))["needed"] == 7
    assert status.explain(make_local(), see(0, validators=members))["quorum"]
    assert not status.explain(make_local(), see(1, 2, 3, validators=members))["quorum"]


def test_leases_are_told_with_the_bound_on_clocks(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_engine("raft", {"lease_reads": True, "clock_drift_percent": 7})
    told = capsys.readouterr().err
    assert "the members trust each other" in told
    assert "leases answer reads; one may be stale if a clock runs more than 7 percent" in told
    warn_of_engine("raft", {"lease_reads": True})
    assert "more than 5 percent" in capsys.readouterr().err
    warn_of_engine("raft", {"lease_reads": False, "clock_drift_percent": 7})
    assert "lease" not in capsys.readouterr().err
    warn_of_engine("tendermint", {})
    assert not capsys.readouterr().err


def test_raft_needs_more_than_half_of_the_power() -> None:
    members = [Member(v.identity, 1) for v in VALIDATORS[:3]]
    two = status.explain(make_local(engine="raft"), see(0, 1, validators=members))
    assert two["quorum"]
    assert "2 of 3 votes are here, a decision needs 2." in two["lines"][0]
    one = status.explain(make_local(engine="raft"), see(0, validators=members))
    assert not one["quorum"]
    assert "1 of 3 votes are here, a decision needs 2." in one["lines"][0]
    assert status.explain(make_local(engine="raft"), see(0, 1, 2))["needed"] == 3


def test_validator_that_runs_and_does_not_answer_is_silent() -> None:
    seen = see(0, 1, 2)
    seen[3] = Observation(3, VALIDATORS[3], 103, None, "no answer in 5 s")
    found = status.explain(make_local(), seen)
    assert found["absent"] == ["validator-3"]
    assert any("process 103 runs, but no answer in 5 s" in line for line in found["lines"])
    assert seen[3].state == "silent"


def test_validator_of_another_genesis_does_not_count() -> None:
    seen = see(0, 1, 2, 3)
    seen[1] = Observation(1, VALIDATORS[1], 101, make_status(1, genesis=b"\x11" * 32), "")
    found = status.explain(make_local(), seen)
    assert found["present"] == 3
    assert found["absent"] == ["validator-1"]
    line = next(line for line in found["lines"] if line.startswith("  validator-1: its genesis"))
    assert "0x" + "11" * 32 in line
    assert "0x" + "00" * 32 in line


def test_addresses_in_a_nodes_words_become_names() -> None:
    address = VALIDATORS[2].address
    stranger = "0x" + "11" * 20
    text = f"silent: {address} (validator 0, never connected); {stranger}; hash {address}00"
    assert status.name_addresses(make_local(), text) == (
        f"silent: validator-2 (never connected); {stranger}; hash {address}00"
    )


def test_equal_opinions_are_said_once() -> None:
    lines = status.describe_views(make_local(), see(0, 1, 2, why="waits"))
    assert lines == ["  validator-0, validator-1 and validator-2: waits"]


def test_opinions_that_differ_by_milliseconds_are_equal() -> None:
    seen = see(0, why="timeout in 70 ms") + see(1, why="timeout in 1.2 s") + see(2, why="syncs")
    lines = status.describe_views(make_local(), seen)
    assert lines == [
        "  validator-0 and validator-1: timeout in 70 ms",
        "  validator-2: syncs",
    ]


def test_exit_codes_tell_running_degraded_and_down() -> None:
    assert status.judge(see(0, 1, 2, 3)) == 0
    assert status.judge(see(0)) == status.EXIT_DEGRADED
    assert status.judge(see()) == status.EXIT_DOWN


def test_lag_is_counted_from_the_highest() -> None:
    seen = see(0, 1)
    seen[1] = Observation(1, VALIDATORS[1], 1, make_status(1, height=4), "")
    rows = [status.describe(make_local(), o, status.get_best(seen)) for o in seen]
    assert [row.get("lag") for row in rows] == [0, 3, None, None]
