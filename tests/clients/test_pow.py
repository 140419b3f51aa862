"""The same clients with a network whose blocks are found by work, and become final much later."""

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
    """Four miners, a block in 100 ms on average."""
    yield from network_of(tmp_path_factory.mktemp("pow"), "--engine", "pow", "--block-time", "100")
