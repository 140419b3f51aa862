"""Modules that `quorate compile` makes: which they are, when they are taken, that they do the same.

Runs by compiled modules are compared where they were compiled (`./quorate test` does it first).
"""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quorate import compiled
from quorate.cli.compile import remove_old
from quorate.cli.selection import select

ROOT = Path(__file__).resolve().parent.parent
HOT = {
    "consensus/quorum.py",
    "consensus/raft.py",
    "consensus/tendermint.py",
    "consensus/tendermint_heights.py",
    "consensus/tendermint_links.py",
    "consensus/tendermint_rounds.py",
    "node/execution.py",
    "node/interpreter.py",
    "node/node.py",
    "node/peers.py",
    "simulator/disk.py",
    "simulator/invariants/chain.py",
    "simulator/invariants/tendermint.py",
    "simulator/machine.py",
    "simulator/network.py",
    "simulator/tape.py",
    "simulator/world.py",
    "storage/journal.py",
}
"""What would cost most if it stayed interpreted."""


@pytest.fixture(scope="module")
def sources() -> compiled.Sources:
    return compiled.read_sources()


def test_what_runs_spend_their_time_in_can_be_compiled(sources: compiled.Sources) -> None:
    chosen, reasons = select(sources)
    assert set(chosen) >= HOT, {name: reasons.get(name) for name in HOT - set(chosen)}


def test_values_and_who_inherits_from_them_stay_interpreted() -> None:
    chosen, reasons = select(
        {
            "base/plain.py": b"class Plain: ...\n",
            "base/value.py": b"class Value(Struct, frozen=True): ...\nclass Base: ...\n",
            "node/child.py": b"from quorate.base.value import Base\nclass Child(Base): ...\n",
            "node/other.py": b"from quorate.base.plain import Plain\nclass Other(Plain): ...\n",
            "cli/x.py": b"",
        }
    )
    assert chosen == ["base/plain.py", "node/other.py"]
    assert set(reasons) == {"base/value.py", "node/child.py"}


def test_no_class_body_uses_its_functions(sources: compiled.Sources) -> None:
    """They are not there yet when a compiled class body is run."""
    problems = []
    for name in select(sources)[0]:
        for node in ast.walk(ast.parse(sources[name])):
            if not isinstance(node, ast.ClassDef):
                continue
            functions = {f.name for f in node.body if isinstance(f, ast.FunctionDef)}
            for statement in node.body:
                if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
                    used = {n.id for n in ast.walk(statement.value) if isinstance(n, ast.Name)}
                    problems += [f"{name}: {node.name} uses {f}" for f in used & functions]
    assert problems == []


