"""`_kernel.pyi` and the compiled kernel name the same things with the same parameters."""

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from quorate import _kernel

FACE = Path(__file__).resolve().parent.parent / "src" / "quorate" / "_kernel.pyi"

Parameters = list[tuple[str, str, str | None]]
"""(name, kind, default as Python text or None) of each parameter."""


def parameters_of_stub(node: ast.FunctionDef) -> Parameters:
    """Return the parameters that the face declares, without `self`."""
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + [*arguments.defaults]
    found = [(a.arg, "plain", value(d)) for a, d in zip(plain, defaults, strict=True)]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    found += [(a.arg, "keyword", value(d)) for a, d in pairs]
    return [p for p in found if p[0] != "self"]


def value(default: ast.expr | None) -> str | None:
    """Return a default's value as text, so that `1 << 40` equals 1099511627776."""
    if default is None:
        return None
    expression = ast.Expression(default)
    return repr(eval(compile(ast.fix_missing_locations(expression), "face", "eval")))


def parameters_of_compiled(function: object) -> Parameters:
    """Return the parameters that the compiled function shows, without `self`."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    found: Parameters = []
    for p in signature.parameters.values():
        kind = "keyword" if p.kind is inspect.Parameter.KEYWORD_ONLY else "plain"
        default = None if p.default is inspect.Parameter.empty else repr(p.default)
        found.append((p.name, kind, default))
    return [p for p in found if p[0] != "self"]


def public_names(thing: type | ModuleType) -> set[str]:
    """Return the names that a module or class adds itself."""
    return {name for name in vars(thing) if not name.startswith("_")}


def face() -> ast.Module:
    """Return the parsed face."""
    return ast.parse(FACE.read_text(encoding="utf-8"))


CLASSES = [node for node in face().body if isinstance(node, ast.ClassDef)]
FUNCTIONS = [node for node in face().body if isinstance(node, ast.FunctionDef)]
NAMES = {node.name for node in CLASSES} | {node.name for node in FUNCTIONS}


def test_module_has_exactly_the_declared_names() -> None:
    assert public_names(_kernel) == NAMES


@pytest.mark.parametrize("node", FUNCTIONS, ids=lambda node: node.name)
def test_function_has_the_declared_parameters(node: ast.FunctionDef) -> None:
    compiled = getattr(_kernel, node.name)
    assert parameters_of_compiled(compiled) == parameters_of_stub(node)


@pytest.mark.parametrize("node", CLASSES, ids=lambda node: node.name)
def test_class_has_exactly_the_declared_members(node: ast.ClassDef) -> None:
    compiled = getattr(_kernel, node.name)
    methods = {m.name: m for m in node.body if isinstance(m, ast.FunctionDef)}
    fields = {f.target.id for f in node.body if isinstance(f, ast.AnnAssign)}  # type: ignore[union-attr]
    declared = {name for name in methods if not name.startswith("_")} | fields
    assert public_names(compiled) == declared
    for name, method in methods.items():
        if name == "__init__":
            assert parameters_of_compiled(compiled) == parameters_of_stub(method)
            continue
        assert parameters_of_compiled(getattr(compiled, name)) == parameters_of_stub(method), name
        static = isinstance(inspect.getattr_static(compiled, name), staticmethod)
        assert static == any(
            isinstance(d, ast.Name) and d.id == "staticmethod" for d in method.decorator_list
        )


def test_errors_derive_from_the_declared_classes() -> None:
    for node in CLASSES:
        bases = [b.id for b in node.bases if isinstance(b, ast.Name)]
        if bases:
            assert [b.__name__ for b in getattr(_kernel, node.name).__bases__] == bases
