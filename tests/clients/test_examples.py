"""The examples run against a real network, on real documents."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients.network import ROOT, Endpoint

pytestmark = pytest.mark.network


def test_supply_chain_proves_every_record_and_catches_every_lie(
    network: Endpoint, vectors: Path, tmp_path: Path
) -> None:
    if network.folder is None:
        pytest.skip("somebody else's network: its genesis file is not known")
    command = [
        *(sys.executable, str(ROOT / "examples" / "supply_chain" / "run.py")),
        *("--rpc", network.http[0]),
        *("--auditor-rpc", network.http[-1]),
        *("--genesis", str(network.folder / "genesis.json")),
        *("--documents", str(vectors / "epcis" / "events")),
        *("--store", str(tmp_path / "documents")),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "89 events of 39 documents recorded" in result.stdout
    assert "89 records proved against state root" in result.stdout
    # Where members trust each other there is no certificate that could be forged.
    alone = "members of this network trust each other" in result.stdout
    settings = json.loads((network.folder / "genesis.json").read_text())["config"]["quorate"]
    assert alone is (settings["engine"] == "raft")
    assert result.stdout.count("caught ") == (3 if alone else 4)
    assert result.stdout.count("refused: ") == 3
    assert len(list((tmp_path / "documents").iterdir())) == 89


def test_escrow_pays_refunds_and_arbitrates(network: Endpoint, node: str) -> None:
    command = [node, str(ROOT / "examples" / "escrow" / "run.mjs"), network.http[0]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "every deal has ended" in result.stdout
