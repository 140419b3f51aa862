"""The same clients with a network whose members trust each other."""

from collections.abc import Iterator

import pytest

from clients.network import Endpoint, network_of
from clients.test_examples import *  # noqa: F403
from clients.test_javascript import *  # noqa: F403
from clients.test_web3py import *  # noqa: F403
from clients.test_web3py import pytestmark

__all__ = ["pytestmark"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Four members of a replicated log."""
    yield from network_of(tmp_path_factory.mktemp("raft"), "--engine", "raft")
