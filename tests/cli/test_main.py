"""The command as a whole: help, errors of one line, exit codes, what goes where."""

import json
from pathlib import Path

import click
import pytest

from quorate.cli import keystore
from quorate.cli.main import COMMANDS, PLACES, cli, run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder, with cheap keystores and no settings from outside."""
    import os

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keystore, "SCRYPT_N", 1 << 10)
    for name in list(os.environ):
        if name.startswith("QUORATE_"):
            monkeypatch.delenv(name)


def find_commands(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    context = click.Context(command)
    if not isinstance(command, click.Group):
        return [path]
    found = []
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        found += find_commands(inner, (*path, name))
    return found


@pytest.mark.parametrize("path", find_commands(cli, ()), ids=" ".join)
def test_help_teaches_by_example(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"quorate {path[0]}" in out.split("\n\n", 1)[1]


def test_every_command_is_listed_once() -> None:
    assert len(PLACES) == sum(len(group) for group in COMMANDS.values())


def test_unknown_command_suggests_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["statsu"]) == 2
    assert "status" in capsys.readouterr().err


def test_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: no network in .quorate: `quorate up` makes one")
    assert captured.err.count("\n") == 1


def test_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "address", "nowhere.json"]) == 1
    assert capsys.readouterr().err == "error: nowhere.json: No such file or directory\n"


def test_bad_settings_end_with_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".quorate").mkdir()
    (tmp_path / ".quorate" / "network.toml").write_text("name = 3\n")
    assert run(["status"]) == 78
    err = capsys.readouterr().err
    assert "network.toml" in err
    assert err.count("\n") == 1


def test_debug_shows_where_a_bug_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import quorate.cli.status

    def broken(_folder: Path) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(quorate.cli.status, "open_local", broken)
    assert run(["status"]) == 1
    with pytest.raises(RuntimeError, match="boom"):
        run(["--debug", "status"])


def test_flag_beats_environment_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["status"])
    assert "in .quorate:" in capsys.readouterr().err
    monkeypatch.setenv("QUORATE_DIR", str(tmp_path / "a"))
    run(["status"])
    assert f"in {tmp_path}/a:" in capsys.readouterr().err
    run(["status", "--dir", "b"])
    assert "in b:" in capsys.readouterr().err


def test_advice_is_written_as_it_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUORATE_PROGRAM", "./quorate")
    assert run(["status"]) == 1
    assert "`./quorate up` makes one" in capsys.readouterr().err


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "-o", "json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"quorate", "kernel", "python"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_names_the_command(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["completion", shell]) == 0
    assert "_QUORATE_COMPLETE" in capsys.readouterr().out


def test_new_key_is_shown_and_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUORATE_PASSWORD", "secret words")
    assert run(["keys", "new", "key.json"]) == 0
    told = capsys.readouterr().out.strip()
    assert run(["keys", "address", "key.json"]) == 0
    assert capsys.readouterr().out.strip() == told
    assert run(["keys", "show", "key.json", "--private", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["address"] == told
    assert found["encrypted"]
    assert len(found["private_key"]) == 66
    assert run(["keys", "new", "key.json"]) == 1
    assert "never overwritten" in capsys.readouterr().err
    monkeypatch.setenv("QUORATE_PASSWORD", "wrong")
    assert run(["keys", "show", "key.json", "--private"]) == 1
    assert "wrong password" in capsys.readouterr().err


def test_password_file_is_used_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUORATE_PASSWORD", "wrong")
    (tmp_path / "password").write_text("right\n")
    assert run(["keys", "new", "key.json", "--password-file", "password"]) == 0
    assert run(["keys", "show", "key.json", "--private"]) == 1
    assert run(["keys", "show", "key.json", "--private", "--password-file", "password"]) == 0
    assert "private_key" in capsys.readouterr().out


def test_key_without_a_password_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run(["keys", "new", "key.json"]) == 1
    assert "QUORATE_PASSWORD" in capsys.readouterr().err
    assert not Path("key.json").exists()


def test_known_key_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io
    import sys

    monkeypatch.setenv("QUORATE_PASSWORD", "p")
    secret = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(secret))
    assert run(["keys", "import", "key.json", "--kdf", "pbkdf2"]) == 0
    assert capsys.readouterr().out.strip() == "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    monkeypatch.setattr(sys, "stdin", io.StringIO("nonsense\n"))
    assert run(["keys", "import", "other.json"]) == 1
    assert "private key: not hexadecimal" in capsys.readouterr().err


def test_plain_key_is_called_plain(capsys: pytest.CaptureFixture[str]) -> None:
    keystore.write_key(Path("key.json"), keystore.generate_secret(), None)
    assert run(["keys", "show", "key.json"]) == 0
    captured = capsys.readouterr()
    assert "no" in captured.out
    assert "plain text" in captured.err


def test_unknown_engine_is_refused_before_anything_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["up", "--engine", "paxos", "--detach"]) == 2
    assert "'paxos' is not one of 'tendermint'" in capsys.readouterr().err
    assert not Path(".quorate").exists()
