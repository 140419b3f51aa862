"""What every file in the repository keeps to."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 700
MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 90
"""Sixty is the aim; a long constructor or table is sometimes the clearest."""
OLDEST = (3, 11)
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w.~/])/(work|home|Users|root|workspace)/\w")
TEXT = {".py", ".pyi", ".rs", ".sol", ".md", ".toml", ".mjs", ".js", ".ts", ".sh", ".css", ".html"}


def list_files() -> list[Path]:
    """Return the files that are or may be committed."""
    try:
        out = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        names = [ROOT / name for name in out.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        folders = ("src", "tests", "kernel/src", "docs", "examples", "benchmarks", "contracts")
        names = [p for folder in folders for p in (ROOT / folder).rglob("*")]
        names = [p for p in names if not {"node_modules", "__pycache__"} & set(p.parts)]
    return sorted(p for p in names if p.is_file())


FILES = list_files()
PYTHON = [p for p in FILES if p.suffix == ".py"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix in TEXT], ids=name_of)
def test_file_is_finished_and_belongs_to_no_machine(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert not UNFINISHED.search(line), f"line {number}: unfinished: {line.strip()}"
        assert not MACHINE_PATH.search(line), f"line {number}: a machine's path: {line.strip()}"


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_python_file_is_short_and_runs_on_the_oldest_python(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    assert len(lines) <= MAX_LINES
    tree = ast.parse(source, feature_version=OLDEST)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name}: {length} lines"


@pytest.mark.parametrize(
    "path", [p for p in PYTHON if "src" in p.relative_to(ROOT).parts[:1]], ids=name_of
)
def test_module_says_what_it_is(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not source.strip() or ast.get_docstring(ast.parse(source)), "no docstring"


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.suffix == ".rs" and "kernel" in p.parts], ids=name_of
)
def test_rust_file_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 2 * MAX_LINES
