"""Networks of real processes that are gone when a test ends, also when it fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Four validators, not started yet."""
    made = Stage(tmp_path / "network")
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Stage]:
    """One validator, not started yet: enough for what is not about agreement."""
    made = Stage(tmp_path / "network", validators=1)
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Stage]:
    """Three validators, not started yet: what an engine for crashes is run with."""
    made = Stage(tmp_path / "network", validators=3)
    try:
        yield made
    finally:
        made.clean()
