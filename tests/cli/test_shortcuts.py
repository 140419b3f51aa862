"""What compiled modules remember of attributes, names and methods holds only while it is true."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quorate import compiled
from quorate.cli import compile as compilation

MODULE = b"""
from typing import Any

factor = 2


def get_height(value: Any) -> int:
    return int(value.height)


def double(x: int) -> int:
    return x * factor


def call(value: Any, x: int) -> int:
    return int(value.add(x))


def pop(items: Any, key: Any) -> Any:
    return items.pop(key, None)


def find(items: dict[Any, Any], key: Any) -> list[Any]:
    return [items.get(key), items.get(key, 5)]


def count(items: Any) -> int:
    return sum(map(len, items))
"""

PROGRAM = """
import json, sys
from pathlib import Path
from quorate import compiled

assert compiled.take(Path(sys.argv[1]))
from quorate.base import sample
from msgspec import Struct

assert sample.__file__.endswith(compiled.SUFFIX)


class Value(Struct):
    height: int


class Other(Struct):
    before: int
    height: int


class Slotted:
    __slots__ = ("height",)

    def add(self, x: int) -> int:
        return x + 1


def fails(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return type(error).__name__


found = []
for _ in range(3):
    found.append([sample.get_height(v) for v in (Value(7), Other(1, 8), Value(2**70), Value(-1))])
value = Value(1)
value.height = 5
found.append(sample.get_height(value))
empty = Slotted()
found.append(fails(sample.get_height, empty))
empty.height = 3
found.append(sample.get_height(empty))
del empty.height
found.append(fails(sample.get_height, empty))
found.append(fails(sample.get_height, object()))
empty.height = 4
found.append(sample.get_height(empty))
Slotted.height = property(lambda self: 11)
found.append(sample.get_height(empty))

found.append([sample.double(x) for x in (3, -1, 2**62, 2**40, 0)])
sample.factor = 3
found.append(sample.double(3))
del sample.factor
found.append(fails(sample.double, 3))
sample.factor = 4
found.append(sample.double(3))

found.append([sample.call(empty, 1), sample.call(empty, 2)])
Slotted.add = lambda self, x: x + 10
found.append(sample.call(empty, 1))


class Free:
    add = Slotted.add


free = Free()
found.append(sample.call(free, 1))
free.add = lambda x: x + 100
found.append(sample.call(free, 1))
found.append(fails(sample.call, free, "x"))
found.append([sample.pop({1: 2}, 1), sample.pop({}, 1), fails(sample.pop, [], 1)])


class Strange(str):
    def __hash__(self):
        return hash("a")

    def __eq__(self, other):
        raise KeyError(other)


known = {b"k": 1, "a": 2, 7: 3}
keys = (bytes([107]), b"none", "a", "b" * 3, 7, Strange("a"), [])
found.append([fails(sample.find, known, key) or sample.find(known, key) for key in keys])
found.append([sample.count(["ab", b"c"]), fails(sample.count, [1])])
import builtins

kept = builtins.sum
builtins.sum = lambda of: 100 + kept(of)
found.append(sample.count(["ab"]))
builtins.sum = kept
found.append(sample.count(["ab"]))
print(json.dumps(found))
"""

EXPECTED = [
    *[[7, 8, 2**70, -1]] * 3,
    5,
    "AttributeError",
    3,
    "AttributeError",
    "AttributeError",
    4,
    11,
    [6, -2, 2**63, 2**41, 0],
    9,
    "KeyError",
    12,
    [2, 3],
    11,
    11,
    101,
    "TypeError",
    [2, None, "TypeError"],
    [[1, 1], [None, 5], [2, 2], [None, 5], [3, 3], "KeyError", "TypeError"],
    [3, "TypeError"],
    102,
    2,
]


@pytest.mark.skipif(
    importlib.util.find_spec("mypyc") is None or shutil.which("cc") is None,
    reason="what compiles is not installed",
)
def test_what_changes_is_looked_up_again(tmp_path: Path) -> None:
    # Two modules, since one alone is built in another way.
    sources = {"base/sample.py": MODULE, "base/second.py": b"", "base/__init__.py": b""}
    build = compilation.Build(sources, ["cc"], 2)
    assert build.chosen == ["base/sample.py", "base/second.py"]
    with compilation.Steps(2) as steps:
        objects = build.compile(tmp_path, build.translate(tmp_path), steps)
    build.link(tmp_path, objects)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "lib")],
        env={"PYTHONPATH": str(compiled.PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == EXPECTED
