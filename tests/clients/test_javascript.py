"""ethers and viem against a real network; the tests themselves are in tests/js."""

import os
import subprocess
from pathlib import Path

import pytest

from clients.network import JS, Endpoint

pytestmark = pytest.mark.network


@pytest.mark.parametrize("library", ["ethers", "viem"])
def test_everything_that_a_dapp_does(
    library: str, network: Endpoint, node: str, artefacts: Path
) -> None:
    run_suite(library, network, node, artefacts)


def run_suite(name: str, network: Endpoint, node: str, artefacts: Path) -> None:
    """Run tests/js/NAME.test.mjs; none of its tests may fail or be skipped."""
    places = {
        "QUORATE_RPC": network.http[0],
        "QUORATE_WS": network.ws[0],
        "QUORATE_ARTEFACTS": str(artefacts),
    }
    result = subprocess.run(
        [node, "--test", "--test-timeout=390000", "--test-reporter=spec", f"{name}.test.mjs"],
        cwd=JS,
        env=os.environ | places,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "fail 0" in result.stdout
    assert "skipped 0" in result.stdout
