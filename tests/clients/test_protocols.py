"""Contracts that others wrote, deployed and used as they usually are; tests/js has the flows."""

from pathlib import Path

import pytest

from clients.conftest import require_node_package
from clients.network import Endpoint
from clients.test_javascript import run_suite

pytestmark = pytest.mark.network


def test_openzeppelin_uniswap_and_erc_4337(network: Endpoint, node: str, artefacts: Path) -> None:
    for package in ("@uniswap/v2-core", "@uniswap/v2-periphery", "@account-abstraction/contracts"):
        require_node_package(package)
    run_suite("protocols", network, node, artefacts)


def test_permit2(network: Endpoint, node: str, artefacts: Path) -> None:
    require_node_package("@uniswap/v4-periphery")
    run_suite("permit2", network, node, artefacts)
