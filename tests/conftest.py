"""What all tests share: where the published vectors lie, and which tests stay together."""

import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent

NETWORK_S = 900
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
    """Leave tests of real processes so much time that a wait of theirs ends first, by its name."""
    for item in items:
        if item.get_closest_marker("network") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(NETWORK_S))


class FilesOfNetworks(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out tests one by one, except that a file that starts real networks stays whole: its
    tests share a network, and take their turns on it in order.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if path.split("/")[-2] in ("clients", "e2e") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesOfNetworks:
    return FilesOfNetworks(config, log)
