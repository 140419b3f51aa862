"""`quorate init` writes what every host needs, and nothing that another one could read."""

import stat
from pathlib import Path

import pytest

from quorate.base.errors import Invalid
from quorate.cli import keystore
from quorate.cli.main import run
from quorate.cli.output import Problem
from quorate.cli.run import make_rpc_command, unlock_validator
from quorate.ledger.keyvalue import get_genesis_hash
from quorate.runtime.config import load_network
from quorate.runtime.folder import Folder
from quorate.runtime.tls import load_identity

FOUR = ["alice=10.0.0.1:30303", "bob=10.0.0.2:30303", "carol=10.0.0.2:30304", "dave=[::1]:1,3"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keystore, "SCRYPT_N", 1 << 10)
    monkeypatch.setenv("QUORATE_PASSWORD", "p")


def init(*more: str) -> int:
    places = [part for text in FOUR for part in ("--validator", text)]
    return run(["init", "--out", "out", "--chain-id", "4711", *places, *more])


def test_files_fit_each_other(tmp_path: Path) -> None:
    assert init("--account", "0x" + "11" * 20 + "=5") == 0
    out = tmp_path / "out"
    network = load_network(out / "network.toml", {})
    assert [v.name for v in network.validators] == ["alice", "bob", "carol", "dave"]
    assert [v.power for v in network.validators] == [1, 1, 1, 3]
    assert [v.rpc_port for v in network.validators] == [8545, 8545, 8546, 8545]
    assert not network.dev
    for validator in network.validators:
        folder = Folder(out / validator.name)
        secret, whose = unlock_validator(network, folder, out / "network.toml", None)
        assert whose == validator
        assert load_identity(folder.tls_key, folder.tls_certificate).fingerprint == validator.pin
        assert secret.hex() not in folder.key.read_text()
        for path in (folder.key, folder.tls_key):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run(["genesis", "verify", "out/genesis.json", "--network", "out/network.toml"]) == 0


def test_what_an_engine_does_not_hold_against_is_said_when_its_network_is_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert init("--engine", "raft") == 0
    assert "raft: the members trust each other" in capsys.readouterr().err