def test_compiled_classes_that_others_inherit_from_say_so(sources: compiled.Sources) -> None:
    """Otherwise an interpreted class that inherits from one is an error when it is made."""
    chosen = set(select(sources)[0])
    trees = {name: ast.parse(text) for name, text in sources.items() if name.endswith(".py")}
    closed = {
        (name, node.name)
        for name in chosen
        for node in ast.walk(trees[name])
        if isinstance(node, ast.ClassDef)
        and not any("allow_interpreted_subclasses" in ast.unparse(d) for d in node.decorator_list)
    }
    problems = []
    for name in trees.keys() - chosen:
        origins = {
            alias.asname or alias.name: f"{(node.module or '')[8:].replace('.', '/')}.py"
            for node in ast.walk(trees[name])
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(trees[name]):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                found = (origins.get(ast.unparse(base), ""), ast.unparse(base))
                if found in closed:
                    problems.append(f"{name}: {node.name} inherits from {found[1]}")
    assert problems == []


def test_every_source_is_in_the_name_of_a_build(sources: compiled.Sources) -> None:
    key = compiled.compute_key(sources)
    assert key == compiled.compute_key(compiled.read_sources())
    for name in ("simulator/plan.py", "base/errors.py", "_kernel.pyi"):
        changed = {**sources, name: sources[name] + b"\n"}
        assert compiled.compute_key(changed) != key


def run_python(code: str, **environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


def test_stale_builds_are_not_taken_and_told_of(tmp_path: Path) -> None:
    told = "from quorate import compiled as c; print(c.use(), c.describe())"
    empty = {"XDG_CACHE_HOME": str(tmp_path / "empty")}
    for asked in ("1", ""):
        said = run_python(told, QUORATE_COMPILED=asked, **empty)
        assert said == "False interpreted; `quorate compile` makes it nearly twice as fast"
    stale = tmp_path / "quorate" / "compiled" / "another"
    stale.mkdir(parents=True)
    (stale / compiled.COMPLETE).touch()
    said = run_python(told, QUORATE_COMPILED="1", XDG_CACHE_HOME=str(tmp_path))
    assert "of other sources" in said
    said = run_python(told, QUORATE_COMPILED="0", XDG_CACHE_HOME=str(tmp_path))
    assert said == "False interpreted, as QUORATE_COMPILED=0 asks"


def test_all_modules_or_none(tmp_path: Path, sources: compiled.Sources) -> None:
    """A build is not taken once one of its modules came from its source."""
    folder = tmp_path / "quorate" / "compiled" / compiled.compute_key(sources)
    (folder / "quorate" / "base").mkdir(parents=True)
    (folder / "quorate" / "base" / ("rng" + compiled.SUFFIX)).touch()
    (folder / compiled.COMPLETE).touch()
    code = "from quorate import compiled as c; print(c.use(), c.describe())"
    cache = {"XDG_CACHE_HOME": str(tmp_path), "QUORATE_COMPILED": ""}
    assert run_python(code, **cache) == "True compiled"
    said = run_python(f"import quorate.base.rng; {code}", **cache)
    assert said.startswith("False interpreted")


def test_build_that_others_could_write_to_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "quorate" / "compiled" / "ab"
    folder.mkdir(parents=True)
    (folder / compiled.COMPLETE).touch()
    code = "from quorate import compiled as c; print(c.find('ab') is not None)"
    found = []
    for mode in (0o700, 0o755, 0o775, 0o707):
        folder.chmod(mode)
        found.append(run_python(code, XDG_CACHE_HOME=str(tmp_path)))
    assert found == ["True", "True", "False", "False"]


def test_what_killed_builds_left_is_removed(tmp_path: Path) -> None:
    for name, age_s in (("build-old", 7 * 3600), ("build-new", 60), ("other", 7 * 3600)):
        (tmp_path / name / "c").mkdir(parents=True)
        at = time.time() - age_s
        os.utime(tmp_path / name, (at, at))
    remove_old(tmp_path, "key")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build-new", "other"]


DIGESTS = """
import json, sys
from quorate import compiled
assert compiled.is_used() == (sys.argv[1] == "compiled"), compiled.describe()
sys.path.insert(0, "tests")
from simulator.golden import SETUPS, compute
from quorate.cli.simulated import Setup, build_plan
from quorate.simulator.bugs import BUGS, load
from quorate.simulator.run import run
from quorate.simulator.scenarios import SCENARIOS
load()
found = {}
if sys.argv[1] == "compiled":
    found["golden"] = {name: compute(name) for name in SETUPS}
for name, bug in BUGS.items():
    setup = Setup(bug=name, engine=bug.engine or "tendermint", duration_ms=1500)
    found[name] = run(build_plan(setup, 5)).digest
for engine in ("tendermint", "raft"):
    for seed in range(100, 108):
        setup = Setup(engine=engine, duration_ms=2000)
        found[f"{engine} {seed}"] = run(build_plan(setup, seed)).digest
for scenario in SCENARIOS.values():
    for mitigated in (True, False):
        found[f"{scenario.name} {mitigated}"] = scenario.run(mitigated).outcome.digest
print(json.dumps(found))
"""


def test_runs_are_the_same_event_by_event(sources: compiled.Sources) -> None:
    if compiled.find(compiled.compute_key(sources)) is None:
        pytest.skip("no compiled modules of these sources: `./quorate compile` makes them")
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", DIGESTS, form],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "QUORATE_COMPILED": variable},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for form, variable in (("compiled", "1"), ("interpreted", "0"))
    ]
    found, expected = (json.loads(process.communicate()[0]) for process in processes)
    golden = json.loads((ROOT / "tests" / "simulator" / "golden.json").read_text())
    assert found == {**expected, "golden": golden}
