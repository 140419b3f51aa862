"""The official JSON-RPC suite (execution-apis): reading its cases, comparing its answers."""

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

SPECIFICATION_ONLY = "// speconly:"
OPTIONAL = {"deleteStrategy"}
"""What a resource of eth_capabilities may lack, as most do in the suite's own answer."""


class Exchange(Struct, frozen=True):
    """One request of a case with the answer that the suite gives."""

    request: str
    response: Any


class Case(Struct, frozen=True):
    name: str
    exchanges: list[Exchange]
    shape_only: bool
    """Only the form of the answers is told, since clients may differ."""


def read_case(path: Path) -> Case:
    exchanges, request, shape_only = [], "", False
    for line in path.read_text().splitlines():
        if line.startswith(">> "):
            request = line[3:]
        elif line.startswith("<< "):
            exchanges.append(Exchange(request, json.loads(line[3:])))
        elif line.startswith(SPECIFICATION_ONLY):
            shape_only = True
    return Case(f"{path.parent.name}/{path.stem}", exchanges, shape_only)


def find_difference(found: Any, expected: Any, shape_only: bool, place: str = "") -> str | None:
    """Return where two answers differ and how, None where they are the same."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if not place and "error" in expected:
            return compare_errors(found, expected)
        for name in expected:
            if name not in found and not (shape_only and name in OPTIONAL):
                return f"{place}.{name} is missing"
        for name in found:
            if name not in expected and not shape_only:
                return f"{place}.{name} is {json.dumps(found[name])[:80]}, expected none"
        named = (name for name in expected if name in found)
        pairs = ((found[name], expected[name], f"{place}.{name}") for name in named)
    elif isinstance(expected, list) and isinstance(found, list):
        if shape_only:
            if expected and found:
                return find_difference(found[0], expected[0], True, f"{place}[0]")
            return None
        if len(found) != len(expected):
            return f"{place} has {len(found)} items, expected {len(expected)}"
        pairs = (
            (one, other, f"{place}[{i}]")
            for i, (one, other) in enumerate(zip(found, expected, strict=True))
        )
    elif shape_only:
        same = type(found) is type(expected) or found is None or expected is None
        return None if same else f"{place} is {json.dumps(found)[:80]}, expected {type(expected)}"
    else:
        if found == expected and type(found) is type(expected):
            return None
        return f"{place} is {json.dumps(found)[:80]}, expected {json.dumps(expected)[:80]}"
    for one, other, where in pairs:
        difference = find_difference(one, other, shape_only, where)
        if difference is not None:
            return difference
    return None


def compare_errors(found: dict[str, Any], expected: dict[str, Any]) -> str | None:
    """Codes and data are the same; words are each client's own."""
    if "error" not in found:
        return f"is a result, expected the error {expected['error']}"
    error, other = found["error"], expected["error"]
    for name in ("code", "data"):
        if error.get(name) != other.get(name):
            found_value, wanted = error.get(name), other.get(name)
            return f".error.{name} is {found_value!r} ({error['message']}), expected {wanted!r}"
    return None