def test_the_genesis_of_keys_and_values_is_hashed_shown_and_verified(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert init("--engine", "raft", "--application", "keyvalue") == 0
    capsys.readouterr()
    assert run(["genesis", "hash", "out/genesis.json"]) == 0
    expected = get_genesis_hash(Path("out/genesis.json").read_bytes()).hex()
    assert capsys.readouterr().out == f"0x{expected}\n"
    assert run(["genesis", "show", "out/genesis.json"]) == 0
    shown = capsys.readouterr().out
    assert "application  keyvalue" in shown
    assert "gas" not in shown
    verify = ["genesis", "verify", "out/genesis.json", "--network", "out/network.toml"]
    assert run(verify) == 0
    assert capsys.readouterr().out == f"ok 0x{expected}\n"
    file = Path("out/network.toml")
    file.write_text(
        file.read_text().replace('application = "keyvalue"', 'application = "ethereum"')
    )
    assert run(verify) == 78
    assert "application: out/genesis.json has keyvalue" in capsys.readouterr().err


def test_existing_files_are_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    assert init() == 0
    assert init() == 1
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place",
    [
        "alice",
        "alice=host",
        "=h:1",
        "alice=h:0",
        "alice=h:65536",
        "alice=h:1,0",
        "../x=h:1",
        "a b=h:1",
    ],
)
def test_malformed_validator_is_refused(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--out", "out", "--chain-id", "1", "--validator", place]) == 2
    assert place in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "more", [["--validator", "alice=h:1"], ["--validator", "eve=10.0.0.1:30303"]]
)
def test_same_name_or_place_twice_is_refused(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(*more) == 2
    assert "twice" in capsys.readouterr().err


@pytest.mark.parametrize("account", ["0x11=5", "0x" + "11" * 20, "0x" + "11" * 20 + "=-1"])
def test_malformed_account_is_refused(account: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert init("--account", account) == 2
    assert "--account" in capsys.readouterr().err


def test_run_refuses_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init() == 0
    out = tmp_path / "out"
    file = out / "network.toml"
    network = load_network(file, {})
    alice = Folder(out / "alice")

    assert run(["run", "--network", str(file), "--folder", "nowhere"]) == 78
    assert "nowhere" in capsys.readouterr().err

    monkeypatch.setenv("QUORATE_PASSWORD", "wrong")
    assert run(["run", "--network", str(file), "--folder", str(alice.path)]) == 78
    assert "key.json: wrong password" in capsys.readouterr().err
    monkeypatch.setenv("QUORATE_PASSWORD", "p")

    alice.key.chmod(0o644)
    with pytest.raises(Invalid, match="644, expected 600"):
        unlock_validator(network, alice, file, None)
    alice.key.unlink()
    keystore.write_key(alice.key, keystore.generate_secret(), None)
    with pytest.raises(Invalid, match="found a plain key, expected an encrypted one"):
        unlock_validator(network, alice, file, None)
    alice.key.unlink()
    keystore.write_key(alice.key, keystore.generate_secret(), "p")
    with pytest.raises(Invalid, match="has none such, only alice"):
        unlock_validator(network, alice, file, None)


def test_encrypted_key_needs_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    assert init() == 0
    monkeypatch.delenv("QUORATE_PASSWORD")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    file = tmp_path / "out" / "network.toml"
    with pytest.raises((Invalid, Problem), match="--password-file"):
        unlock_validator(load_network(file, {}), Folder(tmp_path / "out" / "bob"), file, None)


def test_password_never_reaches_the_rpc_process(tmp_path: Path) -> None:
    assert init() == 0
    network = load_network(tmp_path / "out" / "network.toml", {})
    command = make_rpc_command(network, network.validators[0], Folder(tmp_path / "out" / "alice"))
    assert "p" not in command
    assert "8545" in command


def test_rpc_process_understands_every_setting(tmp_path: Path) -> None:
    from quorate.rpc.__main__ import main

    assert init() == 0
    network = load_network(tmp_path / "out" / "network.toml", {})
    command = make_rpc_command(network, network.validators[0], Folder(tmp_path / "out" / "alice"))
    flags = {flag for parameter in main.params for flag in parameter.opts}
    assert {word for word in command if word.startswith("--")} <= flags


def test_unknown_namespace_is_refused_before_the_start(tmp_path: Path) -> None:
    assert init() == 0
    file = tmp_path / "out" / "network.toml"
    network = load_network(file, {"QUORATE_RPC_API": "eth,engine"})
    with pytest.raises(Invalid, match=r"rpc\.api: found 'engine', expected some of eth"):
        make_rpc_command(network, network.validators[0], Folder(tmp_path / "out" / "alice"))


def test_added_validator_fits_the_others_and_the_genesis_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init() == 0
    file = tmp_path / "out" / "network.toml"
    assert run(["add", "erin=10.0.0.2:30305", "--network", str(file)]) == 0
    assert "quorate run --network network.toml --folder erin" in capsys.readouterr().out
    network = load_network(file, {})
    erin = network.validators[-1]
    assert (erin.name, erin.rpc_port, erin.metrics_port) == ("erin", 8547, 9547)
    secret, whose = unlock_validator(network, Folder(tmp_path / "out" / "erin"), file, None)
    assert whose == erin
    assert secret.hex() not in Folder(tmp_path / "out" / "erin").key.read_text()
    assert run(["genesis", "verify", "out/genesis.json", "--network", str(file)]) == 0


@pytest.mark.parametrize(
    ("place", "more", "word"),
    [
        ("alice=10.0.0.9:1", [], "exists already"),
        ("erin=10.0.0.1:30303", [], "validators.4.port: found 30303"),
        ("erin=10.0.0.1:30304", ["--rpc-port", "8545"], "validators.4.rpc_port: found 8545"),
        ("erin", [], "expected NAME=HOST:PORT"),
    ],
)
def test_validator_that_does_not_fit_is_not_added(
    place: str, more: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init() == 0
    file = tmp_path / "out" / "network.toml"
    before = file.read_bytes()
    assert run(["add", place, "--network", str(file), *more]) in (1, 2, 78)
    assert word in capsys.readouterr().err
    assert file.read_bytes() == before
    assert not (tmp_path / "out" / "erin").exists()


def test_a_network_that_anybody_may_join_names_bootnodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init("--engine", "pow") == 0
    file = tmp_path / "out" / "network.toml"
    network = load_network(file, {})
    first, second = network.validators[:2]
    assert network.bootnodes == [
        f"{first.tls_sha256}@10.0.0.1:30303",
        f"{second.tls_sha256}@10.0.0.2:30303",
    ]
    assert network.discovery.range_limits
    assert run(["add", "erin=10.0.0.5:30303", "--network", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "nobody has to be asked" in shown
    assert "vote(" not in shown


def test_bootnodes_are_for_networks_that_anybody_may_join(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert init() == 0
    assert load_network(Path("out/network.toml"), {}).bootnodes == []
    command = ["run", "--network", "out/network.toml", "--folder", "out/alice"]
    assert run([*command, "--bootnode", "10.0.0.9:30303"]) == 78
    assert "tendermint has configured peers" in capsys.readouterr().err
    assert init("--out", "mined", "--engine", "pow") == 0
    command = ["run", "--network", "mined/network.toml", "--folder", "mined/alice"]
    assert run([*command, "--bootnode", "nonsense"]) == 78
    assert "--bootnode: found 'nonsense', expected KEY@HOST:PORT" in capsys.readouterr().err
