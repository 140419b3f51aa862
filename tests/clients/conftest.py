"""One real network for all client tests, and what the JavaScript ones need."""

import asyncio
import fcntl
import inspect
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from web3 import Web3

from clients.network import JS, Endpoint, network_of


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Four validator processes, for all files that want no others."""
    yield from network_of(tmp_path_factory.mktemp("network"))


# Of a module and not of the session, so that a file with a network of its own gets this for it.
@pytest.fixture(scope="module")
def web3(network: Endpoint) -> Web3:
    return Web3(Web3.HTTPProvider(network.http[0], request_kwargs={"timeout": 30}))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine on a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def run() -> None:
        try:
            await pyfuncitem.obj(**given)
        finally:
            if "async_w3" in given:
                await given["async_w3"].provider.disconnect()

    asyncio.run(run())
    return True


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
    """Probe, and OpenZeppelin's ERC-20 and ERC-721, compiled by solc; once for all workers."""
    node = require_node_package("solc")
    require_node_package("@openzeppelin/contracts")
    require_node_package("@openzeppelin/contracts-upgradeable")
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    folder = place / "artefacts"
    with (place / "artefacts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            part = place / "artefacts.part"
            subprocess.run([node, str(JS / "compile.mjs"), str(part)], check=True, timeout=240)
            part.rename(folder)
    return folder
