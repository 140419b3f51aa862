"""The same clients with a network whose blocks are found by work, and become final much later."""

from collections.abc import Iterator

import pytest

from clients.network import Endpoint, network_of, run_quorate
from clients.test_examples import *  # noqa: F403
from clients.test_javascript import *  # noqa: F403
from clients.test_web3py import *  # noqa: F403
from clients.test_web3py import pytestmark

__all__ = ["pytestmark"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Four nodes, a block in 100 ms on average.

    One of them tries nearly all hashes: these tests hold what they have seen for settled, and each
    fork of several miners may take it back. What clients see then is tested in e2e/test_wallets.py.
    """
    folder = tmp_path_factory.mktemp("pow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUORATE_MINING_HASHES_PER_SECOND", "1")
        made = network_of(folder, "--engine", "pow", "--block-time", "100")
        endpoint = next(made)
    try:
        if endpoint.folder is not None:
            for command in ("stop", "start"):
                run_quorate(command, "0", "--dir", str(folder))
        yield endpoint
    finally:
        made.close()
