"""Imports point down the layers only, and what is sans-IO imports nothing that does IO."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "quorate"
FILES = sorted(PACKAGE.rglob("*.py"))

BELOW: dict[str, set[str]] = {
    "base": set(),
    "crypto": {"base"},
    "consensus": {"base", "crypto"},
    "ledger": {"base", "crypto"},
    "storage": {"base", "crypto"},
    "node": {"base", "crypto", "consensus", "ledger", "storage"},
    "light": {"base", "crypto", "consensus", "ledger", "storage"},
}
"""What each layer may import besides itself, the kernel and libraries."""
BELOW["client"] = {"base", "crypto", "ledger", "light"}
BELOW["runtime"] = BELOW["simulator"] = set(BELOW) - {"client"}
BELOW["rpc"] = BELOW["audit"] = {*BELOW["runtime"], "runtime"}
BELOW["cli"] = BELOW["console"] = {*BELOW["rpc"], "rpc", "audit", "simulator", "client"}

SANS_IO = ("consensus", "ledger", "node", "storage", "light")
IO_MODULES = frozenset(
    {
        "aiohttp",
        "asyncio",
        "concurrent",
        "ctypes",
        "datetime",
        "fcntl",
        "http",
        "httptools",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "queue",
        "random",
        "requests",
        "sched",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "socketserver",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
        "uvicorn",
        "uvloop",
        "websockets",
    }
)
SHELLS = {
    "simulator/campaign": IO_MODULES,
    "simulator/diagram.py": {"pathlib"},
    # Its seeded generator alone, and never the module's functions.
    "simulator/tape.py": {"random.Random"},
}
"""Parts of the simulator, which is deterministic elsewhere, and what each may import."""
IO_BUILTINS = frozenset({"open", "print", "input", "hash", "id"})
"""`hash` and `id` differ between processes, so nothing that replicas agree on may use them."""


def get_layer(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def find_imports(tree: ast.Module, path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and full name of every import, of relative ones and those in functions too."""
    package = ("quorate", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def judge_imports(source: str, path: Path) -> list[str]:
    """Return what is wrong with the imports of a file, one line each."""
    layer = get_layer(path)
    problems = []
    for line, name in find_imports(ast.parse(source), path):
        parts = name.split(".")
        where = f"{path.relative_to(PACKAGE)}:{line}"
        if parts[0] == "quorate" and len(parts) > 1:
            target = parts[1]
            if target in BELOW and target != layer and target not in BELOW.get(layer, BELOW):
                problems.append(f"{where}: {layer} imports {name}, which is not below it")
        elif layer in SANS_IO and parts[0] in IO_MODULES:
            problems.append(f"{where}: {layer} imports {name}, but does no IO")
        elif layer == "simulator" and parts[0] in IO_MODULES and not is_allowed(path, name):
            problems.append(f"{where}: {name} is imported, but runs are deterministic")
    return problems


def is_allowed(path: Path, name: str) -> bool:
    """Whether a part of the simulator may import this."""
    place = path.relative_to(PACKAGE).as_posix()
    for part, modules in SHELLS.items():
        if place == part or place.startswith(part + "/"):
            return name in modules or name.split(".")[0] in modules
    return False


def judge_calls(source: str, path: Path) -> list[str]:
    """Return the calls of forbidden builtins in a sans-IO file."""
    if get_layer(path) not in SANS_IO:
        return []
    return [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: calls {node.func.id}()"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in IO_BUILTINS
    ]


def test_every_folder_has_a_place_in_the_layers() -> None:
    folders = {get_layer(path) for path in FILES} - {""}
    assert folders <= set(BELOW)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    source = path.read_text()
    assert judge_imports(source, path) + judge_calls(source, path) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("consensus/x.py", "from quorate.ledger.payload import compose"),
        ("consensus/x.py", "from quorate import node"),
        ("consensus/x.py", "import time"),
        ("ledger/x.py", "from quorate.consensus import replica"),
        ("ledger/x.py", "def f():\n    from os import urandom"),
        ("storage/x.py", "from ..ledger import payload"),
        ("node/x.py", "from asyncio import sleep"),
        ("node/x.py", "import quorate.runtime.host"),
        ("light/x.py", "from quorate.node.wire import Tip"),
        ("runtime/x.py", "from quorate.rpc import server"),
        ("runtime/x.py", "from quorate.simulator import world"),
        ("rpc/x.py", "from quorate.cli.main import main"),
        ("simulator/x.py", "import time"),
        ("simulator/tape.py", "from random import randint"),
        ("simulator/tape.py", "import random"),
        ("simulator/bugs/x.py", "from os import environ"),
        ("base/x.py", "from quorate.crypto.hashes import keccak256"),
    ],
)
def test_wrong_edges_are_found(file: str, source: str) -> None:
    assert len(judge_imports(source, PACKAGE / file)) == 1


def test_wrong_calls_are_found() -> None:
    assert judge_calls("x = hash(b'')\nopen('f')", PACKAGE / "node" / "x.py") == [
        "node/x.py:1: calls hash()",
        "node/x.py:2: calls open()",
    ]
