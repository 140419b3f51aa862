"""One real network for all client tests, and what the JavaScript ones need."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from web3 import Web3

from clients.network import JS, Endpoint, start_network, stop_network


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Four validator processes; or, with QUORATE_TEST_RPC=http://..., whatever answers there."""
    url = os.environ.get("QUORATE_TEST_RPC")
    if url is not None:
        yield Endpoint([url], None)
        return
    folder = tmp_path_factory.mktemp("network")
    endpoint = start_network(folder)
    try:
        yield endpoint
    finally:
        stop_network(folder)


@pytest.fixture(scope="session")
def web3(network: Endpoint) -> Web3:
    return Web3(Web3.HTTPProvider(network.http[0], request_kwargs={"timeout": 30}))


def require_node_package(name: str) -> str:
    """Return the path of Node.js; skip, naming what is missing, without it or without `name`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed (20 or newer)")
    if not (JS / "node_modules" / name).is_dir():
        pytest.skip(f"npm package {name} is not installed: run `npm ci --prefix tests/js`")
    return node


@pytest.fixture(scope="session")
def node() -> str:
    for name in ("ethers", "viem"):
        path = require_node_package(name)
    return path


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probe, and OpenZeppelin's ERC-20 and ERC-721, compiled by solc."""
    node = require_node_package("solc")
    require_node_package("@openzeppelin/contracts")
    folder = tmp_path_factory.mktemp("artefacts")
    subprocess.run([node, str(JS / "compile.mjs"), str(folder)], check=True, timeout=110)
    return folder
