"""Which modules `quorate compile` compiles: those that runs and validators spend their time in, if
they can be.

A module stays interpreted if it makes a class with keywords or one of msgspec's,
since mypyc ignores the keywords and simplifies the annotations that msgspec reads; if it makes a
class inside of something; or if a class of it inherits from one of an interpreted module, whose
layout a compiled one cannot follow. What mypyc refuses for other reasons is left out as well.
"""

import ast

from quorate.compiled import Sources

__all__ = ["select"]

WORTHWHILE = (
    "base",
    "crypto",
    "consensus",
    "ledger",
    "node",
    "rpc/keyvalue_framed.py",
    "rpc/keyvalue_service.py",
    "runtime/disk.py",
    "runtime/host.py",
    "runtime/lanes.py",
    "runtime/link.py",
    "runtime/syncing.py",
    "simulator/invariants",
    "storage",
    *(
        f"simulator/{name}.py"
        for name in (
            "actors",
            "applications",
            "budget",
            "cast",
            "clock",
            "coverage",
            "digest",
            "disk",
            "durability",
            "faults",
            "finality",
            "forks",
            "frames",
            "history",
            "keys",
            "knobs",
            "machine",
            "membership",
            "nemesis",
            "network",
            "progress",
            "rounds",
            "run",
            "sealing",
            "steadiness",
            "tape",
            "workload",
            "world",
        )
    ),
)
"""Folders (without those in them) and files that much time is spent in. The bugs are not among
them: they show that whoever inherits from compiled classes need not be compiled.
"""
STRUCTS = frozenset({"Struct", "Value", "Message", "Record"})
"""Bases by which a class is one of msgspec's."""
FREE_BASES = frozenset({"ABC", "Exception", "Generic", "Protocol"})


def select(
    sources: Sources, refused: dict[str, str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Return the paths of the modules to compile, and why others stay interpreted.

    `refused` are those that the compiler does not take, and why.
    """
    trees = {name: ast.parse(text) for name, text in sources.items() if is_worthwhile(name)}
    reasons = {name: why for name, tree in trees.items() if (why := find_obstacle(tree))}
    reasons |= {name: why for name, why in (refused or {}).items() if name in trees}
    while True:
        chosen = {name for name in trees if name not in reasons}
        more = {
            name: why for name in sorted(chosen) if (why := find_foreign_base(trees[name], chosen))
        }
        if not more:
            return sorted(chosen), reasons
        reasons |= more


def is_worthwhile(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return (folder in WORTHWHILE or name in WORTHWHILE) and file not in ("__init__.py", "native.py")


def find_obstacle(tree: ast.Module) -> str:
    """Return why a module cannot be compiled, or nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.ClassDef) and inner is not node:
                    return f"class {inner.name} is made inside of {node.name}"
        if isinstance(node, ast.ClassDef):
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            if node.keywords or STRUCTS & set(bases):
                return f"class {node.name} is one of msgspec's, or made with keywords"
    return ""


def find_foreign_base(tree: ast.Module, chosen: set[str]) -> str:
    """Return why a class here cannot be compiled, if its base is not."""
    origins = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for base in node.bases:
            whole = base.value if isinstance(base, ast.Subscript) else base
            name = whole.id if isinstance(whole, ast.Name) else ""
            origin = origins.get(name, "")
            if not name or (origin and name not in FREE_BASES and not is_chosen(origin, chosen)):
                return f"class {node.name} has a base that is interpreted"
    return ""


def is_chosen(module: str, chosen: set[str]) -> bool:
    return module.removeprefix("quorate.").replace(".", "/") + ".py" in chosen
