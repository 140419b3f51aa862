"""The script that a fresh clone starts with: what is stale, and how it says what is missing."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, looking at a clone in a temporary folder."""
    loader = importlib.machinery.SourceFileLoader("bootstrap", str(ROOT / "quorate"))
    spec = importlib.util.spec_from_loader("bootstrap", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    (tmp_path / "kernel" / "src").mkdir(parents=True)
    (tmp_path / "kernel" / "src" / "lib.rs").write_text("pub fn f() {}")
    (tmp_path / "kernel" / "Cargo.toml").write_text("[package]")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    (tmp_path / "module.so").touch()
    for name in ("requirements.lock", "requirements-compile.lock", "requirements-dev.lock"):
        (tmp_path / name).write_text(name)
    for name, path in {
        "ROOT": "",
        "VENV_PYTHON": ".venv/bin/python",
        "STAMP": ".venv/quorate.json",
        "KERNEL": "kernel",
        "MODULE": "module.so",
    }.items():
        monkeypatch.setattr(module, name, str(tmp_path / path))
    return module


def make_current(script: ModuleType, name: str = "dev") -> None:
    script.write_stamp(root=script.ROOT, kernel=script.fingerprint_kernel())
    for held in list(script.LOCKS)[: list(script.LOCKS).index(name) + 1]:
        lock = os.path.join(script.ROOT, script.LOCKS[held])
        script.write_stamp(**{held: script.hash_file(lock)})


def test_everything_is_stale_in_a_fresh_clone(script: ModuleType) -> None:
    assert script.find_stale("core") == ["venv", "packages", "kernel"]


def test_nothing_is_stale_after_a_build(script: ModuleType) -> None:
    make_current(script)
    assert script.find_stale("dev") == []
    assert script.find_stale("core") == []


def test_tests_need_more_packages_than_a_network(script: ModuleType) -> None:
    make_current(script, "core")
    assert script.find_stale("core") == []
    assert script.find_stale("compile") == script.find_stale("dev") == ["packages"]
    make_current(script, "compile")
    assert script.find_stale("compile") == []
    assert script.find_stale("dev") == ["packages"]


def test_changed_kernel_source_is_stale_and_a_touched_one_is_not(script: ModuleType) -> None:
    make_current(script)
    source = Path(script.KERNEL) / "src" / "lib.rs"
    os.utime(source, (1, 1))
    assert script.find_stale("core") == []
    source.write_text("pub fn g() {}")
    assert script.find_stale("core") == ["kernel"]


def test_new_and_renamed_kernel_files_are_stale(script: ModuleType) -> None:
    before = script.fingerprint_kernel()
    source = Path(script.KERNEL) / "src" / "lib.rs"
    source.rename(source.with_name("main.rs"))
    renamed = script.fingerprint_kernel()
    source.write_text("")
    assert len({before, renamed, script.fingerprint_kernel()}) == 3


def test_what_cargo_wrote_does_not_count(script: ModuleType) -> None:
    before = script.fingerprint_kernel()
    target = Path(script.KERNEL) / "target" / "release"
    target.mkdir(parents=True)
    (target / "made.rs").write_text("x")
    assert script.fingerprint_kernel() == before


def test_moved_clone_and_damaged_stamp_are_stale(script: ModuleType) -> None:
    make_current(script)
    script.write_stamp(root="/elsewhere")
    assert script.find_stale("core") == ["venv", "packages"]
    Path(script.STAMP).write_text("{")
    assert script.find_stale("core") == ["venv", "packages", "kernel"]


def test_missing_tools_are_named_with_what_to_install(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script.shutil, "which", lambda *_, **__: None)
    with pytest.raises(SystemExit):
        script.check_tools(["kernel"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "Rust" in lines[0]
    assert "rustup" in lines[0]
    assert "C compiler" in lines[1]
    assert "gcc" in lines[1]


def test_old_rust_is_named_with_how_to_update(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cargo = tmp_path / "cargo"
    cargo.write_text("#!/bin/sh\necho 'cargo 1.80.1 (abc 2024-07-01)'\n")
    cargo.chmod(0o755)
    monkeypatch.setattr(script, "find_cargo", lambda: str(cargo))
    with pytest.raises(SystemExit):
        script.check_tools(["kernel"])
    assert "found 1.80.1: run `rustup update stable`" in capsys.readouterr().err


def test_failing_step_shows_its_output(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = script.Steps(1)
    steps.enter("failing")
    with pytest.raises(SystemExit):
        script.follow(
            [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"],
            steps,
            script.read_nothing,
        )
    steps.ended.set()
    assert "the reason" in capsys.readouterr().err


def test_runs_on_any_python_that_can_read_it(script: ModuleType) -> None:
    """Older interpreters must get as far as the line that says what to install."""
    import ast

    ast.parse((ROOT / "quorate").read_text(), feature_version=(3, 7))
    assert script.OLDEST_PYTHON == (3, 11)


def test_locks_name_no_index_and_carry_hashes() -> None:
    for name in ("requirements.lock", "requirements-compile.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        pinned = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]
        assert all(line.endswith("\\") for line in pinned)
        assert text.count("--hash=sha256:") >= len(pinned)
    assert "resolved" not in (ROOT / "tests" / "js" / "package-lock.json").read_text()


def test_locks_cover_what_the_project_declares() -> None:
    import re
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core, compiling, dev = (
        set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-compile.lock", "requirements-dev.lock")
    )
    extras = project["optional-dependencies"]
    names = {re.split(r"[\[<>=; ]", text)[0] for text in project["dependencies"]}
    more = {re.split(r"[\[<>=; ]", text)[0] for group in extras.values() for text in group}
    assert names <= core <= compiling <= dev
    assert more <= dev


def test_version_is_the_same_everywhere() -> None:
    import tomllib

    from quorate import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    kernel = tomllib.loads((ROOT / "kernel" / "Cargo.toml").read_text())["package"]
    assert __version__ == project["version"] == kernel["version"]


def test_second_start_only_looks(script: ModuleType) -> None:
    """With everything current no tool is asked for and no process is started."""
    make_current(script)
    script.subprocess = None
    script.build("core")
    script.subprocess = subprocess
