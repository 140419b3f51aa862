"""What all tests share: where the published vectors lie, and which tests must not overlap."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Tests are about the sources; those that are about compiled modules say so.
os.environ.setdefault("QUORATE_COMPILED", "0")


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Return the folder of published vectors: QUORATE_VECTORS, else ../shared/vectors."""
    found = Path(os.environ.get("QUORATE_VECTORS") or ROOT.parent / "shared" / "vectors")
    if not found.is_dir():
        pytest.skip(f"no vectors in {found}: set QUORATE_VECTORS to their folder")
    return found


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Return the installed Node.js packages of the client tests."""
    found = ROOT / "tests" / "js" / "node_modules"
    if not found.is_dir():
        pytest.skip("needs Node.js packages: install Node.js 20, then `cd tests/js && npm ci`")
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep networks of real processes on one worker: each already uses every core."""
    for item in items:
        if item.get_closest_marker("network"):
            item.add_marker(pytest.mark.xdist_group("network"))
