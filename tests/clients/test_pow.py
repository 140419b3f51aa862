"""The same clients with a network whose blocks are found by work, and become final much later."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from web3 import Web3

from clients.network import Endpoint, start_network, stop_network
from clients.test_examples import (
    test_supply_chain_proves_every_record_and_catches_every_lie as test_supply_chain,
)
from clients.test_javascript import test_everything_that_a_dapp_does as run_library
from clients.test_web3py import *  # noqa: F403
from clients.test_web3py import pytestmark

__all__ = ["pytestmark", "test_supply_chain"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Four miners, a block in 300 ms on average."""
    folder = tmp_path_factory.mktemp("pow")
    try:
        yield start_network(folder, "--engine", "pow", "--block-time", "300")
    finally:
        stop_network(folder)


@pytest.fixture(scope="module")
def web3(network: Endpoint) -> Web3:
    return Web3(Web3.HTTPProvider(network.http[0], request_kwargs={"timeout": 30}))


def test_ethers_does_everything_that_a_dapp_does(
    network: Endpoint, node: str, artefacts: Path
) -> None:
    run_library("ethers", network, node, artefacts)
