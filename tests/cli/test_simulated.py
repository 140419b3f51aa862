"""What the simulator runs is what a network's files say."""

import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from quorate.cli import devnet
from quorate.cli.output import Problem
from quorate.cli.simulated import Setup, build_plan, format_setup, setup_options
from quorate.ledger.genesis import VALIDATORS
from quorate.simulator.run import run
from quorate.simulator.timing import PartiallySynchronous


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from quorate.cli import keystore

    monkeypatch.setattr(keystore, "SCRYPT_N", 1 << 10)


def make_network(folder: Path, **changes: Any) -> Path:
    asked: dict[str, Any] = {
        "validators": 4,
        "engine": "tendermint",
        "block_time_ms": 700,
        "gas": "free",
        "gas_limit": 30_000_000,
        "chain_id": 31337,
        "rpc_port": 8545,
        "p2p_port": 30303,
        "metrics_port": 9545,
    }
    devnet.create(folder, devnet.Plan(**(asked | changes)))
    return folder


def test_plan_has_the_members_and_settings_of_the_files(tmp_path: Path) -> None:
    folder = make_network(tmp_path / "net")
    plan = build_plan(Setup(network=folder, faults="network"), 7)
    genesis = json.loads((folder / "genesis.json").read_bytes())
    members = {"0x" + m.address.hex(): m.power for m in plan.machines}
    assert members == {v["address"]: v["power"] for v in genesis["config"]["quorate"]["validators"]}
    assert (plan.seed, plan.profile.name, plan.application) == (7, "network", "opaque")
    assert plan.node_settings["block_time_ms"] == 700
    assert plan == build_plan(Setup(network=folder / "network.toml", faults="network"), 7)


def test_validator_that_is_not_in_genesis_follows(tmp_path: Path) -> None:
    folder = make_network(tmp_path / "net")
    path = folder / "genesis.json"
    genesis = json.loads(path.read_bytes())
    removed = genesis["config"]["quorate"]["validators"].pop()
    path.write_text(json.dumps(genesis))
    plan = build_plan(Setup(network=folder), 1)
    assert [m.power for m in plan.machines if "0x" + m.address.hex() == removed["address"]] == [0]


def test_real_signatures_use_keys_of_their_own_and_a_genesis_that_names_them(
    tmp_path: Path,
) -> None:
    folder = make_network(tmp_path / "net")
    own = build_plan(Setup(network=folder), 1)
    plan = build_plan(Setup(network=folder, ledger=True, signatures="real"), 1)
    assert not {m.address for m in plan.machines} & {m.address for m in own.machines}
    genesis = json.loads(plan.genesis)
    told = {v["address"] for v in genesis["config"]["quorate"]["validators"]}
    assert told == {"0x" + m.address.hex() for m in plan.machines}
    stored = "".join(genesis["alloc"][VALIDATORS.hex()]["storage"].values())
    assert all(m.address.hex() in stored for m in plan.machines)


@pytest.mark.parametrize("more", [{}, {"ledger": True}, {"signatures": "real"}])
def test_plan_of_a_network_runs(tmp_path: Path, more: dict[str, Any]) -> None:
    folder = make_network(tmp_path / "net")
    setup = Setup(network=folder, faults="none", duration_ms=1500, **more)
    outcome = run(build_plan(setup, 1))
    assert (outcome.verdict, outcome.findings) == ("true", [])
    assert min(outcome.heights) >= 2


def test_default_network_needs_no_file() -> None:
    plan = build_plan(Setup(validators=7), 3)
    assert [m.power for m in plan.machines] == [1] * 7
    assert len({m.address for m in plan.machines}) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validators": 3}, "--validators 3: "),
        ({"detector": "x"}, "--detector: detector 'x': expected one of ping, "),
        ({"detector_settings": "{}"}, "--detector-settings: expected --detector as well"),
        (
            {"detector": "phi", "detector_settings": "[]"},
            "--detector-settings: expected an object of JSON",
        ),
        (
            {"detector": "phi", "detector_settings": '{"x": 1}'},
            "--detector: settings of detector 'phi': 'x', ",
        ),
        ({"bug": "x"}, "--bug x: unknown; --bug ? lists all"),
    ],
)
def test_wrong_setup_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = make_network(tmp_path / "net")
    with pytest.raises(Problem) as caught:
        build_plan(Setup(network=folder, **change), 1)
    assert str(caught.value.message).startswith(message)
    assert caught.value.code == 2


def test_genesis_file_is_needed_for_the_ledger_alone(tmp_path: Path) -> None:
    folder = make_network(tmp_path / "net")
    (folder / "genesis.json").unlink()
    assert len(build_plan(Setup(network=folder), 1).machines) == 4
    with pytest.raises(Problem) as caught:
        build_plan(Setup(network=folder, ledger=True), 1)
    assert caught.value.code == 78


def test_words_of_a_setup_ask_for_it_again(tmp_path: Path) -> None:
    folder = make_network(tmp_path / "a net")
    found: list[Setup] = []

    @click.command()
    @setup_options
    def command(**asked: Any) -> None:
        found.append(Setup(**asked))

    for setup in (
        Setup(),
        Setup(network=folder, faults="network", ledger=True, bug="small-quorum", duration_ms=5),
        Setup(validators=7, engine="tendermint", signatures="real"),
        Setup(detector="phi", detector_settings='{"threshold": 9000}'),
    ):
        command.main(shlex.split(format_setup(setup)), standalone_mode=False)
        assert found.pop() == setup


def test_timing_and_detector_go_into_the_plan_and_back_into_words() -> None:
    setup = Setup(timing="partial:50,3000", detector="phi", duration_ms=2000)
    plan = build_plan(setup, 1)
    assert plan.timing == PartiallySynchronous(50_000_000, 3_000_000_000)
    assert format_setup(setup) == " --duration-ms 2000 --timing partial:50,3000 --detector phi"
    outcome = run(plan)
    assert outcome.verdict == "true"
    assert outcome.detection is not None
    assert "detector mistakes" in outcome.counters
    with pytest.raises(
        Problem, match="--timing: timing 'never': expected one of synchronous:DELTA"
    ):
        build_plan(Setup(timing="never"), 1)
